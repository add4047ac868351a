"""A strict reader of VNN-LIB version 1, the S-expression format of VNN-COMP.

A file asserts the *violation*: inputs in a set and outputs in an unsafe set. What is
read: `declare-const` of X_i and Y_j, and `assert` over `and`, `or`, `<=`, `>=`, `<`,
`>` with linear terms. Size and depth are limited before anything grows. Grammar:
Demarchi et al., "Supporting standardization of neural networks verification with VNNLIB
and CoCoNet" (2023). Version 2 is read by `vnnlib2`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from auditor.errors import InvalidText, Place, PropertyMismatch
from auditor.verify.property.alternatives import (
    MAX_NUMBER_BITS,
    Alternatives,
    CaseBuilder,
    Conjunction,
    Linear,
    all_of,
    any_of,
    compare,
    total_of,
)
from auditor.verify.property.cases import Property
from auditor.verify.property.numbers import exact_decimal

MAX_CHARACTERS = 32_000_000
MAX_DEPTH = 64
MAX_WORDS = 2_000_000

_TOKEN = re.compile(r"(?:\s++|;[^\n]*+)++|[()]|[^\s();]+")
_VARIABLE = re.compile(r"([XY])_(\d{1,9})", re.ASCII)
_COMPARISONS = ("<=", ">=", "<", ">")


@dataclass(slots=True)
class Node:
    """An S-expression: a word, or a list of nodes, with where it starts."""

    offset: int
    word: str = ""
    items: Sequence[Node] = ()

    @property
    def head(self) -> str:
        """The first word of a list, or an empty string."""
        return self.items[0].word if self.items else ""


def parse_vnnlib(
    text: str, name: str, *, source: str, num_inputs: int, num_outputs: int
) -> Property:
    """Read the text of a VNN-LIB 1 file as a property.

    Args:
        text: The file's content.
        name: Name of the property.
        source: Name of the file, for messages.
        num_inputs: Size of the network's flat input.
        num_outputs: Size of its flat output.

    Raises:
        InvalidText: Not VNN-LIB 1, or a limit is passed.
        UnsupportedProperty: A form this reader does not express.
        PropertyMismatch: Declared for a network of another size.
    """
    return _Reader(text, name, source, num_inputs, num_outputs).read()


class _Reader:
    """One reading of one text."""

    def __init__(
        self, text: str, name: str, source: str, num_inputs: int, num_outputs: int
    ) -> None:
        self.text, self.name, self.source = text, name, source
        self.sizes = {"X": num_inputs, "Y": num_outputs}
        self.declared: dict[str, set[int]] = {"X": set(), "Y": set()}

    def read(self) -> Property:
        if len(self.text) > MAX_CHARACTERS:
            raise InvalidText(self.source, f"longer than {MAX_CHARACTERS} characters")
        if self.text.count(")") > MAX_WORDS:  # seen at once, where words have to be counted
            raise InvalidText(self.source, f"more than {MAX_WORDS} words; split the property")
        blocks: list[Alternatives] = []
        for statement in self._statements():
            if statement.head == "declare-const":
                self._declare(statement)
            elif statement.head == "assert" and len(statement.items) == 2:
                blocks.append(self._alternatives(statement.items[1]))
            elif statement.head in ("vnnlib-version", "declare-network"):
                raise self._error(statement, "version 2 of VNN-LIB in a version 1 file")
            else:
                raise self._error(statement, "expected (declare-const ...) or (assert ...)")
        self._check_declarations()
        return CaseBuilder(self.name, self.source, self.sizes, self._place).property_of(blocks)

    # Text to S-expressions

    def _statements(self) -> Iterator[Node]:
        stack: list[tuple[int, list[Node]]] = []
        position = words = 0
        for match in _TOKEN.finditer(self.text):
            position = match.end()
            token, offset = match.group(), match.start()
            if token == "(":
                if len(stack) >= MAX_DEPTH:
                    raise InvalidText(self._place(offset), f"nested deeper than {MAX_DEPTH}")
                stack.append((offset, []))
            elif token == ")":
                if not stack:
                    raise InvalidText(self._place(offset), "')' without '('; remove it")
                start, items = stack.pop()
                node = Node(start, items=items)
                if stack:
                    stack[-1][1].append(node)
                else:
                    yield node
            elif not token[0].isspace() and token[0] != ";":
                if not stack:
                    raise InvalidText(self._place(offset), f"'{token[:40]}' outside of '(...)'")
                stack[-1][1].append(Node(offset, token))
            else:
                continue
            words += 1
            if words > MAX_WORDS:
                raise InvalidText(
                    self._place(offset), f"more than {MAX_WORDS} words; split the property"
                )
        if stack:
            raise InvalidText(self._place(stack[-1][0]), "'(' is never closed")
        if position != len(self.text):
            raise InvalidText(self._place(position), "a character that cannot be read")

    def _place(self, offset: int) -> Place:
        line = self.text.count("\n", 0, offset) + 1
        column = offset - (self.text.rfind("\n", 0, offset) + 1) + 1
        return Place(self.source, line, column)

    def _error(self, node: Node, problem: str) -> InvalidText:
        return InvalidText(self._place(node.offset), problem)

    # Declarations

    def _declare(self, node: Node) -> None:
        words = [item.word for item in node.items]
        match = _VARIABLE.fullmatch(words[1]) if len(words) == 3 and words[2] == "Real" else None
        if match is None:
            raise self._error(node, "expected (declare-const X_i Real) or Y_j")
        indices, index = self.declared[match[1]], int(match[2])
        if index in indices:
            raise self._error(node, f"{words[1]} is declared twice")
        indices.add(index)

    def _check_declarations(self) -> None:
        for letter, what in (("X", "inputs"), ("Y", "outputs")):
            indices = self.declared[letter]
            count = max(indices, default=-1) + 1
            if len(indices) != count:
                missing = next(i for i in range(count) if i not in indices)
                raise InvalidText(self.source, f"{letter}_{missing} is not declared")
            if count != self.sizes[letter]:
                raise PropertyMismatch(self.name, what, self.sizes[letter], count)

    # Formulas

    def _alternatives(self, node: Node) -> Alternatives:
        """The formula as a disjunction of conjunctions of atoms."""
        if node.head in ("and", "or"):
            blocks = [self._alternatives(item) for item in node.items[1:]]
            combine = all_of if node.head == "and" else any_of
            return combine(blocks, lambda problem: self._error(node, problem))
        return [self._atom(node)]

    def _atom(self, node: Node) -> Conjunction:
        if node.head not in _COMPARISONS or len(node.items) != 3:
            shown = node.head or node.word
            raise self._error(
                node, f"'{shown[:40]}' is not read here; use and, or, <=, >= with two sides"
            )
        left, right = (self._linear(item) for item in node.items[1:])
        return compare(node.head, left, right, node.offset)

    def _linear(self, node: Node) -> Linear:
        if node.word:
            return self._word(node)
        form = self._combined(node)
        if form.is_lengthy:
            raise self._error(
                node, f"a number of more than {MAX_NUMBER_BITS} bits; write it out, or scale it"
            )
        return form

    def _combined(self, node: Node) -> Linear:
        parts = [self._linear(item) for item in node.items[1:]]
        if node.head == "+" and parts:
            return total_of(parts)
        if node.head == "-" and parts:
            rest = total_of(parts[1:]).scaled(Fraction(-1))
            return parts[0].plus(rest) if len(parts) > 1 else parts[0].scaled(Fraction(-1))
        if node.head == "*" and len(parts) == 2:
            for factor, form in (parts, parts[::-1]):
                if not factor.coefficients:
                    return form.scaled(factor.constant)
            raise self._error(node, "a product of two variables; only linear terms are read")
        raise self._error(node, f"'{node.head[:40]}' is not a linear term")

    def _word(self, node: Node) -> Linear:
        match = _VARIABLE.fullmatch(node.word)
        if match is None:
            try:
                return Linear({}, exact_decimal(node.word))
            except ValueError as error:
                raise self._error(node, str(error)) from None
        if int(match[2]) not in self.declared[match[1]]:
            raise self._error(node, f"{node.word} is not declared before its use")
        return Linear({node.word: Fraction(1)}, Fraction(0))
