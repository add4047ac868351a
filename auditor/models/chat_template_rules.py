"""What a chat template must not ask for, by its syntax tree; nothing of it is rendered.

transformers renders templates in a sandbox; other tools have rendered them without one
(CVE-2024-34359, CVE-2026-5760). A template that reaches for what only matters outside a
sandbox is refused, whoever would render it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from jinja2 import Environment, TemplateError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser

from auditor.errors import RefusedModel
from auditor.models.chat_template_flow import ComposedText, constants, every_node

RULE: Final = "chat-template"
WAY_OUT: Final = "write the template without it; a chat template needs messages alone"
TEMPLATE_KEYS: Final = ("chat_template", "default_chat_template")
"""Under which configurations keep templates."""
MAX_TEMPLATES: Final = 100
"""Templates of one file that are judged; each takes some time, however short."""
MAX_CHARACTERS: Final = 256 * 1024
# Names through which a template reaches from a value to the interpreter.
_INTERNAL: Final = re.compile(
    r"__(class|globals|builtins|import|init|new|mro|bases?|subclasses|getattribute|getattr|dict|"
    r"code|closure|func|wrapped|reduce(_ex)?|loader|spec|call|self|module|weakref|slots|"
    r"(init|set|sub)_\w+|get|set|defaults|kwdefaults|annotations|objclass|main|file|path)__|"
    r"\b(func_globals|func_code|[gc][ir]_(frame|code)|ag_(frame|code)|tb_frame|"
    r"f_(globals|builtins|locals|back))\b",
    re.IGNORECASE,
)
# Such a name, or what is left of one in a text that is put together.
_HALF_NAME: Final = re.compile(r"_{2,}[A-Za-z0-9]*\w*|\w*[A-Za-z0-9]_{2,}", re.ASCII)
_PRIVATE: Final = re.compile(r"(^|\.)_")
_FORMAT_REACHES: Final = re.compile(r"\{[^{}]*[.\[]")
_LOADING: Final = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)
# Filters that take the name of an attribute.
_NAMING_FILTERS: Final = frozenset({
    "map", "select", "reject", "selectattr", "rejectattr", "groupby", "sort", "unique", "min",
    "max", "sum",
})  # fmt: skip


class _GenerationTag(Extension):
    """`{% generation %}`, which transformers knows: it marks what the assistant says."""

    tags = {"generation"}  # noqa: RUF012  # the type is jinja2's

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        """Take the body as it is."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def check_template(path: Path, place: str, text: str) -> None:
    """Refuse a template that asks for more than messages.

    Raises:
        RefusedModel: With what it asks for.
    """
    problem = template_problem(text)
    if problem is not None:
        raise RefusedModel(path, RULE, problem, place=place, way_out=WAY_OUT)


def template_problem(text: str, *, has_to_parse: bool = True) -> str | None:
    """What is wrong with a template, in words, or None.

    Args:
        text: The template.
        has_to_parse: Whether one that does not parse is wrong. It cannot be judged, and renders
            nowhere; where nobody looks for templates, it may be meant for something else.
    """
    if len(text) > MAX_CHARACTERS:
        return f"a template of {len(text)} characters; the limit is {MAX_CHARACTERS}"
    # Only parsed: no code is generated from it, so no constant is folded either.
    environment = Environment(  # noqa: S701  # nothing is rendered
        extensions=["jinja2.ext.loopcontrols", "jinja2.ext.do", _GenerationTag]
    )
    try:
        tree = environment.parse(text)
        return next(_problems(tree, ComposedText(tree)), None)
    # A number of thousands of digits is none that Python reads.
    except (TemplateError, ValueError) as error:
        if not has_to_parse:
            return None
        return f"a template that does not parse: {' '.join(str(error).split())[:80]}"
    except RecursionError:
        return "a template nested deeper than it can be read"


def _problems(tree: nodes.Template, composed: ComposedText) -> Iterator[str]:
    for node in every_node(tree):
        problem = _word_problem(node) or _reach_problem(node, composed)
        if problem:
            yield f"{problem}, line {node.lineno}"


def _word_problem(node: nodes.Node) -> str | None:
    """A name from which the interpreter can be reached, wherever it is written out."""
    if isinstance(node, nodes.Const):
        text = node.value if isinstance(node.value, str) else ""
        found = _INTERNAL.search(text) or _HALF_NAME.fullmatch(text)
        return f"it names {found.group()[:40]!r}" if found else None
    if isinstance(node, nodes.Getattr | nodes.NSRef):
        private = node.attr.startswith("_") or _INTERNAL.search(node.attr)
        return f"it reaches for the attribute {node.attr[:40]!r}" if private else None
    if isinstance(node, nodes.Name | nodes.Keyword | nodes.Macro | nodes.Block):
        # A macro tells the names of its parameters, a mapping those of its keys.
        name = node.key if isinstance(node, nodes.Keyword) else node.name
        half = name.strip("_") and _HALF_NAME.fullmatch(name)
        return f"it uses the name {name[:40]!r}" if half or _INTERNAL.search(name) else None
    return None


def _reach_problem(node: nodes.Node, composed: ComposedText) -> str | None:
    """A way to a name that is not written out."""
    if isinstance(node, _LOADING):
        return "a template that loads another one"
    if isinstance(node, nodes.Getitem) and not isinstance(node.arg, nodes.Slice):
        return _put_together("what it reaches for") if composed.holds(node.arg) else None
    if isinstance(node, nodes.Getattr) and node.attr in ("format", "format_map"):
        written = next(constants([node.node]), None)
        if written is None or _FORMAT_REACHES.search(written):
            return "it formats a text that may reach for attributes"
    if isinstance(node, nodes.Filter):
        return _filter_problem(node, composed)
    return None


def _filter_problem(node: nodes.Filter, composed: ComposedText) -> str | None:
    if node.name == "attr":
        return "it reaches for attributes through the filter 'attr'"
    named = [each for each in node.kwargs if each.key == "attribute"]
    given = [*node.args, *node.kwargs] if node.name in _NAMING_FILTERS else [*node.args[1:], *named]
    if node.name in _NAMING_FILTERS | {"join"}:
        if node.dyn_args is not None or node.dyn_kwargs is not None:
            return f"it hides what it asks the filter {node.name!r} for"
        if node.name == "map" and node.args and not isinstance(node.args[0], nodes.Const):
            return "it uses a filter that is not written out"
        if "attr" in constants(node.args[:1]) or any(map(_PRIVATE.search, constants(given))):
            return f"it reaches for attributes through the filter {node.name!r}"
        if any(composed.holds(each) for each in given):
            return _put_together(f"what it asks the filter {node.name!r} for")
    return None


def _put_together(what: str) -> str:
    return f"it puts together {what}"
