"""From asserted atoms to the cases of a property: shared by both versions of VNN-LIB.

A file asserts the *violation* as a conjunction of blocks, each block a disjunction of
conjunctions of linear atoms. Their product gives the unsafe cases; sizes are limited
before anything grows, and so is the length of every number. An atom over one input is an
end of the box; every other atom, over outputs, several inputs or both, is a half-space.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import product

from auditor.errors import InvalidText, Place, PropertyMismatch, UnsupportedProperty
from auditor.verify.property.cases import (
    Property,
    UnsafeCase,
    UnsafeRow,
    describe_cases,
    describe_set,
    output_names,
)

MAX_CASES = 20_000
MAX_CELLS = 8_000_000
MAX_NUMBER_BITS = 8192


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
        return total_of((self, other))

    @property
    def is_lengthy(self) -> bool:
        """Whether a number is longer than anyone writes: the end of a product of products."""
        return any(
            max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_NUMBER_BITS
            for value in (self.constant, *self.coefficients.values())
        )


@dataclass(frozen=True)
class Atom:
    """`form <= 0`, or `form < 0` when strict."""

    form: Linear
    strict: bool
    offset: int


Conjunction = tuple[Atom, ...]


Alternatives = list[Conjunction]


def total_of(parts: Sequence[Linear]) -> Linear:
    """The sum of linear forms, without zero coefficients."""
    terms: dict[str, Fraction] = {}
    # Decimals share few denominators; adding what has the same one needs no reduction.
    constants: dict[int, int] = {}
    for part in parts:
        below = part.constant.denominator
        constants[below] = constants.get(below, 0) + part.constant.numerator
        for name, value in part.coefficients.items():
            terms[name] = terms[name] + value if name in terms else value
    constant = sum((Fraction(above, below) for below, above in constants.items()), Fraction(0))
    return Linear({name: value for name, value in terms.items() if value}, constant)


def compare(sign: str, left: Linear, right: Linear, offset: int) -> Conjunction:
    """The atoms of `left sign right` for one of <=, >=, <, >, ==."""
    if sign == "==":
        return (*compare("<=", left, right, offset), *compare(">=", left, right, offset))
    if sign.startswith(">"):
        left, right = right, left
    return (Atom(left.plus(right.scaled(Fraction(-1))), sign in ("<", ">"), offset),)


def all_of(blocks: Sequence[Alternatives], error: Callable[[str], InvalidText]) -> Alternatives:
    """The conjunction of blocks as alternatives; limited before it grows."""
    # Single alternatives (the usual long list of bounds) are joined at once.
    single = tuple(atom for block in blocks if len(block) == 1 for atom in block[0])
    several = [block for block in blocks if len(block) != 1]
    count = 1
    for block in several:
        count *= max(len(block), 1)
        if count > MAX_CASES:
            raise error(f"more than {MAX_CASES} cases; split the property")
    if count * len(single) + _copied(several, count) > MAX_CELLS:
        raise error(f"more than {MAX_CELLS} conditions in all cases; split the property")
    return [
        single + tuple(atom for part in choice for atom in part) for choice in product(*several)
    ]


def _copied(blocks: Sequence[Alternatives], count: int) -> int:
    """How many atoms all `count` choices of one conjunction from each block hold together."""
    return sum(
        count // len(block) * sum(len(conjunction) for conjunction in block)
        for block in blocks
        if block
    )


def any_of(blocks: Sequence[Alternatives], error: Callable[[str], InvalidText]) -> Alternatives:
    """The disjunction of blocks; limited."""
    joined = [conjunction for block in blocks for conjunction in block]
    if len(joined) > MAX_CASES:
        raise error(f"more than {MAX_CASES} cases; split the property")
    return joined


@dataclass(frozen=True)
class CaseBuilder:
    """Turns asserted blocks into a property.

    Attributes:
        name: Name of the property.
        source: Name of the file, for messages.
        sizes: Number of X and of Y variables.
        place: Where an atom's offset stands in the file.
        rows: Rows made so far, by the identity of their atoms.
        equal: The first of all rows that are equal.
    """

    name: str
    source: str
    sizes: Mapping[str, int]
    place: Callable[[int], Place]
    rows: dict[int, UnsafeRow] = field(default_factory=dict)
    equal: dict[UnsafeRow, UnsafeRow] = field(default_factory=dict)

    def property_of(self, blocks: Sequence[Alternatives]) -> Property:
        """The property whose violation is the conjunction of the blocks."""
        cases = self._cases(blocks)
        names = output_names(self.sizes["Y"])
        where = describe_set(cases, names)
        return Property(
            name=self.name,
            cases=cases,
            text=f"for every input of the set{where}: {describe_cases(cases, names, negated=True)}",
            violation_text=f"some input of the set{where} has "
            f"{describe_cases(cases, names, negated=False)}",
            num_inputs=self.sizes["X"],
            num_outputs=self.sizes["Y"],
            output_names=names,
        )

    def _cases(self, blocks: Sequence[Alternatives]) -> tuple[UnsafeCase, ...]:
        common = [atom for block in blocks if len(block) == 1 for atom in block[0]]
        several = [block for block in blocks if len(block) != 1]
        count = 1
        for block in several:
            count *= len(block)
        self._limit(blocks, several, count)
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
            # Equal rows are one object, and comparing those is quick.
            rows = {id(row): row for row in box.rows}
            cases.append(UnsafeCase(lower, upper, tuple(rows.values())))
        return tuple(cases)

    def _limit(
        self, blocks: Sequence[Alternatives], several: Sequence[Alternatives], count: int
    ) -> None:
        """Refuse what would grow beyond the limits, before any of it is made."""
        atoms = [atom for block in blocks for conjunction in block for atom in conjunction]
        wide = sum(_is_wide(atom) for atom in atoms) * self.sizes["X"]
        if wide > MAX_CELLS:
            raise InvalidText(
                self.source,
                f"conditions over several inputs have {wide} coefficients (limit {MAX_CELLS}); "
                "split the property",
            )
        over_outputs = sum(_reads_outputs(atom) for atom in atoms) * self.sizes["Y"]
        if over_outputs > MAX_CELLS:
            raise InvalidText(
                self.source,
                f"conditions over outputs have {over_outputs} coefficients (limit {MAX_CELLS}); "
                "split the property",
            )
        cells = count * (2 * self.sizes["X"] + self.sizes["Y"]) + _copied(several, count)
        if count > MAX_CASES or cells > MAX_CELLS:
            raise InvalidText(
                self.source,
                f"{count} cases with {cells} numbers are too many (limits {MAX_CASES} and "
                f"{MAX_CELLS}); split the property",
            )

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
            elif letters == {"X"} and len(atom.form.coefficients) == 1:
                self._bound(atom, box)
            else:
                box.rows.append(self._row(atom))
        return box

    def _row(self, atom: Atom) -> UnsafeRow:
        # Cases that share an atom share its row.
        if id(atom) not in self.rows:
            row = self._new_row(atom)
            self.rows[id(atom)] = self.equal.setdefault(row, row)
        return self.rows[id(atom)]

    def _new_row(self, atom: Atom) -> UnsafeRow:
        letters = {name[0] for name in atom.form.coefficients}
        width = self.sizes["X"] if "X" in letters else 0
        found = {"X": [Fraction(0)] * width, "Y": [Fraction(0)] * self.sizes["Y"]}
        for name, value in atom.form.coefficients.items():
            letter, index = name[0], int(name[2:])
            if index >= self.sizes[letter]:
                what = "inputs" if letter == "X" else "outputs"
                raise PropertyMismatch(self.name, what, self.sizes[letter], index + 1)
            found[letter][index] = value
        over_inputs = tuple(found["X"]) if any(found["X"]) else ()
        return UnsafeRow(tuple(found["Y"]), -atom.form.constant, atom.strict, over_inputs)

    def _bound(self, atom: Atom, box: _Box) -> None:
        if atom.strict:
            raise UnsupportedProperty(
                f"{self.place(atom.offset)}: a strict bound of an input is not read; use <= or >="
            )
        ((name, value),) = atom.form.coefficients.items()
        index, end = int(name[2:]), -atom.form.constant / value
        if value > 0:
            box.upper[index] = min(end, box.upper.get(index, end))
        else:
            box.lower[index] = max(end, box.lower.get(index, end))


def _is_wide(atom: Atom) -> bool:
    """Whether the atom's row needs a coefficient for every input."""
    names = atom.form.coefficients
    return len(names) > 1 and any(name[0] == "X" for name in names)


def _reads_outputs(atom: Atom) -> bool:
    """Whether the atom becomes a row over outputs."""
    return any(name[0] == "Y" for name in atom.form.coefficients)


@dataclass
class _Box:
    """A case under construction."""

    lower: dict[int, Fraction]
    upper: dict[int, Fraction]
    rows: list[UnsafeRow]
    impossible: bool = False
