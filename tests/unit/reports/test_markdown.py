"""The summary is short enough, and its texts stay texts."""

from __future__ import annotations

import re

import pytest

from auditor_reports.markdown import (
    DISCLAIMER,
    MAX_BYTES,
    cut_on_line_end,
    render_markdown,
)
from auditor_reports.markdown_text import code_span, escape_markdown
from tests.golden.sample_report import sample_report
from tests.unit.reports.hostile_report import HOSTILE_TEXTS, poisoned


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a | b", r"a \| b"),
        ("[x](y)", r"\[x\]\(y\)"),
        ("<b>&", "&lt;b&gt;&amp;"),
        ("`code`", r"\`code\`"),
        ("a_b *c*", r"a\_b \*c\*"),
        ("https://a.example", "https:&#8203;//a.example"),
        ("@someone", "@&#8203;someone"),
        ("#12", r"\#&#8203;12"),
        ("- item", r"\- item"),
        ("1. item", r"1\. item"),
        ("a - b", "a - b"),
        ("two\nlines", "two lines"),
        ("\\", r"\\"),
        ("$x$", r"\$x\$"),
    ],
)
def test_escape(text: str, written: str) -> None:
    """What Markdown would act on is escaped; the rest stays readable."""
    assert escape_markdown(text) == written


@pytest.mark.parametrize(
    ("text", "written"),
    [("a", "`a`"), ("a`b", "``a`b``"), ("`", "`` ` ``"), ("a|b", "`a¦b`"), ("", "")],
)
def test_code_span_cannot_be_left(text: str, written: str) -> None:
    """The fence is longer than any run of backticks inside."""
    assert code_span(text) == written


@pytest.mark.parametrize("text", HOSTILE_TEXTS.values(), ids=HOSTILE_TEXTS)
def test_hostile_text_starts_no_line_table_link_or_tag(text: str) -> None:
    """The summary with hostile text has the lines and cells of one with plain text."""
    summary = render_markdown(poisoned(text)).decode()
    plain = render_markdown(poisoned("plain")).decode()
    assert len(summary.splitlines()) == len(plain.splitlines())
    cells = re.compile(r"(?<!\\)\|")
    assert [len(cells.findall(line)) for line in summary.splitlines()] == [
        len(cells.findall(line)) for line in plain.splitlines()
    ]
    outside_code = re.sub(r"(`+).*?\1", "", summary)
    assert "<" not in outside_code
    assert not re.search(r"(?<!\\)\]\(", outside_code)
    assert not re.search(r"(?m)^\s*::", summary)


def test_sample_names_what_matters() -> None:
    """Verdict, gaps, missed threshold, digests and the fixed sentence are in it."""
    report = sample_report()
    summary = render_markdown(report).decode()
    assert summary.startswith("## Audit: ❌ fail\n")
    assert all(subject.digest in summary for subject in report.subjects)
    assert all(text in summary for text in report.not_assessed)
    assert "measured 0.8448" in summary
    assert "the policy requires AUD205" in summary
    assert summary.endswith(DISCLAIMER + "\n")


def test_short_text_is_not_cut() -> None:
    """Below the limit nothing happens."""
    assert cut_on_line_end("a\nb\n", 4) == b"a\nb\n"


def test_long_text_is_cut_on_a_line_end() -> None:
    """Whole lines stay, a note follows, and the limit is kept also with wide characters."""
    lines = [f"{number} é" for number in range(1_000)]
    content = cut_on_line_end("\n".join(lines) + "\n", 3_000)
    assert len(content) <= 3_000
    kept, _, note = content.decode().partition("\n\nCut here")
    assert kept.split("\n") == lines[: kept.count("\n") + 1]
    assert "audit.json" in note


def test_summary_of_long_texts_keeps_the_limit() -> None:
    """The step summary would refuse a larger file."""
    report = poisoned("\x00" * 5_000)
    large = report.model_copy(
        update={"results": report.results * 50, "not_assessed": report.not_assessed * 100}
    )
    content = render_markdown(large)
    assert len(content) <= MAX_BYTES
    content.decode("utf-8")
