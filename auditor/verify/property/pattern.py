"""Activation patterns: hidden neurons whose states an input must show to be meant.

A neuron is *active* where its value before the ReLU is at least 0 and *inactive* where it
is at most 0; both regions are closed, so a neuron at exactly 0 is in either state. The
values are those of the real function of the stored weights (neural activation patterns:
Geng et al. 2023, 2210.16114).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from auditor.errors import ConfigurationError

MAX_SHOWN_LAYERS = 6
States = tuple[Sequence[int], Sequence[int]]


@dataclass(frozen=True)
class LayerStates:
    """The states asked of one ReLU layer.

    Attributes:
        layer: Index among the network's `relu_layers`, or a layer's name.
        active: Neurons that must be active.
        inactive: Neurons that must be inactive.
    """

    layer: int | str
    active: tuple[int, ...] = ()
    inactive: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        wrong = [index for index in (*self.active, *self.inactive) if index < 0]
        both = sorted(set(self.active) & set(self.inactive))
        if wrong:
            raise ConfigurationError(
                f"pattern, layer {self.layer}: neuron {wrong[0]} is negative; count from 0"
            )
        if both:
            raise ConfigurationError(
                f"pattern, layer {self.layer}: neuron {both[0]} is both active and inactive; "
                "give it one state"
            )


@dataclass(frozen=True)
class Pattern:
    """States of hidden neurons, layer by layer.

    Attributes:
        layers: What is asked of each layer; layers that are not named are free.
        example: An input that follows the pattern, if one is known, [inputs]. It is checked
            exactly before it is believed, and spares the search for one.
    """

    layers: tuple[LayerStates, ...]
    example: tuple[Fraction, ...] | None = None

    @classmethod
    def of(
        cls,
        states: Mapping[int | str, States],
        example: Sequence[Fraction | float] | None = None,
    ) -> Pattern:
        """A pattern from `{layer: (active, inactive)}`; floats of the example are exact."""
        layers = tuple(
            LayerStates(layer, tuple(active), tuple(inactive))
            for layer, (active, inactive) in states.items()
        )
        known = None if example is None else tuple(Fraction(value) for value in example)
        return cls(layers, known)

    @property
    def count(self) -> int:
        """How many states are asked for."""
        return sum(len(each.active) + len(each.inactive) for each in self.layers)

    def describe(self) -> str:
        """The pattern in words."""
        parts = [
            f"layer {each.layer}: {len(each.active)} active, {len(each.inactive)} inactive"
            for each in self.layers[:MAX_SHOWN_LAYERS]
        ]
        if len(self.layers) > MAX_SHOWN_LAYERS:
            parts.append(f"{len(self.layers) - MAX_SHOWN_LAYERS} more layers")
        return f"following a pattern ({'; '.join(parts)})"
