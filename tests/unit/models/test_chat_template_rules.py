"""Chat templates by their syntax tree: ordinary ones pass, those that reach further do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from auditor.errors import RefusedModel
from auditor.models.chat_template_rules import MAX_CHARACTERS, check_template, template_problem

ORDINARY = {
    "turns": "{% for m in messages %}{{ '<|' ~ m['role'] ~ '|>' + m['content'] | trim }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}",
    "system": "{% if messages[0].role == 'system' %}{% set system = messages[0].content %}"
    "{% set rest = messages[1:] %}{% else %}{% set rest = messages %}{% endif %}"
    "{% for m in rest %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles have to alternate: ' ~ m.role) }}{% endif %}{% endfor %}",
    "tools": "{%- macro kind(spec) -%}{%- set plain = {'string': 'str', 'number': 'float'} -%}"
    "{%- if spec.type in plain -%}{{- plain[spec.type] -}}{%- elif spec.type == 'array' -%}"
    "{{- 'list[' + kind(spec['items']) + ']' -}}{%- endif -%}{%- endmacro -%}"
    "{% for tool in tools %}{{ tool.function | tojson }}"
    "{% for name, spec in tool.function.parameters.properties.items() %}"
    "{{ name ~ ': ' ~ kind(spec) }}{% endfor %}{% endfor %}",
    "last query": "{% set ns = namespace(last=messages|length - 1, open=true, text='') %}"
    "{% for m in messages[::-1] %}{% set index = (messages|length - 1) - loop.index0 %}"
    "{% if ns.open and m.role == 'user' and not m.content.startswith('<tool_response>') %}"
    "{% set ns.open = false %}{% set ns.last = index %}{% endif %}{% endfor %}"
    "{{ messages[ns.last].content }}{{ messages[ns.last + 1].content }}"
    "{% set ns.text = ns.text ~ 'x' %}{{ ns.text }}",
    "thinking": "{% for m in messages %}{% set content = m.content %}{% if '</think>' in content %}"
    "{% set content = content.split('</think>')[-1].lstrip('\\n') %}{% endif %}{{ content }}"
    "{% endfor %}",
    "calls": "{% for call in messages[-1].tool_calls %}{% set args = call.arguments %}"
    "{% for name in args %}{{ name }}={{ args[name] | string }}{% endfor %}"
    "{{ args | dictsort | map('first') | join(', ') }}{% endfor %}",
    "names": "{% set names = {'user': 'U', 'assistant': 'A'} %}{% for m in messages %}"
    "{{ names[m.role | lower] }}{{ names.get(m['role'], '?') }}{% endfor %}"
    "{{ tools | map(attribute='function.name') | list }}"
    "{{ messages | selectattr('role', 'equalto', 'user') | list | length }}"
    "{{ messages | groupby('role') }}",
    "lists": "{% set ns = namespace(seen=[]) %}{% for t in tools %}"
    "{% set first = t.name.split('.')[0] %}{% set ns.seen = ns.seen + [first] %}{% endfor %}"
    "{% for name in ns.seen %}{{ descriptions[name] }}{% endfor %}",
    "state": "{% macro take(text, state) %}{{ images[state.at] }}"
    "{% set state.at = state.at + 1 %}{% endmacro %}{% set ns = namespace(at=0) %}"
    "{{ take('<|' ~ messages[0].role ~ '|>', ns) }}"
    "{{ raise_exception('no ' ~ messages[0].role) }}",
    "generation": "{% generation %}{{ messages[0].content }}{% endgeneration %}",
    "loop controls": "{% for m in messages %}{% if m.role == 'x' %}{% break %}{% endif %}"
    "{% do seen.append(m.role) %}{% endfor %}",
    "format": "{{ '{} of {}'.format(loop.index, messages | length) }}{{ '%s' | format(date) }}",
    "no jinja": "USER: {prompt} ASSISTANT:",
    "empty": "",
}


@pytest.mark.parametrize("text", ORDINARY.values(), ids=ORDINARY)
def test_an_ordinary_template_is_let_through(text: str) -> None:
    """Roles, tools, thinking, namespaces, macros, and the tags that transformers adds."""
    assert template_problem(text) is None


WRITTEN_OUT = {
    "attribute": "{{ ''.__class__ }}",
    "item": "{{ ''['__class__'] }}",
    "escaped": r"{{ ''['\x5f\x5fclass\x5f\x5f'] }}",
    "unicode": r"{{ ''['\u005f\u005fclass__'] }}",
    "named": r"{{ ''['\N{LOW LINE}\N{LOW LINE}class__'] }}",
    "octal": r"{{ ''['\137\137class__'] }}",
    "inside": "{{ 'x__globals__x'[1:-1] }}",
    "capitals": "{% set name = '__CLASS__' | lower %}{{ x[name] }}",
    "backwards": "{{ x['__ssalc__' | reverse] }}",
    "keyword": "{{ x[dict(__class__=1) | list | first] }}",
    "half a keyword": "{{ x[dict(__closure__=1) | list | first] }}",
    "parameter": "{% macro m(__class__) %}{% endmacro %}{{ x[m.arguments[0]] }}",
    "macro": "{% macro __class__() %}{% endmacro %}{{ x[__class__.name] }}",
    "block": "{% block __class__ %}{% endblock %}",
    "namespace": "{% set ns = namespace() %}{% set ns.__class__ = 1 %}",
    "private": "{{ self._TemplateReference__context }}",
    "frame": "{{ (messages | map('upper')).gi_frame }}",
    "frame by item": "{{ messages['gi_frame']['f_builtins'] }}",
    "old Python": "{{ cycler.next['func_globals'] }}",
    "attr": "{{ x | attr('role') }}",
    "attr block": "{% filter attr('role') %}{% endfilter %}",
    "map attr": "{{ [x] | map('attr', 'role') | list }}",
    "map": "{{ [x] | map(attribute='a.__class__') | list }}",
    "map private": "{{ [x] | map(attribute='a._private') | list }}",
    "select": "{{ [x] | selectattr('__class__') | list }}",
    "sort": "{{ [x] | sort(attribute='_a') }}",
    "sort by place": "{{ [x] | sort(false, false, '_a') }}",
    "join": "{{ [x] | join(',', '_a') }}",
    "sum": "{{ [x] | sum('_a') }}",
    "hidden arguments": "{{ [x] | map(*names) | list }}",
    "hidden keywords": "{{ [x] | map(**names) | list }}",
    "hidden filter": "{{ [x] | map(name) | list }}",
    "format": "{{ '{0.role}'.format(x) }}",
    "format item": "{{ '{0[a]}'.format(x) }}",
    "format of a value": "{{ messages[0].content.format(x) }}",
    "format map": "{{ messages[0].content.format_map(x) }}",
    "include": "{% include 'other' %}",
    "import": "{% import 'other' as other %}",
    "from": "{% from 'other' import name %}",
    "extends": "{% extends 'other' %}",
}


@pytest.mark.parametrize("text", WRITTEN_OUT.values(), ids=WRITTEN_OUT)
def test_a_name_that_is_written_out_is_refused(text: str) -> None:
    """As attribute, item, keyword, parameter or filter, however its letters are spelt."""
    assert template_problem(text)


PUT_TOGETHER = {
    "tilde": "{{ x['_' ~ '_class_' ~ '_'] }}",
    "plus": "{{ x['_' + '_class_' + '_'] }}",
    "times": "{{ x['_' * 2 ~ 'class'] }}",
    "percent": "{{ x['%c%cclass%c%c' % (95, 95, 95, 95)] }}",
    "percent of a name": "{% set f = '%c%cclass' %}{{ x[f % (95, 95)] }}",
    "format filter": "{{ x['%c%cclass' | format(95, 95)] }}",
    "join filter": "{{ x[['_', '_class_', '_'] | join] }}",
    "join method": "{{ x[''.join(['_', '_class_', '_'])] }}",
    "replace": "{{ x['ZZclassZZ' | replace('Z', '_')] }}",
    "replace method": "{{ x['ZZclassZZ'.replace('Z', '_')] }}",
    "turned": "{{ x['x__foo__ y'[::-1]] }}",
    "set": "{% set a = '_' ~ '_class__x' %}{{ x[a] }}",
    "set twice": "{% set a = '_' ~ '_x' %}{% set b = a %}{% set c = b %}{{ x[c] }}",
    "used before": "{% macro m() %}{{ x[a] }}{% endmacro %}{% set a = '_' ~ '_x' %}{{ m() }}",
    "set block": "{% set a %}__class__{% endset %}{{ x[a] }}",
    "tuple": "{% set a, b = 1, '_' ~ '_x' %}{{ x[b] }}",
    "loop": "{% for a in ['_' ~ '_x'] %}{{ x[a] }}{% endfor %}",
    "loop of pairs": "{% for a, b in {'k': '_' ~ 'x'}.items() %}{{ x[b] }}{% endfor %}",
    "with": "{% with a = '_' ~ '_x' %}{{ x[a] }}{% endwith %}",
    "namespace": "{% set ns = namespace(a='') %}{% for c in 'ab' %}{% set ns.a = ns.a ~ c %}"
    "{% endfor %}{{ x[ns.a] }}",
    "namespace at once": "{% set ns = namespace(a='_' ~ 'x') %}{{ x[ns.a] }}",
    "macro": "{% macro m() %}__class__{% endmacro %}{{ x[m()] }}",
    "argument": "{% macro m(a) %}{{ x[a] }}{% endmacro %}{{ m('_' ~ '_x') }}",
    "argument by name": "{% macro m(a) %}{{ x[a] }}{% endmacro %}{{ m(a='_' ~ '_x') }}",
    "argument of another name": "{% macro m(a) %}{{ x[a] }}{% endmacro %}{% set n = m %}"
    "{{ n('_' ~ '_x') }}",
    "argument beyond the parameters": "{% macro m(b) %}{{ x[varargs[0]] }}{% endmacro %}"
    "{{ m(1, '_' ~ '_x') }}",
    "keyword beyond the parameters": "{% macro m() %}{{ x[kwargs.a] }}{% endmacro %}"
    "{{ m(a='_' ~ '_x') }}",
    "arguments of a list": "{% macro m(a) %}{{ x[a] }}{% endmacro %}{{ m(*['_' ~ '_x']) }}",
    "two macros of one name": "{% macro m(a, b) %}{{ x[a] }}{% endmacro %}"
    "{% macro m(b, a) %}{{ x[a] }}{% endmacro %}{{ m(1, '_' ~ '_x') }}",
    "a macro that is another by then": "{% macro m(a) %}{% endmacro %}"
    "{% macro n(c) %}{{ x[c] }}{% endmacro %}{% set m = n %}{{ m('_' ~ '_x') }}",
    "a macro in a namespace": "{% macro m(a) %}{{ x[a] }}{% endmacro %}"
    "{% set ns = namespace(join=m) %}{{ ns.join('_' ~ '_x') }}",
    "a macro in a mapping": "{% macro m(a) %}{{ x[a] }}{% endmacro %}"
    "{% set d = {'append': m} %}{{ d.append('_' ~ '_x') }}{{ d['append']('_' ~ '_x') }}",
    "a macro that is handed on": "{% macro m(a) %}{{ x[a] }}{% endmacro %}"
    "{% macro n(f) %}{{ f('_' ~ '_x') }}{% endmacro %}{{ n(m) }}",
    "argument of a caller": "{% macro m() %}{{ caller('_' ~ '_x') }}{% endmacro %}"
    "{% call(a) m() %}{{ x[a] }}{% endcall %}",
    "argument of a caller by another name": "{% macro m() %}{% set c = caller %}"
    "{{ c('_' ~ '_x') }}{% endmacro %}{% call(a) m() %}{{ x[a] }}{% endcall %}",
    "recursive loop": "{% for a in ['b'] recursive %}{{ x[a] }}"
    "{% if loop.depth < 2 %}{{ loop(['_' ~ '_x']) }}{% endif %}{% endfor %}",
    "added to a list": "{% set l = [] + ['_' ~ '_x'] %}{{ x[l[0]] }}",
    "added to a list twice": "{% set l = [] %}{% set l = l + ['_' ~ '_x'] %}{{ x[l[0]] }}",
    "default": "{% macro m(a='_' ~ '_x') %}{{ x[a] }}{% endmacro %}{{ m() }}",
    "more arguments": "{% macro m() %}{{ x[varargs[0]] }}{% endmacro %}{{ m('_' ~ '_x') }}",
    "caller": "{% macro m() %}{{ x[caller()] }}{% endmacro %}{% call m() %}__class__{% endcall %}",
    "list": "{% set l = [] %}{% do l.append('_' ~ '_x') %}{{ x[l[0]] }}",
    "mapping": "{% set d = {'a': '_' ~ '_x'} %}{{ x[d.a] }}{{ x[d['a']] }}",
    "choice": "{{ x['_' ~ '_x' if true else 'a'] }}",
    "or": "{{ x[none or '_' ~ '_x'] }}",
    "default filter": "{{ x[y | default('_' ~ '_x')] }}",
    "map": "{{ [x] | map(attribute='_' ~ '_x') | list }}",
    "select": "{{ [x] | selectattr('_' ~ '_x') | list }}",
    "map of join": "{{ x[[['_', '_x']] | map('join') | first] }}",
    "unknown call": "{{ x[y()()] }}",
}


@pytest.mark.parametrize("text", PUT_TOGETHER.values(), ids=PUT_TOGETHER)
def test_a_name_that_is_put_together_is_refused(text: str) -> None:
    """Through any operator, filter, variable, loop, macro or list."""
    assert "puts together" in str(template_problem(text))


def test_a_chain_of_names_that_is_too_long_to_follow_is_suspected() -> None:
    """Not let through because the search gave up; a plain index in it still is."""
    chain = "".join(f"{{% set a{n} = a{n + 1} %}}" for n in range(40)) + "{% set a40 = 'x' ~ y %}"
    assert template_problem(chain + "{{ x[a0] }}")
    assert template_problem(chain + "{{ x['a'] }}{{ messages[0] }}") is None


@pytest.mark.parametrize(
    "text", ["{{ ", "{% unknown %}", "{% for %}", "{{ a b }}", "{{ '\\N{no such}' }}",
             "{{ " + "1" * 5_000 + " }}"],
)  # fmt: skip
def test_what_does_not_parse_is_refused_and_not_raised(text: str) -> None:
    """It cannot be judged; a number of thousands of digits is an error of Python's own."""
    assert "does not parse" in str(template_problem(text))


