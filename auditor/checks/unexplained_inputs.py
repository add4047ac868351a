"""AUD205: few production-like inputs do something that no pattern explains."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field

from auditor.activations.capture import CaptureOptions, count_samples, refuse_non_finite
from auditor.check import Check, CheckContext, CheckParams, Subject
from auditor.errors import ConfigurationError
from auditor.findings import (
    Answer,
    Control,
    Evidence,
    Finding,
    ImageEvidence,
    Location,
    Metric,
    Severity,
    TableEvidence,
    Verdict,
)
from auditor.intervals import Share, held_against, share_metric, wilson_interval
from auditor.models.input_file import read_arrays, read_inputs
from auditor.models.onnx_model import OnnxModel
from auditor.patterns.dominant import read_delta
from auditor.patterns.evaluate import capture_for
from auditor.patterns.mine import check_labels
from auditor.patterns.monitor import (
    InputLabel,
    Monitor,
    MonitorLabels,
    fit_thresholds,
    join_labels,
    make_monitor,
)
from auditor.patterns.pattern_file import read_patterns
from auditor.verify.evidence import check_image_shape, gray_image

SHOWN = 12
LISTED = 50

Array = NDArray[Any]


class Params(CheckParams):
    """Parameters of AUD205."""

    patterns: Path
    """Pattern file of this model, written by `auditor mine patterns`."""
    delta: Annotated[str, BeforeValidator(str)] = "0.99"
    """Which of the file's deltas."""
    inputs: Path
    """Samples as in production: .npy, or .npz with `inputs` or arrays named like the model's."""
    count: int = Field(default=10_000, ge=1)
    """How many samples, from the first on."""
    maximum_share: float = Field(default=0.1, ge=0, le=1)
    """Largest share of samples that may be unexplained or contradicted."""
    reference: Path | None = None
    """Held-out samples of the training distribution: .npz with `inputs` and `labels`."""
    quantile: float | None = Field(default=None, gt=0, le=1)
    """Share of each class's reference samples that has to be within its threshold. Without it
    every threshold is 0. Needs `reference`, whose first half then gives the thresholds."""
    severity: Severity = Severity.MEDIUM
    """How bad it is when too many samples are not explained."""
    image_shape: tuple[int, int] | None = None
    """Height and width, for models whose input is a grey-scale picture in [0, 1]."""


class _Material(NamedTuple):
    model: OnnxModel
    monitor: Monitor
    inputs: Mapping[str, Array]
    reference: tuple[Mapping[str, Array], Array] | None


def prepare(subject: Subject, params: Params) -> None:
    """Find out before the run whether model, patterns and samples fit each other."""
    material = _load(subject, params)
    size = sum(int(np.prod(value.shape[1:])) for value in material.inputs.values())
    check_image_shape(params.image_shape, size)


def run(subject: Subject, params: Params, context: CheckContext) -> Answer:
    """Label the samples, and the reference beside them."""
    deadline = time.monotonic() + context.time_limit_s
    material = _load(subject, params)
    options = CaptureOptions(device=context.device)
    monitor, control = _calibrate(material, params, options)
    capture = capture_for(monitor.patterns, material.model, options)
    total = count_samples(material.inputs)
    parts: list[MonitorLabels] = []
    done = 0
    for part in monitor.label(capture.batches(material.inputs)):
        parts.append(part)
        done += len(part.labels)
        context.progress(done / total, f"{done} of {total} samples")
        if done < total and time.monotonic() > deadline:
            break
    found = join_labels(parts)
    stopped = f"time was up after {done} of {total} samples" if done < total else ""
    return _answer(params, material, monitor, found, control, stopped)


def _load(subject: Subject, params: Params) -> _Material:
    model = OnnxModel.open(subject.path, expected_digest=subject.digest)
    patterns = read_patterns(params.patterns, model_digest=model.digest).patterns
    monitor = make_monitor(patterns, read_delta(params.delta))
    if params.quantile is not None and params.reference is None:
        raise ConfigurationError("quantile without reference; give held-out samples with labels")
    inputs = read_inputs(params.inputs, model)
    count_samples(inputs)
    inputs = {name: value[: params.count] for name, value in inputs.items()}
    for name, value in inputs.items():
        refuse_non_finite(name, value, 0)
    return _Material(model, monitor, inputs, _read_reference(model, params))


