"""Maps of experts as Markdown: their strongest and their marked experts in tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from auditor.findings import CheckResult, ExpertMapEvidence
from auditor_reports.charts.expert_map import lay_out_expert_map
from auditor_reports.markdown_text import ROWS_SHOWN, escape_markdown, evidence_section, more


def expert_maps(results: Iterable[CheckResult]) -> Iterator[str]:
    """The lines of the section; none where there is no map."""
    return evidence_section("Maps of experts", results, ExpertMapEvidence, _expert_map)


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
