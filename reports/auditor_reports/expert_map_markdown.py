"""Maps of experts as Markdown: their strongest and their marked experts in tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from auditor.findings import CheckResult, ExpertMapEvidence
from auditor_reports.expert_map import lay_out_expert_map
from auditor_reports.markdown_text import ROWS_SHOWN, check_name, escape_markdown, more

_MAPS_SHOWN = 20


def expert_maps(results: Iterable[CheckResult]) -> Iterator[str]:
    """The lines of the section; none where there is no map."""
    found = [
        (result, evidence)
        for result in results
        for evidence in result.answer.every_evidence()
        if isinstance(evidence, ExpertMapEvidence)
    ]
    if not found:
        return
    yield f"### Maps of experts ({len(found)})"
    yield ""
    for result, evidence in found[:_MAPS_SHOWN]:
        yield f"**{check_name(result)}, {escape_markdown(result.subject)}**"
        yield ""
        yield from _expert_map(evidence)
    yield from more(len(found), _MAPS_SHOWN)
    yield ""


def _expert_map(evidence: ExpertMapEvidence) -> Iterator[str]:
    """Title and size, then the table."""
    drawn = lay_out_expert_map(evidence)
    words = (drawn.description, escape_markdown(evidence.description, 1_000))
    yield f"{escape_markdown(evidence.title)}: {' '.join(word for word in words if word)}"
    yield ""
    unit = f" ({escape_markdown(evidence.unit, 80)})" if evidence.unit else ""
    if drawn.rows:
        yield f"| layer | expert | value{unit} | marked |"
        yield "| ---: | ---: | ---: | --- |"
        for row in drawn.rows[:ROWS_SHOWN]:
            yield f"| {row.layer} | {row.expert} | {row.value} | {'yes' if row.marked else 'no'} |"
        yield from more(len(drawn.rows))
        yield ""
