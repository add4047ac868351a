"""The Markdown of two runs says what the page says, inert and bounded."""

from __future__ import annotations

import re

import pytest

from auditor.audit.comparison import compare_reports
from auditor_reports.comparison.markdown import render_comparison_markdown
from auditor_reports.markdown import MAX_BYTES
from auditor_reports.markdown_text import ROWS_SHOWN
from tests.golden.sample_comparison import sample_comparison, sample_successor
from tests.golden.sample_report import sample_report
from tests.unit.reports.comparison.test_comparison_page import hostile, with_findings
from tests.unit.reports.hostile_report import HOSTILE_TEXTS


def lines_of(text: bytes) -> list[str]:
    """The lines."""
    return text.decode("utf-8").splitlines()


def test_gate_headline_and_caveats_come_first() -> None:
    """Before any finding."""
    lines = lines_of(render_comparison_markdown(sample_comparison()))
    headings = [line for line in lines if line.startswith("##")]
    assert headings[0] == "## Comparison: ❌ Gate failed before and failed now"
    assert headings[1] == "### Not the model's doing (4)"


def test_every_change_has_a_row() -> None:
    """As many rows as the heading says, in every section."""
    lines = lines_of(render_comparison_markdown(sample_comparison()))
    sections = re.findall(r"(?ms)^### ([^\n]+) \((\d+)\)\n(.*?)(?=^###|\Z)", "\n".join(lines))
    assert len(sections) == 8
    for _, count, body in sections:
        assert len(re.findall(r"(?m)^\|", body)) == int(count) + 2


def test_equal_runs_have_no_section() -> None:
    """Only that nothing differs, and what is as before."""
    text = render_comparison_markdown(compare_reports(sample_report(), sample_report())).decode()
    assert "###" not in text
    assert "0 new, 0 worse, 0 fixed findings" in text


def test_both_runs_are_named_with_their_command() -> None:
    """So that each can be found again."""
    text = render_comparison_markdown(sample_comparison()).decode()
    assert text.count(f"`{sample_successor().command}`") == 2


@pytest.mark.parametrize("name", ["script", "markdown", "command", "escape", "nul", "direction"])
def test_hostile_text_is_inert(name: str) -> None:
    """It starts no tag, link, table cell, command or terminal escape."""
    text = render_comparison_markdown(hostile(HOSTILE_TEXTS[name])).decode("utf-8")
    # Inside of a code span nothing acts.
    outside = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", text)
    assert not re.search(r"(?m)(?<!\\)<\w|(?<!\\)\]\(|^\s*::", outside)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    plain = render_comparison_markdown(hostile("plain")).decode("utf-8")
    cells = [len(re.findall(r"(?<!\\)\|", row)) for row in rows]
    assert cells == [
        len(re.findall(r"(?<!\\)\|", row)) for row in plain.splitlines() if row.startswith("| ")
    ]


def test_long_lists_are_cut_and_counted() -> None:
    """Each section shows so many rows and says how many more there are."""
    comparison = compare_reports(with_findings(0, ""), with_findings(3 * ROWS_SHOWN, "x" * 900))
    text = render_comparison_markdown(comparison)
    assert len(text) <= MAX_BYTES
    assert (
        f"{2 * ROWS_SHOWN} more; the full list is in the JSON lines of auditor diff.".encode()
        in (text)
    )