def _read_reference(model: OnnxModel, params: Params) -> tuple[Mapping[str, Array], Array] | None:
    if params.reference is None:
        return None
    arrays = read_arrays(params.reference)
    if "labels" not in arrays:
        raise ConfigurationError(
            f"{params.reference} holds no array 'labels'; write it with "
            "numpy.savez(FILE, inputs=..., labels=...)"
        )
    inputs, labels = read_inputs(params.reference, model), check_labels(arrays["labels"])
    total = count_samples(inputs)
    if len(labels) != total:
        raise ConfigurationError(f"{params.reference}: {len(labels)} labels for {total} samples")
    if params.quantile is not None and total < 2:
        raise ConfigurationError(f"{params.reference} holds one sample; thresholds need two halves")
    return inputs, labels


def _calibrate(
    material: _Material, params: Params, options: CaptureOptions
) -> tuple[Monitor, Control | None]:
    """Thresholds from the reference's first half, the control on the rest of it."""
    if material.reference is None:
        return material.monitor, None
    inputs, labels = material.reference
    monitor, half = material.monitor, 0
    if params.quantile is not None:
        half = (len(labels) + 1) // 2
        monitor = fit_thresholds(
            monitor,
            material.model,
            {name: value[:half] for name, value in inputs.items()},
            labels[:half],
            params.quantile,
            options,
        )
    rest = {name: value[half:] for name, value in inputs.items()}
    found = monitor.label_inputs(material.model, rest, options)
    control = Control(
        name="held-out reference",
        question="How many samples of the training distribution are not explained?",
        metrics=_shares(found),
    )
    return monitor, control


def _answer(
    params: Params,
    material: _Material,
    monitor: Monitor,
    found: MonitorLabels,
    control: Control | None,
    stopped: str,
) -> Answer:
    counts, total = found.counts(), len(found.labels)
    wrong = total - counts[InputLabel.EXPLAINED]
    interval = wilson_interval(wrong, total)
    text = (
        f"{wrong} of {total} samples are not explained ({counts[InputLabel.UNEXPLAINED]} "
        f"unexplained, {counts[InputLabel.CONTRADICTED]} contradicted), 95 % interval "
        f"{interval.lower:.1%} to {interval.upper:.1%}; at most {params.maximum_share:.1%} may be"
    )
    verdict, reason = held_against(Share(wrong, total), params.maximum_share), ""
    if stopped:
        verdict, reason = Verdict.UNKNOWN, stopped
    elif verdict is Verdict.UNKNOWN:
        reason = f"the interval reaches over the limit: {text}"
    pictures = _pictures(params, material, found)
    violated = verdict is Verdict.VIOLATED
    return Answer(
        verdict=verdict,
        summary=text,
        reason=reason,
        metrics=_shares(found),
        controls=() if control is None else (control,),
        findings=(_finding(params, text, pictures),) if violated else (),
        evidence=(_by_class(monitor, found), _worst(found), *(() if violated else pictures)),
        limits_hit=(stopped,) if stopped else (),
        facts=_facts(params, monitor),
    )


def _shares(found: MonitorLabels) -> tuple[Metric, ...]:
    counts, total = found.counts(), len(found.labels)
    explained = counts[InputLabel.EXPLAINED]
    return (
        share_metric("not_explained_share", total - explained, total, "lower"),
        share_metric("unexplained_share", counts[InputLabel.UNEXPLAINED], total, "lower"),
        share_metric("contradicted_share", counts[InputLabel.CONTRADICTED], total, "lower"),
        share_metric("explained_share", explained, total, "higher"),
    )


def _finding(params: Params, text: str, pictures: tuple[Evidence, ...]) -> Finding:
    return Finding(
        title="Too many samples do what no pattern explains",
        severity=params.severity,
        description=f"{text}.",
        remedy="Look at the samples listed; collect and label data like them, or keep the model "
        "from deciding on them (`auditor patterns monitor`).",
        location=Location(property_id=f"explained-share-at-{params.delta}"),
        evidence=pictures,
    )


