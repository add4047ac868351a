"""From asserted atoms to the cases of a property: shared by both versions of VNN-LIB.

A file asserts the *violation* as a conjunction of blocks, each block a disjunction of
conjunctions of linear atoms. Their product gives the unsafe cases; sizes are limited
before anything grows. An atom over one input is an end of the box; every other atom, over
outputs, several inputs or both, is a half-space.
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


Alternatives = list[Conjunction]


def total_of(parts: Sequence[Linear]) -> Linear:
    """The sum of linear forms."""
    total = Linear({}, Fraction(0))
    for part in parts:
        total = total.plus(part)
    return total


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
    return [
        single + tuple(atom for part in choice for atom in part) for choice in product(*several)
    ]


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
    """

    name: str
    source: str
    sizes: Mapping[str, int]
    place: Callable[[int], Place]
    rows: dict[int, UnsafeRow] = field(default_factory=dict)

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
        cells = count * (2 * self.sizes["X"] + self.sizes["Y"])
        atoms = (atom for block in blocks for conjunction in block for atom in conjunction)
        wide = sum(_is_wide(atom) for atom in atoms) * self.sizes["X"]
        if wide > MAX_CELLS:
            raise InvalidText(
                self.source,
                f"conditions over several inputs have {wide} coefficients (limit {MAX_CELLS}); "
                "split the property",
            )
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
            elif letters == {"X"} and len(atom.form.coefficients) == 1:
                self._bound(atom, box)
            else:
                box.rows.append(self._row(atom))
        return box

    def _row(self, atom: Atom) -> UnsafeRow:
        # Cases that share an atom share its row.
        if id(atom) not in self.rows:
            self.rows[id(atom)] = self._new_row(atom)
        return self.rows[id(atom)]

    def _new_row(self, atom: Atom) -> UnsafeRow:
        found = {"X": [Fraction(0)] * self.sizes["X"], "Y": [Fraction(0)] * self.sizes["Y"]}
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


@dataclass
class _Box:
    """A case under construction."""

    lower: dict[int, Fraction]
    upper: dict[int, Fraction]
    rows: list[UnsafeRow]
    impossible: bool = False
