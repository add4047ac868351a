"""AUD203: every input that follows the activation pattern of a class gets the class."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import BeforeValidator, Field

from auditor.check import Check, CheckContext, CheckParams, Range, Subject
from auditor.findings import (
    Answer,
    Control,
    Finding,
    HeatMapEvidence,
    Location,
    Metric,
    Severity,
    TableEvidence,
    Verdict,
)
from auditor.intervals import share_metric
from auditor.patterns.pattern_file import PatternFile, read_patterns
from auditor.verify.evidence import check_image_shape
from auditor.verify.onnx_subject import open_subject
from auditor.verify.outcome import Limits
from auditor.verify.pattern_evidence import Patterns, follower_gallery, pattern_witness
from auditor.verify.pattern_trials import PatternTrial, PatternVerifier
from auditor.verify.traits import VERIFIER_TRAITS


class Params(CheckParams):
    """Parameters of AUD203."""

    patterns: Path
    """The pattern file, from `auditor mine patterns`."""
    delta: Annotated[str, BeforeValidator(str)] = "0.99"
    """Which of the file's deltas."""
    inputs: Path
    """Samples, a .npz with `inputs` and `labels`: the search for a witness begins at them."""
    domain: Range = (0.0, 1.0)
    """Range that every input lies in; the patterns alone choose among those inputs."""
    classes: tuple[int, ...] = ()
    """Classes to ask about; all that have a pattern if empty."""
    radius: float | None = Field(default=None, ge=0)
    """Ask only of inputs within this distance (L-infinity) of samples that follow their pattern."""
    count: int = Field(default=20, ge=1)
    """With a radius: how many of those samples, from the first on."""
    max_boxes: int = Field(default=200_000, ge=0)
    """Sub-problems the search may look at for one class or sample."""
    time_per_question_s: float = Field(default=60.0, gt=0)
    """Safety net for one class or sample."""
    severity: Severity = Severity.HIGH
    """How bad a class is whose pattern does not determine it."""
    image_shape: tuple[int, int] | None = None
    """Height and width, for models whose input is a grey-scale picture in [0, 1]."""


class _Question(NamedTuple):
    """What is asked: patterns of a file at one delta, put to the verifier, and its samples."""

    params: Params
    found: PatternFile
    states: Patterns
    verifier: PatternVerifier
    labels: list[int]


def prepare(subject: Subject, params: Params) -> None:
    """Find out before the run whether model, patterns and samples fit each other."""
    opened = open_subject(subject.path)
    opened.samples(params.inputs)
    found = read_patterns(params.patterns, model_digest=subject.digest)
    found.patterns.all_class_states(params.delta, params.classes)
    check_image_shape(params.image_shape, opened.network.num_inputs)


def run(subject: Subject, params: Params, context: CheckContext) -> Answer:
    """Put every class's pattern to the verifier."""
    opened = open_subject(subject.path, context.device, expected_digest=subject.digest)
    found = read_patterns(params.patterns, model_digest=subject.digest)
    states = found.patterns.all_class_states(params.delta, params.classes)
    samples = opened.samples(params.inputs)
    verifier = PatternVerifier(
        opened,
        (str(params.domain[0]), str(params.domain[1])),
        samples.inputs,
        limits=Limits(time_s=params.time_per_question_s, max_boxes=params.max_boxes),
        time_limit_s=context.time_limit_s,
        seed=context.seed,
    )
    question = _Question(params, found, states, verifier, samples.labels.tolist())
    if params.radius is None:
        trials = verifier.classes(states, context.progress)
        return _answer(question, trials, _class_metrics(question, trials))
    return _run_around(question, params.radius, context)


