"""AUD202: around given inputs the class does not change (L-infinity)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
from pydantic import Field, model_validator

from auditor.check import Check, CheckContext, CheckParams, Range, Subject
from auditor.findings import (
    Answer,
    Control,
    CurveEvidence,
    CurvePoint,
    CurveSeries,
    Evidence,
    Finding,
    GrayImage,
    ImageEvidence,
    Location,
    Metric,
    Severity,
    TableEvidence,
    Verdict,
)
from auditor.intervals import share_metric, wilson_interval
from auditor.models.samples import Samples
from auditor.verify.evidence import check_image_shape, gray_image
from auditor.verify.onnx_subject import OnnxSubject, open_subject
from auditor.verify.outcome import Limits
from auditor.verify.robustness import Standing, Trial, measure_robustness
from auditor.verify.traits import VERIFIER_TRAITS

NOISE_DRAWS = 100
SHOWN_PAIRS = 6


class Params(CheckParams):
    """Parameters of AUD202."""

    inputs: Path
    """Samples: a .npz with `inputs` and `labels`."""
    radius: float = Field(ge=0)
    """The radius at which the verdict is given."""
    radii: tuple[float, ...] = ()
    """Further radii, for the curve of certified share against radius."""
    clip: Range | None = None
    """Range every input stays in, for example [0, 1] for pictures."""
    count: int = Field(default=50, ge=1)
    """How many samples, from the first on."""
    minimum_share: float = Field(default=1.0, ge=0, le=1)
    """Share of the samples that must be certified at `radius`."""
    max_boxes: int = Field(default=20_000, ge=0)
    """Sub-problems the search may look at for one sample and radius."""
    time_per_query_s: float = Field(default=20.0, gt=0)
    """Safety net for one sample and radius."""
    severity: Severity = Severity.HIGH
    """How bad it is when too few samples are robust."""
    image_shape: tuple[int, int] | None = None
    """Height and width, for models whose input is a grey-scale picture in [0, 1]."""

    @model_validator(mode="after")
    def _radii_are_distances(self) -> Self:
        if any(radius < 0 for radius in self.radii):
            raise ValueError("a radius is negative; use distances of 0 or more")
        return self

    @property
    def all_radii(self) -> tuple[float, ...]:
        """The verdict's radius and the curve's, ascending."""
        return tuple(sorted({self.radius, *self.radii}))


def prepare(subject: Subject, params: Params) -> None:
    """Find out before the run whether model and samples fit each other."""
    opened = open_subject(subject.path)
    _load(params, opened)
    check_image_shape(params.image_shape, opened.network.num_inputs)


def run(subject: Subject, params: Params, context: CheckContext) -> Answer:
    """Certify or falsify each sample at each radius, and draw the curve."""
    opened = open_subject(subject.path, context.device, expected_digest=subject.digest)
    samples = _load(params, opened)
    trials = measure_robustness(
        opened,
        samples.inputs,
        samples.labels.tolist(),
        params.all_radii,
        clip=params.clip,
        limits=Limits(time_s=params.time_per_query_s, max_boxes=params.max_boxes),
        time_limit_s=context.time_limit_s,
        seed=context.seed,
        progress=context.progress,
    )
    return _answer(params, samples, trials, opened, context)


def _load(params: Params, opened: OnnxSubject) -> Samples:
    samples = opened.samples(params.inputs)
    return Samples(samples.inputs[: params.count], samples.labels[: params.count])


def _answer(
    params: Params,
    samples: Samples,
    trials: Sequence[Trial],
    opened: OnnxSubject,
    context: CheckContext,
) -> Answer:
    total = len(samples.inputs)
    at_radius = [trial for trial in trials if trial.radius == params.radius]
    certified = _count(at_radius, "certified")
    refuted = _count(at_radius, "falsified", "misclassified")
    still_open = _count(at_radius, "open")
    pictures = _pictures(params, samples, at_radius)
    summary = (
        f"At radius {params.radius:g}: {certified} of {total} samples certified, {refuted} "
        f"refuted, {still_open} open; {params.minimum_share:.0%} must be certified"
    )
    found: tuple[Finding, ...] = ()
    verdict, reason = Verdict.HOLDS, ""
    if certified < math.ceil(params.minimum_share * total - 1e-9):
        if total - refuted < math.ceil(params.minimum_share * total - 1e-9):
            verdict = Verdict.VIOLATED
            found = (_finding(params, refuted, total, pictures),)
            pictures = ()
        else:
            verdict, reason = Verdict.UNKNOWN, f"{still_open} samples could not be decided"
    return Answer(
        verdict=verdict,
        summary=summary,
        reason=reason,
        metrics=_metrics(params, trials, total),
        controls=(_noise_control(params, samples, opened, context.seed),),
        findings=found,
        evidence=(_curve(params, trials, total), *pictures, _table(samples, trials)),
        facts={
            "norm": "L-infinity",
            "semantics": "real arithmetic, bounds rounded outward",
            **VERIFIER_TRAITS,
        },
    )


def _count(trials: Sequence[Trial], *standings: Standing) -> int:
    return sum(trial.standing in standings for trial in trials)


def _finding(params: Params, refuted: int, total: int, pictures: tuple[Evidence, ...]) -> Finding:
    return Finding(
        title=f"Too few samples are robust at radius {params.radius:g}",
        severity=params.severity,
        description=(
            f"{refuted} of {total} samples are misread or have an input within "
            f"{params.radius:g} that is; {params.minimum_share:.0%} had to be robust."
        ),
        remedy="Train with disturbed inputs, or lower the radius that the use really needs.",
        location=Location(property_id=f"robust-share-at-{params.radius:g}"),
        evidence=pictures,
    )


def _metrics(params: Params, trials: Sequence[Trial], total: int) -> tuple[Metric, ...]:
    metrics: list[Metric] = []
    for radius in params.all_radii:
        here = [trial for trial in trials if trial.radius == radius]
        certified = _count(here, "certified")
        metrics.append(share_metric(f"certified_share_at_{radius:g}", certified, total, "higher"))
        if radius == params.radius:
            refuted = _count(here, "falsified", "misclassified")
            metrics = [
                share_metric("certified_share", certified, total, "higher"),
                share_metric("refuted_share", refuted, total, "lower"),
                share_metric("open_share", _count(here, "open"), total, "lower"),
                *metrics,
            ]
    wrong = len({trial.sample for trial in trials if trial.standing == "misclassified"})
    metrics.append(share_metric("clean_accuracy", total - wrong, total, "higher"))
    return tuple(metrics)


def _curve(params: Params, trials: Sequence[Trial], total: int) -> CurveEvidence:
    certified, possible = [], []
    for radius in params.all_radii:
        here = [trial for trial in trials if trial.radius == radius]
        proved = _count(here, "certified")
        band = wilson_interval(proved, total)
        certified.append(CurvePoint(x=radius, y=proved / total, lower=band.lower, upper=band.upper))
        refuted = _count(here, "falsified", "misclassified")
        possible.append(CurvePoint(x=radius, y=1 - refuted / total))
    return CurveEvidence(
        title="Certified share against radius",
        x_label="radius (L-infinity)",
        y_label="share of samples",
        series=(
            CurveSeries(name="certified", points=tuple(certified)),
            CurveSeries(name="not refuted", points=tuple(possible)),
        ),
        description="Between the two lines lie the samples that could not be decided. The band "
        "is the 95 % Wilson interval for samples like these.",
    )


def _pictures(params: Params, samples: Samples, trials: Sequence[Trial]) -> tuple[Evidence, ...]:
    """Samples beside the inputs that are read as something else."""
    if params.image_shape is None:
        return ()
    images: list[GrayImage] = []
    broken = [trial for trial in trials if trial.witness is not None][:SHOWN_PAIRS]
    for trial in broken:
        original = samples.inputs[trial.sample]
        witness = trial.witness if trial.witness is not None else original
        images += [
            gray_image(original, params.image_shape,
                       f"sample {trial.sample}, a {samples.labels[trial.sample]}"),
            gray_image(witness, params.image_shape,
                       f"within {params.radius:g}, read as {trial.read_as}"),
        ]  # fmt: skip
    if not images:
        return ()
    return (
        ImageEvidence(
            title=f"Samples and inputs within {params.radius:g} that are read otherwise",
            images=tuple(images),
        ),
    )


def _table(samples: Samples, trials: Sequence[Trial]) -> TableEvidence:
    """One row for each sample: how far it is certified, and from where on it is refuted."""
    rows: list[tuple[int, int, float | None, float | None, int | None]] = []
    for number, label in enumerate(samples.labels.tolist()):
        own = [trial for trial in trials if trial.sample == number]
        certified = [trial.radius for trial in own if trial.standing == "certified"]
        broken = [trial for trial in own if trial.standing in ("falsified", "misclassified")]
        rows.append(
            (
                number,
                label,
                max(certified, default=None),
                min((trial.radius for trial in broken), default=None),
                broken[0].read_as if broken else None,
            )
        )
    return TableEvidence(
        title="Every sample",
        columns=("sample", "label", "certified up to", "refuted from", "read as"),
        rows=tuple(rows),
        total_rows=len(rows),
    )


def _noise_control(params: Params, samples: Samples, opened: OnnxSubject, seed: int) -> Control:
    """The same radius with random noise: what a search for the worst case has to beat."""
    draws = np.random.default_rng(seed)
    changed = tried = 0
    session = opened.model.session("cpu", optimised=True)
    for row, label in zip(samples.inputs, samples.labels, strict=True):
        if session.run_flat(row).argmax() != label:
            continue
        noise = draws.uniform(-params.radius, params.radius, (NOISE_DRAWS, len(row)))
        noisy = (row + noise).astype(np.float32)
        if params.clip:
            noisy = noisy.clip(*map(np.float32, params.clip))
        changed += int((session.run_rows(noisy).argmax(axis=1) != label).sum())
        tried += NOISE_DRAWS
    metrics = (share_metric("noise_flip_share", changed, tried, "lower"),) if tried else ()
    return Control(
        name="random noise",
        question=f"How often does uniform noise of the same size ({params.radius:g}) change the "
        "class of a sample that is read correctly?",
        metrics=metrics,
    )


CHECK = Check(
    code="AUD202",
    title="Local robustness around given inputs",
    version=1,
    question="Does every input within the radius of a given sample get the sample's class?",
    method=(
        "For each sample and radius: falsification, sound bounds with outward rounding, "
        "branch and bound, Z3. A sample counts as certified only with a proof, as refuted only "
        "with a witness replayed in onnxruntime, otherwise as open."
    ),
    pass_does_not_mean=(
        "The proof covers the L-infinity ball around these samples only; the interval speaks of "
        "samples drawn in the same way. Other disturbances (shifts, rotations, other lighting) "
        "are not covered."
    ),
    kinds=("onnx",),
    params=Params,
    run=run,
    estimate_s=lambda params: 0.05 * params.count * len(params.all_radii),
    prepare=prepare,
)