@pytest.mark.parametrize("piece", ["(", "[", "{{ '", "{% if a %}", "not ", "-"])
def test_deep_nesting_is_refused(piece: str) -> None:
    """The parser's stack is not ours to lose."""
    assert template_problem("{{ " + piece * 20_000)


@pytest.mark.parametrize(
    "text",
    ["{{ a" + "+a" * 4_000 + " }}", "{{ a" + ".a" * 4_000 + " }}", "{{ a" + "|f" * 4_000 + " }}",
     "{% if a %}" + "{% elif b %}x" * 2_000 + "{% endif %}", "{{" * 100_000, "{#" * 100_000,
     "{% raw %}" * 20_000, " " * 200_000 + "{{ a }}", "\n" * 200_000, "1" * 200_000,
     "{{ " + "1_" * 100_000 + " }}", "{{ '" + "\\" * 200_000, "{{ \ud800 }}", "\0" * 200_000],
    ids=range(14),
)  # fmt: skip
def test_garbage_has_an_answer(text: str) -> None:
    """Either answer will do; an exception or no end would not."""
    assert template_problem(text) is None or template_problem(text)


def test_a_longer_template_is_not_read() -> None:
    """With its length and the limit."""
    problem = template_problem("a" * (MAX_CHARACTERS + 1))
    assert (
        problem == f"a template of {MAX_CHARACTERS + 1} characters; the limit is {MAX_CHARACTERS}"
    )
    assert template_problem("a" * MAX_CHARACTERS) is None


def test_the_refusal_names_rule_place_line_and_way_out() -> None:
    """What a user has to know to mend it."""
    with pytest.raises(RefusedModel) as caught:
        check_template(Path("m"), "config.json", "{{ a }}\n{{ a.__class__ }}")
    found = caught.value
    assert (found.rule, found.place) == ("chat-template", "config.json")
    assert found.problem == "it reaches for the attribute '__class__', line 2"
    assert "messages alone" in found.way_out


def test_a_long_name_is_shown_shortened() -> None:
    """A message stays a line."""
    assert len(str(template_problem("{{ a.__" + "x" * 5_000 + "__ }}"))) < 200
