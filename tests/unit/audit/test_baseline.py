"""The baseline: only what is new or worse gates, and what is fixed is said."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime

import pytest

from auditor.audit.acceptance import Acceptance
from auditor.audit.baseline import Baseline, make_baseline
from auditor.audit.gate import Judgement, judge_run
from auditor.audit.policy import MetricGate, Policy
from auditor.findings import (
    Answer,
    AuditReport,
    CheckResult,
    Environment,
    Finding,
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

THEN = datetime(2026, 11, 23, tzinfo=UTC)
TODAY = date(2026, 11, 30)
MODEL = SubjectRecord(name="m", path="m.onnx", kind="onnx", digest="sha256:m", size=1)


def finding(place: str, severity: Severity = Severity.HIGH) -> Finding:
    """A finding with the fingerprint that the runner would stamp."""
    where = Location(property_id=place)
    return Finding(title=f"{place} is broken", severity=severity, description="d", location=where,
                   fingerprint=fingerprint("AUD201", "m\x1fAUD201", where))  # fmt: skip


def result(
    *findings: Finding, open_: bool = False, metrics: tuple[Metric, ...] = (), id_: str = "AUD201"
) -> CheckResult:
    """A result with these findings, or one without an answer."""
    verdict = Verdict.VIOLATED if findings else Verdict.HOLDS
    answer = Answer(
        verdict=Verdict.UNKNOWN if open_ else verdict, summary="s", reason="why" if open_ else "",
        findings=findings, metrics=metrics,
    )  # fmt: skip
    return CheckResult(
        id=id_, code="AUD201", title="t", version=1, subject="m", subject_digest="sha256:m",
        seed=0, parameters={}, declared_at=SourceLine(file="plan.yaml", line=1), key="k",
        answer=answer, timing=Timing(started=THEN, finished=THEN, seconds=0),
    )  # fmt: skip


def report(*results: CheckResult, policy: Policy | None = None) -> AuditReport:
    """A run with these results, gated without a baseline."""
    return AuditReport(
        plan="p", plan_digest="sha256:p", plan_file="plan.yaml", seed=0, command="auditor run",
        environment=Environment(
            auditor="0", python="3", platform="x", device="cpu", threads=1, libraries={}
        ),
        subjects=(MODEL,), checks=(), results=results, complete=True,
        gate=judge(results, policy=policy).decision,
        timing=Timing(started=THEN, finished=THEN, seconds=0),
    )  # fmt: skip


def judge(
    results: Sequence[CheckResult], known: Baseline | None = None, policy: Policy | None = None
) -> Judgement:
    """The gate over results, with a baseline or without."""
    accepted = Acceptance((), known.by_fingerprint() if known else {}, TODAY)
    return judge_run(results, [MODEL], policy or Policy(), accepted)


def baseline(*findings: Finding) -> Baseline:
    """What a run with these findings leaves behind."""
    return make_baseline(report(result(*findings)), "sha256:run")


def statuses(known: Baseline, *findings: Finding) -> list[str]:
    """How findings stand against a baseline."""
    return [row.status for row in judge([result(*findings)], known).decision.rows]


def test_the_file_says_what_run_it_is_of_and_is_sorted() -> None:
    """The order of findings in the run does not matter, nor when the file is written."""
    one, two = finding("one"), finding("two", Severity.LOW)
    made = baseline(one, two)
    assert made == baseline(two, one)
    assert (made.run, made.run_finished, made.models[0].digest) == ("sha256:run", THEN, "sha256:m")
    assert [point.fingerprint for point in made.known] == sorted([one.fingerprint, two.fingerprint])
    assert Baseline.model_validate_json(made.model_dump_json()) == made


def test_what_is_new_gates_and_what_is_known_does_not() -> None:
    """One and the same place is one and the same finding."""
    assert statuses(baseline(finding("one")), finding("one"), finding("two")) == [
        "baseline", "fail",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("before", "now", "status"),
    [
        ("high", "high", "baseline"),
        ("critical", "high", "baseline"),
        ("medium", "high", "fail"),
        ("high", "critical", "fail"),
        ("critical", "critical", "fail"),
    ],
)
def test_worse_and_critical_findings_gate(before: str, now: str, status: str) -> None:
    """A critical one gates even where it was known."""
    known = baseline(finding("one", Severity(before)))
    assert statuses(known, finding("one", Severity(now))) == [status]


def test_one_known_finding_does_not_cover_two() -> None:
    """A second one at the same place is new."""
    known = baseline(finding("one"))
    assert statuses(known, finding("one"), finding("one")) == ["baseline", "fail"]
    twice = baseline(finding("one"), finding("one", Severity.MEDIUM))
    medium, high = finding("one", Severity.MEDIUM), finding("one")
    assert statuses(twice, medium, high) == statuses(twice, high, medium) == ["baseline"] * 2


def test_fixed_findings_are_named_so_that_the_file_can_shrink() -> None:
    """Only those."""
    judged = judge([result(finding("two"))], baseline(finding("one"), finding("two")))
    assert [(point.title, answered) for point, answered in judged.gone] == [("one is broken", True)]
    assert judged.decision.notes == (
        "fixed since the baseline: AUD201: one is broken",
        "the baseline can shrink; write it again with auditor baseline create",
    )


def test_what_was_not_looked_for_is_not_fixed() -> None:
    """Neither in a check without an answer nor in one that was not run."""
    known = baseline(finding("one"))
    for results in ([result(open_=True)], [result(id_="other")]):
        judged = judge(results, known)
        assert [answered for _, answered in judged.gone] == [False]
        assert judged.decision.notes == (
            "1 known from the baseline could not be looked for: no answer this time",
        )


def test_an_open_question_is_not_in_the_baseline() -> None:
    """Having been open before is no answer."""
    known = make_baseline(report(result(open_=True)), "sha256:run")
    assert (known.known, judge([result(open_=True)], known).decision.exit_code) == ((), 3)


def share(value: float, lower: float | None = None) -> CheckResult:
    """A result that measured a share."""
    interval = None if lower is None else Interval(lower=lower, upper=1.0, method="Wilson")
    return result(metrics=(Metric(name="share", value=value, interval=interval),))


def threshold(op: str, **fields: object) -> Policy:
    """A policy with one threshold."""
    plain = {"check": "AUD201", "metric": "share", "op": op, "value": 0.5, **fields}
    return Policy(gates=(MetricGate.model_validate(plain),))


@pytest.mark.parametrize(
    ("op", "before", "now", "code"),
    [
        (">=", 0.4, 0.4, 0),
        (">=", 0.4, 0.45, 0),
        (">=", 0.4, 0.39, 1),
        ("<=", 0.6, 0.55, 0),
        ("<=", 0.6, 0.61, 1),
        ("==", 0.6, 0.4, 0),
        ("==", 0.6, 0.3, 1),
        (">=", 0.4, float("nan"), 1),
    ],
)
def test_a_known_threshold_gates_again_where_it_is_missed_by_more(
    op: str, before: float, now: float, code: int
) -> None:
    """Being known is no leave to fall further."""
    policy = threshold(op)
    known = make_baseline(report(share(before), policy=policy), "sha256:run")
    assert judge([share(now)], known, policy).decision.exit_code == code


def test_the_tolerance_of_a_threshold_counts_here_too() -> None:
    """What is within it is the same number."""
    policy = threshold(">=", tolerance=0.05)
    known = make_baseline(report(share(0.4), policy=policy), "sha256:run")
    assert judge([share(0.36)], known, policy).decision.exit_code == 0
    assert judge([share(0.34)], known, policy).decision.exit_code == 1


def test_the_end_of_an_interval_is_remembered_as_such() -> None:
    """It is the number that was compared."""
    policy = threshold(">=", bound="ci_lower")
    known = make_baseline(report(share(0.6, 0.4), policy=policy), "sha256:run")
    assert [(point.kind, point.measured) for point in known.known] == [("threshold", 0.4)]
    assert judge([share(0.5, 0.4)], known, policy).decision.exit_code == 0
    assert judge([share(0.6, 0.3)], known, policy).decision.exit_code == 1
