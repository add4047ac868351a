"""What a killed command left is removed by the next one, and what another writes now is not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from auditor.abandoned import FILE, FOLDER, claimed, hidden_name, remove_abandoned
from auditor.files import new_file, unfinished_folder

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such locks")
WRITING = """
import sys, time
from pathlib import Path
from auditor.files import {maker}
with {maker}({arguments}) as made:
    print("writing", flush=True)
    time.sleep(600)
"""
MAKERS = {
    FILE: WRITING.format(maker="new_file", arguments="Path('out')"),
    FOLDER: WRITING.format(maker="unfinished_folder", arguments="Path('out'), Path('source')"),
}


@pytest.mark.parametrize("ending", [FILE, FOLDER])
def test_a_killed_writer_leaves_what_the_next_one_removes(tmp_path: Path, ending: str) -> None:
    """While it lives, nothing of it is touched."""
    with subprocess.Popen(
        [sys.executable, "-c", MAKERS[ending]], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "writing\n"
        (hidden,) = tmp_path.iterdir()
        assert hidden.name.endswith(f".{ending}")
        remove_abandoned(tmp_path / "out")
        assert hidden.exists()
        writer.kill()
    remove_abandoned(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_new_folder_clears_its_place(tmp_path: Path) -> None:
    """Of its own target alone; links, other names and other targets stay."""
    old = hidden_name(tmp_path / "out", FOLDER)
    (old / "inner").mkdir(parents=True)
    (old / "inner" / "weights").write_text("half")
    kept = [hidden_name(tmp_path / "other", FOLDER), tmp_path / ".out.12ab.unfinished",
            tmp_path / ".out.unfinished"]  # fmt: skip
    for path in kept:
        path.mkdir()
    link = hidden_name(tmp_path / "out", FOLDER)
    link.symlink_to(kept[0])
    with unfinished_folder(tmp_path / "out", tmp_path / "source") as made:
        (made / "weights").write_text("whole")
    assert {path.name for path in tmp_path.iterdir()} == {
        "out", link.name, *(path.name for path in kept)
    }  # fmt: skip


def test_a_claim_is_had_once(tmp_path: Path) -> None:
    """Also within a process, and again after it was given up."""
    path = tmp_path / "file"
    path.touch()
    with claimed(path) as first, claimed(path) as second:
        assert (first, second) == (True, False)
    with claimed(path) as third:
        assert third
    with claimed(tmp_path / "none") as missing:
        assert not missing


def test_files_are_claimed_until_they_have_their_name(tmp_path: Path) -> None:
    """Then they are nobody's."""
    with new_file(tmp_path / "out") as file:
        (hidden,) = tmp_path.iterdir()
        with claimed(hidden) as is_free:
            assert not is_free
        file.write(b"whole")
    with claimed(tmp_path / "out") as is_free:
        assert is_free


def test_a_folder_that_cannot_be_listed_is_left(tmp_path: Path) -> None:
    """Whoever writes there next says so."""
    remove_abandoned(tmp_path / "none" / "out")
    assert list(tmp_path.iterdir()) == []
