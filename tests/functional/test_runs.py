"""`auditor runs list|show|rm`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from auditor.findings import Verdict
from tests.functional.command import auditor
from tests.models.written_run import made_result, write_run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two runs, one of them unreadable, and something that is no run."""
    write_run(tmp_path / "runs" / "good", [made_result("AUD201", Verdict.VIOLATED)])
    shutil.copytree(tmp_path / "runs" / "good", tmp_path / "runs" / "bad")
    ledger = tmp_path / "runs" / "bad" / "ledger.jsonl"
    ledger.write_text("nonsense\n" + ledger.read_text())
    (tmp_path / "runs" / "notes").mkdir()
    (tmp_path / "runs" / "notes" / "a.txt").write_text("keep")
    return tmp_path


def test_the_list_names_runs_and_those_that_cannot_be_read(folder: Path) -> None:
    """What is no run is not in it; an unreadable one is no reason to stop."""
    ended = auditor("runs", "list", "runs", "--json", cwd=folder)
    listed = {Path(each["folder"]).name: each for each in map(json.loads, ended.out.splitlines())}
    assert ended.code == 0
    assert {name: each["gate"] for name, each in listed.items()} == {
        "good": "fail", "bad": "unreadable",
    }  # fmt: skip
    sizes = [
        path.stat().st_size for path in (folder / "runs" / "good").rglob("*") if path.is_file()
    ]
    assert listed["good"]["bytes"] == sum(sizes)
    assert "ledger.jsonl:1" in listed["bad"]["problem"]
    assert auditor("runs", "list", "nowhere", cwd=folder).code == 2


def test_show_says_what_was_asked_and_found(folder: Path) -> None:
    """With the fingerprint that the reports carry."""
    ended = auditor("runs", "show", "runs/good", "--json", cwd=folder)
    shown = json.loads(ended.out)
    assert (ended.code, shown["gate"], shown["results"]) == (0, "fail", {"AUD201": "violated"})
    assert auditor("runs", "show", "runs/notes", cwd=folder).code == 2


def test_rm_removes_a_run_and_what_a_link_in_it_leads_to_stays(folder: Path) -> None:
    """Nothing outside the folder is touched."""
    # The last is what a report leaves that was killed while it was written.
    for name in ("report.html", "dossier-ai-act.md", ".report.pdf.0f1e2d3c4b5a6978.tmp"):
        (folder / "runs" / "good" / name).write_text("written by auditor")
    link = folder / "runs" / "good" / "evidence" / "out"
    link.symlink_to(folder / "runs" / "notes")
    ended = auditor("runs", "rm", "runs/good", "--yes", cwd=folder)
    assert ended.code == 0
    assert not (folder / "runs" / "good").exists()
    assert (folder / "runs" / "notes" / "a.txt").read_text() == "keep"


def test_rm_refuses_what_is_no_run(folder: Path) -> None:
    """A folder without ledger, one with other files, a link to a run, a damaged one."""
    (folder / "link").symlink_to(folder / "runs" / "good")
    (folder / "runs" / "good" / "thesis.tex").write_text("years")
    for name, part in (
        ("runs/notes", "run not found"),
        ("runs/good", "did not write: thesis.tex"),
        ("link", "is a link"),
    ):
        ended = auditor("runs", "rm", name, "--yes", cwd=folder)
        assert (ended.code, part in ended.err) == (2, True), name
    assert auditor("runs", "rm", "runs/bad", "--yes", cwd=folder).code == 4
    assert len(list((folder / "runs").iterdir())) == 3


def test_rm_asks_and_nobody_to_ask_is_a_no(folder: Path) -> None:
    """A script has to say --yes."""
    ended = auditor("runs", "rm", "runs/good", cwd=folder)
    assert (ended.code, "add --yes" in ended.err) == (2, True)
    assert (folder / "runs" / "good").is_dir()
