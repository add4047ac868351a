"""Does any input follow a property's pattern? Without one the property says nothing.

The question is put as a property of its own, `nobody_follows`, so that the same engines
answer it: refuting all of it shows that the pattern is empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from auditor.verify.network import GraphNetwork, Network
from auditor.verify.network.exact_image import exact_values, has_exact_values
from auditor.verify.phases import follows_exactly, phases_of
from auditor.verify.property import Property


def has_known_follower(network: Network | GraphNetwork, prop: Property) -> bool:
    """Whether the pattern's example is an input of the set and follows it, exactly."""
    example = None if prop.pattern is None else prop.pattern.example
    if example is None or len(example) != prop.num_inputs:
        return False
    nothing = (Fraction(0),) * prop.num_outputs
    meant = any(
        case.contains(example) and all(row.contains(nothing, example) for row in case.precondition)
        for case in prop.cases
    )
    return meant and _follows(network, prop, example)


def _follows(network: Network | GraphNetwork, prop: Property, inputs: Sequence[Fraction]) -> bool:
    phases = phases_of(prop.pattern, network)
    if isinstance(network, Network):
        return follows_exactly(network.preactivations_exact(inputs), phases)
    if has_exact_values(network):
        return follows_exactly(exact_values(network, inputs), phases)
    from auditor.verify.enclosure import enclose_values

    return enclose_values(network, inputs).follows(phases)
