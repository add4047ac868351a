"""Commands that are killed leave nothing half-written, and end when they are issued again.

`benchmarks/kill_trials.py` does the same at more moments, and with more commands.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from auditor_cli.main import run_command_line
from benchmarks.flushed import unflushed
from benchmarks.kill_trials import prepare, try_once, undisturbed
from benchmarks.killed_products import IndexBuild, Patterns
from benchmarks.killed_runs import RUN, Audit, Reports
from benchmarks.killed_work import Work, tree
from benchmarks.killing import Moment, Whole

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="processes and what they write are followed as Linux has them"
)
slow = pytest.mark.slow


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> tuple[Audit, Path, Whole]:
    """An audit, the folder in which it ran undisturbed, and how it did."""
    work, folder = Audit("few", checks=3, of_file=False), tmp_path_factory.mktemp("audited")
    return work, folder, undisturbed(work, folder)


@slow
def test_a_killed_audit_keeps_what_is_committed(audited: tuple[Audit, Path, Whole]) -> None:
    """Killed at a write; and its first process alone, whose workers end by themselves."""
    work, folder, whole = audited
    _require_sound(try_once(work, whole, Moment("write", 0.6), folder))
    alone = try_once(work, whole, Moment("time", 0.7, alone=True), folder)
    assert alone["problems"] == []


@slow
def test_killed_reports_are_the_old_or_the_new_ones(
    audited: tuple[Audit, Path, Whole], tmp_path: Path
) -> None:
    work = Reports(audited[1] / "plain" / RUN, "report", formats=("html", "json", "junit"))
    _try_writes(work, tmp_path, 0.3, 0.7)


@slow
def test_a_killed_build_of_an_index_leaves_none_or_the_whole_one(tmp_path: Path) -> None:
    """And of an undisturbed one, every shard was on the disk before the manifest named it."""
    work = IndexBuild("index", 2)
    whole = _try_writes(work, tmp_path, 0.3, 0.7, 0.95)
    prepared = set(tree(prepare(work, tmp_path / "trial")))
    lines = unflushed(whole.points, tmp_path / "whole", prepared)
    assert not [line for line in lines if "content" in line and "shards/" in line]


@slow
@pytest.mark.parametrize("step", ["mine", "monitor", "minimise"])
def test_killed_patterns_are_not_there_or_whole(step: str, tmp_path: Path) -> None:
    _try_writes(Patterns(step, step), tmp_path, 0.9)


@pytest.mark.parametrize("kind", ["experts", "memorization", "deconfliction"])
def test_a_model_without_its_record_is_told_from_a_finished_repair(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only a repair that was killed between its last writes leaves one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "new").mkdir()
    needed = {
        "experts": "direction=suppress method=zero_output harmful harmless held-out-harmless",
        "memorization": "memorised ordinary held-out",
        "deconfliction": "preferences clean calibration index prompts safe-prompts",
    }  # fmt: skip
    given = [part for name in needed[kind].split()
             for part in (f"--{name.split('=')[0]}", name.split("=")[-1])]  # fmt: skip
    assert run_command_line(["fix", kind, "model", *given, "--out", "new"]) == 2
    said = capsys.readouterr().err
    assert "there is no record at new.fix.json, so a repair that was stopped may have left" in said


def _try_writes(work: Work, folder: Path, *shares: float) -> Whole:
    """Kill a command at these shares of its writes, and require that nothing is wrong."""
    whole = undisturbed(work, folder)
    for share in shares:
        _require_sound(try_once(work, whole, Moment("write", share), folder))
    return whole


def _require_sound(told: dict[str, object]) -> None:
    assert told["killed"], f"ended before {told['point']}"
    assert told["problems"] == []
