"""A runtime monitor from mined patterns: is an input explained by what the model learnt?

The distance of an input to a class is the number of neurons in which it contradicts the
class's pattern; the input *follows* the pattern where that is at most the class's
threshold. With the model's class p of the input (the first of its largest scores):

- explained: it follows p's pattern, whatever else it follows;
- contradicted: it does not, and follows the pattern of at least one other class;
- unexplained: it follows none, or p does not exist because a score is NaN, or a watched
  value is not finite.

Monitors by distance to patterns: Cheng, Nuehrenberg, Yasuoka, DATE 2019 (1809.06573), who
keep all patterns seen in BDDs; here one dominant pattern a class (Geng et al. 2023) and
matrix products. A monitor measures; it proves nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from enum import IntEnum
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from auditor.activations.capture import Batch, Capture, CaptureOptions, Inputs
from auditor.errors import ConfigurationError
from auditor.models.onnx_model import OnnxModel
from auditor.patterns.dominant import Delta, States
from auditor.patterns.evaluate import ContradictionCounter, capture_for, check_neurons
from auditor.patterns.mine import batch_labels, check_labels, counted_classes, predicted_classes
from auditor.patterns.pattern_set import Int64, PatternSet

# Threshold of a class without samples: nobody follows a pattern that there is not.
NEVER = -1


class InputLabel(IntEnum):
    """What a monitor says of an input; the numbers are those of the ONNX output."""

    EXPLAINED = 0
    CONTRADICTED = 1
    UNEXPLAINED = 2


class MonitorLabels(NamedTuple):
    """What a monitor says of samples.

    Attributes:
        labels: `InputLabel` of each, int64 [samples].
        distances: Contradicted neurons, int64 [samples, classes]; for a class without
            pattern one more than there are neurons.
        predicted: The model's class, int64 [samples]; -1 where a score is NaN.
    """

    labels: Int64
    distances: Int64
    predicted: Int64

    def counts(self) -> dict[InputLabel, int]:
        """How many samples bear each label."""
        return {label: int((self.labels == label).sum()) for label in InputLabel}

    @property
    def own_distances(self) -> Int64:
        """Distance to the pattern of the model's class, [samples]; -1 where it has none."""
        rows = np.arange(len(self.predicted))
        return np.where(self.predicted < 0, -1, self.distances[rows, self.predicted])


@dataclass(frozen=True, eq=False)
class Monitor:
    """Patterns of one delta, and how far from them still counts as following.

    Attributes:
        patterns: Of the one delta only.
        thresholds: Largest distance that follows, int64 [classes]; `NEVER` where the class
            has no pattern.
        quantile: The share of held-out samples that the thresholds let follow, or None
            where they were not taken from samples.
        heldout: Held-out samples behind each threshold, int64 [classes].
    """

    patterns: PatternSet
    thresholds: Int64
    quantile: Fraction | None = None
    heldout: Int64 | None = None

    def __post_init__(self) -> None:
        classes, deltas = self.patterns.num_classes, len(self.patterns.deltas)
        if deltas != 1 or self.thresholds.shape != (classes,):
            raise ConfigurationError(
                f"{deltas} deltas and thresholds of shape {list(self.thresholds.shape)} for "
                f"{classes} classes; give one delta, and a threshold for each class"
            )

    @property
    def delta(self) -> Fraction:
        """The delta of its patterns."""
        return self.patterns.deltas[0]

    @property
    def far(self) -> int:
        """Distance of a class without pattern: one more than there are neurons."""
        return self.patterns.num_neurons + 1

    def label(self, batches: Iterable[Batch]) -> Iterator[MonitorLabels]:
        """Label captured samples batch by batch.

        Args:
            batches: From a capture of the patterns' layers; see `capture_for`.

        Raises:
            ConfigurationError: Layers or classes of other sizes than the patterns'.
        """
        counter = ContradictionCounter(self.patterns)
        for batch in batches:
            check_neurons(self.patterns, batch.values)
            _check_classes(self.patterns, batch)
            distances = _distances(counter, self.patterns, batch.values)
            predicted = predicted_classes(batch)
            finite = _all_finite(batch.values) & (predicted >= 0)
            follows = (distances <= self.thresholds) & finite[:, None]
            yield MonitorLabels(_labels(follows, predicted), distances, predicted)

    def label_inputs(
        self, model: OnnxModel | Capture, inputs: Inputs, options: CaptureOptions | None = None
    ) -> MonitorLabels:
        """Run the model on samples and label all of them.

        Args:
            model: The model the patterns were mined from, or a capture of its layers.
            inputs: Samples along the first axis.
            options: How a model is run.

        Raises:
            PatternMismatch: The patterns are another model's.
            NothingToAudit: No sample.
            UnsupportedModel: A layer computed NaN, or onnxruntime fails.
        """
        capture = capture_for(self.patterns, model, options)
        return join_labels(self.label(capture.batches(inputs)))


