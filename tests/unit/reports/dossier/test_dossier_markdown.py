"""The Markdown of a dossier begins with its gaps, and its texts stay texts."""

from __future__ import annotations

import re
from functools import cache

import pytest

from auditor_reports.dossier.build import build_dossier
from auditor_reports.dossier.markdown import render_dossier_markdown
from auditor_reports.html_environment import DISCLAIMER
from auditor_reports.markdown import MAX_BYTES
from auditor_reports.markdown_text import escape_markdown
from tests.golden.sample_report import sample_report
from tests.unit.reports.dossier_runs import FRAMEWORKS, mapping, recognised
from tests.unit.reports.hostile_report import HOSTILE_TEXTS, enlarged


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_gaps_come_first_and_the_signature_last(name: str) -> None:
    """What a reader must not miss stands before every table; the last field is empty."""
    dossier = build_dossier(sample_report(), mapping(name))
    text = render_dossier_markdown(dossier).decode()
    start = text.split("\n|")[0]
    for cell in dossier.cells():
        if cell.status != "evidence pass":
            assert escape_markdown(cell.title) in start
    assert DISCLAIMER in start
    assert text.endswith(f"{DISCLAIMER}\n\nDated and signed by:\n")


def test_every_row_result_and_digest_is_named() -> None:
    """The Markdown can be followed to the evidence as the page can."""
    dossier = build_dossier(sample_report(), mapping("eu-ai-act"))
    text = render_dossier_markdown(dossier).decode()
    for cell in dossier.cells():
        assert f"### {escape_markdown(cell.title)}\n" in text
    for entry in dossier.results:
        assert {entry.id, entry.key, entry.answer_digest, *entry.blobs} <= set(
            re.findall(r"`([^`]+)`", text)
        )


@cache
def said_by(words: str, name: str) -> str:
    """The dossier of a run that says only this."""
    return render_dossier_markdown(build_dossier(recognised(words), mapping(name))).decode()


@pytest.mark.parametrize("name", ["eu-ai-act", "iso-24029-2"])
@pytest.mark.parametrize("text", HOSTILE_TEXTS.values(), ids=HOSTILE_TEXTS)
def test_hostile_text_starts_no_line_table_link_or_tag(text: str, name: str) -> None:
    """The dossier of a hostile run has the lines and cells of one with plain text."""
    written, plain = said_by(text, name), said_by("plain" if text else "", name)
    cells = re.compile(r"(?<!\\)\|")
    assert [len(cells.findall(line)) for line in written.splitlines()] == [
        len(cells.findall(line)) for line in plain.splitlines()
    ]
    outside_code = re.sub(r"(`+).*?\1", "", written)
    assert "<" not in outside_code
    assert not re.search(r"(?<!\\)\]\(", outside_code)
    assert not re.search(r"(?m)^\s*::", written)


def test_a_large_run_keeps_the_limit() -> None:
    """A step summary would refuse a larger file."""
    content = render_dossier_markdown(build_dossier(enlarged(1_500), mapping("eu-ai-act")))
    assert len(content) <= MAX_BYTES
    content.decode("utf-8")
