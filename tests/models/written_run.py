"""A run's folder written entry by entry, as a run leaves it, without running anything."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from auditor.audit.acceptance import Acceptance
from auditor.audit.ledger import EvidenceFolder, Ledger
from auditor.audit.plan import Plan
from auditor.audit.policy import Policy
from auditor.audit.run_directory import EVIDENCE, LEDGER, PlanEntry, assemble_report, begin
from auditor.audit.unit_record import UnitRecord
from auditor.findings import (
    Answer,
    AuditReport,
    CheckResult,
    Environment,
    Finding,
    Location,
    Metric,
    Severity,
    SourceLine,
    SubjectRecord,
    Timing,
    Verdict,
    fingerprint,
)
from auditor_reports.audit_json import render_json

MOMENT = datetime(2026, 11, 23, tzinfo=UTC)
DIGEST = "sha256:" + "a" * 64
NOTHING = Acceptance((), {}, MOMENT.date())


def made_result(
    code: str,
    verdict: Verdict,
    severity: Severity = Severity.HIGH,
    *,
    required: bool = True,
    metrics: tuple[Metric, ...] = (),
    place: str = "p",
) -> CheckResult:
    """What the check `code` answered; where it is violated there is one finding, at `place`."""
    where = Location(property_id=place)
    found = Finding(title=f"{place} is broken", severity=severity, description="d", location=where,
                    fingerprint=fingerprint(code, f"m\x1f{code}", where))  # fmt: skip
    answer = Answer(
        verdict=verdict,
        summary="said",
        reason="because" if verdict.is_open else "",
        findings=(found,) if verdict is Verdict.VIOLATED else (),
        metrics=metrics,
    )
    return CheckResult(
        id=code, code=code, title="t", version=1, subject="m", subject_digest=DIGEST,
        required=required, seed=0, parameters={}, declared_at=SourceLine(file="plan.yaml", line=1),
        key=f"key of {code} {place} {verdict}", answer=answer,
        timing=Timing(started=MOMENT, finished=MOMENT, seconds=0),
    )  # fmt: skip


def made_subject(refused: str = "") -> SubjectRecord:
    """The model of the results; one that must not be opened where a reason is given."""
    facts = {"refused": refused} if refused else {}
    return SubjectRecord(name="m", path="m.onnx", kind="onnx", digest=DIGEST, size=1, facts=facts)


def write_run(
    folder: Path,
    results: Sequence[CheckResult],
    *,
    refused: str = "",
    policy: Policy | None = None,
    plan_policy: Policy | None = None,
) -> AuditReport:
    """Write a run with these results, its evidence and `audit.json`; returns its report.

    `policy` is one that the run was gated under and that is not the plan's own.
    """
    folder.mkdir(parents=True)
    EvidenceFolder(folder / EVIDENCE).put(b"some evidence", "text/plain")
    plan = Plan.model_validate({
        "version": 1, "name": "written", "subjects": [{"path": "m.onnx"}],
        "checks": [{"check": "AUD101"}], "policy": (plan_policy or Policy()).model_dump(),
    })  # fmt: skip
    units = tuple(
        UnitRecord(**{name: getattr(result, name) for name in UnitRecord.model_fields})
        for result in results
    )
    entry = PlanEntry(
        plan=plan, plan_file="plan.yaml", plan_digest="sha256:p", command="auditor run plan.yaml",
        environment=Environment(
            auditor="0", python="3", platform="x", device="cpu", threads=1, libraries={}
        ),
        subjects=(made_subject(refused),), cards=(), units=units, started=MOMENT, policy=policy,
    )  # fmt: skip
    with Ledger(folder / LEDGER) as ledger:
        begin(ledger, folder, entry, extend=False)
        for result in results:
            ledger.append("result", result.model_dump(mode="json"))
        report = assemble_report(folder, ledger.entries, NOTHING)
    (folder / "audit.json").write_bytes(render_json(report))
    return report
