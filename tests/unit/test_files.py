"""Atomic writes: all of the new content or all of the old, and nothing else."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from auditor.errors import FileMissing, InvalidText, OperationFailed, OutputNotWritable
from auditor.files import new_file, read_text_file, unfinished_folder, write_atomically


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


def test_no_planted_link_is_followed(tmp_path: Path) -> None:
    """Neither a link at the target nor at any name that could be guessed is written through."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    folder = tmp_path / "out"
    folder.mkdir()
    target = folder / "report.html"
    target.symlink_to(victim)
    (folder / f".report.html.{os.getpid()}.tmp").symlink_to(victim)
    write_atomically(target, b"new")
    assert victim.read_bytes() == b"precious"
    assert not target.is_symlink()
    assert target.read_bytes() == b"new"


def test_the_unfinished_file_is_made_anew_and_is_no_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even whoever foresees its name has nothing from planting a link there."""
    monkeypatch.setattr("secrets.token_hex", lambda _: "foreseen")
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    planted = tmp_path / ".report.html.foreseen.tmp"
    planted.symlink_to(victim)
    with pytest.raises(OutputNotWritable):
        write_atomically(tmp_path / "report.html", b"new")
    assert victim.read_bytes() == b"precious"
    assert planted.is_symlink()


def test_a_block_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """The old content stays, and no unfinished file does."""
    target = tmp_path / "proof"
    target.write_bytes(b"old")
    with pytest.raises(TypeError), new_file(target) as stream:
        stream.writelines([b"half", "no bytes"])  # type: ignore[list-item]
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("proof", b"old")]


def test_a_folder_that_stands_in_the_way_is_not_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the folder that was made here is cleared away."""
    monkeypatch.setattr("secrets.token_hex", lambda _: "foreseen")
    taken = tmp_path / ".model.foreseen.unfinished"
    taken.mkdir()
    (taken / "precious").write_bytes(b"")
    with pytest.raises(OperationFailed), unfinished_folder(tmp_path / "model", tmp_path / "old"):
        pass
    assert (taken / "precious").exists()


@pytest.mark.parametrize("name", ["a\0b", "nowhere/plan.yaml"])
def test_a_name_that_cannot_be_a_file_is_missing(tmp_path: Path, name: str) -> None:
    """A NUL in a name is no crash."""
    with pytest.raises(FileMissing):
        read_text_file(tmp_path / name, "plan", 10)


def test_a_larger_file_than_allowed_is_not_read(tmp_path: Path) -> None:
    """The limit counts bytes."""
    (tmp_path / "plan.yaml").write_bytes(b"x" * 11)
    with pytest.raises(InvalidText, match="larger than 10 bytes"):
        read_text_file(tmp_path / "plan.yaml", "plan", 10)
