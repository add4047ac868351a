"""A Markdown summary for a build's step summary or a pull request.

Short on purpose: verdict, counts, gaps, what fails, every check. Untrusted text is
escaped so that it can start no table, link, mention or HTML, and the whole is cut at
`MAX_BYTES` on a line end, because the step summary refuses more than 1 MiB.
"""

from __future__ import annotations

from collections.abc import Iterator

from auditor.findings import AuditReport, CheckResult, GateRow, TracedTextEvidence, Verdict
from auditor_reports.charts.expert_map_markdown import expert_maps
from auditor_reports.markdown_text import ROWS_SHOWN, check_name, code_span, escape_markdown, more
from auditor_reports.number_text import moment
from auditor_reports.standing import (
    STATUS_WORDS,
    VERDICTS_WORST_FIRST,
    Standings,
    gaps,
    loose_points,
    verdict_sentence,
)
from auditor_reports.traced_text import SHOWN_IN_FULL, Samples, with_samples
from auditor_reports.traced_text_markdown import traced_texts

MAX_BYTES = 1_000_000
DISCLAIMER = "This report does not establish conformity and is not legal advice."
_MARKS = {
    Verdict.HOLDS: "✅",
    Verdict.VIOLATED: "❌",
    Verdict.UNKNOWN: "❔",
    Verdict.SKIPPED: "⏭️",
    Verdict.ERROR: "⚠️",
}
_GATE_MARKS = {"pass": "✅ pass", "fail": "❌ fail", "inconclusive": "❔ inconclusive"}
_CUT_NOTE = (
    "\nCut here at the size limit: the last {left} of {total} lines are left out. "
    "The full list is in {where}.\n"
)


def render_markdown(
    report: AuditReport, samples: Samples | None = None, limit: int = MAX_BYTES
) -> bytes:
    """The report as GitHub-flavoured Markdown, at most `limit` bytes.

    With samples traced completions are shown in full, and the summary says so.
    """
    shown = with_samples(report, samples) if samples else report
    in_full = any(isinstance(sample, TracedTextEvidence) for sample in (samples or {}).values())
    return cut_on_line_end("\n".join(_lines(shown, in_full=in_full)) + "\n", limit)


def cut_on_line_end(text: str, limit: int, where: str = "audit.json") -> bytes:
    """The text as UTF-8; of more than `limit` bytes whole lines, and how many are left out."""
    content = text.encode("utf-8")
    if len(content) <= limit:
        return content
    total = content.count(b"\n")
    longest = _CUT_NOTE.format(left=total, total=total, where=where).encode()
    end = content.rfind(b"\n", 0, limit - len(longest)) + 1
    left = total - content.count(b"\n", 0, end)
    return content[:end] + _CUT_NOTE.format(left=left, total=total, where=where).encode()


def _lines(report: AuditReport, *, in_full: bool) -> Iterator[str]:
    yield f"## Audit: {_GATE_MARKS[report.gate.verdict]}"
    yield ""
    yield f"**{escape_markdown(report.plan_title or report.plan)}**: {verdict_sentence(report)}"
    if not report.complete:
        yield ""
        yield "**The run is not complete**: part of the plan was not carried out."
    if in_full:
        yield ""
        yield f"**{SHOWN_IN_FULL}**"
    yield ""
    yield from _counts(report)
    yield from _subjects(report)
    standings = Standings(report)
    yield from _gaps(report, standings)
    yield from _findings(report, standings)
    yield from _results(report, standings)
    yield from expert_maps(standings.worst_first(report.results))
    yield from traced_texts(standings.worst_first(report.results))
    yield from _reproduction(report)
    yield DISCLAIMER


def _counts(report: AuditReport) -> Iterator[str]:
    counts = report.by_verdict()
    yield "| " + " | ".join(f"{_MARKS[v]} {v}" for v in VERDICTS_WORST_FIRST) + " |"
    yield "|" + " ---: |" * len(VERDICTS_WORST_FIRST)
    yield "| " + " | ".join(str(counts[v]) for v in VERDICTS_WORST_FIRST) + " |"
    yield ""


