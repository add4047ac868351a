"""How patterns fare on samples they were not mined from: joint recall, precision, overlap.

An input follows a pattern when it contradicts it in no neuron: joint recall over all
fixed neurons, which lies far below the share asked of each neuron by delta.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from auditor.activations.capture import Capture, CaptureOptions, Inputs, Point
from auditor.activations.onnx_capture import OnnxCapture
from auditor.activations.statistics import active_states
from auditor.errors import ConfigurationError
from auditor.intervals import Share
from auditor.models.onnx_model import OnnxModel
from auditor.patterns.mine import batch_labels, check_labels, predicted_classes
from auditor.patterns.pattern_set import Int64, PatternSet, conflicting_pairs

MAX_WITNESSES: Final = 100


@dataclass(frozen=True)
class Stray:
    """A sample that follows the pattern of a class it does not bear as label.

    Attributes:
        sample: Its number.
        label: Its label.
        predicted: The model's class; where it is not `follows`, the sample breaks the
            property that the pattern implies its class.
        follows: The class whose pattern it follows.
    """

    sample: int
    label: int
    predicted: int
    follows: int


@dataclass(frozen=True, eq=False)
class DeltaEvaluation:
    """One delta's patterns on a sample.

    Attributes:
        delta: The delta.
        followers: Samples by label and by the pattern they follow, [labels, patterns].
        predicted_followers: The same by the model's class.
        samples: Samples of each label, [labels].
        agreement: Mean share of fixed states that samples of the label show, [labels];
            NaN where there is no sample or nothing fixed.
        in_wrong: Samples that follow the pattern of a class other than their label.
        ambiguous: Samples that follow the patterns of several classes.
        strays: The first of those in wrong patterns, at most `MAX_WITNESSES`.
        conflicts: Pairs of classes whose patterns contradict each other in a neuron.
        pairs: Pairs of classes that both have a pattern.
    """

    delta: Fraction
    followers: Int64
    predicted_followers: Int64
    samples: Int64
    agreement: NDArray[np.float64]
    in_wrong: int
    ambiguous: int
    strays: tuple[Stray, ...]
    conflicts: int
    pairs: int

    def recall(self, label: int) -> Share:
        """Of the samples with a label, those that follow its class's pattern."""
        return Share(int(self.followers[label, label]), int(self.samples[label]))

    def precision(self, label: int) -> Share:
        """Of the samples that follow a class's pattern, those with its label."""
        followers = self.followers[:, label]
        return Share(int(followers[label]), int(followers.sum()))

    @property
    def total_recall(self) -> Share:
        """Samples that follow the pattern of their label, of all."""
        return Share(int(np.trace(self.followers)), int(self.samples.sum()))

    @property
    def total_precision(self) -> Share:
        """Pairs of a sample and a pattern it follows in which the label fits, of all."""
        return Share(int(np.trace(self.followers)), int(self.followers.sum()))

    @property
    def wrong(self) -> Share:
        """Samples inside some wrong class's pattern, of all."""
        return Share(self.in_wrong, int(self.samples.sum()))


def evaluate_patterns(
    patterns: PatternSet,
    model: OnnxModel | Capture,
    inputs: Inputs,
    labels: NDArray[Any] | Sequence[int],
    *,
    options: CaptureOptions | None = None,
) -> tuple[DeltaEvaluation, ...]:
    """Measure every delta's patterns on samples, in one run of the model.

    Args:
        patterns: From `mine_patterns` or a file.
        model: The model they were mined from, or a capture of its layers.
        inputs: Samples that the patterns were not mined from.
        labels: Their labels; all samples count, misclassified ones included.
        options: How the model is run; the granularity is the patterns'.

    Raises:
        PatternMismatch: The patterns are another model's.
        ConfigurationError: A label out of range, labels of another number.
        NothingToAudit: No sample.
    """
    capture = capture_for(patterns, model, options)
    known = check_labels(labels)
    tally = _Tally(patterns)
    samples = 0
    for batch in capture.batches(inputs):
        found = batch_labels(batch, known)
        if batch.outputs.shape[1] != patterns.num_classes:
            raise ConfigurationError(
                f"the model has {batch.outputs.shape[1]} classes, the patterns speak of "
                f"{patterns.num_classes}; mine them again"
            )
        tally.add(batch.values, found, predicted_classes(batch), batch.start)
        samples = batch.stop
    if samples != len(known):
        raise ConfigurationError(f"{len(known)} labels for {samples} samples; give one for each")
    return tally.evaluations()


