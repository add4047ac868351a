"""Two runs side by side as Markdown, for a pull request or a step summary.

Untrusted text is escaped as in the summary of a run, and the whole is cut on a line end.
"""

from __future__ import annotations

from collections.abc import Iterator

from auditor.audit.comparison import Comparison, FindingChange
from auditor_reports.comparison import text
from auditor_reports.markdown import DISCLAIMER, MAX_BYTES, cut_on_line_end
from auditor_reports.markdown_text import ROWS_SHOWN, code_span, escape_markdown, more
from auditor_reports.number_text import moment

_GATE_MARKS = {"pass": "✅", "fail": "❌", "inconclusive": "❔"}


def render_comparison_markdown(comparison: Comparison) -> bytes:
    """The comparison as GitHub-flavoured Markdown, at most `markdown.MAX_BYTES` bytes."""
    lines = "\n".join(_lines(comparison)) + "\n"
    return cut_on_line_end(lines, MAX_BYTES, text.WHERE_ALL)


def _lines(comparison: Comparison) -> Iterator[str]:
    yield f"## Comparison: {_GATE_MARKS[comparison.new.verdict]} {text.gates(comparison)}"
    yield ""
    titles = (escape_markdown(s.plan_title or s.plan) for s in (comparison.old, comparison.new))
    yield f"**{' -> '.join(titles)}**: {text.headline(comparison)}"
    yield ""
    yield from _caveats(comparison)
    yield from _subjects(comparison)
    for status in text.FINDING_HEADINGS:
        if status != "unchanged":
            yield from _findings(text.FINDING_HEADINGS[status], comparison.finding_group(status))
    yield from _verdicts(comparison)
    yield from _results(comparison)
    yield from _metrics(comparison)
    for sentence in text.HOW_TO_READ:
        yield sentence
        yield ""
    yield from _sides(comparison)
    yield DISCLAIMER


def _table(heading: str, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> Iterator[str]:
    """A section with a table; cells are escaped here, and nothing is said of an empty one."""
    if not rows:
        return
    yield f"### {heading} ({len(rows):,})"
    yield ""
    yield f"| {' | '.join(columns)} |"
    yield f"|{' --- |' * len(columns)}"
    for row in rows[:ROWS_SHOWN]:
        yield f"| {' | '.join(map(escape_markdown, row))} |"
    yield from more(len(rows), where=text.WHERE_ALL)
    yield ""


def _caveats(comparison: Comparison) -> Iterator[str]:
    if not comparison.caveats:
        yield "Check versions, seeds, parameters, data, policy and environment are the same."
        yield ""
    yield from _table(
        "Not the model's doing",
        ("differs", "old", "new", "so", "concerns"),
        [
            (each.what, each.old, each.new, text.AFFECTS_WORDS[each.affects], text.reach(each))
            for each in comparison.caveats
        ],
    )


def _subjects(comparison: Comparison) -> Iterator[str]:
    for each in comparison.subjects[:ROWS_SHOWN]:
        name = escape_markdown(each.name)
        if each.old_name:
            name = f"{name} (before: {escape_markdown(each.old_name)})"
        if not each.changed:
            yield f"- {name}: the same, {code_span(each.new_digest or '-')}"
            continue
        sides = ((each.old_digest, each.old_refused), (each.new_digest, each.new_refused))
        shown = (
            f"{code_span(digest or '-')}{' (refused)' if refused else ''}"
            for digest, refused in sides
        )
        yield f"- {name}: {' -> '.join(shown)}"
    yield from more(len(comparison.subjects), where=text.WHERE_ALL)
    yield ""


def _findings(heading: str, findings: tuple[FindingChange, ...]) -> Iterator[str]:
    yield from _table(
        heading,
        ("severity", "check", "subject", "finding", "where", "gate"),
        [
            (
                text.severity_change(each),
                each.code,
                each.subject,
                each.title,
                each.where,
                "; ".join(filter(None, (text.standing_change(each), text.asked_otherwise(each)))),
            )
            for each in findings
        ],
    )


def _verdicts(comparison: Comparison) -> Iterator[str]:
    yield from _table(
        "Verdicts that changed",
        ("check", "subject", "old", "new", "", "why"),
        [
            (
                each.result,
                each.subject,
                each.old,
                each.new,
                each.direction if each.comparable else f"{each.direction}, not comparable",
                each.reason,
            )
            for each in comparison.verdicts
        ],
    )


def _results(comparison: Comparison) -> Iterator[str]:
    yield from _table(
        "Checks in one run only",
        ("", "check", "subject", "verdict"),
        [(each.kind, each.result, each.subject, each.verdict) for each in comparison.results],
    )


def _metrics(comparison: Comparison) -> Iterator[str]:
    yield from _table(
        "Metrics that differ",
        ("check", "metric", "old", "new", "intervals"),
        [
            (
                each.result,
                text.metric_name(each),
                text.metric_value(each, "old"),
                text.metric_value(each, "new"),
                text.judgement(each),
            )
            for each in comparison.metrics
        ],
    )


def _sides(comparison: Comparison) -> Iterator[str]:
    for name, side in (("Old", comparison.old), ("New", comparison.new)):
        seal = f", audit.json {code_span(side.fingerprint)}" if side.fingerprint else ""
        yield (
            f"{name}: finished {moment(side.finished)}, seed {side.seed}, policy "
            f"{code_span(side.policy_digest)}{seal}, by {code_span(side.command, 1_000)}"
        )
        yield ""
