"""The gate: policy, baseline and waivers applied to results, once.

The decision is computed here and nowhere else; writers only show it. What has no
answer never passes. A certain failure outranks an open question.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from auditor.audit.acceptance import Acceptance as Acceptance
from auditor.audit.acceptance import AcceptanceBook, Point, WaiverStanding
from auditor.audit.baseline import KnownPoint, threshold_mark
from auditor.audit.policy import CountGate, MetricGate, Policy
from auditor.findings import (
    CheckResult,
    GateDecision,
    GateRow,
    Metric,
    Severity,
    SubjectRecord,
    Verdict,
)

PASSED, FAILED, INCONCLUSIVE, NOTHING_AUDITED, REFUSED = 0, 1, 3, 5, 6
REFUSED_FACT = "refused"
# Stands where a check's code stands; no check has it.
OVERALL = "AUD000"

Status = Literal["pass", "fail", "open", "waived", "baseline", "warn", "below"]


@dataclass(frozen=True)
class Judgement:
    """A decision, and what came of each thing that was accepted beforehand.

    Attributes:
        waivers: What each waiver does to the run, in the file's order.
        gone: What the baseline knows and the run does not have, with whether the run had an
            answer where it was.
    """

    decision: GateDecision
    waivers: tuple[WaiverStanding, ...]
    gone: tuple[tuple[KnownPoint, bool], ...]


def decide(
    results: Sequence[CheckResult],
    subjects: Sequence[SubjectRecord],
    policy: Policy,
    acceptance: Acceptance,
) -> GateDecision:
    """Whether the release may go out; arguments are those of `judge_run`."""
    return judge_run(results, subjects, policy, acceptance).decision


def judge_run(
    results: Sequence[CheckResult],
    subjects: Sequence[SubjectRecord],
    policy: Policy,
    acceptance: Acceptance,
) -> Judgement:
    """Apply policy, waivers and baseline to what was found.

    Args:
        results: Every result of the run, open ones too.
        subjects: The run's subjects; one with the fact `refused` makes the code 6.
        policy: What is demanded.
        acceptance: Waivers and baseline.

    Returns:
        The decision with one row per reason. Exit codes: 0 passed, 1 failed,
        3 inconclusive, 5 nothing audited, 6 input refused; the first of 6, 1, 3, 5, 0 is given.
    """
    refused = {s.name: s.facts[REFUSED_FACT] for s in subjects if REFUSED_FACT in s.facts}
    judge = _Judge(policy, AcceptanceBook(acceptance, frozenset(refused)))
    rows = [row for result in results for row in judge.of_result(result)]
    found = [row for row in rows if row.severity]
    rows += judge.of_missing_checks(results)
    rows += [row for gate in policy.gates for row in judge.of_metric(gate, results)]
    rows += [judge.of_count(gate, results, found) for gate in policy.overall]
    verdict, code = _conclude(rows, nothing=not results, refused=bool(refused))
    statuses = [row.status for row in rows]
    decision = GateDecision(
        verdict=verdict,
        exit_code=code,
        fail_on=policy.fail_on,
        policy_digest=policy.digest,
        rows=tuple(rows),
        counts={status: statuses.count(status) for status in sorted(set(statuses))},
        waivers=tuple(judge.book.used),
        notes=(*refused.values(), *judge.book.notes(results)),
    )
    return Judgement(decision, tuple(judge.book.waivers(results)), tuple(judge.book.gone(results)))


def _conclude(
    rows: Sequence[GateRow], *, nothing: bool, refused: bool
) -> tuple[Literal["pass", "fail", "inconclusive"], int]:
    statuses = {row.status for row in rows}
    if refused:
        return "fail", REFUSED
    if "fail" in statuses:
        return "fail", FAILED
    if "open" in statuses:
        return "inconclusive", INCONCLUSIVE
    if nothing:
        return "inconclusive", NOTHING_AUDITED
    return "pass", PASSED


@dataclass(frozen=True)
class _Judge:
    """Turns results into rows under one policy."""

    policy: Policy
    book: AcceptanceBook

    @property
    def _unanswered(self) -> Literal["open", "warn"]:
        return "open" if self.policy.inconclusive == "block" else "warn"

    def _failing(self, severity: Severity) -> Literal["fail", "below"]:
        return "fail" if severity.at_least(self.policy.fail_on) else "below"

    def of_result(self, result: CheckResult) -> Iterator[GateRow]:
        """Rows for one result: its open verdict, its pass, or each of its findings."""
        if result.verdict.is_open:
            required = result.required or result.code in self.policy.require
            status = self._unanswered if required else "warn"
            yield _row(result, status, f"{result.verdict}: {result.answer.reason}")
        elif result.verdict is Verdict.HOLDS:
            yield _row(result, "pass", result.answer.summary)
        for found in result.answer.findings:
            yield self._of_point(Point(result, found.severity, found.fingerprint), found.title)

    def _of_point(self, point: Point, text: str) -> GateRow:
        standing, note = self.book.standing(point)
        status: Status = standing
        if standing == "fail":
            status = self._failing(point.severity)
            note += "" if status == "fail" else f" (below {self.policy.fail_on})"
        row = _row(point.result, status, text + note)
        return row.model_copy(update={"severity": point.severity, "fingerprint": point.mark})

    def of_missing_checks(self, results: Sequence[CheckResult]) -> Iterator[GateRow]:
        """Rows for what the policy requires and the plan does not ask."""
        present = {result.code for result in results}
        for code in self.policy.require:
            if code not in present:
                text = f"the policy requires {code} and the plan does not run it"
                yield GateRow(
                    status=self._unanswered, result=code, code=code, subject="", text=text
                )

    def of_metric(self, gate: MetricGate, results: Sequence[CheckResult]) -> Iterator[GateRow]:
        """Rows for one threshold; a threshold that nothing measures is an open question."""
        chosen = [r for r in results if r.code == gate.check and gate.selects(r.subject, r.id)]
        if not chosen:
            text = f"{gate.text}: no result to compare"
            yield GateRow(
                status=self._unanswered, result=gate.check, code=gate.check,
                subject=gate.subject, text=text,
            )  # fmt: skip
        for result in chosen:
            metrics = [m for m in result.answer.metrics if m.name == gate.metric]
            if not metrics:
                text = f"{gate.text}: the check reports no such metric"
                yield _row(result, self._unanswered, text)
            for metric in metrics:
                yield self._compare(gate, metric, result)

    def _compare(self, gate: MetricGate, metric: Metric, result: CheckResult) -> GateRow:
        number = gate.number_in(metric)
        lacking = _lacking(gate, metric)
        if number is None or lacking:
            return _row(result, self._unanswered, f"{gate.text}: {lacking}")
        borderline = abs(number - gate.value) <= gate.tolerance and gate.tolerance > 0
        text = f"{gate.text}: measured {number:.6g}{' (borderline)' if borderline else ''}"
        if _meets(gate, metric, number):
            return _row(result, "pass", text)
        mark = threshold_mark(result, gate.metric, gate.op, gate.bound)
        return self._of_point(Point(result, gate.severity, mark, gate, number), text)

    def of_count(
        self, gate: CountGate, results: Sequence[CheckResult], found: Sequence[GateRow]
    ) -> GateRow:
        """The row for one threshold on a count; it cannot be waived, nor be in a baseline.

        Args:
            gate: The threshold.
            results: Every result of the run.
            found: The rows of findings.
        """
        number = _count(gate, results, found)
        status: Status = "pass" if gate.accepts(number) else self._failing(gate.severity)
        return GateRow(
            status=status,
            result=f"{OVERALL}: overall",
            code=OVERALL,
            subject="",
            severity=None if status == "pass" else gate.severity,
            text=f"{gate.text}: counted {number}",
        )


def _count(gate: CountGate, results: Sequence[CheckResult], found: Sequence[GateRow]) -> int:
    if gate.count in ("findings", "accepted"):
        accepted = gate.count == "accepted"
        return sum(
            (row.status in ("waived", "baseline")) == accepted
            and (row.severity or Severity.LOW).at_least(gate.of_severity)
            and fnmatchcase(row.code, gate.check) and gate.selects(row.subject, row.result)
            for row in found
        )  # fmt: skip
    chosen = [
        r for r in results if fnmatchcase(r.code, gate.check) and gate.selects(r.subject, r.id)
    ]
    unanswered = sum(result.verdict.is_open for result in chosen)
    counts = {"results": len(chosen), "open": unanswered, "answered": len(chosen) - unanswered}
    return counts[gate.count]


def _row(result: CheckResult, status: Status, text: str) -> GateRow:
    return GateRow(
        status=status, result=result.id, code=result.code, subject=result.subject, text=text
    )


def _lacking(gate: MetricGate, metric: Metric) -> str:
    """What a metric lacks so that the threshold could be decided, or an empty text."""
    if gate.number_in(metric) is None:
        return "the metric carries no interval"
    if gate.min_samples and (metric.sample_size or 0) < gate.min_samples:
        size = "unknown" if metric.sample_size is None else metric.sample_size
        return f"sample size {size}, at least {gate.min_samples} are asked for"
    if gate.repeats > 1 and len(metric.repeats) < gate.repeats:
        return f"{len(metric.repeats)} of {gate.repeats} repeats measured"
    return ""


def _meets(gate: MetricGate, metric: Metric, number: float) -> bool:
    """Whether the threshold is met; with repeats the rule decides, and an interval's end too."""
    if gate.repeats == 1:
        return gate.accepts(number)
    bound_met = gate.bound == "value" or gate.accepts(number)
    return bound_met and gate.accepts_repeats(metric.repeats)