def _run_around(question: _Question, radius: float, context: CheckContext) -> Answer:
    """The same within a radius of samples, and the control without patterns."""
    params, labels, verifier = question.params, question.labels, question.verifier
    chosen = verifier.followers(question.states, labels)[: params.count]
    if not chosen:
        return Answer(
            verdict=Verdict.SKIPPED,
            summary="No sample follows the pattern of its class",
            reason=f"none of {len(labels)} samples follows its pattern at delta {params.delta}",
        )
    trials, plain = [], []
    for number, sample in enumerate(chosen):
        label = labels[sample]
        trials.append(verifier.around(label, question.states[label], sample, str(radius)))
        plain.append(verifier.around(label, {}, sample, str(radius)))
        context.progress((number + 1) / len(chosen), f"sample {sample}")
    without = Control(
        name="without patterns",
        question="How many of the same samples keep their class within the same radius when every "
        "input in it is meant?",
        metrics=_sample_metrics(plain),
    )
    answer = _answer(question, trials, _sample_metrics(trials))
    return answer.model_copy(update={"controls": (without,)})


def _answer(question: _Question, trials: list[PatternTrial], metrics: tuple[Metric, ...]) -> Answer:
    params = question.params
    held = _of(trials, Verdict.HOLDS)
    broken = _of(trials, Verdict.VIOLATED)
    still_open = [trial for trial in trials if trial.verdict.is_open]
    verdict, reason = Verdict.HOLDS, ""
    if broken:
        verdict = Verdict.VIOLATED
    elif still_open:
        verdict = Verdict.UNKNOWN
        names = ", ".join(map(_name, still_open))
        reason = f"undecided for {names}: {still_open[0].reason}"
    return Answer(
        verdict=verdict,
        summary=f"The pattern determines the class for {len(held)} of {len(trials)} "
        f"{'classes' if params.radius is None else f'samples within {params.radius:g}'}, "
        f"not for {len(broken)}; {len(still_open)} open",
        reason=reason,
        metrics=metrics,
        findings=tuple(_finding(question, trial) for trial in broken),
        evidence=(
            _table(question, trials),
            _fixed_shares(question),
            *follower_gallery(
                question.verifier, question.states, question.labels, params.image_shape
            ),
        ),
        facts={
            "patterns": f"delta {params.delta}, mined from samples that count as "
            f"{question.found.patterns.members}",
            "domain": f"[{params.domain[0]:g}, {params.domain[1]:g}] for every input",
            "semantics": "real arithmetic, bounds rounded outward; a neuron at exactly zero "
            "follows either state",
            **VERIFIER_TRAITS,
        },
    )


def _of(trials: list[PatternTrial], verdict: Verdict) -> list[PatternTrial]:
    return [trial for trial in trials if trial.verdict is verdict]


def _class_metrics(question: _Question, trials: list[PatternTrial]) -> tuple[Metric, ...]:
    found, patterns = question.found, question.found.patterns
    at = patterns.index_of(question.params.delta)
    labels = [trial.labels[0] for trial in trials]
    fixed = patterns.fixed[at, labels].mean() / patterns.num_neurons
    counts = {
        "verified_classes": len(_of(trials, Verdict.HOLDS)),
        "violated_classes": len(_of(trials, Verdict.VIOLATED)),
        "open_classes": sum(trial.verdict.is_open for trial in trials),
    }
    metrics = [Metric(name=name, value=value, unit="classes") for name, value in counts.items()]
    metrics.append(Metric(name="fixed_share", value=float(fixed), unit="share of the neurons"))
    if found.heldout:
        judged = found.heldout[at]
        verified = [trial.labels[0] for trial in _of(trials, Verdict.HOLDS)]
        for name, chosen in (("recall", labels), ("recall_of_verified_classes", verified)):
            shares = [judged.recall(label) for label in chosen]
            total = sum(share.total for share in shares)
            if total:
                hits = sum(share.hits for share in shares)
                metrics.append(
                    share_metric(name, hits, total, "higher", "share of held-out samples")
                )
    return tuple(metrics)


