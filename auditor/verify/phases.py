"""A pattern's states as phases of a network's ReLUs.

Layers are counted among those with a ReLU, in the network's order, or called by name.
Where the model's operations were written with ReLUs (max-pooling, leaky ReLUs), those
count as well; `relu_layers` of the network lists them all.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from auditor.errors import ConfigurationError
from auditor.verify.network import GraphNetwork, Network, ReluLayer
from auditor.verify.property import Pattern

Int8 = NDArray[np.int8]
MAX_NAMES = 8


def phases_of(pattern: Pattern | None, network: Network | GraphNetwork) -> tuple[Int8, ...]:
    """The phase asked of every neuron: 1 active, -1 inactive, 0 free.

    Args:
        pattern: The pattern, or None for no demand.
        network: The network it speaks of.

    Returns:
        One array per layer of the network, [neurons]; empty where no ReLU follows.

    Raises:
        ConfigurationError: A layer or neuron that the network does not have.
    """
    phases = [
        np.zeros(layer.num_outputs if layer.relu else 0, dtype=np.int8) for layer in network.layers
    ]
    for states in pattern.layers if pattern else ():
        found = find_layer(states.layer, network.relu_layers)
        for phase, neurons in ((1, states.active), (-1, states.inactive)):
            index = np.array(neurons, dtype=np.int64)
            if index.size and index.max() >= found.neurons:
                raise ConfigurationError(
                    f"pattern, layer {states.layer}: neuron {index.max()} does not exist; the "
                    f"layer has {found.neurons} neurons, counted from 0"
                )
            if (phases[found.index][index] == -phase).any():
                raise ConfigurationError(
                    f"pattern, layer {states.layer}: a neuron is both active and inactive; "
                    "give each layer once"
                )
            phases[found.index][index] = phase
    return tuple(phases)


def find_layer(wanted: int | str, layers: Sequence[ReluLayer]) -> ReluLayer:
    """The ReLU layer with a position or a name.

    Raises:
        ConfigurationError: There is none, or several have the name.
    """
    if isinstance(wanted, int):
        if 0 <= wanted < len(layers):
            return layers[wanted]
        raise ConfigurationError(
            f"pattern: ReLU layer {wanted} does not exist; the network has {len(layers)} of "
            "them, counted from 0"
        )
    named = [layer for layer in layers if layer.name == wanted]
    if len(named) == 1:
        return named[0]
    names = ", ".join(f"'{layer.name}'" for layer in layers[:MAX_NAMES])
    problem = "is the name of several ReLU layers" if named else "is no ReLU layer"
    raise ConfigurationError(
        f"pattern: '{wanted}' {problem}; use an index from 0 to {len(layers) - 1}, or one of: "
        f"{names}"
    )


def widened_phases(phases: Sequence[Int8], network: Network | GraphNetwork) -> tuple[Int8, ...]:
    """Phases laid out for a network that carries inputs: those neurons are free."""
    wide = [
        np.zeros(layer.num_outputs if layer.relu else 0, dtype=np.int8) for layer in network.layers
    ]
    for each, known in zip(wide, phases, strict=False):
        each[: len(known)] = known
    return tuple(wide)


def follows_exactly(values: Sequence[Sequence[Fraction]], phases: Sequence[Int8]) -> bool:
    """Whether exact pre-activations show the phases, borders included.

    Args:
        values: Of the network's layers, [neurons] each.
        phases: As `phases_of` gives them; further neurons may follow and are free.
    """
    return all(
        all(value * int(phase) >= 0 for value, phase in zip(each, states, strict=False))
        for each, states in zip(values, phases, strict=False)
        if states.any()
    )
