"""Mining delta-relaxed dominant patterns in one run over the data.

Per class and neuron only the number of active samples is kept, from which the patterns
of every delta follow. Activation functions without a sign (sigmoid, tanh, GELU, ...) are
our own extension of the method: a neuron is active above a quantile of its own values,
which takes a run before the one that counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auditor.activations.capture import Batch, Capture, CaptureOptions, Inputs, Point
from auditor.activations.layers import ActivationLayer
from auditor.activations.onnx_capture import OnnxCapture
from auditor.activations.quantile_sketch import QuantileSketch
from auditor.activations.statistics import SignFrequency
from auditor.errors import ConfigurationError, NothingToAudit, UnsupportedModel
from auditor.models.onnx_model import OnnxModel
from auditor.patterns.dominant import Delta, States, dominant_states, read_delta
from auditor.patterns.pattern_set import (
    MAX_NEURONS,
    MAX_STATES,
    Int64,
    LayerPatterns,
    Members,
    PatternSet,
)

Thresholds = list[NDArray[np.float64] | None]


def mine_patterns(
    model: OnnxModel | Capture,
    inputs: Inputs,
    labels: NDArray[Any] | Sequence[int],
    deltas: Sequence[Delta],
    *,
    members: Members = Members.CORRECT,
    layers: Sequence[int | str] = (),
    options: CaptureOptions | None = None,
    threshold_quantile: float = 0.5,
) -> PatternSet:
    """The dominant activation patterns of every class for every delta.

    Args:
        model: An ONNX model, or a capture of any model, before its activation functions.
        inputs: Samples along the first axis; see `OnnxCapture.batches`. May be
            memory-mapped: one batch at a time is looked at.
        labels: The class of each sample, integers in [0, outputs).
        deltas: Each above 0.5 and at most 1; the decimal that was written is meant.
        members: Which samples count; by default the correctly classified ones.
        layers: Names or positions of layers; all if empty. Not with a capture.
        options: How the model is run. Not with a capture.
        threshold_quantile: Where the threshold of a neuron without a sign lies among its
            values on all samples.

    Returns:
        The patterns, with the counts they follow from.

    Raises:
        ConfigurationError: A delta or a label out of range, labels of another number, or more
            states than `MAX_STATES`.
        NothingToAudit: No sample, or none that counts.
        UnsupportedModel: No hidden layer, or outputs that are no scores of classes.
    """
    wanted = tuple(dict.fromkeys(read_delta(delta) for delta in deltas))
    if not wanted:
        raise ConfigurationError("no delta; give at least one, for example 0.95")
    if isinstance(model, OnnxModel):
        capture: Capture = OnnxCapture(model, layers, options)
    elif layers or options is not None:
        raise ConfigurationError("layers and options are those of the capture; give them there")
    else:
        capture = model
    if capture.options.point is not Point.BEFORE:
        raise ConfigurationError("patterns are states before an activation; capture there")
    known = check_labels(labels)
    thresholds = _find_thresholds(capture, inputs, threshold_quantile)
    totals, counts = _count_active(capture, inputs, known, members, thresholds, len(wanted))
    if not totals.sum():
        raise NothingToAudit(
            f"none of {len(known)} samples counts as {members}; check the labels and the scaling "
            "of the inputs"
        )
    return PatternSet(
        model_digest=capture.digest,
        deltas=wanted,
        members=members,
        granularity=capture.options.granularity,
        totals=totals,
        layers=tuple(
            _layer_patterns(layer, count, totals, wanted, threshold)
            for layer, count, threshold in zip(capture.layers, counts, thresholds, strict=True)
        ),
    )


def check_labels(labels: NDArray[Any] | Sequence[int]) -> Int64:
    """Labels as a flat array of integers.

    Raises:
        ConfigurationError: They are no integers, negative, or not one row.
    """
    array = np.asarray(labels)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        if array.size:
            raise ConfigurationError(
                f"labels of type {array.dtype} and shape {list(array.shape)}; give one integer "
                "for each sample"
            )
        array = array.reshape(-1)
    return array.astype(np.int64, copy=False)


def batch_labels(batch: Batch, labels: Int64) -> Int64:
    """The labels of a batch, checked against the model's classes.

    Raises:
        ConfigurationError: Too few labels, or one out of range.
        UnsupportedModel: The model has no scores of classes.
    """
    classes = batch.outputs.shape[1]
    if classes < 2:
        raise UnsupportedModel(
            f"its first output has {classes} value per sample, so there are no classes",
            way_out="use a classifier that puts out one score for each class",
        )
    found = labels[batch.start : batch.stop]
    if len(found) != len(batch.outputs):
        raise ConfigurationError(f"{len(labels)} labels for more samples; give one for each")
    wrong = np.flatnonzero((found < 0) | (found >= classes))
    if wrong.size:
        raise ConfigurationError(
            f"label {found[wrong[0]]} of sample {batch.start + wrong[0]}; the model has the "
            f"classes 0 to {classes - 1}"
        )
    return found


def counted_classes(batch: Batch, labels: Int64, members: Members) -> Int64:
    """The class each sample of a batch counts for, -1 for none.

    The model's class is the first of its largest scores; a sample with a NaN score is of
    no class.
    """
    predicted = predicted_classes(batch)
    if members is Members.LABEL:
        return labels
    if members is Members.PREDICTION:
        return predicted
    return np.where(predicted == labels, labels, -1)


def predicted_classes(batch: Batch) -> Int64:
    """The model's class of each sample, -1 where a score is NaN."""
    predicted = batch.outputs.argmax(axis=1).astype(np.int64)
    best = batch.outputs[np.arange(len(predicted)), predicted]
    return np.where(np.isnan(best), -1, predicted)


