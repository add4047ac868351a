"""A strict reader of VNN-LIB version 1, the S-expression format of VNN-COMP.

A file asserts the *violation*: inputs in a set and outputs in an unsafe set. What is
read: `declare-const` of X_i and Y_j, and `assert` over `and`, `or`, `<=`, `>=`, `<`,
`>` with linear terms. Bounds speak of one input each; an atom over inputs and outputs
together is refused. Size, depth and the number of cases are limited before anything
grows. Grammar: Demarchi et al., "Supporting standardization of neural networks
verification with VNNLIB and CoCoNet" (2023); version 2 files are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import product

from auditor.errors import InvalidText, Place, PropertyMismatch, UnsupportedProperty
from auditor.verify.property.cases import (
    Property,
    UnsafeCase,
    UnsafeRow,
    describe_cases,
    output_names,
)
from auditor.verify.property.numbers import exact_decimal

MAX_CHARACTERS = 32_000_000
MAX_DEPTH = 64
MAX_CASES = 20_000
MAX_CELLS = 8_000_000

_TOKEN = re.compile(r"\s+|;[^\n]*|[()]|[^\s();]+")
_VARIABLE = re.compile(r"([XY])_(\d{1,9})", re.ASCII)
_COMPARISONS = ("<=", ">=", "<", ">")


@dataclass
class Node:
    """An S-expression: a word, or a list of nodes, with where it starts."""

    offset: int
    word: str = ""
    items: list[Node] = field(default_factory=list)

    @property
    def head(self) -> str:
        """The first word of a list, or an empty string."""
        return self.items[0].word if self.items else ""


@dataclass(frozen=True)
class Linear:
    """`sum(coefficients[v] * v) + constant` over variables named X_i, Y_j."""

    coefficients: Mapping[str, Fraction]
    constant: Fraction

    def scaled(self, factor: Fraction) -> Linear:
        """This form times a number."""
        terms = {name: value * factor for name, value in self.coefficients.items()}
        return Linear(terms, self.constant * factor)

    def plus(self, other: Linear) -> Linear:
        """The sum of two forms, without zero coefficients."""
        terms = dict(self.coefficients)
        for name, value in other.coefficients.items():
            terms[name] = terms.get(name, Fraction(0)) + value
        return Linear({n: v for n, v in terms.items() if v}, self.constant + other.constant)


@dataclass(frozen=True)
class Atom:
    """`form <= 0`, or `form < 0` when strict."""

    form: Linear
    strict: bool
    offset: int


Conjunction = tuple[Atom, ...]


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
        blocks: list[list[Conjunction]] = []
        for statement in self._statements():
            if statement.head == "declare-const":
                self._declare(statement)
            elif statement.head == "assert" and len(statement.items) == 2:
                blocks.append(self._alternatives(statement.items[1]))
            elif statement.head in ("vnnlib-version", "declare-network"):
                raise UnsupportedProperty(
                    f"{self._place(statement.offset)}: VNN-LIB version 2 is not read; "
                    "write the property in version 1 or as YAML"
                )
            else:
                raise self._error(statement, "expected (declare-const ...) or (assert ...)")
        self._check_declarations()
        cases = self._cases(blocks)
        names = output_names(self.sizes["Y"])
        return Property(
            name=self.name,
            cases=cases,
            text=f"for every input of the set: {describe_cases(cases, names, negated=True)}",
            violation_text="some input of the set has "
            f"{describe_cases(cases, names, negated=False)}",
            num_inputs=self.sizes["X"],
            num_outputs=self.sizes["Y"],
            output_names=names,
        )

    # Text to S-expressions

    def _statements(self) -> Iterator[Node]:
        stack: list[Node] = []
        position = 0
        for match in _TOKEN.finditer(self.text):
            position = match.end()
            token, offset = match.group(), match.start()
            if token == "(":
                if len(stack) >= MAX_DEPTH:
                    raise InvalidText(self._place(offset), f"nested deeper than {MAX_DEPTH}")
                stack.append(Node(offset))
            elif token == ")":
                if not stack:
                    raise InvalidText(self._place(offset), "')' without '('; remove it")
                node = stack.pop()
                if stack:
                    stack[-1].items.append(node)
                else:
                    yield node
            elif not token[0].isspace() and token[0] != ";":
                if not stack:
                    raise InvalidText(self._place(offset), f"'{token[:40]}' outside of '(...)'")
                stack[-1].items.append(Node(offset, token))
        if stack:
            raise InvalidText(self._place(stack[-1].offset), "'(' is never closed")
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

    def _alternatives(self, node: Node) -> list[Conjunction]:
        """The formula as a disjunction of conjunctions of atoms."""
        if node.head == "and":
            blocks = [self._alternatives(item) for item in node.items[1:]]
            # Single alternatives (the usual long list of bounds) are joined at once.
            single = tuple(atom for block in blocks if len(block) == 1 for atom in block[0])
            several = [block for block in blocks if len(block) != 1]
            self._limit(node, several)
            return [
                single + tuple(atom for part in choice for atom in part)
                for choice in product(*several)
            ]
        if node.head == "or":
            joined = [c for item in node.items[1:] for c in self._alternatives(item)]
            self._limit(node, [joined])
            return joined
        return [(self._atom(node),)]

    def _limit(self, node: Node, blocks: Sequence[Sequence[Conjunction]]) -> None:
        count = 1
        for block in blocks:
            count *= max(len(block), 1)
            if count > MAX_CASES:
                raise self._error(node, f"more than {MAX_CASES} cases; split the property")

    def _atom(self, node: Node) -> Atom:
        if node.head not in _COMPARISONS or len(node.items) != 3:
            shown = node.head or node.word
            raise self._error(
                node, f"'{shown[:40]}' is not read here; use and, or, <=, >= with two sides"
            )
        left, right = (self._linear(item) for item in node.items[1:])
        if node.head.startswith(">"):
            left, right = right, left
        form = left.plus(right.scaled(Fraction(-1)))
        return Atom(form, node.head in ("<", ">"), node.offset)

    def _linear(self, node: Node) -> Linear:
        if node.word:
            return self._word(node)
        parts = [self._linear(item) for item in node.items[1:]]
        if node.head == "+" and parts:
            return _total(parts)
        if node.head == "-" and parts:
            rest = _total(parts[1:]).scaled(Fraction(-1))
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

    # Atoms to cases

    def _cases(self, blocks: Sequence[list[Conjunction]]) -> tuple[UnsafeCase, ...]:
        common = [atom for block in blocks if len(block) == 1 for atom in block[0]]
        several = [block for block in blocks if len(block) != 1]
        count = 1
        for block in several:
            count *= len(block)
        cells = count * (2 * self.sizes["X"] + self.sizes["Y"])
        if count > MAX_CASES or cells > MAX_CELLS:
            raise InvalidText(
                self.source, f"{count} cases are too many (limit {MAX_CASES}); split the property"
            )
        boxes: dict[tuple[tuple[Fraction, ...], tuple[Fraction, ...]], tuple[Fraction, ...]] = {}
        base = self._apply(common, _Box({}, {}, []))
        cases = []
        for choice in product(*several):
            box = self._apply(
                (atom for part in choice for atom in part),
                _Box(dict(base.lower), dict(base.upper), list(base.rows)),
            )
            if box.impossible:
                continue
            lower, upper = self._ends(box.lower), self._ends(box.upper)
            # Equal boxes share their tuples, so a thousand cases cost one box.
            lower, upper = (boxes.setdefault((end, ()), end) for end in (lower, upper))
            cases.append(UnsafeCase(lower, upper, tuple(dict.fromkeys(box.rows))))
        return tuple(cases)

    def _ends(self, bounds: Mapping[int, Fraction]) -> tuple[Fraction, ...]:
        for index in range(self.sizes["X"]):
            if index not in bounds:
                raise InvalidText(
                    self.source, f"X_{index} has no bound on one side; give both ends"
                )
        return tuple(bounds[index] for index in range(self.sizes["X"]))

    def _apply(self, atoms: Iterable[Atom], box: _Box) -> _Box:
        for atom in atoms:
            letters = {name[0] for name in atom.form.coefficients}
            if not letters:
                value = atom.form.constant
                box.impossible |= value > 0 or (value == 0 and atom.strict)
            elif letters == {"Y"}:
                box.rows.append(self._row(atom))
            elif letters == {"X"} and len(atom.form.coefficients) == 1:
                self._bound(atom, box)
            else:
                both = "inputs and outputs" if len(letters) == 2 else "several inputs"
                raise UnsupportedProperty(
                    f"{self._place(atom.offset)}: a condition over {both} at once is not "
                    "read; give each input its own bounds"
                )
        return box

    def _row(self, atom: Atom) -> UnsafeRow:
        coefficients = [Fraction(0)] * self.sizes["Y"]
        for name, value in atom.form.coefficients.items():
            index = int(name[2:])
            if index >= self.sizes["Y"]:
                raise PropertyMismatch(self.name, "outputs", self.sizes["Y"], index + 1)
            coefficients[index] = value
        return UnsafeRow(tuple(coefficients), -atom.form.constant, atom.strict)

    def _bound(self, atom: Atom, box: _Box) -> None:
        if atom.strict:
            raise UnsupportedProperty(
                f"{self._place(atom.offset)}: a strict bound of an input is not read; use <= or >="
            )
        ((name, value),) = atom.form.coefficients.items()
        index, end = int(name[2:]), -atom.form.constant / value
        if value > 0:
            box.upper[index] = min(end, box.upper.get(index, end))
        else:
            box.lower[index] = max(end, box.lower.get(index, end))


@dataclass
class _Box:
    """A case under construction."""

    lower: dict[int, Fraction]
    upper: dict[int, Fraction]
    rows: list[UnsafeRow]
    impossible: bool = False


def _total(parts: Sequence[Linear]) -> Linear:
    total = Linear({}, Fraction(0))
    for part in parts:
        total = total.plus(part)
    return total
