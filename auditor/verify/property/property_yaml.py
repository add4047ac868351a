"""The YAML form of a property: a positive statement about a set of inputs.

The format is described in specs/property-yaml.md. Every condition under `then` must
hold for every input; each is negated here into the cases that would violate it.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from auditor.errors import InvalidText, PropertyMismatch
from auditor.strict_yaml import Document, Keys, parse, validate
from auditor.verify.property.alternatives import MAX_CELLS
from auditor.verify.property.cases import (
    Property,
    UnsafeCase,
    UnsafeRow,
    number_text,
    output_names,
)
from auditor.verify.property.pattern import Pattern
from auditor.verify.property.property_form import (
    AnyClass,
    Condition,
    Inputs,
    Linear,
    PropertyFile,
)
from auditor.verify.property.robustness import box_around, exceeds


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
    negation = _Negation(content.id, document, names, num_inputs)
    _limit_size(content, num_inputs, num_outputs, source)
    demanded = negation.demanded(content.inputs.where)
    pattern = _pattern(content, num_inputs)
    where = _where(content.inputs, [row.describe(names, negated=False) for row in demanded])
    if pattern is not None:
        where = f"{where}, {pattern.describe()}"
    cases: list[UnsafeCase] = []
    statements, violations = [], []
    for number, condition in enumerate(content.then):
        unsafe, statement, violation = negation.negate(condition, number)
        cases.extend(UnsafeCase(lower, upper, (*demanded, *rows)) for rows in unsafe)
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
        pattern=pattern,
    )


def _limit_size(content: PropertyFile, num_inputs: int, num_outputs: int, source: str) -> None:
    """Refuse conditions whose rows would be too large, before any is made."""
    cells = sum(num_inputs * bool(each.inputs) for each in content.inputs.where)
    cells += len(content.inputs.where) * num_outputs
    for each in content.then:
        # Every case of a condition repeats what the set of inputs demands.
        cases = num_outputs if each.required_class is not None else 1
        cells += cases * len(content.inputs.where)
        # One row for each other class and each wanted one.
        wanted = each.required_class
        names = len(wanted.any_of) if isinstance(wanted, AnyClass) else 1
        cells += num_outputs * (num_outputs * names if wanted is not None else 1)
        cells += num_inputs * bool(each.linear and each.linear.inputs)
    if cells > MAX_CELLS:
        raise InvalidText(
            source,
            f"its conditions have {cells} coefficients (limit {MAX_CELLS}); split the property",
        )


def _pattern(content: PropertyFile, num_inputs: int) -> Pattern | None:
    if content.following is None:
        return None
    if content.example is not None and len(content.example) != num_inputs:
        raise PropertyMismatch(content.id, "inputs", num_inputs, len(content.example))
    states = {
        layer: (states.active, states.inactive) for layer, states in content.following.items()
    }
    return Pattern.of(states, content.example)


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


def _where(inputs: Inputs, conditions: Sequence[str]) -> str:
    also = f" with {' and '.join(conditions)}" if conditions else ""
    if inputs.around is None:
        return f"of the box{also}"
    clip = inputs.around.clip
    clipped = f", clipped to [{number_text(clip[0])}, {number_text(clip[1])}]" if clip else ""
    radius = number_text(inputs.around.radius)
    return f"within {radius} (L-infinity) of the centre{clipped}{also}"


Rows = tuple[UnsafeRow, ...]


class _Negation:
    """Turns conditions into the rows that violate them."""

    def __init__(
        self, name: str, document: Document, names: tuple[str, ...], num_inputs: int
    ) -> None:
        self.name, self.document, self.names = name, document, names
        self.num_inputs = num_inputs

    def demanded(self, conditions: Sequence[Linear]) -> Rows:
        """The rows of conditions that the set of inputs itself makes: they are not negated."""
        return tuple(
            self._row(condition, ("inputs", "where", number), negated=False)
            for number, condition in enumerate(conditions)
        )

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
        if condition.linear is not None:
            row = self._row(condition.linear, keys, negated=True)
            return (
                [(row,)],
                row.describe(self.names, negated=True),
                row.describe(self.names, negated=False),
            )
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

    def _row(self, linear: Linear, keys: Keys, *, negated: bool) -> UnsafeRow:
        """The half-space of a weighted sum, or the open one outside of it."""
        over_outputs = [Fraction(0)] * len(self.names)
        for output, factor in linear.outputs.items():
            index = self._index(output, keys)
            if over_outputs[index]:
                raise InvalidText(
                    self.document.place(keys), f"output '{output}' stands twice; keep one"
                )
            over_outputs[index] = factor
        over_inputs = [Fraction(0)] * (self.num_inputs if any(linear.inputs.values()) else 0)
        for index, factor in linear.inputs.items():
            if index >= self.num_inputs:
                raise PropertyMismatch(self.name, "inputs", self.num_inputs, index + 1)
            if factor:
                over_inputs[index] = factor
        below = linear.at_most is not None
        bound = linear.at_most if linear.at_most is not None else linear.at_least
        if bound is None:  # the validator has refused this
            raise InvalidText(self.document.place(keys), "a comparison is missing")
        sign = 1 if below is not negated else -1
        return UnsafeRow(
            tuple(sign * value for value in over_outputs),
            sign * bound,
            negated,
            tuple(sign * value for value in over_inputs),
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