def _count_active(
    capture: Capture,
    inputs: Inputs,
    labels: Int64,
    members: Members,
    thresholds: Thresholds,
    deltas: int,
) -> tuple[Int64, list[Int64]]:
    """Samples of each class, and per layer those in which each neuron is active."""
    frequencies: list[SignFrequency] = []
    samples = 0
    for batch in capture.batches(inputs):
        known = batch_labels(batch, labels)
        if not frequencies:
            classes = batch.outputs.shape[1]
            _refuse_too_many(deltas, classes, sum(values.shape[1] for values in batch.values))
            frequencies = [
                SignFrequency(classes, 0.0 if threshold is None else threshold)
                for threshold in thresholds
            ]
        counted = counted_classes(batch, known, members)
        for values, frequency in zip(batch.values, frequencies, strict=True):
            frequency.update(values, counted)
        samples = batch.stop
    if samples != len(labels):
        raise ConfigurationError(f"{len(labels)} labels for {samples} samples; give one for each")
    return frequencies[0].totals, [frequency.counts for frequency in frequencies]


def _refuse_too_many(deltas: int, classes: int, neurons: int) -> None:
    """Refuse what would not fit in memory before any of it is allocated."""
    if deltas * classes * neurons > MAX_STATES or neurons > MAX_NEURONS:
        raise ConfigurationError(
            f"{deltas} deltas x {classes} classes x {neurons} neurons are more than {MAX_STATES} "
            f"states or {MAX_NEURONS} neurons; choose fewer layers or deltas, or channels"
        )


def _find_thresholds(capture: Capture, inputs: Inputs, share: float) -> Thresholds:
    """None for layers with a sign, else a quantile of each neuron's values."""
    if all(layer.has_sign for layer in capture.layers):
        return [None] * len(capture.layers)
    sketches = [None if layer.has_sign else QuantileSketch() for layer in capture.layers]
    for batch in capture.batches(inputs):
        nobody = np.zeros(len(batch.outputs), dtype=np.int64)
        for values, sketch in zip(batch.values, sketches, strict=True):
            if sketch is not None:
                sketch.update(values, nobody)
    return [
        None if sketch is None else sketch.quantile(share).astype(np.float64) for sketch in sketches
    ]


def _layer_patterns(
    layer: ActivationLayer,
    counts: Int64,
    totals: Int64,
    deltas: Sequence[Fraction],
    thresholds: NDArray[np.float64] | None,
) -> LayerPatterns:
    found = [dominant_states(counts, totals, delta) for delta in deltas]
    states = States(np.stack([s.active for s in found]), np.stack([s.inactive for s in found]))
    return LayerPatterns(layer.name, layer.operator, states, counts, thresholds)
