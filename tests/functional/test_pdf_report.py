"""`auditor report --format pdf`, and what is said where it cannot be written."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest

from auditor.errors import AuditorError
from auditor_reports.pdf import load_weasyprint
from tests.functional.command import Ended, auditor

DEMO = Path(str(files("auditor_specs"))) / "plans" / "demo"
PLAN = f"""\
version: 1
name: small
subjects:
  - path: {DEMO / "digits.onnx"}
checks:
  - check: AUD102
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run."""
    made = tmp_path_factory.mktemp("pdf")
    (made / "plan.yaml").write_text(PLAN)
    assert auditor("run", "plan.yaml", "--out", "run", cwd=made).code == 0
    return made


def without_weasyprint(folder: Path, *arguments: str) -> Ended:
    """The command where importing the library fails as it does when it is not installed."""
    hiding = folder / "hiding"
    hiding.mkdir(exist_ok=True)
    (hiding / "weasyprint.py").write_text("raise ImportError('not here')\n")
    return auditor(*arguments, cwd=folder, env={"PYTHONPATH": str(hiding)})


def test_a_report_is_written_as_pdf(folder: Path) -> None:
    """Into the run's folder, and to a file of one's choice with the same bytes."""
    try:
        load_weasyprint()
    except AuditorError as missing:
        pytest.skip(str(missing))
    written = auditor("report", "run", "--format", "pdf", "-o", "pdf=other.pdf", cwd=folder)
    content = (folder / "run" / "report.pdf").read_bytes()
    assert (written.code, written.err) == (0, "")
    assert content.startswith(b"%PDF-1.7")
    assert (folder / "other.pdf").read_bytes() == content


@pytest.mark.slow
def test_without_the_library_the_other_formats_are_written(folder: Path) -> None:
    """Nobody asked for a PDF, and nothing is missing."""
    ended = without_weasyprint(folder, "report", "run")
    names = {Path(line).name for line in ended.out.splitlines()}
    assert ended.code == 0
    assert {"report.html", "audit.json", "summary.md"} <= names
    assert "report.pdf" not in names


def test_without_the_library_one_line_says_what_to_install(folder: Path) -> None:
    """And nothing is written in its place."""
    ended = without_weasyprint(folder, "report", "run", "-o", "pdf=missing.pdf")
    assert ended.code == 2
    assert len(ended.err.strip().splitlines()) == 1
    assert "needs WeasyPrint" in ended.err
    assert "auditor[pdf]" in ended.err
    assert not (folder / "missing.pdf").exists()


@pytest.mark.slow
def test_doctor_says_whether_a_pdf_can_be_written(folder: Path) -> None:
    """A note where it cannot: every other format works without."""
    ended = without_weasyprint(folder, "doctor")
    (line,) = [line for line in ended.out.splitlines() if "report as PDF" in line]
    assert line.startswith("note")
    assert "auditor[pdf]" in line
