"""Listing a folder of a stranger: everything is met, and nothing is followed out of it."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from auditor.models.scan.decision import Decision
from auditor.models.scan.limits import ScanLimits
from auditor.models.scan.tree import Tree, list_tree

AS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


def listed(folder: Path, **limits: int) -> Tree:
    """The tree of a folder, within limits."""
    return list_tree(folder, ScanLimits(**limits))


def names(tree: Tree) -> list[str]:
    """Of its files."""
    return [file.name for file in tree.files]


def rules(tree: Tree) -> list[tuple[str, str]]:
    """Rule and place of each problem."""
    return [(problem.rule, problem.place) for problem in tree.problems]


def write(path: Path, text: str = "x") -> Path:
    """A file, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_all_files_are_listed_hidden_ones_too(tmp_path: Path) -> None:
    """Sorted by name, with their sizes."""
    for name in ("b/c/d.txt", "a.txt", ".hidden/e", ".f"):
        write(tmp_path / name, name)
    tree = listed(tmp_path)
    assert names(tree) == [".f", ".hidden/e", "a.txt", "b/c/d.txt"]
    assert [file.size for file in tree.files] == [len(name) for name in names(tree)]
    assert (tree.problems, tree.not_looked_at) == ([], [])


def test_what_git_keeps_is_said_not_to_be_looked_at(tmp_path: Path) -> None:
    """At any depth; a file of that name is a file."""
    write(tmp_path / ".git" / "config")
    write(tmp_path / "sub" / ".git" / "config")
    write(tmp_path / "other" / ".git")
    tree = listed(tmp_path)
    assert names(tree) == ["other/.git"]
    assert sorted(tree.not_looked_at) == [".git", "sub/.git"]


def test_links_to_what_lies_inside_are_followed_once(tmp_path: Path) -> None:
    """A file by both its names, a folder where it lies, the folder itself not again."""
    write(tmp_path / "a" / "x.txt", "text")
    (tmp_path / "file").symlink_to("a/x.txt")
    (tmp_path / "folder").symlink_to("a")
    (tmp_path / "a" / "up").symlink_to("..")
    tree = listed(tmp_path)
    assert names(tree) == ["a/x.txt", "file"]
    assert tree.problems == []


@pytest.mark.parametrize("target", ["/etc/hostname", "../outside", "../outside/secret", "/"])
def test_links_that_leave_the_folder_are_refused(tmp_path: Path, target: str) -> None:
    """To files and to folders, and nothing behind them is listed."""
    write(tmp_path / "outside" / "secret")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to(target)
    tree = listed(tmp_path / "in")
    assert names(tree) == []
    assert rules(tree) in ([("link-escape", "link")], [("broken-link", "link")])
    assert tree.problems[0].decision is Decision.REFUSED


def test_a_link_into_what_is_not_looked_at_is_refused(tmp_path: Path) -> None:
    """Else a folder behind it would pass unseen under a name that says nothing of it."""
    write(tmp_path / ".git" / "hidden" / "model.bin")
    (tmp_path / "weights").symlink_to(".git/hidden")
    assert rules(listed(tmp_path)) == [("not-a-file", "weights")]


def test_rings_of_links_end(tmp_path: Path) -> None:
    """Each link of a ring is a problem of its own."""
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "self").symlink_to("self")
    (tmp_path / "gone").symlink_to("nowhere")
    assert sorted(rules(listed(tmp_path))) == [
        ("broken-link", name) for name in ("a", "b", "gone", "self")
    ]


def test_the_scanned_folder_may_be_a_link(tmp_path: Path) -> None:
    """The user named it."""
    write(tmp_path / "real" / "x")
    (tmp_path / "link").symlink_to("real")
    assert names(listed(tmp_path / "link")) == ["x"]