def _sample_metrics(trials: list[PatternTrial]) -> tuple[Metric, ...]:
    total = len(trials)
    counts: tuple[tuple[str, int, Literal["higher", "lower"]], ...] = (
        ("certified_share", len(_of(trials, Verdict.HOLDS)), "higher"),
        ("refuted_share", len(_of(trials, Verdict.VIOLATED)), "lower"),
        ("open_share", sum(trial.verdict.is_open for trial in trials), "lower"),
    )
    return tuple(share_metric(name, hits, total, better) for name, hits, better in counts)


def _name(trial: PatternTrial) -> str:
    return f"class {trial.labels[0]}" if trial.sample is None else f"sample {trial.sample}"


def _table(question: _Question, trials: list[PatternTrial]) -> TableEvidence:
    params, found, patterns = question.params, question.found, question.found.patterns
    at = patterns.index_of(params.delta)
    rows = []
    for trial in trials:
        label = trial.labels[0]
        share = found.heldout[at].recall(label).value if found.heldout else None
        rows.append(
            (
                trial.sample,
                label,
                int(patterns.totals[label]),
                float(round(patterns.fixed[at, label] / patterns.num_neurons, 4)),
                None if share is None else float(round(share, 4)),
                str(trial.verdict),
                trial.read_as,
                "" if trial.verdict is Verdict.HOLDS else trial.reason,
            )
        )
    return TableEvidence(
        title="Every class" if params.radius is None else "Every sample",
        columns=("sample", "class", "mined from", "fixed share", "held-out recall", "verdict",
                 "witness read as", "reason"),
        rows=tuple(rows),
        total_rows=len(rows),
    )  # fmt: skip


def _fixed_shares(question: _Question) -> HeatMapEvidence:
    """The picture of the patterns: layers as rows, classes as columns."""
    patterns, delta = question.found.patterns, question.params.delta
    shares = patterns.fixed_shares[:, patterns.index_of(delta)]
    return HeatMapEvidence(
        title=f"Share of neurons that each pattern fixes, delta {delta}",
        row_label="layer",
        column_label="class",
        rows=tuple(layer.name for layer in patterns.layers),
        columns=tuple(str(label) for label in range(patterns.num_classes)),
        values=tuple(
            tuple(
                round(float(share), 4) if total else None
                for share, total in zip(layer, patterns.totals, strict=True)
            )
            for layer in shares
        ),
        description="A class without samples has no pattern.",
    )


def _finding(question: _Question, trial: PatternTrial) -> Finding:
    params, label = question.params, trial.labels[0]
    near = "" if trial.sample is None else f" within {params.radius:g} of sample {trial.sample}"
    place = f"pattern-class-{label}"
    return Finding(
        title=f"An input{near} follows the pattern of class {label} and is read as {trial.read_as}",
        severity=params.severity,
        description=(
            f"At delta {params.delta} the pattern does not determine class {label}: the "
            "witness follows it in exact arithmetic and was replayed."
        ),
        remedy="Mine with a smaller delta, which fixes more neurons, or train the class further.",
        location=Location(
            property_id=place, sample=None if trial.sample is None else str(trial.sample)
        ),
        evidence=pattern_witness(trial, question.verifier, question.states, params.image_shape),
    )


CHECK = Check(
    code="AUD203",
    title="Activation patterns determine the class",
    version=1,
    question="Does every input that follows the activation pattern of a class get the class?",
    method=(
        "For each class: linear programs in the linear regions of the pattern look for a witness; "
        "then bounds with the pattern's neurons fixed and their signs as constraints, branch and "
        "bound, Z3. A witness counts only when it follows the pattern in exact arithmetic and "
        "was replayed in onnxruntime. An empty pattern never passes."
    ),
    pass_does_not_mean=(
        "Nothing is said about inputs that follow no pattern; the recall says how many of the "
        "held-out samples do. Patterns are of this model only, and mined from these samples."
    ),
    kinds=("onnx",),
    params=Params,
    run=run,
    estimate_s=lambda params: 10.0 * max(1, len(params.classes) or 10),
    prepare=prepare,
)
