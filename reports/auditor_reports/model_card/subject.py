"""The section of a model card about one model: results, numbers, controls, findings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from auditor.findings import CheckResult, Metric, SubjectRecord
from auditor_reports.markdown_text import check_name, code_span, escape_markdown, more
from auditor_reports.number_text import byte_size, interval_text, quantity
from auditor_reports.standing import STATUS_WORDS, Standings

ROWS_SHOWN = 200


def subject_section(
    standings: Standings, subject: SubjectRecord, results: Sequence[CheckResult]
) -> Iterator[str]:
    """The lines about a model.

    Args:
        standings: How results stand before the gate.
        subject: The model.
        results: Its results, worst first.
    """
    yield f"## Evaluation of {escape_markdown(subject.name)}"
    yield ""
    yield f"- Digest: {code_span(subject.digest)}"
    yield f"- Size: {byte_size(subject.size)}"
    for name, value in sorted(subject.facts.items())[:50]:
        yield f"- {escape_markdown(name)}: {escape_markdown(value)}"
    yield ""
    if not results:
        yield "No check of this model has a result here."
        yield ""
        return
    yield from _results(standings, results)
    yield from _numbers(results)
    yield from _findings(standings, results)


def _results(standings: Standings, results: Sequence[CheckResult]) -> Iterator[str]:
    yield f"### Results ({len(results)})"
    yield ""
    yield "| check | verdict | answer | gate |"
    yield "| --- | --- | --- | --- |"
    for result in results[:ROWS_SHOWN]:
        reason = f" Reason: {result.answer.reason}" if result.answer.reason else ""
        cells = (
            check_name(result),
            result.verdict,
            escape_markdown(result.answer.summary + reason, 500),
            STATUS_WORDS[standings.of_result(result)],
        )
        yield f"| {' | '.join(cells)} |"
    yield from more(len(results), ROWS_SHOWN)
    yield ""


def _numbers(results: Sequence[CheckResult]) -> Iterator[str]:
    rows = [row for result in results for row in _number_rows(result)]
    if not rows:
        return
    yield f"### Numbers ({len(rows)}), all measured"
    yield ""
    yield "| check | number | value | interval | sample | control |"
    yield "| --- | --- | --- | --- | --- | --- |"
    yield from rows[:ROWS_SHOWN]
    yield from more(len(rows), ROWS_SHOWN)
    yield ""


def _number_rows(result: CheckResult) -> Iterator[str]:
    for metric in result.answer.metrics:
        yield _number_row(result, metric, "")
    for control in result.answer.controls:
        for metric in control.metrics:
            yield _number_row(result, metric, control.name)


def _number_row(result: CheckResult, metric: Metric, control: str) -> str:
    cells = (
        escape_markdown(result.code),
        escape_markdown(metric.name),
        escape_markdown(quantity(metric)),
        escape_markdown(interval_text(metric.interval)) if metric.interval else "none",
        "none" if metric.sample_size is None else f"{metric.sample_size:,}",
        escape_markdown(control),
    )
    return f"| {' | '.join(cells)} |"


def _findings(standings: Standings, results: Sequence[CheckResult]) -> Iterator[str]:
    rows = [row for result in results for row in _finding_rows(standings, result)]
    yield f"### Findings and missed thresholds ({len(rows)})"
    yield ""
    if not rows:
        yield "None. What was not assessed is listed above."
        yield ""
        return
    yield "| severity | check | finding | where | gate |"
    yield "| --- | --- | --- | --- | --- |"
    yield from rows[:ROWS_SHOWN]
    yield from more(len(rows), ROWS_SHOWN)
    yield ""


def _finding_rows(standings: Standings, result: CheckResult) -> Iterator[str]:
    """Missed thresholds first, then findings, the worst first."""
    code = escape_markdown(result.code)
    for row in standings.beyond_findings(result):
        if row.status in ("fail", "waived"):
            cells = (str(row.severity or "policy"), code, escape_markdown(row.text), "",
                     STATUS_WORDS[row.status])  # fmt: skip
            yield f"| {' | '.join(cells)} |"
    for finding in sorted(result.answer.findings, key=lambda each: each.severity.rank):
        cells = (str(finding.severity), code, escape_markdown(finding.title),
                 escape_markdown(finding.location.path),
                 STATUS_WORDS[standings.of_finding(result, finding)])  # fmt: skip
        yield f"| {' | '.join(cells)} |"