@pytest.mark.parametrize("top", ["snapshot", "repository"])
def test_a_snapshot_of_the_cache_is_listed(tmp_path: Path, top: str) -> None:
    """On its own, and as a part of its repository."""
    repository = tmp_path / "models--org--name"
    blob = write(repository / "blobs" / "0a1b")
    snapshot = repository / "snapshots" / "rev"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").symlink_to("../../blobs/0a1b")
    tree = listed(snapshot if top == "snapshot" else repository)
    assert tree.problems == []
    assert {file.path for file in tree.files} == {blob.resolve()}
    assert len(tree.files) == (1 if top == "snapshot" else 2)


def test_pipes_and_sockets_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not opened, which would wait for ever."""
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("socket")
        tree = listed(tmp_path)
    assert sorted(rules(tree)) == [("not-a-file", "pipe"), ("not-a-file", "socket")]


@pytest.mark.parametrize(
    "name", [b"a\x1b[2Jb", b"a\nb", b"\xe2\x80\xaegpj.exe", b"\xff\xfe", b"a\x7f", b"::error::\r"]
)
def test_names_that_a_terminal_would_obey_are_refused(tmp_path: Path, name: bytes) -> None:
    """Of files and of folders; the file is listed and looked at nevertheless."""
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_text("x")
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/f" + name))
    write(folder / "inside")
    tree = listed(tmp_path)
    assert len(tree.files) == 2
    assert [problem.rule for problem in tree.problems] == ["control-character"] * 3
    assert all(problem.problem.isprintable() for problem in tree.problems)


def test_deep_folders_are_not_entered_and_not_called_clean(tmp_path: Path) -> None:
    """Forty of them; what lies above is listed."""
    deep = tmp_path.joinpath(*["d"] * 40)
    write(deep / "x")
    write(tmp_path / "d" / "y")
    tree = listed(tmp_path, depth=5)
    assert names(tree) == ["d/y"]
    (problem,) = tree.problems
    assert (problem.rule, problem.place) == ("nesting-limit", "d/d/d/d/d")
    assert problem.decision is Decision.INCONCLUSIVE
    assert names(listed(tmp_path, depth=41)) == ["d/" * 40 + "x", "d/y"]


def test_more_files_than_the_limit_are_said_not_to_be_looked_at(tmp_path: Path) -> None:
    """In one folder or over several; the limit itself is let through."""
    for number in range(4):
        write(tmp_path / "flat" / str(number))
        write(tmp_path / "split" / str(number % 2) / str(number))
    for folder in ("flat", "split"):
        assert listed(tmp_path / folder, files=4).problems == []
        tree = listed(tmp_path / folder, files=3)
        assert {rule for rule, _ in rules(tree)} == {"file-limit"}
        assert len(tree.files) <= 3
        assert tree.problems[0].decision is Decision.INCONCLUSIVE


def test_entries_that_are_no_files_do_not_hide_what_follows(tmp_path: Path) -> None:
    """A folder full of links or folders is cut, and says so."""
    for number in range(6):
        (tmp_path / f"folder{number}").mkdir()
        (tmp_path / f"link{number}").symlink_to("folder0")
    tree = listed(tmp_path, files=5)
    assert rules(tree) == [("file-limit", "")]


@pytest.mark.skipif(AS_ROOT, reason="root may read everything")
def test_a_folder_that_must_not_be_listed_is_not_decided(tmp_path: Path) -> None:
    """The rest is."""
    write(tmp_path / "closed" / "x")
    write(tmp_path / "open" / "y")
    (tmp_path / "closed").chmod(0)
    try:
        tree = listed(tmp_path)
    finally:
        (tmp_path / "closed").chmod(0o700)
    assert names(tree) == ["open/y"]
    assert [(p.rule, p.decision) for p in tree.problems] == [("unreadable", Decision.INCONCLUSIVE)]


def test_a_folder_that_vanishes_is_not_decided(tmp_path: Path) -> None:
    """Listing it raises nothing."""
    tree = listed(tmp_path / "absent")
    assert rules(tree) == [("unreadable", "")]
