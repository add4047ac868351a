"""What changed between two runs: findings, verdicts, metrics, and what makes them incomparable.

Findings are matched by fingerprint over the whole run, results by id, and where a plan calls
them otherwise by check and subject. A pure function of two reports: needs no model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from auditor.audit.comparison.comparability import find_caveats, is_comparable
from auditor.audit.comparison.finding_changes import compare_findings
from auditor.audit.comparison.metric_changes import MetricChange, compare_metrics
from auditor.audit.comparison.records import (
    KINDS,
    Comparison,
    ResultChange,
    RunSide,
    SubjectChange,
    VerdictChange,
    kind_of,
)
from auditor.audit.comparison.renaming import Name, names_by_subject, rename_results
from auditor.audit.comparison.result_pairs import Pairing, pair_results
from auditor.audit.gate import REFUSED_FACT
from auditor.errors import UnknownName
from auditor.findings import AuditReport, CheckResult, SubjectRecord, Verdict


def compare_reports(
    old: AuditReport,
    new: AuditReport,
    fingerprints: tuple[str, str] = ("", ""),
    subjects: Mapping[str, str] | None = None,
) -> Comparison:
    """The differences of two reports.

    Args:
        old: The run before.
        new: The run after.
        fingerprints: Of their `audit.json`, old and new, where a reader wants them.
        subjects: What subjects of the old run are called in the new one, where that differs.
            Of runs with one subject each the two are taken to be the same one.

    Raises:
        UnknownName: A run has no subject of that name.

    Law: comparing a report with itself gives no change. Exchanging the two exchanges new findings
    with those that are fixed or no longer answered, worse with milder, added with removed.
    """
    called = dict(subjects or {})
    _require_subjects(old, new, called)
    if not called and len(old.subjects) == len(new.subjects) == 1:
        called = {old.subjects[0].name: new.subjects[0].name}
    old, pairing = _in_new_names(old, new, called)
    findings = compare_findings(old, new, pairing)
    metrics = tuple(_metrics(pairing))
    caveats = find_caveats(old, new, pairing)
    told = {name: was for was, name in called.items() if was != name}
    models = tuple(_subjects(old.subjects, new.subjects, told))
    verdicts, results = tuple(_verdicts(pairing)), tuple(_results(pairing))
    draft = Comparison(
        old=_side(old, fingerprints[0]),
        new=_side(new, fingerprints[1]),
        caveats=caveats,
        subjects=models,
        findings=findings,
        verdicts=verdicts,
        results=results,
        metrics=metrics,
        counts={},
        summary="",
    )
    counts = _count(draft)
    return draft.model_copy(update={"counts": counts, "summary": _summary(draft, counts)})


def _require_subjects(old: AuditReport, new: AuditReport, called: Mapping[str, str]) -> None:
    for report, names, role in (
        (old, called.keys(), "subject of the old run"),
        (new, called.values(), "subject of the new run"),
    ):
        known = [each.name for each in report.subjects]
        for name in names:
            if name not in known:
                raise UnknownName(role, name, known)


def _in_new_names(
    old: AuditReport, new: AuditReport, called: Mapping[str, str]
) -> tuple[AuditReport, Pairing]:
    """The old run told in the new one's names, and what belongs together."""
    renamed = {was: name for was, name in called.items() if was != name}
    old = rename_results(old, names_by_subject(old, renamed))
    pairing = pair_results(old.results, new.results)
    names = {was.id: Name(now.id, now.subject) for was, now in pairing.both if was.id != now.id}
    if not names:
        return old, pairing
    old = rename_results(old, names)
    return old, pair_results(old.results, new.results)


def _count(comparison: Comparison) -> dict[str, int]:
    counted = Counter(map(kind_of, comparison.changes))
    counted["unchanged"] = len(comparison.finding_group("unchanged"))
    return {kind: counted[kind] for kind in KINDS}


def _summary(comparison: Comparison, counts: Mapping[str, int]) -> str:
    more = [f", {counts['worse']} worse"] if counts["worse"] else []
    more += [f", {counts['unanswered']} no longer answered"] if counts["unanswered"] else []
    return (
        f"gate {comparison.old.verdict} -> {comparison.new.verdict}; {counts['new']} new and "
        f"{counts['fixed']} fixed findings{''.join(more)}, {len(comparison.changes)} differences"
    )


def _side(report: AuditReport, fingerprint: str) -> RunSide:
    return RunSide(
        plan=report.plan,
        plan_title=report.plan_title,
        plan_digest=report.plan_digest,
        policy_digest=report.gate.policy_digest,
        command=report.command,
        auditor=report.environment.auditor,
        seed=report.seed,
        verdict=report.gate.verdict,
        exit_code=report.gate.exit_code,
        complete=report.complete,
        finished=report.timing.finished,
        results=len(report.results),
        findings=sum(len(result.answer.findings) for result in report.results),
        fingerprint=fingerprint,
    )


def _subjects(
    old: Sequence[SubjectRecord], new: Sequence[SubjectRecord], told: Mapping[str, str]
) -> Iterator[SubjectChange]:
    before, after = ({each.name: each for each in side} for side in (old, new))
    for name in sorted(before.keys() | after.keys()):
        was, now = before.get(name), after.get(name)
        yield SubjectChange(
            name=name,
            old_name=told.get(name, ""),
            old_digest=was.digest if was else None,
            new_digest=now.digest if now else None,
            old_refused=was.facts.get(REFUSED_FACT, "") if was else "",
            new_refused=now.facts.get(REFUSED_FACT, "") if now else "",
        )


def _verdicts(pairing: Pairing) -> Iterator[VerdictChange]:
    for was, now in pairing.both:
        if was.verdict is not now.verdict:
            yield VerdictChange(
                result=now.id,
                code=now.code,
                subject=now.subject,
                old=was.verdict,
                new=now.verdict,
                direction=_direction(was.verdict, now.verdict),
                reason=now.answer.reason or now.answer.summary,
                comparable=is_comparable(was, now),
            )


def _direction(old: Verdict, new: Verdict) -> Literal["better", "worse", "neither"]:
    if new is Verdict.HOLDS:
        return "better"
    return "worse" if Verdict.HOLDS is old or new is Verdict.VIOLATED else "neither"


def _results(pairing: Pairing) -> Iterator[ResultChange]:
    sides: dict[Literal["added", "removed"], Sequence[CheckResult]] = {
        "added": pairing.only_new,
        "removed": pairing.only_old,
    }
    for kind, side in sides.items():
        for each in side:
            yield ResultChange(
                kind=kind,
                result=each.id,
                code=each.code,
                subject=each.subject,
                verdict=each.verdict,
            )


def _metrics(pairing: Pairing) -> Iterator[MetricChange]:
    for was, now in pairing.both:
        yield from compare_metrics(was, now, comparable=is_comparable(was, now))
