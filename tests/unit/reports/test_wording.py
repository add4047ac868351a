"""What reports may not say, in templates and in the texts of the writers."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from auditor_reports.html_environment import DISCLAIMER as HTML_DISCLAIMER
from auditor_reports.markdown import DISCLAIMER as MARKDOWN_DISCLAIMER

ROOT = Path(__file__).parents[3] / "reports/auditor_reports"
FORBIDDEN = re.compile(
    r"(?i)complian|presumption of conformity|guarantee|certified(?! (?:radius|share))"
)
FILES = sorted(path for path in ROOT.rglob("*") if path.suffix in (".py", ".j2", ".js", ".css"))


def test_there_are_templates_to_look_at() -> None:
    """The list below is not empty by mistake."""
    assert {path.suffix for path in FILES} == {".py", ".j2", ".js", ".css"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_forbidden_words_are_absent(path: Path) -> None:
    """No file of the reports claims conformity."""
    assert FORBIDDEN.findall(path.read_text("utf-8")) == []


@pytest.mark.parametrize("text", ["compliant", "Compliance", "certified model", "a guarantee"])
def test_the_search_finds_what_it_should(text: str) -> None:
    """The pattern can fail."""
    assert FORBIDDEN.search(text)


@pytest.mark.parametrize("text", ["certified radius", "certified share 0.9"])
def test_defined_terms_are_allowed(text: str) -> None:
    """Certified radius and certified share are defined terms."""
    assert not FORBIDDEN.search(text)


def test_fixed_sentence_is_the_same_everywhere() -> None:
    """The sentence is not reworded anywhere."""
    sentence = "This report does not establish conformity and is not legal advice."
    assert sentence == HTML_DISCLAIMER == MARKDOWN_DISCLAIMER


def test_templates_mark_only_geometry_and_policy_as_safe() -> None:
    """Escaping is switched off for numbers of our own only."""
    templates = [path.read_text("utf-8") for path in FILES if path.suffix == ".j2"]
    safe = {name for text in templates for name in re.findall(r"([\w.]+)\|safe", text)}
    assert safe == {
        "chart.frames", "content_policy", "line.band", "line.markers", "line.path", "line.swatch",
        "shade.path",
    }  # fmt: skip


def test_reports_import_records_and_errors_only() -> None:
    """A report can be written without a model, an engine or an accelerator."""
    imported: set[str] = set()
    for path in FILES:
        if path.suffix != ".py":
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom):
                imported.add(node.module or "")
            elif isinstance(node, ast.Import):
                imported.update(alias.name for alias in node.names)
    own = {name for name in imported if name.split(".")[0] == "auditor"}
    assert own == {
        "auditor.audit.comparison", "auditor.errors", "auditor.findings", "auditor.fix",
        # What a scan found; it loads no library of models either.
        "auditor.models.scan.answer", "auditor.models.scan.decision", "auditor.models.scan.rules",
    }  # fmt: skip
    assert not {name for name in imported if name.split(".")[0] in ("torch", "numpy", "onnx")}
