"""The gate: what has no answer never passes, and a failure outranks an open question."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from auditor.audit.acceptance import Acceptance
from auditor.audit.gate import decide, judge_run
from auditor.audit.policy import CountGate, MetricGate, Policy
from auditor.audit.waivers import Waiver
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
    assert decision.notes == (
        f"waiver 'AUD201' expires on {TODAY} (today); mend the finding or renew it",
    )


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


def test_a_threshold_below_the_failing_severity_does_not_fail() -> None:
    """As a finding of that severity does not."""
    decision = judge(measured(0.5), policy=share_gate(severity="medium"))
    assert (decision.exit_code, decision.counts) == (0, {"below": 1, "pass": 1})
    strict = share_gate(severity="medium").model_copy(update={"fail_on": Severity.MEDIUM})
    assert judge(measured(0.5), policy=strict).exit_code == 1


def test_thresholds_without_an_answer_only_warn_where_the_policy_says_so() -> None:
    """`inconclusive: warn` speaks of every open question."""
    lenient = share_gate(metric="other").model_copy(update={"inconclusive": "warn"})
    decision = judge(measured(0.95), policy=lenient)
    assert (decision.exit_code, decision.counts) == (0, {"pass": 1, "warn": 1})


@pytest.mark.parametrize(("size", "code"), [(None, 3), (9, 3), (10, 0)])
def test_too_few_samples_leave_a_threshold_open(size: int | None, code: int) -> None:
    """An unknown number of samples is too few."""
    metric = Metric(name="share", value=0.95, sample_size=size)
    found = result(Verdict.HOLDS, code="AUD202", metrics=(metric,))
    assert judge(found, policy=share_gate(min_samples=10)).exit_code == code


def test_an_interval_and_repeats_have_both_to_be_met() -> None:
    """Neither stands in for the other."""
    gate = share_gate(bound="ci_lower", repeats=2)

    def code(lower: float, repeats: tuple[float, ...]) -> int:
        interval = Interval(lower=lower, upper=1.0, method="Wilson")
        metric = Metric(name="share", value=0.95, interval=interval, repeats=repeats)
        return judge(result(Verdict.HOLDS, code="AUD202", metrics=(metric,)), policy=gate).exit_code

    assert code(0.92, (0.95, 0.95)) == 0
    assert code(0.85, (0.95, 0.95)) == code(0.92, (0.95, 0.85)) == 1


def test_two_results_of_one_check_do_not_share_a_threshold_mark() -> None:
    """Waiving the one leaves the other."""
    other = measured(0.5).model_copy(update={"id": "wide", "key": "wide"})
    failing = judge(measured(0.5), other, policy=share_gate())
    marks = [row.fingerprint for row in failing.rows if row.status == "fail"]
    accepted = Acceptance([waiver(30, marks[0])], {}, TODAY)
    decision = judge(measured(0.5), other, policy=share_gate(), acceptance=accepted)
    assert len(set(marks)) == 2
    assert [row.result for row in decision.rows if row.status == "fail"] == ["wide"]


def overall(**fields: object) -> Policy:
    """A policy that only counts."""
    gate = CountGate.model_validate({"op": "<=", "value": 0, **fields})
    return Policy(fail_on=Severity.CRITICAL, overall=(gate,))


@pytest.mark.parametrize(
    ("fields", "counted"),
    [
        ({"count": "findings"}, 2),
        ({"count": "findings", "of_severity": "high"}, 1),
        ({"count": "findings", "check": "AUD202"}, 1),
        ({"count": "findings", "id": "AUD201"}, 1),
        ({"count": "findings", "subject": "n*"}, 0),
        ({"count": "open"}, 1),
        ({"count": "answered"}, 3),
        ({"count": "results"}, 4),
        ({"count": "results", "check": "AUD20?"}, 2),
        ({"count": "accepted"}, 0),
    ],
)
def test_counts_over_the_run(fields: dict[str, object], counted: int) -> None:
    """Of findings that stand, of answers, of everything; narrowed by glob and severity."""
    results = (
        result(Verdict.VIOLATED),
        result(Verdict.VIOLATED, code="AUD202", severity=Severity.MEDIUM),
        result(Verdict.UNKNOWN, code="AUD301", required=False),
        result(Verdict.HOLDS, code="AUD101"),
    )
    row = judge(*results, policy=overall(**fields)).rows[-1]
    assert row.text.endswith(f"counted {counted}")
    assert row.status == ("pass" if counted == 0 else "below")


def test_a_missed_count_fails_at_its_severity() -> None:
    """Also where no single finding does."""
    found = result(Verdict.VIOLATED, severity=Severity.MEDIUM)
    assert judge(found).exit_code == 0
    gate = CountGate(count="findings", op="<=", value=0)
    assert judge(found, policy=Policy(overall=(gate,))).exit_code == 1


def test_accepted_findings_are_counted_apart_and_a_count_cannot_be_waived() -> None:
    """So that a policy can say how much may be waived."""
    found, everything = result(Verdict.VIOLATED), Acceptance([waiver(30, "*")], {}, TODAY)
    none_left = Policy(overall=(CountGate(count="findings", op="==", value=0),))
    none_waived = Policy(overall=(CountGate(count="accepted", op="==", value=0),))
    assert judge(found, policy=none_left, acceptance=everything).exit_code == 0
    assert judge(found, policy=none_waived, acceptance=everything).exit_code == 1


def test_a_missed_threshold_is_not_counted_as_a_finding() -> None:
    """It fails by itself."""
    gates = share_gate(severity="low").gates
    policy = Policy(gates=gates, overall=(CountGate(count="findings", op="==", value=0),))
    assert judge(measured(0.5), policy=policy).counts == {"below": 1, "pass": 2}


@pytest.mark.parametrize(
    ("changes", "state", "part"),
    [
        ({}, "applies", ""),
        ({"match": "AUD2*"}, "applies", ""),
        ({"match": "AUD301"}, "stale", "matches nothing in this run; remove it"),
        ({"match": "AUD202"}, "no answer", "what has no answer cannot be waived"),
        ({"model_digest": "sha256:other"}, "other model", "granted for another model"),
        ({"expires": TODAY - timedelta(days=1)}, "expired", "the finding counts again"),
    ],
)
def test_what_a_waiver_does_to_a_run(changes: dict[str, object], state: str, part: str) -> None:
    """And what to do about one that does nothing."""
    granted = waiver(30).model_copy(update=changes)
    results = (result(Verdict.VIOLATED), result(Verdict.ERROR, code="AUD202"))
    judged = judge_run(results, [MODEL], Policy(), Acceptance([granted], {}, TODAY))
    (standing,) = judged.waivers
    assert standing.state == state
    assert part in standing.note
    assert judged.decision.notes == ((standing.note,) if standing.note else ())


def test_a_glob_on_a_critical_finding_is_told_apart_from_a_stale_one() -> None:
    """Its author thinks that it covers."""
    found = result(Verdict.VIOLATED, severity=Severity.CRITICAL)
    accepted = Acceptance([waiver(30, "AUD2*")], {}, TODAY)
    judged = judge_run([found], [MODEL], Policy(), accepted)
    assert (judged.waivers[0].state, judged.decision.exit_code) == ("glob on critical", 1)


def test_a_second_waiver_for_the_same_is_not_needed() -> None:
    """Also an expired one beside one that counts: nothing counts again."""
    accepted = Acceptance([waiver(-1), waiver(30)], {}, TODAY)
    judged = judge_run([result(Verdict.VIOLATED)], [MODEL], Policy(), accepted)
    assert [standing.state for standing in judged.waivers] == ["not needed", "applies"]
    assert judged.decision.exit_code == 0


def test_a_refused_model_keeps_its_findings_in_spite_of_waiver_and_baseline() -> None:
    """No row says waived where nothing was opened."""
    refused = MODEL.model_copy(update={"facts": {"refused": "pickle"}})
    accepted = Acceptance([waiver(30)], {}, TODAY)
    judged = judge_run([result(Verdict.VIOLATED)], [refused], Policy(), accepted)
    assert (judged.waivers[0].state, judged.decision.counts) == ("refused model", {"fail": 1})


@pytest.mark.parametrize("verdict", [Verdict.UNKNOWN, Verdict.SKIPPED, Verdict.ERROR])
def test_what_has_no_answer_cannot_be_waived(verdict: Verdict) -> None:
    """Nor can an internal error."""
    accepted = Acceptance([waiver(30), waiver(30, "*")], {}, TODAY)
    assert judge(result(verdict), acceptance=accepted).exit_code == 3


@pytest.mark.parametrize(("days", "noted"), [(0, True), (1, True), (14, True), (15, False)])
def test_an_end_is_announced_for_fourteen_days(days: int, noted: bool) -> None:
    """Counted from the day the gate is asked."""
    decision = judge(result(Verdict.VIOLATED), acceptance=Acceptance([waiver(days)], {}, TODAY))
    assert (f"expires on {TODAY + timedelta(days=days)}" in "".join(decision.notes)) is noted
