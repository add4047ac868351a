"""OSCAL observations and findings: one of each for a check of a subject."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from auditor.findings import CheckResult, GateRow, Metric, Verdict
from auditor_reports.audit_places import NumberedResult, blob_address, evidence_of
from auditor_reports.number_text import interval_text, iso_moment, quantity
from auditor_reports.oscal.models import (
    Observation,
    OscalFinding,
    Prop,
    RelatedObservation,
    RelatedRisk,
    RelevantEvidence,
    Risk,
    SubjectReference,
    Target,
    TargetStatus,
    some,
)
from auditor_reports.oscal.text import Identity, markup, objective_id, plain, prop
from auditor_reports.standing import STATUS_WORDS, Standings, Status

METRICS_SHOWN = 20
EVIDENCE_SHOWN = 5


def make_observation(
    numbered: NumberedResult, status: Status, identity: Identity, subjects: Mapping[str, str]
) -> Observation:
    """What a check saw.

    Args:
        numbered: The result, with its number in `audit.json`.
        status: How it stands before the gate.
        identity: Of the run.
        subjects: UUIDs of the models by name.
    """
    number, result = numbered
    subject = subjects.get(result.subject)
    return Observation(
        uuid=identity.uuid(f"results/{number}/observation"),
        title=markup(f"{result.code} {result.title}, {result.subject}", 200),
        description=markup(_answer_text(result)),
        props=tuple(_props(result, status)),
        origins=(identity.origin,),
        subjects=some(
            [SubjectReference(subject_uuid=subject, title=markup(result.subject, 200))]
            if subject
            else []
        ),
        relevant_evidence=tuple(_evidence(numbered)),
        collected=iso_moment(result.timing.finished),
        remarks=markup("; ".join(result.answer.limits_hit)) if result.answer.limits_hit else None,
    )


def make_finding(
    numbered: NumberedResult, standings: Standings, identity: Identity, risks: Sequence[Risk]
) -> OscalFinding:
    """What the check says about its objective; satisfied only where it holds and passes."""
    number, result = numbered
    status = standings.of_result(result)
    observation = identity.uuid(f"results/{number}/observation")
    rows = "; ".join(row.text for row in standings.rows(result) if row.status == status)
    return OscalFinding(
        uuid=identity.uuid(f"results/{number}/finding"),
        title=markup(f"{result.code} {result.title}: {STATUS_WORDS[status]}", 200),
        description=markup(_answer_text(result)),
        props=(prop("gate-status", STATUS_WORDS[status]), prop("verdict", result.verdict)),
        target=Target(
            target_id=objective_id(result.code),
            title=markup(result.title, 200),
            status=_target_status(result, status, rows),
        ),
        related_observations=(RelatedObservation(observation_uuid=observation),),
        related_risks=some(RelatedRisk(risk_uuid=risk.uuid) for risk in risks),
    )


def make_loose_finding(
    row: GateRow, place: str, identity: Identity, risks: Sequence[Risk]
) -> OscalFinding:
    """What counts for the gate and belongs to no result: never satisfied."""
    status = TargetStatus(
        state="not-satisfied",
        reason="fail" if row.status == "fail" else "other",
        remarks=markup(f"{STATUS_WORDS[row.status]}: {row.text}"),
    )
    return OscalFinding(
        uuid=identity.uuid(f"{place}/finding"),
        title=markup(f"{row.code}: {row.text}", 200),
        description=markup(row.text),
        props=(prop("gate-status", STATUS_WORDS[row.status]),),
        target=Target(target_id=objective_id(row.code), title=markup(row.code, 200), status=status),
        related_risks=some(RelatedRisk(risk_uuid=risk.uuid) for risk in risks),
    )


def _answer_text(result: CheckResult) -> str:
    answer = result.answer
    reason = f" Reason: {answer.reason}" if answer.reason else ""
    return f"{result.verdict}: {answer.summary}{reason}"


def _target_status(result: CheckResult, status: Status, rows: str) -> TargetStatus:
    if result.verdict is Verdict.HOLDS and status == "pass":
        return TargetStatus(state="satisfied", reason="pass", remarks="the check holds")
    if result.verdict.is_open or status in ("open", "warn"):
        # The format knows no open question; `other` says that nothing was shown to be wrong.
        text = f"no answer, which is not evidence of a fault: {result.answer.reason or rows}"
        return TargetStatus(state="not-satisfied", reason="other", remarks=markup(text))
    text = f"{STATUS_WORDS[status]}: {rows or result.answer.summary}"
    return TargetStatus(state="not-satisfied", reason="fail", remarks=markup(text))


def _props(result: CheckResult, status: Status) -> Iterator[Prop]:
    yield prop("check", result.code)
    yield prop("check-version", str(result.version))
    yield prop("result", result.id)
    yield prop("verdict", result.verdict)
    yield prop("gate-status", STATUS_WORDS[status])
    yield prop("required", "yes" if result.required else "no")
    yield prop("seed", str(result.seed))
    yield prop("key", result.key)
    metrics = result.answer.metrics
    for metric in metrics[:METRICS_SHOWN]:
        yield Prop(
            name="metric", value=plain(f"{metric.name}: {quantity(metric)}"),
            remarks=markup(_basis(metric)),
        )  # fmt: skip
    for control in result.answer.controls[:METRICS_SHOWN]:
        for metric in control.metrics[:METRICS_SHOWN]:
            yield Prop(
                name="control", value=plain(f"{control.name}, {metric.name}: {quantity(metric)}"),
                remarks=markup(_basis(metric)),
            )  # fmt: skip
    if len(metrics) > METRICS_SHOWN:
        yield prop("metrics-left-out", str(len(metrics) - METRICS_SHOWN))


def _basis(metric: Metric) -> str:
    """On what a number rests: sample, interval, repeats."""
    size = "not from a sample" if metric.sample_size is None else f"n = {metric.sample_size}"
    interval = interval_text(metric.interval) if metric.interval else "no interval"
    repeats = f", {len(metric.repeats)} repeats" if metric.repeats else ""
    note = f"; {metric.note}" if metric.note else ""
    return f"measured, {size}, {interval}{repeats}{note}"


def _evidence(numbered: NumberedResult) -> Iterator[RelevantEvidence]:
    """The whole record first, then its pieces, by their places in the run's folder."""
    yield RelevantEvidence(href=numbered.address, description="the whole record of this check")
    pieces = list(evidence_of(numbered))
    for piece in pieces[:EVIDENCE_SHOWN]:
        text = markup(f"{piece.title} ({piece.kind})", 200)
        yield RelevantEvidence(href=piece.address, description=text)
        file = blob_address(piece.blob) if piece.blob else None
        if file:
            yield RelevantEvidence(href=file, description=f"file of: {text}")
    rest = len(pieces) - EVIDENCE_SHOWN
    if rest > 0:
        text = f"{rest} more pieces of evidence, in the record"
        yield RelevantEvidence(href=numbered.address, description=text)
