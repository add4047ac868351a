"""The YAML form of a property: a positive statement about a set of inputs.

The format is described in specs/property-yaml.md. Every condition under `then` must
hold for every input; each is negated here into the cases that would violate it.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from auditor.errors import InvalidText, PropertyMismatch
from auditor.strict_yaml import Document, parse, validate
from auditor.verify.property.cases import (
    Property,
    UnsafeCase,
    UnsafeRow,
    number_text,
    output_names,
)
from auditor.verify.property.numbers import exact_decimal
from auditor.verify.property.robustness import box_around, exceeds


def _decimal(value: object) -> Fraction:
    if not isinstance(value, str):
        raise ValueError("expected a number")  # noqa: TRY004 - pydantic reports ValueError
    return exact_decimal(value)


def _integer(value: object) -> object:
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= 9:
        return int(value)
    return value


Exact = Annotated[Fraction, BeforeValidator(_decimal)]
Output = Annotated[int | str, BeforeValidator(_integer)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class BoxInputs(_Part):
    """Lower and upper ends, one number for all inputs or one each."""

    lower: list[Exact] | Exact
    upper: list[Exact] | Exact


class AroundInputs(_Part):
    """All inputs within `radius` of `center` in every coordinate, clipped."""

    center: list[Exact]
    radius: Annotated[Exact, Field(ge=0)]
    clip: tuple[Exact, Exact] | None = None


class Inputs(_Part):
    """The set of inputs, in exactly one of its forms."""

    box: BoxInputs | None = None
    around: AroundInputs | None = None

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if (self.box is None) == (self.around is None):
            raise ValueError("give exactly one of 'box' and 'around'")
        return self


class Outputs(_Part):
    """Names of the outputs, in order."""

    names: list[str]

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len(set(self.names)) != len(self.names):
            raise ValueError("two outputs have the same name")
        if any(name.isdecimal() or not name for name in self.names):
            raise ValueError("a name must not be a number or empty")
        return self


class AnyClass(_Part):
    """The largest output is one of these."""

    any_of: list[Output] = Field(alias="in", min_length=1)


class OutputLimit(_Part):
    """One output compared with a number."""

    output: Output
    value: Exact


class OutputOrder(_Part):
    """One output strictly greater than another."""

    output: Output
    than: Output


class Condition(_Part):
    """One condition, in exactly one of its forms."""

    required_class: Output | AnyClass | None = Field(default=None, alias="class")
    at_most: OutputLimit | None = None
    at_least: OutputLimit | None = None
    greater: OutputOrder | None = None

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        forms = (self.required_class, self.at_most, self.at_least, self.greater)
        if sum(form is not None for form in forms) != 1:
            raise ValueError("give exactly one of 'class', 'at_most', 'at_least', 'greater'")
        return self


class PropertyFile(_Part):
    """A whole property file."""

    version: Annotated[Literal[1], BeforeValidator(_integer)]
    id: str = Field(min_length=1, max_length=200)
    title: str = ""
    inputs: Inputs
    outputs: Outputs | None = None
    then: list[Condition] = Field(min_length=1)


def parse_property_yaml(text: str, *, source: str, num_inputs: int, num_outputs: int) -> Property:
    """Read the text of a YAML property.

    Raises:
        InvalidText: A problem of the text, with its place.
        PropertyMismatch: Written for a network of another size.
    """
    document = parse(text, source, numbers_as_text=True)
    content = validate(document, PropertyFile)
    names = output_names(num_outputs)
    if content.outputs is not None:
        names = tuple(content.outputs.names)
        if len(names) != num_outputs:
            raise PropertyMismatch(content.id, "outputs", num_outputs, len(names))
    lower, upper = _box(content, num_inputs)
    where = _where(content.inputs)
    negation = _Negation(content.id, document, names)
    cases: list[UnsafeCase] = []
    statements, violations = [], []
    for number, condition in enumerate(content.then):
        unsafe, statement, violation = negation.negate(condition, number)
        cases.extend(UnsafeCase(lower, upper, rows) for rows in unsafe)
        statements.append(statement)
        violations.append(violation)
    title = f"{content.title}: " if content.title else ""
    return Property(
        name=content.id,
        cases=tuple(cases),
        text=f"{title}for every input {where}: {' and '.join(statements)}",
        violation_text=f"some input {where} has {' or '.join(violations)}",
        num_inputs=num_inputs,
        num_outputs=num_outputs,
        output_names=names,
    )


def _box(
    content: PropertyFile, num_inputs: int
) -> tuple[tuple[Fraction, ...], tuple[Fraction, ...]]:
    if content.inputs.around is not None:
        around = content.inputs.around
        lower, upper = box_around(around.center, around.radius, around.clip)
    else:
        box = content.inputs.box
        if box is None:  # the validator has refused this
            raise InvalidText(content.id, "inputs are missing")
        lower, upper = (
            tuple(end) if isinstance(end, list) else (end,) * num_inputs
            for end in (box.lower, box.upper)
        )
    for end in (lower, upper):
        if len(end) != num_inputs:
            raise PropertyMismatch(content.id, "inputs", num_inputs, len(end))
    return lower, upper


def _where(inputs: Inputs) -> str:
    if inputs.around is None:
        return "of the box"
    clip = inputs.around.clip
    clipped = f", clipped to [{number_text(clip[0])}, {number_text(clip[1])}]" if clip else ""
    radius = number_text(inputs.around.radius)
    return f"within {radius} (L-infinity) of the centre{clipped}"


Rows = tuple[UnsafeRow, ...]


class _Negation:
    """Turns conditions into the rows that violate them."""

    def __init__(self, name: str, document: Document, names: tuple[str, ...]) -> None:
        self.name, self.document, self.names = name, document, names

    def negate(self, condition: Condition, number: int) -> tuple[list[Rows], str, str]:
        """Unsafe conjunctions, the positive statement and its violation."""
        keys: tuple[str | int, ...] = ("then", number)
        if condition.required_class is not None:
            required = condition.required_class
            wanted = required.any_of if isinstance(required, AnyClass) else [required]
            return self._classes([self._index(output, keys) for output in wanted])
        if condition.greater is not None:
            first = self._index(condition.greater.output, keys)
            second = self._index(condition.greater.than, keys)
            if first == second:
                raise InvalidText(self.document.place(keys), "an output compared with itself")
            names = self.names[first], self.names[second]
            row = exceeds(first, second, len(self.names))
            return [(row,)], f"{names[0]} > {names[1]}", f"{names[0]} <= {names[1]}"
        limit = condition.at_most or condition.at_least
        if limit is None:  # the validator has refused this
            raise InvalidText(self.document.place(keys), "a condition is missing")
        index = self._index(limit.output, keys)
        # Unsafe is y > value (at_most) or y < value (at_least): strict, so a tie is fine.
        sign = -1 if condition.at_most is not None else 1
        coefficients = [Fraction(0)] * len(self.names)
        coefficients[index] = Fraction(sign)
        row = UnsafeRow(tuple(coefficients), sign * limit.value, strict=True)
        return (
            [(row,)],
            row.describe(self.names, negated=True),
            row.describe(self.names, negated=False),
        )

    def _classes(self, wanted: list[int]) -> tuple[list[Rows], str, str]:
        count = len(self.names)
        unsafe = [
            tuple(exceeds(winner, other, count) for winner in dict.fromkeys(wanted))
            for other in range(count)
            if other not in wanted
        ]
        listed = " or ".join(self.names[index] for index in dict.fromkeys(wanted))
        return (
            unsafe,
            f"{listed} is the largest output",
            f"another output at least as large as {listed.replace(' or ', ' and ')}",
        )

    def _index(self, output: int | str, keys: tuple[str | int, ...]) -> int:
        if isinstance(output, int):
            if output >= len(self.names):
                raise PropertyMismatch(self.name, "outputs", len(self.names), output + 1)
            return output
        if output not in self.names:
            known = ", ".join(self.names[:20])
            raise InvalidText(
                self.document.place(keys), f"unknown output '{output}'; known: {known}"
            )
        return self.names.index(output)
