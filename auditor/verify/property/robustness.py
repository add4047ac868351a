"""Local robustness: around one input, the class does not change."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from auditor.errors import ConfigurationError
from auditor.verify.property.cases import (
    Property,
    UnsafeCase,
    UnsafeRow,
    number_text,
    output_names,
)
from auditor.verify.property.numbers import exact_number

Number = Fraction | float | int | str


def robustness_property(
    center: Sequence[Number],
    radius: Number,
    label: int,
    num_outputs: int,
    clip: tuple[Number, Number] | None = None,
    *,
    name: str = "",
) -> Property:
    """Every input within `radius` (L-infinity) of `center` gets `label`, strictly.

    The label's output must exceed every other; a tie is a violation.

    Args:
        center: The input, one number each; a float means exactly that float.
        radius: Non-negative distance.
        label: Index of the output that must be largest.
        num_outputs: How many outputs the network has, at least 2.
        clip: Range every input must also stay in, for example (0, 1).
        name: Identifier; made from label and radius when empty.

    Raises:
        ConfigurationError: A number out of range.
    """
    try:
        exact_center = tuple(exact_number(value) for value in center)
        exact_radius = exact_number(radius)
        limits = (exact_number(clip[0]), exact_number(clip[1])) if clip else None
    except ValueError as error:
        raise ConfigurationError(f"robustness property: {error}; use finite numbers") from None
    if exact_radius < 0:
        raise ConfigurationError(f"radius {radius} is negative; use a distance of 0 or more")
    if num_outputs < 2 or not 0 <= label < num_outputs:
        raise ConfigurationError(
            f"label {label} is not an output of a network with {num_outputs} outputs; "
            "use an index from 0, and at least two outputs"
        )
    lower, upper = box_around(exact_center, exact_radius, limits)
    names = output_names(num_outputs)
    cases = tuple(
        UnsafeCase(lower, upper, (exceeds(label, other, num_outputs),))
        for other in range(num_outputs)
        if other != label
    )
    where = f"within {number_text(exact_radius)} (L-infinity) of the given input"
    if limits:
        where += f", clipped to [{number_text(limits[0])}, {number_text(limits[1])}]"
    return Property(
        name=name or f"robust-class-{label}-radius-{number_text(exact_radius)}",
        cases=cases,
        text=f"for every input {where}: {names[label]} is the largest output",
        violation_text=f"some input {where} has another output at least as large as {names[label]}",
        num_inputs=len(lower),
        num_outputs=num_outputs,
        output_names=names,
    )


def box_around(
    center: Sequence[Fraction], radius: Fraction, clip: tuple[Fraction, Fraction] | None
) -> tuple[tuple[Fraction, ...], tuple[Fraction, ...]]:
    """Lower and upper ends of the L-infinity ball, clipped."""
    lower = tuple(value - radius for value in center)
    upper = tuple(value + radius for value in center)
    if clip is None:
        return lower, upper
    return (
        tuple(max(value, clip[0]) for value in lower),
        tuple(min(value, clip[1]) for value in upper),
    )


def exceeds(winner: int, other: int, count: int) -> UnsafeRow:
    """The unsafe row of `y[winner] > y[other]`: the winner is at most the other."""
    coefficients = [Fraction(0)] * count
    coefficients[winner] += 1
    coefficients[other] -= 1
    return UnsafeRow(tuple(coefficients), Fraction(0))
