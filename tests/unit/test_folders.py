"""Files of a folder: what is listed, which links are followed, and the digest."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from auditor.errors import FileMissing, RefusedFolder
from auditor.folders import FolderFile, folder_digest, list_files, open_listed


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with three files, one of them hidden, beside a file outside."""
    root = tmp_path / "folder"
    (root / "sub").mkdir(parents=True)
    (root / "b").write_text("two")
    (root / "sub" / "a").write_text("one")
    (root / ".hidden").write_text("three")
    (tmp_path / "outside").write_text("secret")
    return root


def _rule(folder: Path) -> str:
    with pytest.raises(RefusedFolder) as caught:
        list_files(folder)
    assert "\n" not in str(caught.value)
    return caught.value.rule


def test_files_are_listed_by_name_with_their_size(folder: Path) -> None:
    """Sub-folders are entered and names are relative."""
    assert list_files(folder) == (
        FolderFile(".hidden", folder / ".hidden", 5),
        FolderFile("b", folder / "b", 3),
        FolderFile("sub/a", folder / "sub" / "a", 3),
    )


def test_hidden_entries_are_left_out_on_request(folder: Path) -> None:
    """Neither a hidden file nor what is in a hidden folder is listed."""
    (folder / ".git").mkdir()
    (folder / ".git" / "hook").symlink_to(folder.parent / "outside")
    assert [file.name for file in list_files(folder, hidden=False)] == ["b", "sub/a"]


def test_the_digest_is_the_documented_one(folder: Path) -> None:
    """One line per file as sha256sum prints it, sorted, hashed again."""
    files = {".hidden": b"three", "b": b"two", "sub/a": b"one"}
    lines = "".join(f"{hashlib.sha256(files[n]).hexdigest()}  {n}\n" for n in sorted(files))
    assert folder_digest(folder) == f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"


def test_the_digest_changes_with_a_name_and_with_a_content(folder: Path) -> None:
    """Two changes that keep the other half give two more digests."""
    seen = {folder_digest(folder)}
    (folder / "b").rename(folder / "c")
    seen.add(folder_digest(folder))
    (folder / "c").write_text("TWO")
    seen.add(folder_digest(folder))
    assert len(seen) == 3


def test_a_link_inside_counts_as_the_file_it_names(folder: Path) -> None:
    """It is listed under its own name with the path of its target."""
    (folder / "link").symlink_to("sub/a")
    assert FolderFile("link", folder / "sub" / "a", 3) in list_files(folder)


@pytest.mark.parametrize("target", ["../outside", "/etc/hostname", "sub/../../outside"])
def test_a_link_that_leaves_the_folder_is_refused(folder: Path, target: str) -> None:
    """However the way out is written; a target that is not there is refused, too."""
    (folder / "link").symlink_to(target)
    assert _rule(folder) in ("link-escape", "broken-link")


def test_a_link_through_a_link_is_judged_by_its_end(folder: Path) -> None:
    """A link to a link that leaves the folder leaves it."""
    (folder / "one").symlink_to("two")
    (folder / "two").symlink_to("../outside")
    assert _rule(folder) == "link-escape"


def test_links_to_folders_pipes_and_nowhere_are_refused(folder: Path) -> None:
    """Each has its rule; a link in a circle is a link to nowhere."""
    (folder / "z").symlink_to("sub")
    assert _rule(folder) == "not-a-file"
    (folder / "z").unlink()
    (folder / "z").symlink_to("z")
    assert _rule(folder) == "broken-link"
    (folder / "z").unlink()
    os.mkfifo(folder / "z")
    assert _rule(folder) == "not-a-file"


def test_a_snapshot_of_the_cache_may_link_to_the_blobs_of_its_repository(tmp_path: Path) -> None:
    """And to nothing beside them, nor through a link that stands among the blobs."""
    repository = tmp_path / "models--a--b"
    snapshot = repository / "snapshots" / "revision"
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "blobs" / "abc").write_text("weights")
    (snapshot / "model.safetensors").symlink_to("../../blobs/abc")
    assert list_files(snapshot) == (
        FolderFile("model.safetensors", repository / "blobs" / "abc", 7),
    )
    (tmp_path / "outside").write_text("secret")
    (repository / "blobs" / "def").symlink_to(tmp_path / "outside")
    (snapshot / "other").symlink_to("../../blobs/def")
    assert _rule(snapshot) == "link-escape"


def test_blobs_that_are_a_link_to_elsewhere_are_not_followed(tmp_path: Path) -> None:
    """Otherwise the layout of the cache would open every folder."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "abc").write_text("secret")
    snapshot = tmp_path / "repository" / "snapshots" / "revision"
    snapshot.mkdir(parents=True)
    (tmp_path / "repository" / "blobs").symlink_to(tmp_path / "elsewhere")
    (snapshot / "file").symlink_to("../../blobs/abc")
    assert _rule(snapshot) == "link-escape"


def test_names_with_control_characters_are_refused(folder: Path) -> None:
    """A name must not be able to write lines of a log."""
    (folder / "a\n::error").write_text("")
    assert _rule(folder) == "control-character"


def test_limits_hold(folder: Path) -> None:
    """Too many files, and folders nested too deep."""
    assert len(list_files(folder, max_files=3, max_depth=2)) == 3
    with pytest.raises(RefusedFolder, match="file-limit"):
        list_files(folder, max_files=2)
    with pytest.raises(RefusedFolder, match="file-limit"):
        list_files(folder, max_files=2, hidden=False)
    with pytest.raises(RefusedFolder, match="nesting-limit"):
        list_files(folder, max_depth=1)


def test_a_missing_folder_is_missing(tmp_path: Path) -> None:
    """So is a file where a folder belongs."""
    (tmp_path / "file").touch()
    for name in ("absent", "file"):
        with pytest.raises(FileMissing, match="folder not found"):
            list_files(tmp_path / name)


def test_a_file_swapped_after_it_was_listed_is_refused(folder: Path) -> None:
    """By a link, and by content of another size."""
    listed = next(file for file in list_files(folder) if file.name == "b")
    (folder / "b").write_text("longer than before")
    with pytest.raises(RefusedFolder, match=r"\[changed\]"):
        open_listed(folder, listed)
    (folder / "b").unlink()
    (folder / "b").symlink_to("../outside")
    with pytest.raises(RefusedFolder, match=r"\[unreadable\]"):
        open_listed(folder, listed)