def make_monitor(patterns: PatternSet, delta: Delta, thresholds: Sequence[int] = ()) -> Monitor:
    """A monitor with thresholds as given, 0 for every class if none are.

    Args:
        patterns: Mined patterns.
        delta: One of theirs.
        thresholds: Contradicted neurons that still count as following, one for each class;
            a class without pattern is followed by nobody, whatever its threshold.

    Raises:
        ConfigurationError: The patterns were not mined for the delta, or thresholds are
            negative or of another number.
    """
    classes = patterns.num_classes
    given = np.array(thresholds or [0] * classes, dtype=np.int64)
    if given.shape != (classes,) or (given < 0).any():
        raise ConfigurationError(
            f"thresholds {list(thresholds)}; give {classes} whole numbers of 0 or more"
        )
    position = patterns.index_of(delta)
    layers = tuple(
        replace(layer, states=States(*(part[position : position + 1] for part in layer.states)))
        for layer in patterns.layers
    )
    chosen = replace(patterns, deltas=(patterns.deltas[position],), layers=layers)
    return Monitor(chosen, np.where(patterns.totals > 0, given, NEVER))


def fit_thresholds(
    monitor: Monitor,
    model: OnnxModel | Capture,
    inputs: Inputs,
    labels: NDArray[Any] | Sequence[int],
    quantile: Delta,
    options: CaptureOptions | None = None,
) -> Monitor:
    """The monitor with thresholds from held-out samples, class by class.

    A class's threshold is the smallest distance that at least the share `quantile` of its
    held-out samples does not exceed. Which samples are a class's is the patterns' `members`.
    A class of which none was held out keeps its threshold.

    Args:
        monitor: As it is so far.
        model: The model, or a capture of the patterns' layers.
        inputs: Samples that the patterns were not mined from.
        labels: One for each.
        quantile: In (0, 1]; the decimal that was written is meant.
        options: How a model is run.

    Raises:
        ConfigurationError: A quantile or a label out of range, labels of another number.
        PatternMismatch, NothingToAudit, UnsupportedModel: As for `label_inputs`.
    """
    share = read_quantile(quantile)
    capture = capture_for(monitor.patterns, model, options)
    known = check_labels(labels)
    counted: list[Int64] = []
    distances: list[Int64] = []
    counter = ContradictionCounter(monitor.patterns)
    for batch in capture.batches(inputs):
        _check_classes(monitor.patterns, batch)
        check_neurons(monitor.patterns, batch.values)
        found = counted_classes(batch, batch_labels(batch, known), monitor.patterns.members)
        all_distances = _distances(counter, monitor.patterns, batch.values)
        counted.append(found[found >= 0])
        distances.append(all_distances[np.arange(len(found)), found][found >= 0])
    if batch.stop != len(known):
        raise ConfigurationError(f"{len(known)} labels for {batch.stop} samples; give one for each")
    classes, own = np.concatenate(counted), np.concatenate(distances)
    thresholds = monitor.thresholds.copy()
    for label in np.flatnonzero(monitor.patterns.totals > 0):
        members = np.sort(own[classes == label])
        if members.size:
            # Exact: the float 0.99 * 100 is no whole number.
            rank = -(-share.numerator * members.size // share.denominator)
            thresholds[label] = members[rank - 1]
    heldout = np.bincount(classes, minlength=monitor.patterns.num_classes).astype(np.int64)
    return replace(monitor, thresholds=thresholds, quantile=share, heldout=heldout)


def read_quantile(value: Delta) -> Fraction:
    """A share in (0, 1] as the exact fraction of the decimal it was written as.

    Raises:
        ConfigurationError: Not a number, or out of range.
    """
    try:
        share = value if isinstance(value, Fraction) else Fraction(Decimal(str(value)))
    except (InvalidOperation, ValueError, OverflowError):
        raise ConfigurationError(
            f"quantile '{value}' is not a number; give one like 0.99"
        ) from None
    if not 0 < share <= 1:
        raise ConfigurationError(f"quantile {value}; give a share above 0 and at most 1")
    return share


def join_labels(parts: Iterable[MonitorLabels]) -> MonitorLabels:
    """Labels of several batches as one; at least one batch."""
    return MonitorLabels(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _distances(
    counter: ContradictionCounter, patterns: PatternSet, values: Sequence[NDArray[Any]]
) -> Int64:
    counted = counter.count(values)[:, 0].astype(np.int64)
    return np.where(patterns.totals > 0, counted, patterns.num_neurons + 1)


def _labels(follows: NDArray[np.bool_], predicted: Int64) -> Int64:
    own = follows[np.arange(len(predicted)), predicted]  # nothing follows where there is no class
    other = np.where(follows.any(axis=1), InputLabel.CONTRADICTED, InputLabel.UNEXPLAINED)
    return np.where(own, InputLabel.EXPLAINED, other).astype(np.int64)


def _all_finite(values: Sequence[NDArray[Any]]) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = np.logical_and.reduce(
        [np.isfinite(layer).all(axis=1) for layer in values]
    )
    return found


def _check_classes(patterns: PatternSet, batch: Batch) -> None:
    if batch.outputs.shape[1] != patterns.num_classes:
        raise ConfigurationError(
            f"the model has {batch.outputs.shape[1]} classes, the patterns speak of "
            f"{patterns.num_classes}; mine them again"
        )
