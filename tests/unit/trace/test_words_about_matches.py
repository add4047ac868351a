"""A match is never called a cause: what the trace part says to users, word by word."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
BANNED = re.compile(r"(?i)because\W+of|com(?:es?|ing)\W+from|learn(?:ed|t)\W+from|caused\W+by")
# Sentences with such words that say nothing about a match, or deny it.
ALLOWED = (
    "Geometry comes from curve_chart.py",
    "Where a SARIF result comes from",
)
PLACES = (
    "auditor/trace/**/*.py",
    "auditor/redaction.py",
    "auditor/checks/*drift*.py",
    "auditor/fix.py",
    "auditor/fixes/*.py",
    "cli/auditor_cli/commands/fix.py",
    "cli/auditor_cli/commands/trace.py",
    "cli/auditor_cli/trace_*.py",
    "reports/auditor_reports/**/*.py",
    "reports/auditor_reports/**/*.j2",
    "reports/auditor_reports/**/*.js",
    "specs/trace*.md",
    "specs/AUD301.md",
    "specs/content-policy.md",
    "specs/fix-record.md",
    "docs/tutorial-trace.md",
)
FILES = sorted({path for place in PLACES for path in ROOT.glob(place)})


def texts_of(path: Path) -> list[str]:
    """The texts of a file: of Python its strings as they are joined, docstrings included."""
    content = path.read_text("utf-8")
    if path.suffix != ".py":
        return [content]
    return [
        node.value
        for node in ast.walk(ast.parse(content))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]


def banned_in(text: str) -> list[str]:
    """The banned words of a text, line ends and allowed sentences left out."""
    joined = " ".join(text.split())
    for sentence in ALLOWED:
        joined = joined.replace(sentence, "")
    return BANNED.findall(joined)


def test_the_places_are_found() -> None:
    """Commands, engine, templates and specification are among the files."""
    names = {path.name for path in FILES}
    assert {"trace.py", "matches.py", "traced_text.html.j2", "trace-index.md"} <= names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_text_says_where_a_model_has_a_match_from(path: Path) -> None:
    """None of the banned words stands in what users read."""
    assert [word for text in texts_of(path) for word in banned_in(text)] == []


@pytest.mark.parametrize(
    "text",
    [
        "flagged because of document 3",
        "the span comes\nfrom the index",
        "It was LEARNED FROM there",
        "drift caused by these documents",
    ],
)
def test_the_search_finds_what_it_should(text: str) -> None:
    """Also across line ends and in capitals."""
    assert banned_in(text)


@pytest.mark.parametrize("sentence", ALLOWED)
def test_every_exception_is_in_use(sentence: str) -> None:
    """The list of exceptions does not outlive them."""
    assert any(sentence in " ".join(text.split()) for path in FILES for text in texts_of(path))


def test_strings_split_over_lines_are_read_whole(tmp_path: Path) -> None:
    """Python joins them before anybody reads them."""
    path = tmp_path / "words.py"
    path.write_text('TEXT = "it comes "\\\n    "from there"\n')
    assert [word for text in texts_of(path) for word in banned_in(text)]