def _facts(params: Params, monitor: Monitor) -> dict[str, str]:
    thresholds = ", ".join("none" if t < 0 else str(t) for t in monitor.thresholds[:100])
    source = "0 for every class"
    if params.quantile is not None:
        source = f"quantile {params.quantile:g} of the first half of the reference"
    return {
        "delta": params.delta,
        "inputs": params.inputs.name,
        "patterns": f"{params.patterns.name}, members {monitor.patterns.members}, by "
        f"{monitor.patterns.granularity}",
        "thresholds": thresholds,
        "thresholds from": source,
    }


def _by_class(monitor: Monitor, found: MonitorLabels) -> TableEvidence:
    rows: list[tuple[int | str | float | None, ...]] = []
    own = found.own_distances
    for label in [*range(monitor.patterns.num_classes), -1]:
        here = found.predicted == label
        if not here.any():
            continue
        counts = [int((found.labels[here] == kind).sum()) for kind in InputLabel]
        threshold = int(monitor.thresholds[label]) if label >= 0 else -1
        median = float(np.median(own[here])) if threshold >= 0 else None
        rows.append(
            (label if label >= 0 else "none", int(here.sum()), *counts,
             threshold if threshold >= 0 else None, median)
        )  # fmt: skip
    return TableEvidence(
        title="By the model's class",
        columns=("class", "samples", *(kind.name.lower() for kind in InputLabel),
                 "threshold", "median distance"),
        rows=tuple(rows),
        total_rows=len(rows),
    )  # fmt: skip


def _strangest(found: MonitorLabels) -> list[int]:
    """Numbers of the samples that are not explained, the farthest first."""
    wrong = np.flatnonzero(found.labels != InputLabel.EXPLAINED)
    away = np.where(found.predicted < 0, found.distances.max(initial=0) + 1, found.own_distances)
    order = np.argsort(-away[wrong], kind="stable")
    return [int(number) for number in wrong[order]]


def _worst(found: MonitorLabels) -> TableEvidence:
    strangest = _strangest(found)
    rows = []
    for number in strangest[:LISTED]:
        nearest = int(found.distances[number].argmin())
        predicted = int(found.predicted[number])
        rows.append(
            (number, predicted if predicted >= 0 else None,
             InputLabel(int(found.labels[number])).name.lower(),
             int(found.own_distances[number]) if predicted >= 0 else None,
             nearest, int(found.distances[number, nearest]))
        )  # fmt: skip
    return TableEvidence(
        title="Samples that are not explained, the farthest first",
        columns=("sample", "read as", "label", "distance", "nearest class", "its distance"),
        rows=tuple(rows),
        total_rows=len(strangest),
    )


def _pictures(
    params: Params, material: _Material, found: MonitorLabels
) -> tuple[ImageEvidence, ...]:
    if params.image_shape is None:
        return ()
    (values,) = material.inputs.values()
    images = tuple(
        gray_image(
            values[number].ravel(),
            params.image_shape,
            f"sample {number}, read as {found.predicted[number]}, "
            f"{InputLabel(int(found.labels[number])).name.lower()}",
        )
        for number in _strangest(found)[:SHOWN]
    )
    if not images:
        return ()
    return (ImageEvidence(title="Samples that no pattern of their class explains", images=images),)


CHECK = Check(
    code="AUD205",
    title="Inputs that no activation pattern explains",
    version=1,
    question="Do the patterns mined for each class explain what production-like inputs do?",
    method=(
        "Each sample runs once. Its distance to a class is the number of neurons in which it "
        "contradicts the class's pattern. It is explained when it is within the threshold of the "
        "class it is given, contradicted when it is only within another class's, and unexplained "
        "when it is within none. The 95 % Wilson interval of the share that is not explained is "
        "held against the limit."
    ),
    pass_does_not_mean=(
        "That the outputs are right: an explained input may be misread. The share speaks of inputs "
        "drawn as these were; a monitor measures and proves nothing."
    ),
    kinds=("onnx",),
    params=Params,
    run=run,
    estimate_s=lambda params: 2.0 + 0.0005 * params.count,
    prepare=prepare,
)
