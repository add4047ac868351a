"""A run writes traced texts shortened; in full they lie in its evidence folder only."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.functional.command import Ended, auditor
from tests.models.tiny import absolute_value

SECRET = "the nine hidden words in the midst of it"
PLUGIN = f"""
from auditor.check import Check, CheckParams
from auditor.findings import Answer, TextPiece, TracedSpan, TracedTextEvidence, Verdict
from auditor.redaction import MEDIA_TYPE, full_record

class Params(CheckParams):
    keep: bool = False

def trace(subject, params, context):
    matched = "begin " * 20 + {SECRET!r} + " end" * 20
    span = TracedSpan(count=3, documents=("d.txt",), documents_total=3, tokens=49, digest="x")
    full = TracedTextEvidence(title="t", prompt="p " * 50 + {SECRET!r}, verdict="flag",
                              pieces=(TextPiece(text=matched, span=1),), spans=(span,))
    blob = None
    if params.keep:
        blob = context.evidence.put(full_record(full), MEDIA_TYPE, "full.json")
    # As a careless check would: not shortened.
    return Answer(verdict=Verdict.HOLDS, summary="s",
                  evidence=(full.model_copy(update={{"blob": blob}}),))

CHECK = Check(code="AUD901", title="t", version=1, question="?", method="m",
              pass_does_not_mean="-", kinds=("onnx",), params=Params, run=trace,
              estimate_s=lambda params: 1.0)
"""
PLAN = """\
version: 1
name: traced
subjects: [{path: model.onnx}]
checks: [{check: AUD901, params: {keep: KEEP}}]
reports: [html, json, junit, markdown, sarif]
"""


def run(folder: Path, *, keep: bool) -> dict[str, str]:
    """Run the plan in a folder; the environment in which the check is installed."""
    info = folder / "site" / "traced-0.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: traced\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[auditor.checks]\ncheck = traced:CHECK\n")
    (folder / "site" / "traced.py").write_text(PLUGIN)
    (folder / "model.onnx").write_bytes(absolute_value().SerializeToString())
    (folder / "plan.yaml").write_text(PLAN.replace("KEEP", str(keep).lower()))
    known = os.environ.get("PYTHONPATH", "")
    env = {"PYTHONPATH": os.pathsep.join(filter(None, (str(folder / "site"), known)))}
    ended = auditor("run", "plan.yaml", "--out", "run", cwd=folder, env=env)
    assert ended.code == 0, ended.err
    return env


def holding(folder: Path, text: str) -> set[str]:
    """The files of a run that hold a text; those of the evidence folder as `evidence`."""
    return {
        path.relative_to(folder).parts[0]
        for path in folder.rglob("*")
        if path.is_file() and text.encode() in path.read_bytes()
    }


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A run that kept its full text, and its environment; copy it before writing to it."""
    folder = tmp_path_factory.mktemp("kept")
    return folder, run(folder, keep=True)


def report(kept: tuple[Path, dict[str, str]], folder: Path, *options: str) -> Ended:
    """`auditor report --show-samples` on the copy of the run in a folder."""
    return auditor("report", "run", "--show-samples", *options, cwd=folder, env=kept[1])


@pytest.fixture
def copied(kept: tuple[Path, dict[str, str]], tmp_path: Path) -> Path:
    """A folder with a copy of the run."""
    shutil.copytree(kept[0] / "run", tmp_path / "run")
    return tmp_path


def blob_of(folder: Path) -> Path:
    """The one file of the run's evidence folder."""
    (path,) = [path for path in (folder / "run" / "evidence").rglob("*") if path.is_file()]
    return path


def test_a_run_keeps_nothing_in_full_unless_asked(tmp_path: Path) -> None:
    """Not in the ledger either, though the check shortened nothing."""
    run(tmp_path, keep=False)
    assert holding(tmp_path / "run", SECRET) == set()
    assert "ledger.jsonl" in holding(tmp_path / "run", "begin begin")


def test_in_full_it_lies_in_the_evidence_folder_only(kept: tuple[Path, dict[str, str]]) -> None:
    """Whatever else the run wrote is shortened."""
    assert holding(kept[0] / "run", SECRET) == {"evidence"}


def test_samples_are_shown_to_readers_only(kept: tuple[Path, dict[str, str]], copied: Path) -> None:
    """HTML and Markdown show them; the files for machines do not."""
    assert report(kept, copied).code == 0
    assert holding(copied / "run", SECRET) == {"evidence", "report.html", "summary.md"}


def test_the_next_report_is_shortened_again(
    kept: tuple[Path, dict[str, str]], copied: Path
) -> None:
    """Showing samples once changes nothing for later."""
    report(kept, copied)
    auditor("report", "run", cwd=copied, env=kept[1])
    assert holding(copied / "run", SECRET) == {"evidence"}


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (Path.unlink, "the file is missing"),
        (lambda path: path.write_bytes(b"{}"), "its content does not fit its digest"),
    ],
)
def test_a_sample_that_is_gone_or_altered_is_one_line(
    kept: tuple[Path, dict[str, str]], copied: Path, spoil: Callable[[Path], object], problem: str
) -> None:
    """On the terminal and on the page; the report is written all the same."""
    spoil(blob_of(copied))
    ended = report(kept, copied, "--format", "html")
    assert ended.code == 0
    (line,) = ended.err.splitlines()
    assert line.startswith("not shown in full: ")
    assert problem in line
    page = (copied / "run" / "report.html").read_text()
    assert "The full text cannot be shown" in page
    assert problem in page
    assert SECRET not in page


def test_a_format_without_samples_is_refused(
    kept: tuple[Path, dict[str, str]], copied: Path
) -> None:
    """Nobody believes to have asked for something that cannot come."""
    ended = report(kept, copied, "--format", "sarif", "-o", "json=a.json")
    assert ended.code == 2
    assert "changes nothing in json, sarif; ask for html or markdown" in ended.err
    assert not (copied / "a.json").exists()


def test_a_run_without_full_texts_says_so(tmp_path: Path) -> None:
    """The report is written, shortened as ever."""
    env = run(tmp_path, keep=False)
    ended = auditor("report", "run", "--show-samples", cwd=tmp_path, env=env)
    assert ended.code == 0
    assert "this run kept no traced text in full" in ended.err
