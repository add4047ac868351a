"""Atomic writes: all of the new content or all of the old, and nothing else."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from auditor.errors import OperationFailed, OutputNotWritable
from auditor.files import write_atomically


def test_a_write_replaces_the_whole_file_and_leaves_no_other(tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    target.write_bytes(b"a much longer old content")
    write_atomically(target, b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [
        ("report.html", b"new")
    ]


def test_missing_folders_are_made(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a" / "b" / "report.html", b"new")
    assert (tmp_path / "a" / "b" / "report.html").read_bytes() == b"new"


def test_a_written_file_is_as_readable_as_any_other(tmp_path: Path) -> None:
    """The mode is what the user's umask gives to new files."""
    ordinary, report = tmp_path / "ordinary", tmp_path / "report"
    ordinary.write_bytes(b"")
    write_atomically(report, b"")
    assert stat.S_IMODE(report.stat().st_mode) == stat.S_IMODE(ordinary.stat().st_mode)


@pytest.mark.parametrize("taken", ["folder", "file"])
def test_a_wrong_place_is_named_and_nothing_is_left_behind(tmp_path: Path, taken: str) -> None:
    target = tmp_path / "report.html"
    if taken == "folder":
        target.mkdir()
    else:
        target.write_text("a file")
        target = target / "report.html"
    with pytest.raises(OutputNotWritable, match=r"cannot write to .*report\.html"):
        write_atomically(target, b"new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


def test_a_full_disk_is_the_machines_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OperationFailed, match="No space left on device"):
        write_atomically(tmp_path / "report.html", b"new")
    assert list(tmp_path.iterdir()) == []
