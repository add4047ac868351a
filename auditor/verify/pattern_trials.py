"""Patterns of many classes put to the verifier: robustness by the pattern, and overlap.

Source: Geng et al. 2023, 2210.16114 (there: NAPRP, NAPARP, non-ambiguity).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from auditor.errors import ConfigurationError
from auditor.findings import Verdict
from auditor.verify.network.chain import Float64
from auditor.verify.onnx_subject import OnnxSubject
from auditor.verify.outcome import Limits
from auditor.verify.phases import Int8, find_layer, phases_of
from auditor.verify.property import (
    Pattern,
    Property,
    conflicting_neuron,
    pattern_class_property,
    pattern_overlap_property,
)
from auditor.verify.property.numbers import exact_number
from auditor.verify.property.patterned import LayerStates
from auditor.verify.property.robustness import box_around
from auditor.verify.search import verify
from auditor.verify.witness import Witness

BATCH = 1_000
Exact = tuple[Fraction, ...]
Progress = Callable[[float, str], None]


@dataclass(frozen=True, eq=False)
class PatternTrial:
    """One pattern, or a pair of them, and what the verifier said.

    Attributes:
        labels: The class of the pattern, or of both.
        verdict: Whether the property holds.
        reason: Why, or how far it got.
        prop: The property that was verified, or None where a conflict settled it.
        conflict: Layer and neuron that both patterns of a pair want in opposite states: then
            nothing was searched.
        witness: What breaks the property, replayed.
        sample: Number of the sample around which was searched, or None for the whole domain.
    """

    labels: tuple[int, ...]
    verdict: Verdict
    reason: str
    prop: Property | None = None
    conflict: tuple[int | str, int] | None = None
    witness: Witness | None = None
    sample: int | None = None

    @property
    def read_as(self) -> int | None:
        """The class that the witness gets; of a tie with the pattern's class, the other."""
        if self.witness is None:
            return None
        outputs = np.array(self.witness.outputs)
        if len(self.labels) == 1:
            outputs[self.labels[0]] = -np.inf
        return int(outputs.argmax())


class Block(NamedTuple):
    """Samples [samples, inputs], their outputs, and how many states each contradicts."""

    samples: NDArray[np.float32]
    outputs: Float64
    missed: NDArray[np.int64]