def _subjects(report: AuditReport) -> Iterator[str]:
    for subject in report.subjects[:ROWS_SHOWN]:
        yield (
            f"- {escape_markdown(subject.name)} ({escape_markdown(subject.kind)}): "
            f"{code_span(subject.digest)}"
        )
    yield from more(len(report.subjects))
    yield ""


def _gaps(report: AuditReport, standings: Standings) -> Iterator[str]:
    lines = list(_open_questions(report, standings))
    yield f"### Open questions ({len(lines)})"
    yield ""
    yield from lines[:ROWS_SHOWN]
    yield from more(len(lines)) if lines else ("None.",)
    yield ""
    missing = gaps(report)
    yield f"### Not assessed ({len(missing)})"
    yield ""
    for text in missing[:ROWS_SHOWN]:
        yield f"- {escape_markdown(text)}"
    yield from more(len(missing)) if missing else ("Nothing was named as left out.",)
    yield ""


def _open_questions(report: AuditReport, standings: Standings) -> Iterator[str]:
    """A line for each question without an answer, for whatever reason."""
    mark = _MARKS[Verdict.UNKNOWN]
    for row in loose_points(report):
        if row.status in ("open", "warn"):
            yield f"- {mark} {escape_markdown(row.code)}: {escape_markdown(row.text)}"
    for result in standings.worst_first(report.results):
        title = f"{check_name(result)}, {escape_markdown(result.subject)}"
        if result.verdict.is_open:
            reason = escape_markdown(result.answer.reason)
            yield f"- {_MARKS[result.verdict]} {title}: {result.verdict}, {reason}"
        for row in standings.beyond_findings(result):
            if row.status in ("open", "warn"):
                yield f"- {mark} {title}: {escape_markdown(row.text)}"


def _findings(report: AuditReport, standings: Standings) -> Iterator[str]:
    told = ("fail", "waived", "baseline", "below")
    rows = [_table_row(row) for row in loose_points(report) if row.status in told]
    for result in standings.worst_first(report.results):
        missed = standings.beyond_findings(result)
        rows.extend(_table_row(row) for row in missed if row.status in told)
        rows.extend(_finding_rows(standings, result))
    if not rows:
        return
    yield f"### Findings ({len(rows)})"
    yield ""
    yield "| severity | check | subject | finding | where | gate |"
    yield "| --- | --- | --- | --- | --- | --- |"
    yield from rows[:ROWS_SHOWN]
    yield from more(len(rows))
    yield ""


def _table_row(row: GateRow) -> str:
    """A missed threshold, or what fails without belonging to a result."""
    cells = (
        row.severity or "policy",
        *(escape_markdown(text) for text in (row.code, row.subject, row.text)),
        "",
        STATUS_WORDS[row.status],
    )
    return f"| {' | '.join(cells)} |"


def _finding_rows(standings: Standings, result: CheckResult) -> Iterator[str]:
    check, subject = escape_markdown(result.code), escape_markdown(result.subject)
    for finding in sorted(result.answer.findings, key=lambda each: each.severity.rank):
        title, where = escape_markdown(finding.title), escape_markdown(finding.location.path)
        status = STATUS_WORDS[standings.of_finding(result, finding)]
        yield f"| {finding.severity} | {check} | {subject} | {title} | {where} | {status} |"


def _results(report: AuditReport, standings: Standings) -> Iterator[str]:
    yield f"### All checks ({len(report.results)})"
    yield ""
    yield "| verdict | check | subject | answer | gate |"
    yield "| --- | --- | --- | --- | --- |"
    for result in standings.worst_first(report.results)[:ROWS_SHOWN]:
        cells = (
            f"{_MARKS[result.verdict]} {result.verdict}",
            check_name(result),
            escape_markdown(result.subject),
            escape_markdown(result.answer.summary),
            STATUS_WORDS[standings.of_result(result)],
        )
        yield f"| {' | '.join(cells)} |"
    yield from more(len(report.results))
    yield ""


def _reproduction(report: AuditReport) -> Iterator[str]:
    yield (
        f"{escape_markdown(f'auditor {report.environment.auditor}')}, seed {report.seed}, "
        f"finished {moment(report.timing.finished)}, policy {code_span(report.gate.policy_digest)}"
    )
    yield ""
    yield f"Again with: {code_span(report.command, 1_000)}"
    yield ""
