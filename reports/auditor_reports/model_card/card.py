"""A Hugging Face model card: what the audit found, for those who take the model from a hub.

Markdown with YAML front matter. Untrusted text is escaped so that it can start no table,
link, mention or HTML, and cannot leave the front matter. The written specification is
`specs/model-card.md`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial

from auditor.findings import AuditReport, CheckResult, SubjectRecord
from auditor_reports.audit_json import run_fingerprint
from auditor_reports.audit_places import AUDIT_JSON, Selection, render_within, select_worst
from auditor_reports.markdown import DISCLAIMER
from auditor_reports.markdown_text import code_span, escape_markdown, more
from auditor_reports.model_card.metadata import front_matter
from auditor_reports.model_card.subject import subject_section
from auditor_reports.number_text import moment
from auditor_reports.standing import (
    STATUS_WORDS,
    Standings,
    check_cards,
    gaps,
    loose_points,
    verdict_sentence,
)

MAX_RESULTS = 1_000
MAX_SUBJECTS = 50
ROWS_SHOWN = 200
_VERDICTS = {"pass": "passes", "fail": "fails", "inconclusive": "is inconclusive"}


def render_model_card(report: AuditReport) -> bytes:
    """The report as a model card in Markdown, a section for each model.

    At most `MAX_RESULTS` results, worst first, and `MAX_SUBJECTS` models, fewer where they
    would not fit into 10 MB; what is left out is counted in the text.
    """
    return render_within(partial(_render, report, run_fingerprint(report)), MAX_RESULTS)


def _render(report: AuditReport, fingerprint: str, most: int) -> bytes:
    standings = Standings(report)
    selection = select_worst(report, standings, most)
    subjects = report.subjects[: min(MAX_SUBJECTS, most)]
    results = _results_of(subjects, selection)
    lines = [
        *front_matter(report, subjects, results),
        *_verdict(report, selection),
        *_scope(report, subjects),
        *_gaps(report, standings),
        *_uses(),
    ]
    for subject, found in zip(subjects, results, strict=True):
        lines.extend(subject_section(standings, subject, found))
    lines.extend(_limits(report, selection))
    lines.extend(_reproduction(report, fingerprint))
    return ("\n".join(lines) + "\n").encode("utf-8")


def _results_of(subjects: Sequence[SubjectRecord], selection: Selection) -> list[list[CheckResult]]:
    """The results of each model, worst first; of two models with one name the first has them."""
    by_name: dict[str, list[CheckResult]] = defaultdict(list)
    for _, result in selection.results:
        by_name[result.subject].append(result)
    return [by_name.pop(subject.name, []) for subject in subjects]


def _verdict(report: AuditReport, selection: Selection) -> Iterator[str]:
    yield f"# Model card: {escape_markdown(report.plan_title or report.plan)}"
    yield ""
    yield (
        "This card was written by a tool from one audit run. It holds what was measured, and "
        "nothing about what was not."
    )
    yield ""
    yield "## Verdict"
    yield ""
    yield f"The audit **{_VERDICTS[report.gate.verdict]}**. {verdict_sentence(report)}"
    yield ""
    if not report.complete:
        yield "**The run is not complete**: part of the plan was not carried out."
        yield ""
    if note := selection.note():
        yield f"**{note}**"
        yield ""
    yield DISCLAIMER
    yield ""


def _scope(report: AuditReport, subjects: Sequence[SubjectRecord]) -> Iterator[str]:
    yield "## Scope"
    yield ""
    yield "| model | kind | digest |"
    yield "| --- | --- | --- |"
    for subject in subjects:
        cells = (
            escape_markdown(subject.name),
            escape_markdown(subject.kind),
            code_span(subject.digest),
        )
        yield f"| {' | '.join(cells)} |"
    yield from more(len(report.subjects), len(subjects))
    yield ""
    yield f"Checks with a result, of {len(check_cards(report))} that the report describes:"
    yield ""
    ran = {result.code for result in report.results}
    for card in [card for card in check_cards(report) if card.code in ran][:ROWS_SHOWN]:
        question = escape_markdown(card.question, 400)
        yield f"- {escape_markdown(card.code)} {escape_markdown(card.title)}: {question}"
    yield from more(len(ran), ROWS_SHOWN)
    yield ""


def _gaps(report: AuditReport, standings: Standings) -> Iterator[str]:
    missing = gaps(report)
    yield f"## Not assessed ({len(missing)})"
    yield ""
    for text in missing[:ROWS_SHOWN]:
        yield f"- {escape_markdown(text)}"
    yield from more(len(missing), ROWS_SHOWN) if missing else ("Nothing was named as left out.",)
    yield ""
    still_open = [
        f"{result.id}: {result.verdict}, {result.answer.reason}"
        for result in standings.worst_first(report.results)
        if result.verdict.is_open
    ]
    rows = [f"{row.code}: {STATUS_WORDS[row.status]}, {row.text}" for row in loose_points(report)]
    yield f"## Open questions and points beyond a model ({len(still_open) + len(rows)})"
    yield ""
    for text in [*rows, *still_open][:ROWS_SHOWN]:
        yield f"- {escape_markdown(text)}"
    yield from more(len(still_open) + len(rows), ROWS_SHOWN)
    yield ""


def _uses() -> Iterator[str]:
    yield "## Uses"
    yield ""
    yield (
        "Not known to the audit. Intended uses, training data and licence are for the provider of "
        "the model to state."
    )
    yield ""


def _limits(report: AuditReport, selection: Selection) -> Iterator[str]:
    yield "## Limitations of the checks"
    yield ""
    shown = {result.code for _, result in selection.results}
    cards = [card for card in check_cards(report)
             if card.code in shown and card.pass_does_not_mean]  # fmt: skip
    for card in cards[:ROWS_SHOWN]:
        yield f"- {escape_markdown(card.code)}: {escape_markdown(card.pass_does_not_mean, 600)}"
    yield from more(len(cards), ROWS_SHOWN) if cards else ("None is stated.",)
    yield ""


def _reproduction(report: AuditReport, fingerprint: str) -> Iterator[str]:
    environment = report.environment
    yield "## How the numbers were made"
    yield ""
    yield f"- Run: {code_span(fingerprint)}, the SHA-256 of `{AUDIT_JSON}`"
    yield f"- Policy: {code_span(report.gate.policy_digest)}"
    yield f"- Plan: {code_span(report.plan_digest)}"
    yield f"- Command: {code_span(report.command, 1_000)}"
    yield f"- Seed {report.seed}, finished {moment(report.timing.finished)}"
    yield (
        f"- {escape_markdown(f'auditor {environment.auditor}')}, "
        f"Python {escape_markdown(environment.python)}, {escape_markdown(environment.platform)}, "
        f"device {escape_markdown(environment.device)}"
    )
