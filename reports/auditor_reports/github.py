"""What a run tells GitHub: annotations that mark lines of the plan, a step summary, outputs.

Text only; writing it, and only when a workflow runs, is the caller's business.
Source: GitHub documentation, "Workflow commands for GitHub Actions". Only ten
annotations per kind and step are shown, so the ten worst are written and the rest
is counted in a plain line. A step's summary above 1 MiB is refused as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

from auditor.findings import AuditReport, GateRow, Severity
from auditor_reports.markdown import MAX_BYTES, render_markdown
from auditor_reports.sanitise import inert_line, one_line
from auditor_reports.standing import Standings, loose_points

PER_KIND = 10
# Below this a summary could not even say what it leaves out.
LEAST_SUMMARY_BYTES = 2_000
NO_ROOM = (
    "\nThe summary of this audit is left out: the step's summary is at its size limit. "
    "`auditor report` writes it as summary.md.\n"
)
Kind = Literal["error", "warning", "notice"]


class _Annotation(NamedTuple):
    kind: Kind
    rank: int
    file: str
    line: int
    title: str
    text: str


def render_annotations(report: AuditReport) -> str:
    """Workflow commands, worst first, a line each; empty when there is nothing to say."""
    found = sorted(_annotations(report), key=lambda annotation: annotation.rank)
    kinds: tuple[Kind, ...] = ("error", "warning", "notice")
    lines: list[str] = []
    for kind in kinds:
        of_kind = [annotation for annotation in found if annotation.kind == kind]
        lines.extend(_command(annotation) for annotation in of_kind[:PER_KIND])
        if len(of_kind) > PER_KIND:
            rest = len(of_kind) - PER_KIND
            lines.append(f"and {rest} more of kind {kind}; the full list is in audit.json")
    return "".join(f"{line}\n" for line in lines)


def render_step_summary(report: AuditReport, taken: int = 0) -> bytes:
    """The Markdown summary for a step whose summary already holds `taken` bytes.

    Together at most `MAX_BYTES`, cut on a line end with a sentence that says what is left out;
    where there is no room for that, one sentence says so, as long as it fits in 1 MiB.
    """
    room = MAX_BYTES - taken
    if room >= LEAST_SUMMARY_BYTES:
        return render_markdown(report, limit=room)
    note = NO_ROOM.encode()
    return note if taken + len(note) <= 1024 * 1024 else b""


def render_outputs(report: AuditReport) -> str:
    """The outputs of a step, a line `name=value` each; every value is a word of ours."""
    return f"verdict={report.gate.verdict}\n"


def escape_data(text: str) -> str:
    """Text of a workflow command."""
    return _replace(text, {"%": "%25", "\r": "%0D", "\n": "%0A"})


def escape_property(text: str) -> str:
    """A property (file, title) of a workflow command."""
    return _replace(escape_data(text), {":": "%3A", ",": "%2C"})


def _annotations(report: AuditReport) -> Iterator[_Annotation]:
    standings = Standings(report)
    for result in standings.worst_first(report.results):
        file, line = result.declared_at.file, result.declared_at.line
        title = f"{result.code} {result.title} ({result.subject})"
        for finding in sorted(result.answer.findings, key=lambda each: each.severity.rank):
            status = standings.of_finding(result, finding)
            severe = finding.severity.at_least(Severity.HIGH)
            kind: Kind = "error" if status == "fail" and severe else "warning"
            if status in ("waived", "baseline", "below"):
                kind = "notice"
            text = f"{finding.severity}: {finding.title}. {finding.description}"
            yield _Annotation(kind, finding.severity.rank, file, line, title, text)
        if result.verdict.is_open:
            text = f"no answer ({result.verdict}): {result.answer.reason}"
            rank = Severity.HIGH.rank if result.required else Severity.LOW.rank
            yield _Annotation("warning", rank, file, line, title, text)
        for row in standings.beyond_findings(result):
            yield _of_row(row, file, line, title)
    for row in loose_points(report):
        yield _of_row(row, report.plan_file, 1, f"{row.code} {row.subject}".rstrip())


def _of_row(row: GateRow, file: str, line: int, title: str) -> _Annotation:
    """An annotation for a missed threshold, or for what belongs to no result."""
    kinds: dict[str, Kind] = {"fail": "error", "open": "warning", "warn": "warning"}
    rank = (row.severity or Severity.HIGH).rank
    return _Annotation(kinds.get(row.status, "notice"), rank, file, line, title, row.text)


def _command(annotation: _Annotation) -> str:
    file = escape_property(one_line(annotation.file, 300))
    title = escape_property(one_line(annotation.title, 200))
    text = escape_data(inert_line(annotation.text, 1_000))
    return f"::{annotation.kind} file={file},line={annotation.line},title={title}::{text}"


def _replace(text: str, table: Mapping[str, str]) -> str:
    for old, new in table.items():
        text = text.replace(old, new)
    return text
