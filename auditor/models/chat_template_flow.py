"""Which values of a chat template may be text that the template put together itself.

A name such as `__class__` can be written in pieces ('_' ~ '_class_' ~ '_') and then be used to
reach into an object. Text is followed from where it is put together through variables, loops,
macros and lists, without regard to order: more is suspected than happens, never less. Taking text
apart (a slice, `split`) is not followed, because what was whole is judged where it stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from jinja2 import nodes

_ROUNDS: Final = 16
_NUMBER_FILTERS: Final = frozenset({
    "length", "count", "int", "float", "abs", "round", "wordcount", "filesizeformat",
})  # fmt: skip
# These hand on what they are given, or parts of it.
_PASSING_FILTERS: Final = frozenset({
    "lower", "upper", "capitalize", "title", "trim", "default", "d", "first", "last", "list",
    "items", "dictsort", "sort", "unique", "select", "reject", "selectattr", "rejectattr", "map",
    "batch", "slice", "safe", "escape", "e", "string", "tojson", "groupby", "random", "min", "max",
})  # fmt: skip
_PASSING_METHODS: Final = frozenset({
    "lower", "upper", "capitalize", "title", "strip", "lstrip", "rstrip", "get", "items", "keys",
    "values", "pop", "copy", "split", "rsplit", "splitlines", "partition", "rpartition",
    "removeprefix", "removesuffix",
})  # fmt: skip
_NUMBER_METHODS: Final = frozenset({
    "startswith", "endswith", "find", "rfind", "index", "count", "isdigit", "isalpha", "isspace",
})  # fmt: skip
_FILLING_METHODS: Final = frozenset({"append", "extend", "insert", "update", "setdefault", "add"})
_NUMBER_ATTRIBUTES: Final = frozenset({
    "index", "index0", "revindex", "revindex0", "length", "depth", "depth0",
})  # fmt: skip
_NO_TEXT: Final = (
    nodes.Sub, nodes.Div, nodes.FloorDiv, nodes.Pow, nodes.Neg, nodes.Pos, nodes.Not,
    nodes.Compare, nodes.Test, nodes.TemplateData,
)  # fmt: skip
_LISTS: Final = frozenset({nodes.List, nodes.Tuple})
_CHOOSING: Final = (nodes.CondExpr, nodes.And, nodes.Or, nodes.List, nodes.Tuple, nodes.Dict,
                    nodes.Pair, nodes.Keyword)  # fmt: skip


def every_node(tree: nodes.Node) -> Iterator[nodes.Node]:
    """All nodes of a tree, the outer ones first, however deep it is."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(node.iter_child_nodes())


