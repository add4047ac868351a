"""Mined patterns of all classes of one model, for several deltas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from auditor.activations.capture import Granularity
from auditor.activations.layers import SIGN_OPERATORS
from auditor.errors import ConfigurationError, PatternMismatch, UnsupportedModel
from auditor.patterns.dominant import Delta, States, read_delta

Int64 = NDArray[np.int64]
Neurons = tuple[int, ...]
# Deltas x classes x neurons; a state takes a byte while it is worked with.
MAX_STATES: Final = 2**28
# Contradictions are counted in float32, which is exact up to here.
MAX_NEURONS: Final = 2**24


class Members(StrEnum):
    """Which samples a class's pattern is mined from.

    `correct`: those labelled with the class and given it by the model. `label`: all with
    the label. `prediction`: all that the model gives the class, whatever their label.
    """

    CORRECT = "correct"
    LABEL = "label"
    PREDICTION = "prediction"


@dataclass(frozen=True, eq=False)
class LayerPatterns:
    """The patterns' part at one layer.

    Attributes:
        name: The layer; also its name among the verifier's ReLU layers.
        operator: Its activation function.
        states: Fixed neurons, [deltas, classes, neurons] each.
        counts: Samples in which a neuron was active, [classes, neurons].
        thresholds: A neuron is active above this value before the activation, [neurons];
            None for 0, which is where ReLUs bend.
    """

    name: str
    operator: str
    states: States
    counts: Int64
    thresholds: NDArray[np.float64] | None = None

    @property
    def neurons(self) -> int:
        """Number of neurons."""
        return int(self.counts.shape[1])


@dataclass(frozen=True, eq=False)
class PatternSet:
    """Patterns of every class for every delta.

    Attributes:
        model_digest: The model they were mined from; they mean nothing for another.
        deltas: In the order asked for.
        members: Which samples counted.
        granularity: What a neuron is.
        totals: Samples of each class, [classes]; a class with none has no pattern.
        layers: Part by part, in the model's order.
    """

    model_digest: str
    deltas: tuple[Fraction, ...]
    members: Members
    granularity: Granularity
    totals: Int64
    layers: tuple[LayerPatterns, ...]

    @property
    def num_classes(self) -> int:
        """Number of classes, those without samples included."""
        return len(self.totals)

    @property
    def num_neurons(self) -> int:
        """Neurons of all layers."""
        return sum(layer.neurons for layer in self.layers)

    @cached_property
    def states(self) -> States:
        """Fixed neurons of all layers side by side, [deltas, classes, neurons] each."""
        return States(
            np.concatenate([layer.states.active for layer in self.layers], axis=2),
            np.concatenate([layer.states.inactive for layer in self.layers], axis=2),
        )

    @property
    def fixed(self) -> Int64:
        """How many neurons each pattern fixes, [deltas, classes]."""
        counts: Int64 = (self.states.active | self.states.inactive).sum(axis=2)
        return counts

    @property
    def fixed_shares(self) -> NDArray[np.float64]:
        """Share of each layer that each pattern fixes, [layers, deltas, classes]."""
        return np.stack(
            [(layer.states.active | layer.states.inactive).mean(axis=2) for layer in self.layers]
        )

    @property
    def constant_neurons(self) -> tuple[int, int]:
        """Neurons never active in any counted sample (dead), and always active.

        Every pattern fixes them, so they tell no class from another.
        """
        counts = np.concatenate([layer.counts.sum(axis=0) for layer in self.layers])
        total = self.totals.sum()
        return int((counts == 0).sum()), int((counts == total).sum())

    def index_of(self, delta: Delta) -> int:
        """Position of a delta.

        Raises:
            ConfigurationError: The patterns were not mined for it.
        """
        wanted = read_delta(delta)
        if wanted not in self.deltas:
            known = ", ".join(str(float(each)) for each in self.deltas)
            raise ConfigurationError(f"no pattern for delta {delta}; there are {known}")
        return self.deltas.index(wanted)

    def class_states(self, label: int, delta: Delta) -> dict[int | str, tuple[Neurons, Neurons]]:
        """One class's pattern as plain data, for example for the verifier.

        Args:
            label: The class.
            delta: One of `deltas`.

        Returns:
            Active and inactive neurons by the name of their ReLU layer; layers of which
            nothing is fixed are left out.

        Raises:
            ConfigurationError: There is no such class or delta, or it had no samples.
            UnsupportedModel: The states are not signs before a ReLU.
        """
        position = self.index_of(delta)
        if not 0 <= label < self.num_classes:
            raise ConfigurationError(
                f"class {label}; the model has the classes 0 to {self.num_classes - 1}"
            )
        if not self.totals[label]:
            raise ConfigurationError(f"class {label} has no pattern: no sample counted for it")
        if self.granularity is Granularity.CHANNEL:
            raise UnsupportedModel(
                "an active channel does not say which of its units is active",
                way_out="mine with granularity unit",
            )
        found: dict[int | str, tuple[Neurons, Neurons]] = {}
        for layer in self.layers:
            if layer.operator not in SIGN_OPERATORS:
                raise UnsupportedModel(
                    f"{layer.operator} has no two linear pieces that a state could choose from",
                    place=f"layer '{layer.name}'",
                    way_out="mine the ReLU layers only",
                )
            active = np.flatnonzero(layer.states.active[position, label])
            inactive = np.flatnonzero(layer.states.inactive[position, label])
            if active.size or inactive.size:
                found[layer.name] = (tuple(active.tolist()), tuple(inactive.tolist()))
        return found

    def all_class_states(
        self, delta: Delta, labels: Sequence[int] = ()
    ) -> dict[int, dict[int | str, tuple[Neurons, Neurons]]]:
        """The patterns of several classes as plain data; see `class_states`.

        Args:
            delta: One of `deltas`.
            labels: Classes; all that had samples if empty.

        Raises:
            ConfigurationError: As `class_states`, or no class had samples.
            UnsupportedModel: As `class_states`.
        """
        wanted = labels or np.flatnonzero(self.totals).tolist()
        if not wanted:
            raise ConfigurationError("no class has a pattern: no sample counted for any of them")
        return {label: self.class_states(label, delta) for label in wanted}

    def require_model(self, digest: str, source: str = "pattern") -> None:
        """Refuse another model than the one the patterns were mined from.

        Raises:
            PatternMismatch: The digests differ.
        """
        if digest != self.model_digest:
            raise PatternMismatch(source, self.model_digest, digest)


def conflicting_pairs(states: States) -> NDArray[np.bool_]:
    """Which classes' patterns contradict each other in some neuron, [deltas, classes, classes].

    Of such a pair no input follows both, whatever the network: one neuron would have to be
    in both states. Classes without samples contradict nobody.
    """
    active = states.active.astype(np.float32)
    inactive = states.inactive.astype(np.float32)
    clash = active @ inactive.transpose(0, 2, 1)
    return (clash + clash.transpose(0, 2, 1)) > 0
