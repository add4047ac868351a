"""A property in negated form: the union of cases in which it is violated.

A case is an input box together with half-spaces of outputs and inputs. The property
holds when no input of any case's box lies, with its outputs, in all of that case's
half-spaces. All numbers are exact fractions of what the file says. Two traps live here: a
conjunction of atoms is refuted by refuting any one of them, and `a <= b` negates to
`a > b`, so a tie matters; each row records whether its unsafe atom is strict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from fractions import Fraction
from itertools import islice

from auditor.errors import ConfigurationError
from auditor.verify.property.pattern import Pattern

MAX_SHOWN = 8
_FLOAT_BITS = 1000
_TWELVE_DIGITS = Context(prec=12)


@dataclass(frozen=True)
class UnsafeRow:
    """One half-space: `coefficients . y + input_coefficients . x <= bound`, or `<`.

    Attributes:
        coefficients: Of the outputs, [outputs].
        bound: The right-hand side.
        strict: Whether the tie is left out.
        input_coefficients: Of the inputs, [inputs]; empty for a row over outputs only.
    """

    coefficients: tuple[Fraction, ...]
    bound: Fraction
    strict: bool = False
    input_coefficients: tuple[Fraction, ...] = ()

    @property
    def reads_inputs(self) -> bool:
        """Whether the row speaks of inputs."""
        return any(self.input_coefficients)

    @property
    def reads_outputs(self) -> bool:
        """Whether the row speaks of outputs."""
        return any(self.coefficients)

    def excess(self, outputs: Sequence[Fraction], inputs: Sequence[Fraction] = ()) -> Fraction:
        """Left side minus `bound`: positive outside the half-space.

        Args:
            outputs: [outputs].
            inputs: [inputs]; not needed for a row over outputs only.
        """
        terms = [*zip(self.coefficients, outputs, strict=True)]
        if self.reads_inputs:
            terms += zip(self.input_coefficients, inputs, strict=True)
        return sum((c * value for c, value in terms if c), Fraction(0)) - self.bound

    def contains(self, outputs: Sequence[Fraction], inputs: Sequence[Fraction] = ()) -> bool:
        """Whether the values satisfy the atom, in its true (strict or closed) form."""
        excess = self.excess(outputs, inputs)
        return excess < 0 or (excess == 0 and not self.strict)

    def describe(self, names: Sequence[str], *, negated: bool) -> str:
        """The atom in words, or its negation; inputs are called x0, x1, ..."""
        terms = [*zip(self.coefficients, names, strict=True)]
        terms += ((c, f"x{index}") for index, c in enumerate(self.input_coefficients))
        positive = [(c, n) for c, n in terms if c > 0]
        negative = [(-c, n) for c, n in terms if c < 0]
        left, right, bound = positive, negative, self.bound
        sign = "<" if self.strict else "<="
        if not left and len(right) >= 1 and bound:
            # `-y <= -3` reads better as `y >= 3`.
            left, right, bound = negative, [], -self.bound
            sign = {"<": ">", "<=": ">="}[sign]
        if negated:
            sign = {"<": ">=", "<=": ">", ">": "<=", ">=": "<"}[sign]
        return f"{_sum(left, Fraction(0))} {sign} {_sum(right, bound)}"


@dataclass(frozen=True)
class UnsafeCase:
    """One way to violate a property: an input box, and rows that all apply.

    Attributes:
        lower: Lower end of each input, exact.
        upper: Upper end of each input, exact; a box with lower > upper is empty.
        rows: Half-spaces of outputs and inputs; without rows every input is a violation.
    """

    lower: tuple[Fraction, ...]
    upper: tuple[Fraction, ...]
    rows: tuple[UnsafeRow, ...]

    @property
    def is_empty(self) -> bool:
        """Whether the box contains no input at all."""
        return any(low > high for low, high in zip(self.lower, self.upper, strict=True))

    def contains(self, inputs: Sequence[Fraction]) -> bool:
        """Whether the input lies in the (closed) box."""
        return all(
            low <= x <= high for low, x, high in zip(self.lower, inputs, self.upper, strict=True)
        )

    @property
    def precondition(self) -> tuple[UnsafeRow, ...]:
        """The rows over inputs only: they say which inputs of the box are meant."""
        return tuple(row for row in self.rows if row.reads_inputs and not row.reads_outputs)

    def violated_by(self, outputs: Sequence[Fraction], inputs: Sequence[Fraction] = ()) -> bool:
        """Whether an input with these outputs satisfies every row in its true form."""
        return all(row.contains(outputs, inputs) for row in self.rows)

    def margin(self, outputs: Sequence[Fraction], inputs: Sequence[Fraction] = ()) -> Fraction:
        """How far inside the unsafe set the values are; negative outside it."""
        return -max((row.excess(outputs, inputs) for row in self.rows), default=Fraction(0))


@dataclass(frozen=True)
class Property:
    """What should hold for every input of a set, kept as the cases that violate it.

    Attributes:
        name: Identifier, for example the file's name or its `id`.
        cases: Every way to violate it.
        text: The positive statement.
        violation_text: What a counterexample would satisfy.
        num_inputs: Size of the network's flat input.
        num_outputs: Size of the network's flat output.
        output_names: Names used in the texts.
        pattern: States of hidden neurons that an input must show to be meant at all.
        says_nobody_follows: Whether it says just that: no input follows the pattern. Such a
            property may hold of an empty pattern.
    """

    name: str
    cases: tuple[UnsafeCase, ...]
    text: str
    violation_text: str
    num_inputs: int
    num_outputs: int
    output_names: tuple[str, ...] = ()
    pattern: Pattern | None = None
    says_nobody_follows: bool = False

    def __post_init__(self) -> None:
        for number, case in enumerate(self.cases):
            sizes = {len(case.lower), len(case.upper)}
            sizes |= {len(r.input_coefficients) for r in case.rows if r.input_coefficients}
            widths = {len(row.coefficients) for row in case.rows} or {self.num_outputs}
            if sizes != {self.num_inputs} or widths != {self.num_outputs}:
                raise ConfigurationError(
                    f"property {self.name}: case {number} has {sorted(sizes)} inputs and "
                    f"{sorted(widths)} outputs, expected {self.num_inputs} and "
                    f"{self.num_outputs}; give every case the size of the network"
                )

    def violated_cases(
        self, inputs: Sequence[Fraction], outputs: Sequence[Fraction]
    ) -> tuple[UnsafeCase, ...]:
        """The cases that this input, with these outputs, makes true; no pattern is asked."""
        return tuple(c for c in self.cases if c.contains(inputs) and c.violated_by(outputs, inputs))

    @property
    def mixes_inputs(self) -> bool:
        """Whether some row speaks of inputs."""
        return any(row.reads_inputs for case in self.cases for row in case.rows)


def describe_set(cases: Sequence[UnsafeCase], names: Sequence[str]) -> str:
    """The conditions on inputs that all cases share: " with x0 <= x1", or nothing."""
    rows = _shared_precondition(cases)
    texts = [row.describe(names, negated=False) for row in rows[:MAX_SHOWN]]
    return f" with {' and '.join(_with_rest(texts, len(rows)))}" if texts else ""


def _shared_precondition(cases: Sequence[UnsafeCase]) -> tuple[UnsafeRow, ...]:
    if not cases:
        return ()
    shared = set(cases[0].precondition).intersection(*(case.precondition for case in cases[1:]))
    return tuple(row for row in cases[0].precondition if row in shared)


def describe_cases(cases: Sequence[UnsafeCase], names: Sequence[str], *, negated: bool) -> str:
    """The conditions of cases as one line: violation, or positive statement.

    What all cases demand of the inputs alone is left to `describe_set`.
    """
    inner, outer = (" or ", " and ") if negated else (" and ", " or ")
    described: dict[int, str] = {}

    def text_of(row: UnsafeRow) -> str:
        # Cases share rows, and a row may be over a thousand outputs.
        if id(row) not in described:
            described[id(row)] = row.describe(names, negated=negated)
        return described[id(row)]

    parts: dict[str, None] = {}
    known = set(_shared_precondition(cases))
    for case in cases:
        rows = [row for row in case.rows if not known or row not in known]
        atoms = _with_rest([text_of(row) for row in rows[:MAX_SHOWN]], len(rows))
        parts[inner.join(atoms) or ("never" if negated else "always")] = None
    shown = [
        f"({part})" if len(parts) > 1 and inner in part else part
        for part in islice(parts, MAX_SHOWN)
    ]
    return outer.join(_with_rest(shown, len(parts))) or ("always" if negated else "never")


def output_names(count: int) -> tuple[str, ...]:
    """Names for outputs that have none: y0, y1, ..."""
    return tuple(f"y{index}" for index in range(count))


def _with_rest(shown: list[str], count: int) -> list[str]:
    """The first texts of `count`, and how many are left out."""
    return shown if count <= MAX_SHOWN else [*shown, f"... ({count - MAX_SHOWN} more)"]


def _sum(terms: Sequence[tuple[Fraction, str]], constant: Fraction) -> str:
    texts = [name if c == 1 else f"{number_text(c)}*{name}" for c, name in terms]
    if constant < 0 and texts:
        return f"{' + '.join(texts)} - {number_text(-constant)}"
    if constant or not texts:
        texts.append(number_text(constant))
    return " + ".join(texts)


def number_text(value: Fraction) -> str:
    """A fraction as a short decimal when that is exact, else as a ratio."""
    if value.denominator == 1 and abs(value.numerator) < 10**15:
        return str(value.numerator)
    longest = max(value.numerator.bit_length(), value.denominator.bit_length())
    # A rational converts to float only within range.
    if longest <= _FLOAT_BITS and Fraction(repr(float(value))) == value:
        return repr(float(value))
    if longest <= _FLOAT_BITS and len(str(value)) <= 40:
        return str(value)
    decimal = _TWELVE_DIGITS.divide(Decimal(value.numerator), Decimal(value.denominator))
    return f"{decimal.normalize(_TWELVE_DIGITS):.12g}"