class ComposedText:
    """What may hold text that was put together.

    Attributes:
        names: Of variables.
        attributes: Of namespaces.
        everything: The template is too entangled to be followed.
    """

    def __init__(self, tree: nodes.Template) -> None:
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self._macros: dict[str, list[nodes.Macro | nodes.CallBlock]] = {}
        self._recursive: list[nodes.For] = []
        sources: list[nodes.Node] = []
        for node in every_node(tree):
            if isinstance(node, nodes.Macro | nodes.CallBlock):
                name = node.name if isinstance(node, nodes.Macro) else "caller"
                self._macros.setdefault(name, []).append(node)
            if isinstance(node, nodes.For) and node.recursive:
                self._recursive.append(node)
            if isinstance(node, _FLOWS):
                sources.append(node)
        self._passed_on = self._find_passed_on(tree)
        self.everything = False
        self.everything = not self._follow(sources)

    def _find_passed_on(self, tree: nodes.Template) -> set[str]:
        """Macros that are used as values, so that another name may call them, or they another."""
        called = {id(node.node) for node in every_node(tree) if isinstance(node, nodes.Call)}
        used = {node.name for node in every_node(tree)
                if isinstance(node, nodes.Name) and id(node) not in called}  # fmt: skip
        return used & self._macros.keys()

    def _follow(self, sources: list[nodes.Node]) -> bool:
        """Whether nothing more was found in the last round."""
        for _ in range(_ROUNDS):
            before = len(self.names) + len(self.attributes)
            for node in sources:
                self._spread(node)
            if len(self.names) + len(self.attributes) == before:
                return True
        return False

    def holds(self, node: nodes.Node | None) -> bool:
        """Whether the value of an expression may be text that was put together."""
        if node is None or isinstance(node, (nodes.Const, *_NO_TEXT)):
            return False
        if isinstance(node, nodes.Name):
            return self.everything or node.name in self.names
        if isinstance(node, nodes.Getattr):
            return node.attr in self.attributes or self.holds(node.node)
        if isinstance(node, nodes.Getitem):
            turned = isinstance(node.arg, nodes.Slice) and node.arg.step is not None
            return turned or self.holds(node.node)
        if isinstance(node, nodes.Add) and _LISTS & {type(node.left), type(node.right)}:
            # What is added to a list is one.
            return self.holds(node.left) or self.holds(node.right)
        if isinstance(node, nodes.Add | nodes.Mul | nodes.Mod):
            return not _is_number(node)
        if isinstance(node, nodes.Filter):
            return self._filter_holds(node)
        if isinstance(node, nodes.Call):
            return self._call_holds(node)
        if isinstance(node, _CHOOSING):
            return any(self.holds(child) for child in node.iter_child_nodes())
        return True

    def _filter_holds(self, node: nodes.Filter) -> bool:
        if node.name in _NUMBER_FILTERS:
            return False
        if node.name == "map" and node.args and isinstance(node.args[0], nodes.Const):
            inner = str(node.args[0].value)
            if inner not in _PASSING_FILTERS | _NUMBER_FILTERS:
                return True
        return node.name not in _PASSING_FILTERS or any(map(self.holds, node.iter_child_nodes()))

    def _call_holds(self, node: nodes.Call) -> bool:
        arguments = [*node.args, *node.kwargs, node.dyn_args, node.dyn_kwargs]
        given = any(self.holds(each) for each in arguments)
        if isinstance(node.node, nodes.Name):
            made_here = node.node.name in self._macros or node.node.name == "caller"
            return made_here or (given and node.node.name not in ("namespace", "range"))
        if isinstance(node.node, nodes.Getattr):
            if node.node.attr in _NUMBER_METHODS:
                return False
            return node.node.attr not in _PASSING_METHODS or given or self.holds(node.node.node)
        return True

    def _spread(self, node: nodes.Node) -> None:
        if isinstance(node, nodes.AssignBlock):
            self._mark(node.target)
        elif isinstance(node, nodes.Assign):
            self._mark_if(node.node, node.target)
        elif isinstance(node, nodes.For):
            self._mark_if(node.iter, node.target)
        elif isinstance(node, nodes.With):
            for target, value in zip(node.targets, node.values, strict=True):
                self._mark_if(value, target)
        elif isinstance(node, nodes.Macro | nodes.CallBlock):
            taken = len(node.args) - len(node.defaults)
            for target, value in zip(node.args[taken:], node.defaults, strict=True):
                self._mark_if(value, target)
        elif isinstance(node, nodes.Call):
            self._spread_call(node)

    def _spread_call(self, call: nodes.Call) -> None:
        given = [*call.args, *call.kwargs, call.dyn_args, call.dyn_kwargs]
        held = [each for each in given if each is not None and self.holds(each)]
        if not held:
            return
        if isinstance(call.node, nodes.Getattr) and call.node.attr in _FILLING_METHODS:
            self._mark(call.node.node)
        name = call.node.name if isinstance(call.node, nodes.Name) else ""
        if name == "namespace":
            self.attributes |= {each.key for each in call.kwargs if self.holds(each)}
        for macro in self._macros.get(name, ()):
            self._spread_arguments(call, macro)
        if name not in self._macros:
            # `loop`, by any name, begins a recursive loop anew.
            for loop in self._recursive:
                self._mark(loop.target)
        if name not in self._macros or name in self._passed_on:
            for macro in (each for name in self._passed_on for each in self._macros[name]):
                self.names |= {each.name for each in macro.args} | {"varargs", "kwargs"}

    def _spread_arguments(self, call: nodes.Call, macro: nodes.Macro | nodes.CallBlock) -> None:
        taken = [each.name for each in macro.args]
        if self.holds(call.dyn_args) or self.holds(call.dyn_kwargs):
            self.names |= {*taken, "varargs", "kwargs"}
        # Arguments beyond the parameters are in `varargs`.
        for name, value in zip(taken + ["varargs"] * len(call.args), call.args, strict=False):
            self._mark_name_if(value, name)
        for keyword in call.kwargs:
            name = keyword.key if keyword.key in taken else "kwargs"
            self._mark_name_if(keyword.value, name)

    def _mark_name_if(self, value: nodes.Node, name: str) -> None:
        if self.holds(value):
            self.names.add(name)

    def _mark_if(self, value: nodes.Node, target: nodes.Node) -> None:
        if self.holds(value):
            self._mark(target)

    def _mark(self, target: nodes.Node) -> None:
        """Suspect every name below a target or the base of a list that is filled."""
        for node in every_node(target):
            if isinstance(node, nodes.Name):
                self.names.add(node.name)
            elif isinstance(node, nodes.NSRef | nodes.Getattr):
                self.attributes.add(node.attr)


_FLOWS: Final = (nodes.AssignBlock, nodes.Assign, nodes.For, nodes.With, nodes.Macro,
                 nodes.CallBlock, nodes.Call)  # fmt: skip


def _is_number(node: nodes.Node) -> bool:
    """Whether an expression is surely a number, or fails."""
    if isinstance(node, nodes.Const):
        return isinstance(node.value, int | float)
    if isinstance(node, nodes.Add):
        return _is_number(node.left) or _is_number(node.right)
    if isinstance(node, nodes.Mul):
        return _is_number(node.left) and _is_number(node.right)
    if isinstance(node, nodes.Mod):
        # A text of one place holder makes one character of a number, which is no name.
        return _is_number(node.right) and not _is_text(node.left)
    if isinstance(node, nodes.Getattr):
        return node.attr in _NUMBER_ATTRIBUTES
    if isinstance(node, nodes.Filter):
        return node.name in _NUMBER_FILTERS
    return isinstance(node, nodes.Sub | nodes.Div | nodes.FloorDiv | nodes.Neg | nodes.Pos)


def _is_text(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Const) and isinstance(node.value, str)


def constants(items: Iterable[nodes.Node | None]) -> Iterator[str]:
    """The texts that are written out among arguments."""
    for item in items:
        value = item.value if isinstance(item, nodes.Keyword) else item
        if isinstance(value, nodes.Const) and isinstance(value.value, str):
            yield value.value
