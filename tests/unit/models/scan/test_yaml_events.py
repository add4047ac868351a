"""YAML by its events: keys and tags that name code, aliases, and what is no YAML."""

from __future__ import annotations

import pytest

from auditor.models.scan.decision import Decision
from auditor.models.scan.yaml_events import (
    MOST_BYTES,
    MOST_DEPTH,
    MOST_PROBLEMS,
    MOST_VALUES,
    yaml_problems,
)


def found(text: str | bytes) -> list[tuple[str, str]]:
    """Rule and place of each problem."""
    content = text.encode() if isinstance(text, str) else text
    return [(problem.rule, problem.place) for problem in yaml_problems(content)]


@pytest.mark.parametrize(
    "text",
    ["a: 1\nb: [x, 'y', null]\n", "", "--- a\n--- b\n", "- !!str 1\n- !!set {a, b}\n- ! c\n",
     "a: &x [1, 2]\nb: *x\nc: *x\n", "base: &b {k: 1}\nmore:\n  <<: *b\n",
     "text: _target_\nlist: [_target_, auto_map]\n", "my_target_: 1\n", "# _target_: x\na: 1\n",
     "? [a, b]\n: c\n", "a: !!binary aGk=\n", "- &a 1\n- &a 2\n- *a\n"],
)  # fmt: skip
def test_plain_values_are_let_through(text: str) -> None:
    """Documents, plain tags, aliases that grow by no more than they say, code words as values."""
    assert found(text) == []


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("_target_: os.system\n", 1),
        ("a:\n  b:\n  - c: {_target_: os.system}\n", 3),
        ("a: 1\n? _target_\n: x\n", 2),
        ("a: 1\n'_target_': x\n", 2),
        ('"\\x5ftarget\\x5f": x\n', 1),
        ("!!str _target_: x\n", 1),
        ("a: &k _target_\n*k : os.system\n", 2),
        ("trust_remote_code: true\n", 1),
        ("auto_map: {A: b.C}\n", 1),
        ("--- 1\n---\n_target_: x\n", 3),
    ],
)
def test_a_key_that_names_code_is_refused(text: str, line: int) -> None:
    """At any depth, in any spelling, behind an alias, in any document."""
    assert found(text) == [("custom-code", f"line {line}")]


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("a: !!python/object/apply:os.system [x]\n", "custom-code"),
        ("a: !<tag:yaml.org,2002:python/name:os.system> x\n", "custom-code"),
        ("%TAG !p! tag:yaml.org,2002:python/\n---\na: !p!name:os.system x\n", "custom-code"),
        ("a: !pickle x\n", "yaml-tag"),
        ("a: !!js/function x\n", "yaml-tag"),
        ("a: !<map> {}\n", "yaml-tag"),
        ("!new {a: 1}\n", "yaml-tag"),
    ],
)
def test_a_tag_that_asks_for_an_object_is_refused(text: str, rule: str) -> None:
    """In all three ways of writing one."""
    assert [each for each, _ in found(text)] == [rule]


def test_every_key_and_tag_is_named_once() -> None:
    """In the order in which they are met."""
    text = "_target_: x\nauto_map: !a 1\nb: {_target_: !a y}\n"
    assert found(text) == [
        ("custom-code", "line 1"), ("custom-code", "line 2"), ("yaml-tag", "line 2"),
    ]  # fmt: skip


def test_aliases_of_aliases_are_refused() -> None:
    """Nine levels of nine make 387 million values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    assert {rule for rule, _ in found("\n".join(lines))} == {"yaml-aliases"}
    assert found("\n".join(lines[:5])) == []


def test_aliases_that_each_add_a_little_are_let_through() -> None:
    """A thousand of one small list."""
    assert found("a: &a [1, 2, 3]\nb:\n" + "- *a\n" * 1_000) == []


def test_aliases_in_keys_count_too() -> None:
    """A mapping whose keys are lists grows as well."""
    lines = ["- &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"- &a{n} " + "{" + ", ".join([f"? *a{n - 1} : 1"] * 10) + "}" for n in range(1, 7)]
    assert ("yaml-aliases", "line 6") in found("\n".join(lines))


@pytest.mark.parametrize("text", ["&a [*a]\n", "&a {b: [*a]}\n", "[*b, &b 1]\n"])
def test_an_alias_of_what_has_no_end_yet_is_refused(text: str) -> None:
    """Of what it stands in itself, or of nothing."""
    (problem,) = yaml_problems(text.encode())
    assert (problem.rule, problem.decision) == ("yaml-aliases", Decision.REFUSED)
    assert str(MOST_VALUES + 1) in problem.problem


def test_deep_nesting_is_refused() -> None:
    """One level more than the limit; the limit itself is let through."""
    assert found("[" * (MOST_DEPTH + 1) + "]" * (MOST_DEPTH + 1)) == [("nesting-limit", "")]
    assert found("[" * MOST_DEPTH + "]" * MOST_DEPTH) == []


@pytest.mark.parametrize(
    "text",
    ["a: [", "a: b: c", "\ta: 1", "{{ jinja }}: {% x %}", b"\xff\xfe\xff", b"a: \x01",
     '"\\UFFFFFFFF": 1', "%YAML " + "9" * 5_000 + ".1\n---\na: 1\n", "!<%ff> a"],
)  # fmt: skip
def test_what_is_no_yaml_is_not_decided(text: str | bytes) -> None:
    """Nothing raised, whatever PyYAML raises; not accepted either."""
    (problem,) = yaml_problems(text.encode() if isinstance(text, str) else text)
    assert (problem.rule, problem.decision) == ("malformed", Decision.INCONCLUSIVE)
    assert len(problem.problem.splitlines()) == 1


def test_what_was_met_before_an_error_is_kept() -> None:
    """A broken end does not hide the beginning."""
    assert found("_target_: x\nb: [\n") == [("custom-code", "line 1"), ("malformed", "")]


def test_a_long_text_is_not_decided() -> None:
    """With its size and the limit."""
    (problem,) = yaml_problems(b"#" * (MOST_BYTES + 1))
    assert (problem.rule, problem.decision) == ("text-limit", Decision.INCONCLUSIVE)
    assert yaml_problems(b"#" * 1_000) == ()


def test_many_problems_are_not_kept() -> None:
    """A megabyte of tags does not become a list of as many problems."""
    text = "".join(f"- !t{n} x\n" for n in range(MOST_PROBLEMS + 50))
    assert len(found(text)) == MOST_PROBLEMS
