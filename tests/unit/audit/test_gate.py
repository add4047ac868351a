"""The gate: what has no answer never passes, and a failure outranks an open question."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from auditor.audit.gate import Acceptance, decide
from auditor.audit.policy import MetricGate, Policy, Waiver
from auditor.findings import (
    Answer,
    CheckResult,
    Finding,
    GateDecision,
    Interval,
    Location,
    Metric,
    Severity,
    SourceLine,
    SubjectRecord,
    Timing,
    Verdict,
    fingerprint,
)

TODAY = date(2026, 11, 23)
NONE = Acceptance((), {}, TODAY)
MODEL = SubjectRecord(name="m", path="m.onnx", kind="onnx", digest="sha256:m", size=1)


def result(
    verdict: Verdict,
    *,
    code: str = "AUD201",
    severity: Severity = Severity.HIGH,
    required: bool = True,
    metrics: tuple[Metric, ...] = (),
) -> CheckResult:
    place = Location(property_id="p")
    found = Finding(
        title="wrong", severity=severity, description="d", location=place,
        fingerprint=fingerprint(code, "m", place),
    )  # fmt: skip
    moment = datetime(2026, 11, 23, tzinfo=UTC)
    return CheckResult(
        id=code,
        code=code,
        title="t",
        version=1,
        subject="m",
        subject_digest="sha256:m",
        required=required,
        seed=0,
        parameters={},
        declared_at=SourceLine(file="plan.yaml", line=1),
        key=code,
        answer=Answer(
            verdict=verdict,
            summary="s",
            reason="because" if verdict.is_open else "",
            findings=(found,) if verdict is Verdict.VIOLATED else (),
            metrics=metrics,
        ),
        timing=Timing(started=moment, finished=moment, seconds=0),
    )


def judge(
    *results: CheckResult, policy: Policy | None = None, acceptance: Acceptance = NONE
) -> GateDecision:
    return decide(results, [MODEL], policy or Policy(), acceptance)


def waiver(days: int, match: str = "AUD201") -> Waiver:
    return Waiver(
        match=match, model_digest="any", reason="r", approved_by="owner",
        expires=TODAY + timedelta(days=days),
    )  # fmt: skip


def test_holds_passes() -> None:
    decision = judge(result(Verdict.HOLDS))
    assert (decision.verdict, decision.exit_code, decision.counts) == ("pass", 0, {"pass": 1})


@pytest.mark.parametrize("verdict", [Verdict.UNKNOWN, Verdict.SKIPPED, Verdict.ERROR])
def test_an_open_required_check_is_inconclusive(verdict: Verdict) -> None:
    decision = judge(result(Verdict.HOLDS, code="AUD101"), result(verdict))
    assert (decision.verdict, decision.exit_code) == ("inconclusive", 3)


def test_a_violation_fails_and_outranks_an_open_question() -> None:
    decision = judge(result(Verdict.VIOLATED), result(Verdict.UNKNOWN, code="AUD202"))
    assert (decision.verdict, decision.exit_code) == ("fail", 1)
    assert decision.counts == {"fail": 1, "open": 1}


def test_an_open_check_that_is_not_required_only_warns() -> None:
    decision = judge(result(Verdict.UNKNOWN, required=False), result(Verdict.HOLDS, code="AUD101"))
    assert (decision.exit_code, decision.counts) == (0, {"pass": 1, "warn": 1})


def test_the_policy_may_require_it_again() -> None:
    decision = judge(result(Verdict.UNKNOWN, required=False), policy=Policy(require=("AUD201",)))
    assert decision.exit_code == 3


def test_a_required_check_that_is_not_in_the_plan_is_open() -> None:
    decision = judge(result(Verdict.HOLDS), policy=Policy(require=("AUD302",)))
    assert decision.exit_code == 3
    assert decision.rows[-1].text == "the policy requires AUD302 and the plan does not run it"


def test_a_policy_may_let_open_questions_warn() -> None:
    assert judge(result(Verdict.UNKNOWN), policy=Policy(inconclusive="warn")).exit_code == 0


def test_nothing_audited_is_its_own_code() -> None:
    assert judge().exit_code == 5


def test_a_refused_model_outranks_everything() -> None:
    refused = MODEL.model_copy(update={"facts": {"refused": "pickle"}})
    decision = decide([result(Verdict.VIOLATED)], [refused], Policy(), NONE)
    assert (decision.verdict, decision.exit_code) == ("fail", 6)


@pytest.mark.parametrize(
    ("severity", "fail_on", "code"),
    [("medium", "high", 0), ("high", "high", 1), ("critical", "high", 1), ("low", "low", 1)],
)
def test_fail_on_draws_the_line(severity: str, fail_on: str, code: int) -> None:
    found = result(Verdict.VIOLATED, severity=Severity(severity))
    assert judge(found, policy=Policy(fail_on=Severity(fail_on))).exit_code == code


def test_a_waiver_covers_until_its_last_day() -> None:
    decision = judge(result(Verdict.VIOLATED), acceptance=Acceptance([waiver(0)], {}, TODAY))
    assert (decision.exit_code, decision.counts) == (0, {"waived": 1})
    assert decision.waivers[0].approved_by == "owner"
    assert decision.notes == (f"waiver 'AUD201' expires on {TODAY}",)


def test_an_expired_waiver_counts_again_and_is_named() -> None:
    decision = judge(result(Verdict.VIOLATED), acceptance=Acceptance([waiver(-1)], {}, TODAY))
    assert decision.exit_code == 1
    assert "expired on 2026-11-22; the finding counts again" in decision.notes[0]


def test_a_waiver_that_matches_nothing_is_stale() -> None:
    decision = judge(
        result(Verdict.HOLDS), acceptance=Acceptance([waiver(30, "AUD401")], {}, TODAY)
    )
    assert decision.notes == ("waiver 'AUD401' matches nothing in this run; remove it",)


def test_a_refusal_cannot_be_waived() -> None:
    refused = MODEL.model_copy(update={"facts": {"refused": "pickle"}})
    accepted = Acceptance([waiver(30)], {}, TODAY)
    assert decide([result(Verdict.VIOLATED)], [refused], Policy(), accepted).exit_code == 6


def test_a_baseline_lets_known_findings_pass_but_not_worse_or_critical_ones() -> None:
    mark = fingerprint("AUD201", "m", Location(property_id="p"))

    def code(known: Severity, now: Severity) -> int:
        found = result(Verdict.VIOLATED, severity=now)
        return judge(found, acceptance=Acceptance((), {mark: known}, TODAY)).exit_code

    assert code(Severity.HIGH, Severity.HIGH) == 0
    assert code(Severity.MEDIUM, Severity.HIGH) == 1
    assert code(Severity.CRITICAL, Severity.CRITICAL) == 1


def share_gate(**options: object) -> Policy:
    fields = {"check": "AUD202", "metric": "share", "op": ">=", "value": 0.9, **options}
    return Policy(gates=(MetricGate.model_validate(fields),))


def measured(value: float, lower: float | None = None) -> CheckResult:
    interval = None if lower is None else Interval(lower=lower, upper=1.0, method="Wilson")
    metric = Metric(name="share", value=value, interval=interval)
    return result(Verdict.HOLDS, code="AUD202", metrics=(metric,))


def test_a_threshold_fails_on_the_interval_bound_where_the_value_would_pass() -> None:
    assert judge(measured(0.95, 0.85), policy=share_gate()).exit_code == 0
    assert judge(measured(0.95, 0.85), policy=share_gate(bound="ci_lower")).exit_code == 1


def test_a_threshold_without_its_number_is_open() -> None:
    assert judge(measured(0.95), policy=share_gate(bound="ci_lower")).exit_code == 3
    assert judge(measured(0.95), policy=share_gate(metric="other")).exit_code == 3
    assert judge(result(Verdict.HOLDS), policy=share_gate()).exit_code == 3
    assert judge(measured(0.95), policy=share_gate(repeats=3)).exit_code == 3


def test_a_value_near_the_threshold_is_marked_as_borderline() -> None:
    decision = judge(measured(0.91), policy=share_gate(tolerance=0.02))
    assert decision.rows[-1].text == "share >= 0.9: measured 0.91 (borderline)"


def test_a_missed_threshold_can_be_waived_by_its_fingerprint() -> None:
    failing = judge(measured(0.5), policy=share_gate())
    mark = failing.rows[-1].fingerprint
    accepted = Acceptance([waiver(30, mark)], {}, TODAY)
    assert failing.exit_code == 1
    assert judge(measured(0.5), policy=share_gate(), acceptance=accepted).exit_code == 0