class PatternVerifier:
    """Patterns of one model over a domain, with what every question shares.

    Args:
        subject: The model.
        domain: Range that every input lies in, as it was written, for example ("0", "1").
        samples: Inputs of the domain, [samples, inputs]; the search for witnesses begins at
            those that are nearest to breaking a property.
        limits: Limits of one question.
        time_limit_s: Wall-clock seconds for all questions; later ones stay `unknown`.
        seed: Seed of the falsifier.

    Raises:
        ConfigurationError: The domain's ends are no numbers, or in the wrong order; or samples
            are not of the model's size.
    """

    def __init__(
        self,
        subject: OnnxSubject,
        domain: tuple[str, str],
        samples: NDArray[np.float32],
        *,
        limits: Limits | None = None,
        time_limit_s: float = float("inf"),
        seed: int = 0,
    ) -> None:
        self.subject, self.network = subject, subject.network
        self.domain = _number(domain[0], "domain"), _number(domain[1], "domain")
        if self.domain[0] > self.domain[1]:
            raise ConfigurationError(
                f"a domain from {domain[0]} to {domain[1]}; give its lower end first"
            )
        if samples.ndim != 2 or samples.shape[1] != self.network.num_inputs:
            raise ConfigurationError(
                f"samples of {math.prod(samples.shape[1:])} values; the model takes "
                f"{self.network.num_inputs}"
            )
        self.samples = samples
        self.limits, self.seed = limits or Limits(), seed
        self.deadline = time.monotonic() + time_limit_s

    def classes(
        self, patterns: Mapping[int, LayerStates], progress: Progress = lambda share, text: None
    ) -> list[PatternTrial]:
        """Does every input of the domain that follows a class's pattern get the class?"""
        trials = []
        for number, (label, states) in enumerate(patterns.items()):
            trials.append(self.one_class(label, states))
            progress((number + 1) / len(patterns), f"class {label}")
        return trials

    def one_class(self, label: int, states: LayerStates) -> PatternTrial:
        """The same for one class."""
        return self._class_trial(label, states, self._whole_domain(), None)

    def around(self, label: int, states: LayerStates, sample: int, radius: str) -> PatternTrial:
        """The same within a radius (L-infinity, as written) of one of the samples.

        Raises:
            ConfigurationError: The radius is no number, or negative.
        """
        center = tuple(Fraction(float(value)) for value in self.samples[sample])
        exact = _number(radius, "radius")
        if exact < 0:
            raise ConfigurationError(f"radius {radius}; give one of at least 0")
        box = box_around(center, exact, self.domain)
        return self._class_trial(label, states, box, sample)

    def contradicted(
        self, states: LayerStates, inputs: NDArray[np.float32]
    ) -> tuple[list[tuple[int | str, int, bool]], NDArray[np.bool_]]:
        """Which states of a pattern inputs, [samples, inputs], do not show.

        Returns:
            The states (layer, neuron, whether active), and whether each input misses each of
            them, [samples, states].
        """
        before = self.network.preactivations(inputs.astype(np.float64))
        names: list[tuple[int | str, int, bool]] = []
        missed = [np.zeros((len(inputs), 0), dtype=bool)]
        for layer, sides in states.items():
            values = before[find_layer(layer, self.network.relu_layers).index]
            for active, neurons in zip((True, False), sides, strict=True):
                names += [(layer, neuron, active) for neuron in neurons]
                chosen = values[:, list(neurons)]
                missed.append(chosen < 0 if active else chosen > 0)
        return names, np.concatenate(missed, axis=1)

    def classes_of(self, inputs: NDArray[np.float32]) -> NDArray[np.int64]:
        """The class that the network gives inputs, [samples, inputs]."""
        classes: NDArray[np.int64] = (
            self.network.evaluate(inputs.astype(np.float64)).argmax(axis=1).astype(np.int64)
        )
        return classes

    def distance(self, states: LayerStates, inputs: NDArray[np.float32]) -> NDArray[np.int64]:
        """How many states of a pattern inputs, [samples, inputs], contradict, [samples]."""
        blocks = [block.missed for block in self._blocks(Pattern.of(states), inputs)]
        return np.concatenate([np.zeros(0, dtype=np.int64), *blocks])

    def followers(self, patterns: Mapping[int, LayerStates], labels: Sequence[int]) -> list[int]:
        """Numbers of the samples that follow the pattern of their label."""
        found = []
        for label, states in patterns.items():
            follows = self.distance(states, self.samples) == 0
            found += np.flatnonzero(follows & (np.asarray(labels) == label)).tolist()
        return sorted(found)

    def pairs(
        self, patterns: Mapping[int, LayerStates], progress: Progress = lambda share, text: None
    ) -> list[PatternTrial]:
        """For each pair of classes: does no input of the domain follow both patterns?"""
        pairs = list(combinations(patterns.items(), 2))
        trials = []
        for number, ((first, mine), (second, theirs)) in enumerate(pairs):
            trials.append(self._pair_trial((first, second), mine, theirs))
            progress((number + 1) / len(pairs), f"classes {first} and {second}")
        return trials

    def _class_trial(
        self, label: int, states: LayerStates, box: tuple[Exact, Exact], sample: int | None
    ) -> PatternTrial:
        start = self._nearest(states, label) if sample is None else self.samples[sample]
        example = None if start is None else [Fraction(float(value)) for value in start]
        prop = pattern_class_property(states, label, self.network.num_outputs, box, example=example)
        return self._ask((label,), prop, sample)

    def _pair_trial(
        self, labels: tuple[int, int], first: LayerStates, second: LayerStates
    ) -> PatternTrial:
        conflict = conflicting_neuron(first, second)
        if conflict is not None:
            layer, neuron = conflict
            reason = f"the patterns want neuron {neuron} of layer {layer} in opposite states"
            return PatternTrial(labels, Verdict.HOLDS, reason, conflict=conflict)
        prop = pattern_overlap_property(
            first, second, self.network.num_outputs, self._whole_domain()
        )
        start = self._least_contradicted(prop.pattern)
        if prop.pattern is not None and start is not None:
            example = tuple(Fraction(float(value)) for value in start)
            prop = replace(prop, pattern=replace(prop.pattern, example=example))
        return self._ask(labels, prop)

    def _whole_domain(self) -> tuple[Exact, Exact]:
        count = self.network.num_inputs
        return (self.domain[0],) * count, (self.domain[1],) * count

    def _ask(
        self, labels: tuple[int, ...], prop: Property, sample: int | None = None
    ) -> PatternTrial:
        left = max(0.0, self.deadline - time.monotonic())
        limits = replace(self.limits, time_s=min(self.limits.time_s, left))
        outcome = verify(
            self.network, prop, limits=limits, seed=self.seed, replay=self.subject.replayers
        )
        witness = outcome.witness if outcome.verdict is Verdict.VIOLATED else None
        return PatternTrial(
            labels, outcome.verdict, outcome.reason, prop, witness=witness, sample=sample
        )

    def _nearest(self, states: LayerStates, label: int) -> NDArray[np.float32] | None:
        """The sample that follows the pattern with the least margin of its class."""
        best, found = np.inf, None
        for block in self._blocks(Pattern.of(states), self.samples):
            others = np.delete(block.outputs, label, axis=1).max(axis=1)
            margin = np.where(block.missed == 0, block.outputs[:, label] - others, np.inf)
            index = int(margin.argmin())
            if margin[index] < best:
                best, found = float(margin[index]), block.samples[index]
        return found

    def _least_contradicted(self, pattern: Pattern | None) -> NDArray[np.float32] | None:
        """The sample that contradicts fewest neurons."""
        best, found = np.inf, None
        for block in self._blocks(pattern, self.samples):
            index = int(block.missed.argmin())
            if block.missed[index] < best:
                best, found = float(block.missed[index]), block.samples[index]
        return found

    def _blocks(self, pattern: Pattern | None, inputs: NDArray[np.float32]) -> Iterator[Block]:
        """Batches of inputs with how many neurons each of them contradicts."""
        phases: Sequence[Int8] = phases_of(pattern, self.network)
        for start in range(0, len(inputs), BATCH):
            samples = inputs[start : start + BATCH]
            values = self.network.preactivations(samples.astype(np.float64))
            missed = np.zeros(len(samples), dtype=np.int64)
            for value, phase in zip(values, phases, strict=True):
                if phase.any():
                    missed += (value * phase < 0).sum(axis=1)
            yield Block(samples, values[-1], missed)


def _number(text: str, what: str) -> Fraction:
    try:
        return exact_number(text)
    except ValueError as error:
        raise ConfigurationError(f"{what}: {error}") from None