class ContradictionCounter:
    """Counts the states in which samples contradict patterns, as one product per layer."""

    def __init__(self, patterns: PatternSet) -> None:
        self.shape = patterns.states.active.shape[:2]
        self._thresholds = [
            0.0 if layer.thresholds is None else layer.thresholds for layer in patterns.layers
        ]
        self._weights = []
        self._active: NDArray[np.float64] = np.zeros(self.shape)
        for layer in patterns.layers:
            active, inactive = (part.astype(np.float32) for part in layer.states)
            # An active neuron contradicts "inactive", an inactive one contradicts "active":
            # sum s * inactive + (1 - s) * active.
            self._weights.append((inactive - active).reshape(-1, layer.neurons))
            self._active += active.sum(axis=2, dtype=np.float64)

    def count(self, values: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Contradicted states of each sample, [samples, deltas, classes].

        Args:
            values: The layers' values before activation, [samples, neurons] each.
        """
        # States stand on the right: products with so few patterns are twice as fast this way.
        found = np.repeat(self._active.reshape(-1, 1).astype(np.float32), len(values[0]), axis=1)
        for layer, weight, threshold in zip(values, self._weights, self._thresholds, strict=True):
            found += weight @ active_states(layer, threshold).T
        return found.T.reshape(-1, *self.shape)


def check_neurons(patterns: PatternSet, values: Sequence[NDArray[Any]]) -> None:
    """Refuse captured layers of other sizes than the patterns'.

    Raises:
        ConfigurationError: Naming the layer.
    """
    for layer, found in zip(patterns.layers, values, strict=True):
        if found.shape[1] != layer.neurons:
            raise ConfigurationError(
                f"layer '{layer.name}' has {found.shape[1]} neurons, the patterns speak of "
                f"{layer.neurons}; mine them again"
            )


class _Tally:
    """Running counts over batches; see `DeltaEvaluation`."""

    def __init__(self, patterns: PatternSet) -> None:
        self._patterns = patterns
        self._counter = ContradictionCounter(patterns)
        deltas, classes = self._counter.shape
        self._has_pattern = patterns.totals > 0
        self._samples = np.zeros(classes, dtype=np.int64)
        self._followers = np.zeros((deltas, classes, classes), dtype=np.int64)
        self._predicted = np.zeros((deltas, classes, classes), dtype=np.int64)
        self._contradicted = np.zeros((deltas, classes))
        self._wrong = np.zeros(deltas, dtype=np.int64)
        self._ambiguous = np.zeros(deltas, dtype=np.int64)
        self._strays: list[list[Stray]] = [[] for _ in range(deltas)]

    def add(
        self, values: Sequence[NDArray[Any]], labels: Int64, predicted: Int64, start: int
    ) -> None:
        """Take in one batch."""
        check_neurons(self._patterns, values)
        contradicted = self._counter.count(values)
        follows = (contradicted == 0) & self._has_pattern
        rows = np.arange(len(labels))
        self._samples += np.bincount(labels, minlength=len(self._samples))
        np.add.at(self._contradicted.T, labels, contradicted[rows, :, labels])
        own = np.zeros(follows.shape[::2], dtype=bool)
        own[rows, labels] = True
        wrong = follows & ~own[:, None, :]
        self._wrong += wrong.any(axis=2).sum(axis=0)
        self._ambiguous += (follows.sum(axis=2) > 1).sum(axis=0)
        sample, delta, pattern = np.nonzero(follows)
        np.add.at(self._followers, (delta, labels[sample], pattern), 1)
        known = predicted[sample] >= 0
        place = (delta[known], predicted[sample][known], pattern[known])
        np.add.at(self._predicted, place, 1)
        for number, strays in enumerate(self._strays):
            for row, other in np.argwhere(wrong[:, number])[: MAX_WITNESSES - len(strays)]:
                label, given = int(labels[row]), int(predicted[row])
                strays.append(Stray(start + int(row), label, given, int(other)))

    def evaluations(self) -> tuple[DeltaEvaluation, ...]:
        """What was found, delta by delta."""
        conflicts = conflicting_pairs(self._patterns.states)
        present = int(self._has_pattern.sum())
        with np.errstate(invalid="ignore", divide="ignore"):
            agreement = 1.0 - self._contradicted / (self._samples * self._patterns.fixed)
        return tuple(
            DeltaEvaluation(
                delta=delta,
                followers=self._followers[number],
                predicted_followers=self._predicted[number],
                samples=self._samples,
                agreement=agreement[number],
                in_wrong=int(self._wrong[number]),
                ambiguous=int(self._ambiguous[number]),
                strays=tuple(self._strays[number]),
                conflicts=int(np.triu(conflicts[number], 1).sum()),
                pairs=present * (present - 1) // 2,
            )
            for number, delta in enumerate(self._patterns.deltas)
        )


def capture_for(
    patterns: PatternSet, model: OnnxModel | Capture, options: CaptureOptions | None = None
) -> Capture:
    """The layers that patterns speak of, captured from their model.

    Args:
        patterns: Which layers, and by which granularity.
        model: The model they were mined from, or a capture of it, which is only checked.
        options: How a model is run; the granularity is the patterns'.

    Raises:
        PatternMismatch: The patterns are another model's.
        ConfigurationError: The capture is one of other layers or values.
    """
    patterns.require_model(model.digest)
    capture: Capture
    if isinstance(model, OnnxModel):
        given = options or CaptureOptions()
        matched = CaptureOptions(
            granularity=patterns.granularity,
            batch_size=given.batch_size,
            device=given.device,
            threads=given.threads,
        )
        capture = OnnxCapture(model, [layer.name for layer in patterns.layers], matched)
    else:
        capture = model
    if capture.options.point is not Point.BEFORE:
        raise ConfigurationError("patterns are states before an activation; capture there")
    found = [(layer.name, layer.operator) for layer in capture.layers]
    wanted = [(layer.name, layer.operator) for layer in patterns.layers]
    if found != wanted or capture.options.granularity is not patterns.granularity:
        raise ConfigurationError(
            f"layers {found} by {capture.options.granularity} are captured, the patterns speak of "
            f"{wanted} by {patterns.granularity}; mine them again"
        )
    return capture
