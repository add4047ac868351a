"""Runs are found without following links, read in part, and read again only when changed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from auditor.findings import AuditReport
from auditor_cli.view.run_index import MAX_DEPTH, RunIndex, run_id
from auditor_reports.audit_json import render_json
from auditor_reports.run_list_page import RunLine
from tests.golden.sample_comparison import sample_successor
from tests.golden.sample_report import sample_report
from tests.unit.reports.hostile_report import HOSTILE_TEXTS, poisoned


def write_run(folder: Path, report: AuditReport) -> Path:
    """A run's folder with its `audit.json`."""
    folder.mkdir(parents=True)
    (folder / "audit.json").write_bytes(render_json(report))
    return folder / "audit.json"


def lines(folder: Path) -> dict[str, RunLine]:
    """The line of each run by its name."""
    return {line.name: line for line in RunIndex(folder).refresh()}


def test_a_line_says_what_the_report_says(tmp_path: Path) -> None:
    """Title, subjects, decision, counts and time."""
    write_run(tmp_path / "v1", sample_report())
    report = sample_report()
    assert lines(tmp_path)["v1"] == RunLine(
        key=run_id(tmp_path, tmp_path / "v1"),
        name="v1",
        files=("audit.json",),
        title=report.plan_title,
        subjects=tuple(subject.name for subject in report.subjects),
        verdict=report.gate.verdict,
        counts=report.gate.counts,
        complete=report.complete,
        finished=report.timing.finished,
    )


@pytest.mark.parametrize("text", HOSTILE_TEXTS.values(), ids=HOSTILE_TEXTS)
def test_no_text_in_a_report_is_taken_for_a_part_of_it(text: str, tmp_path: Path) -> None:
    """The parts that are not read are cut out by their place in the file."""
    file = write_run(tmp_path / "run", poisoned(f'\n "gate": {{}}, {text}'))
    plain = lines(tmp_path)["run"]
    # Written otherwise, so that nothing can be cut out of it.
    file.write_text(json.dumps(json.loads(file.read_bytes())))
    assert lines(tmp_path)["run"] == plain
    assert plain.problem == ""


def test_the_long_parts_are_not_read(tmp_path: Path) -> None:
    """What stands in the results may be anything."""
    file = write_run(tmp_path / "run", sample_report())
    content = file.read_bytes()
    start, end = content.index(b'\n "results": ['), content.index(b'\n "schema_version"')
    file.write_bytes(content[:start] + b'\n "results": [ this is not JSON ],' + content[end:])
    assert lines(tmp_path)["run"].title == sample_report().plan_title


def test_an_unchanged_file_is_not_read_again(tmp_path: Path) -> None:
    """Size and time tell; a changed one is read."""
    file = write_run(tmp_path / "run", sample_report())
    index = RunIndex(tmp_path)
    (before,) = index.refresh()
    status = file.stat()
    other = file.read_bytes().replace(b"Release 2.4", b"Release 9.9")
    file.write_bytes(other)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert index.refresh() == [before]
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    (after,) = index.refresh()
    assert after.title == before.title.replace("2.4", "9.9")


def test_a_ledger_that_moved_on_is_read(tmp_path: Path) -> None:
    """The run was extended and goes on: `audit.json` is of before."""
    file = write_run(tmp_path / "run", sample_report())
    (tmp_path / "run/ledger.jsonl").write_bytes(b"")
    os.utime(file, (0, 0))
    assert "holds no plan" in lines(tmp_path)["run"].problem


def test_newest_comes_first_and_unreadable_last(tmp_path: Path) -> None:
    """By the time the last check ended."""
    write_run(tmp_path / "a", sample_report())
    write_run(tmp_path / "b", sample_successor())
    write_run(tmp_path / "c", sample_report()).write_bytes(b"[]")
    assert [line.name for line in RunIndex(tmp_path).refresh()] == ["b", "a", "c"]


@pytest.mark.parametrize(
    "content", [b"", b"null", b'{"plan": 1}', b"{\n}", b"\xff", b"[" * 100_000], ids=repr
)
def test_what_is_no_report_is_told_and_not_raised(content: bytes, tmp_path: Path) -> None:
    """In one line of the list."""
    write_run(tmp_path / "run", sample_report()).write_bytes(content)
    line = lines(tmp_path)["run"]
    assert line.problem
    assert line.verdict is None


def test_links_hidden_and_evidence_folders_are_left_alone(tmp_path: Path) -> None:
    """And what lies too deep, or inside of a run."""
    outside, root = tmp_path / "outside", tmp_path / "root"
    write_run(outside / "run", sample_report())
    write_run(root / "run", sample_report())
    write_run(root / "run/inside", sample_report())
    write_run(root / ".hidden", sample_report())
    write_run(root / "evidence", sample_report())
    write_run(root.joinpath(*("d",) * (MAX_DEPTH + 1)), sample_report())
    (root / "link").symlink_to(outside)
    (root / "half").mkdir()
    (root / "half/audit.json").symlink_to(outside / "run/audit.json")
    assert list(lines(root)) == ["run"]


def test_ids_are_of_the_place_and_nothing_else(tmp_path: Path) -> None:
    """Sixteen digits, another for each folder; an unknown one leads nowhere."""
    for name in ("a", "b/c", "ü\udcff"):
        write_run(tmp_path / name, sample_report())
    index = RunIndex(tmp_path)
    keys = {line.key: line.name for line in index.refresh()}
    assert len(keys) == 3
    assert all(len(key) == 16 and int(key, 16) >= 0 for key in keys)
    assert {index.folder(key) for key in keys} == {tmp_path / name for name in keys.values()}
    assert index.folder("0" * 16) is None
