"""Formats are found by name, and files are written whole or not at all."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from auditor.errors import OutputNotWritable, UnknownName
from auditor_reports.registry import WRITERS, Writer, render, write_atomic, writer
from tests.golden.sample_report import sample_report
from tests.unit.reports.hostile_report import HOSTILE_TEXTS, poisoned

BY_NAME = {each.name: each for each in WRITERS}


def test_names_and_files_are_unique() -> None:
    """No format overwrites another's file."""
    assert (
        len({w.name for w in WRITERS}) == len({w.suffix_filename for w in WRITERS}) == len(WRITERS)
    )


@pytest.mark.parametrize("each", WRITERS, ids=BY_NAME)
def test_render_is_a_pure_function_of_the_report(each: Writer) -> None:
    """Same report, same bytes, in every format."""
    assert render(each.name, sample_report()) == each.render(sample_report())


@pytest.mark.parametrize("each", WRITERS, ids=BY_NAME)
@pytest.mark.parametrize("text", HOSTILE_TEXTS.values(), ids=HOSTILE_TEXTS)
def test_no_terminal_escape_and_no_nul_in_any_format(each: Writer, text: str) -> None:
    """Printing any file to a terminal is harmless."""
    content = each.render(poisoned(text))
    assert not set(content) & {0x00, 0x1B, 0x07, 0x08, 0x7F}
    content.decode("utf-8")


def test_unknown_format_names_the_known_ones() -> None:
    """A misspelt format is answered with a hint."""
    with pytest.raises(UnknownName, match="did you mean 'sarif'"):
        writer("sariff")


def test_write_replaces_the_whole_file(tmp_path: Path) -> None:
    """The new content is all there is, and no other file stays behind."""
    path = tmp_path / "report.html"
    path.write_bytes(b"a much longer old content")
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_written_file_is_as_readable_as_any_other(tmp_path: Path) -> None:
    """The mode is what the user's umask gives to new files."""
    ordinary, report = tmp_path / "ordinary", tmp_path / "report"
    ordinary.write_bytes(b"")
    write_atomic(report, b"")
    assert stat.S_IMODE(report.stat().st_mode) == stat.S_IMODE(ordinary.stat().st_mode)


def test_missing_folder_is_named(tmp_path: Path) -> None:
    """The message names the file and the reason."""
    with pytest.raises(OutputNotWritable, match=r"report\.html: No such file"):
        write_atomic(tmp_path / "missing" / "report.html", b"")


def test_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    """A folder in the way is an error, and the temporary file is gone."""
    (tmp_path / "report.html").mkdir()
    with pytest.raises(OutputNotWritable):
        write_atomic(tmp_path / "report.html", b"new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]
