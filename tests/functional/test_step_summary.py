"""What a command tells GitHub: annotations, the step's summary and outputs, and failures."""

from __future__ import annotations

from pathlib import Path

import pytest

from auditor.errors import OperationFailed
from auditor_cli.output import Output
from auditor_cli.reporting import announce_github
from auditor_reports.github import render_annotations, render_step_summary
from auditor_reports.markdown import MAX_BYTES
from tests.functional.ci_scratch import write_audit
from tests.functional.command import auditor
from tests.golden.sample_report import sample_report
from tests.unit.reports.hostile_report import enlarged


@pytest.fixture
def step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a step's files `summary` and `outputs`, inside GitHub Actions."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary"))
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "outputs"))
    monkeypatch.delenv("AUDITOR_GITHUB_ANNOTATIONS", raising=False)
    return tmp_path


def test_a_step_gets_annotation_summary_and_output(tmp_path: Path) -> None:
    """The real command: the annotation is in the log; what was in the files stays."""
    write_audit(tmp_path, "fail")
    summary, outputs = tmp_path / "summary", tmp_path / "outputs"
    summary.write_text("## Before\n")
    outputs.write_text("earlier=1\n")
    env = {
        "GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(summary),
        "GITHUB_OUTPUT": str(outputs),
    }  # fmt: skip
    ended = auditor("run", "auditor-plan.yaml", "--out", "run", cwd=tmp_path, env=env)
    assert ended.code == 1
    last = ended.out.splitlines()[-1]
    assert last.startswith("::error file=auditor-plan.yaml,line=8,title=AUD201")
    assert summary.read_text("utf-8").startswith("## Before\n## Audit: ❌ fail\n")
    assert outputs.read_text() == "earlier=1\nverdict=fail\n"


def test_annotations_stand_in_the_log_as_they_are(
    step: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither wrapped nor given emoji; none with --json, which promises JSON only."""
    announce_github(sample_report(), Output())
    assert capsys.readouterr().out == render_annotations(sample_report())
    announce_github(sample_report(), Output(as_json=True))
    assert capsys.readouterr().out == ""


def test_annotations_go_to_a_file_that_is_named(
    step: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also with --json, and the log has none."""
    monkeypatch.setenv("AUDITOR_GITHUB_ANNOTATIONS", str(step / "annotations"))
    announce_github(sample_report(), Output(as_json=True))
    assert (step / "annotations").read_text("utf-8") == render_annotations(sample_report())
    announce_github(sample_report(), Output())
    assert capsys.readouterr().out == ""


def test_what_the_step_wrote_before_counts(step: Path) -> None:
    """The summary is cut to what is left, and the file keeps the limit."""
    before = "x" * (MAX_BYTES - 50_001) + "\n"
    (step / "summary").write_text(before)
    report = enlarged(300)
    announce_github(report, Output())
    written = (step / "summary").read_bytes()
    assert written == before.encode() + render_step_summary(report, len(before))
    assert len(written) <= MAX_BYTES
    assert b"lines are left out. The full list is in audit.json.\n" in written


@pytest.mark.parametrize("variable", ["GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT"])
def test_a_file_that_cannot_be_written_is_named(
    variable: str, step: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line with file, variable and reason; the command line ends with 4."""
    monkeypatch.setenv(variable, str(step / "missing" / "file"))
    with pytest.raises(OperationFailed) as caught:
        announce_github(sample_report(), Output())
    assert str(caught.value) == (
        f"cannot write {step}/missing/file: No such file or directory; {variable} must name a "
        "file that can be written"
    )


def test_nothing_is_written_outside_github(
    step: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The variables alone change nothing."""
    monkeypatch.setenv("GITHUB_ACTIONS", "")
    announce_github(sample_report(), Output())
    assert list(step.iterdir()) == []
    assert capsys.readouterr().out == ""
