"""AUD204: no input follows the activation patterns of two classes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field

from auditor.check import Check, CheckContext, CheckParams, Range, Subject
from auditor.findings import (
    Answer,
    Evidence,
    Finding,
    Location,
    Metric,
    Severity,
    TableEvidence,
    Verdict,
)
from auditor.patterns.pattern_file import PatternFile, read_patterns
from auditor.verify.evidence import check_image_shape
from auditor.verify.onnx_subject import open_subject
from auditor.verify.outcome import Limits
from auditor.verify.pattern_evidence import pattern_witness
from auditor.verify.pattern_trials import PatternTrial, PatternVerifier
from auditor.verify.traits import VERIFIER_TRAITS

SHOWN_PAIRS = 200


class Params(CheckParams):
    """Parameters of AUD204."""

    patterns: Path
    """The pattern file, from `auditor mine patterns`."""
    delta: Annotated[str, BeforeValidator(str)] = "0.99"
    """Which of the file's deltas."""
    inputs: Path
    """Samples, a .npz with `inputs` and `labels`: the search for a witness begins at them."""
    domain: Range = (0.0, 1.0)
    """Range that every input lies in."""
    classes: tuple[int, ...] = ()
    """Classes whose pairs are asked about; all that have a pattern if empty."""
    max_boxes: int = Field(default=200_000, ge=0)
    """Sub-problems the search may look at for one pair."""
    time_per_pair_s: float = Field(default=30.0, gt=0)
    """Safety net for one pair."""
    severity: Severity = Severity.MEDIUM
    """How bad an input is that two patterns claim."""
    image_shape: tuple[int, int] | None = None
    """Height and width, for models whose input is a grey-scale picture in [0, 1]."""


def prepare(subject: Subject, params: Params) -> None:
    """Find out before the run whether model, patterns and samples fit each other."""
    opened = open_subject(subject.path)
    opened.samples(params.inputs)
    found = read_patterns(params.patterns, model_digest=subject.digest)
    found.patterns.all_class_states(params.delta, params.classes)
    check_image_shape(params.image_shape, opened.network.num_inputs)


def run(subject: Subject, params: Params, context: CheckContext) -> Answer:
    """Put every pair of patterns to the verifier."""
    opened = open_subject(subject.path, context.device, expected_digest=subject.digest)
    found = read_patterns(params.patterns, model_digest=subject.digest)
    states = found.patterns.all_class_states(params.delta, params.classes)
    verifier = PatternVerifier(
        opened,
        (str(params.domain[0]), str(params.domain[1])),
        opened.samples(params.inputs).inputs,
        limits=Limits(time_s=params.time_per_pair_s, max_boxes=params.max_boxes),
        time_limit_s=context.time_limit_s,
        seed=context.seed,
    )
    trials = verifier.pairs(states, context.progress)
    findings = tuple(
        _finding(params, trial, pattern_witness(trial, verifier, states, params.image_shape))
        for trial in trials
        if trial.verdict is Verdict.VIOLATED
    )
    return _answer(params, found, trials, findings)


def _standing(trial: PatternTrial) -> str:
    if trial.conflict is not None:
        return "disjoint by a neuron"
    return "proved disjoint" if trial.verdict is Verdict.HOLDS else str(trial.verdict)


def _answer(
    params: Params, found: PatternFile, trials: list[PatternTrial], findings: tuple[Finding, ...]
) -> Answer:
    still_open = [trial for trial in trials if trial.verdict.is_open]
    verdict, reason = Verdict.HOLDS, ""
    if findings:
        verdict = Verdict.VIOLATED
    elif not trials:
        verdict, reason = Verdict.SKIPPED, "fewer than two classes have a pattern"
    elif still_open:
        verdict = Verdict.UNKNOWN
        first, second = still_open[0].labels
        reason = (
            f"{len(still_open)} pairs undecided, for example {first} and {second}: "
            f"{still_open[0].reason}"
        )
    disjoint = len(trials) - len(findings) - len(still_open)
    return Answer(
        verdict=verdict,
        summary=f"{disjoint} of {len(trials)} pairs of patterns cannot both be followed, "
        f"{len(findings)} can; {len(still_open)} open",
        reason=reason,
        metrics=_metrics(params, found, trials),
        findings=findings,
        evidence=(_table(trials),),
        facts={
            "patterns": f"delta {params.delta}, mined from samples that count as "
            f"{found.patterns.members}",
            "disjoint by a neuron": "one neuron is asked to be active and inactive: under strict "
            "signs nothing follows both, and nothing was searched",
            "domain": f"[{params.domain[0]:g}, {params.domain[1]:g}] for every input",
            "semantics": "real arithmetic, bounds rounded outward",
            **VERIFIER_TRAITS,
        },
    )


def _metrics(params: Params, found: PatternFile, trials: list[PatternTrial]) -> tuple[Metric, ...]:
    counts = {
        "pairs_disjoint_by_a_neuron": sum(trial.conflict is not None for trial in trials),
        "pairs_proved_disjoint": sum(_standing(trial) == "proved disjoint" for trial in trials),
        "pairs_that_overlap": sum(trial.verdict is Verdict.VIOLATED for trial in trials),
        "pairs_open": sum(trial.verdict.is_open for trial in trials),
    }
    metrics = [Metric(name=name, value=value, unit="pairs") for name, value in counts.items()]
    if found.heldout:
        judged = found.heldout[found.patterns.index_of(params.delta)]
        metrics.append(
            Metric(
                name="ambiguous_heldout_samples",
                value=judged.ambiguous,
                unit="samples",
                sample_size=int(judged.samples.sum()),
                better="lower",
            )
        )
    return tuple(metrics)


def _table(trials: list[PatternTrial]) -> TableEvidence:
    # Those that a neuron settles say little and come last.
    ordered = sorted(trials, key=lambda trial: trial.conflict is not None)
    rows = [(trial.labels[0], trial.labels[1], _standing(trial), trial.reason) for trial in ordered]
    return TableEvidence(
        title="Pairs of classes",
        columns=("class", "other class", "standing", "why"),
        rows=tuple(rows[:SHOWN_PAIRS]),
        total_rows=len(rows),
    )


def _finding(params: Params, trial: PatternTrial, evidence: tuple[Evidence, ...]) -> Finding:
    first, second = trial.labels
    return Finding(
        title=f"An input follows the patterns of class {first} and of class {second}",
        severity=params.severity,
        description=(
            f"At delta {params.delta} the two patterns do not exclude each other; the witness is "
            f"read as {trial.read_as}."
        ),
        remedy="Mine with a smaller delta, which fixes more neurons.",
        location=Location(property_id=f"patterns-{first}-{second}"),
        evidence=evidence,
    )


CHECK = Check(
    code="AUD204",
    title="Activation patterns of different classes do not overlap",
    version=1,
    question="Is there no input that follows the activation patterns of two classes?",
    method=(
        "A neuron that two patterns want in opposite states settles a pair without a search. For "
        "any other pair both patterns together are put to the verifier, which must refute that "
        "any input of the domain follows them, or show a replayed one."
    ),
    pass_does_not_mean=(
        "Patterns that are disjoint by a neuron may still lie side by side. Nothing is said about "
        "whether a pattern determines its class; AUD203 asks that."
    ),
    kinds=("onnx",),
    params=Params,
    run=run,
    estimate_s=lambda params: 10.0,
    prepare=prepare,
)
