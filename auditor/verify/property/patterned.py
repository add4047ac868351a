"""Properties of activation patterns: what follows one is of its class, and of no other.

Source: Geng et al. 2023, 2210.16114. Regions are closed here: a neuron at exactly zero is in
either state, so what is proved holds for a little more than what was mined.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

from auditor.errors import ConfigurationError
from auditor.verify.property.cases import Property, UnsafeCase, UnsafeRow, output_names
from auditor.verify.property.pattern import Pattern, States
from auditor.verify.property.robustness import exceeds

Box = tuple[Sequence[Fraction], Sequence[Fraction]]
LayerStates = Mapping[int | str, States]


def pattern_class_property(
    states: LayerStates,
    label: int,
    num_outputs: int,
    box: Box,
    *,
    example: Sequence[Fraction] | None = None,
    name: str = "",
) -> Property:
    """Every input of a box that follows a pattern gets `label`, strictly.

    Args:
        states: Active and inactive neurons by layer.
        label: Index of the output that must be largest.
        num_outputs: How many outputs the network has, at least 2.
        box: Lower and upper ends, [inputs] each.
        example: An input of the box that follows the pattern, if one is known.
        name: Identifier; made from the label when empty.

    Raises:
        ConfigurationError: The label is no output, or states contradict each other.
    """
    if num_outputs < 2 or not 0 <= label < num_outputs:
        raise ConfigurationError(
            f"label {label} is not an output of a network with {num_outputs} outputs; "
            "use an index from 0, and at least two outputs"
        )
    lower, upper = tuple(box[0]), tuple(box[1])
    names = output_names(num_outputs)
    pattern = Pattern.of(states, example)
    return Property(
        name=name or f"pattern-class-{label}",
        cases=tuple(
            UnsafeCase(lower, upper, (exceeds(label, other, num_outputs),))
            for other in range(num_outputs)
            if other != label
        ),
        text=f"for every input {pattern.describe()}: {names[label]} is the largest output",
        violation_text=f"some input {pattern.describe()} has another output at least as large as "
        f"{names[label]}",
        num_inputs=len(lower),
        num_outputs=num_outputs,
        output_names=names,
        pattern=pattern,
    )


def pattern_overlap_property(
    first: LayerStates,
    second: LayerStates,
    num_outputs: int,
    box: Box,
    *,
    name: str = "",
) -> Property:
    """No input of a box follows both patterns.

    Args:
        first: States of one pattern by layer.
        second: States of the other.
        num_outputs: How many outputs the network has.
        box: Lower and upper ends, [inputs] each.
        name: Identifier.

    Raises:
        ConfigurationError: A neuron is active in one and inactive in the other: then no
            input follows both, but for a tie at zero, and nothing is left to search for. See
            `conflicting_neuron`.
    """
    conflict = conflicting_neuron(first, second)
    if conflict is not None:
        raise ConfigurationError(
            f"layer {conflict[0]}, neuron {conflict[1]} is active in one pattern and inactive in "
            "the other; such patterns cannot both be followed"
        )
    both = {
        layer: (
            tuple(sorted({*first.get(layer, ((), ()))[0], *second.get(layer, ((), ()))[0]})),
            tuple(sorted({*first.get(layer, ((), ()))[1], *second.get(layer, ((), ()))[1]})),
        )
        for layer in {**first, **second}
    }
    lower, upper = tuple(box[0]), tuple(box[1])
    always = UnsafeRow((Fraction(0),) * num_outputs, Fraction(0))
    return Property(
        name=name or "patterns-do-not-overlap",
        cases=(UnsafeCase(lower, upper, (always,)),),
        text="no input follows both patterns",
        violation_text="some input follows both patterns",
        num_inputs=len(lower),
        num_outputs=num_outputs,
        output_names=output_names(num_outputs),
        pattern=Pattern.of(both),
        says_nobody_follows=True,
    )


def conflicting_neuron(first: LayerStates, second: LayerStates) -> tuple[int | str, int] | None:
    """A neuron, with its layer, that the patterns want in opposite states; None without one."""
    for layer, (active, inactive) in first.items():
        others = second.get(layer, ((), ()))
        clash = {*active} & {*others[1]} | {*inactive} & {*others[0]}
        if clash:
            return layer, min(clash)
    return None


def nobody_follows(prop: Property) -> Property:
    """The property that no input of another property's set follows its pattern.

    Each case keeps its conditions on inputs; one without any gets a row that always holds,
    whose bound then comes from the pattern's multipliers alone.
    """
    always = UnsafeRow((Fraction(0),) * prop.num_outputs, Fraction(0))
    cases = dict.fromkeys(
        UnsafeCase(case.lower, case.upper, case.precondition or (always,))
        for case in prop.cases
        if not case.is_empty
    )
    return replace(
        prop,
        cases=tuple(cases),
        text="no input follows the pattern",
        violation_text="some input follows the pattern",
        says_nobody_follows=True,
    )
