"""Run folders and caches of strangers: nothing outside is read, written or removed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from auditor.audit.answer_cache import AnswerCache
from auditor.audit.ledger import Ledger, LedgerDamaged, read_entries
from auditor.audit.run_directory import make_folder
from auditor.errors import OperationFailed, OutputNotWritable


def entry(body: str, *, kind: str = '"result"', form: str = "1") -> bytes:
    """A ledger's first line of any content, with the right digest."""
    previous = "0" * 64
    text = f'{{"body":{body},"format":{form},"kind":{kind},"previous":"{previous}"}}'
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f'{{"digest":"{digest}","entry":{text}}}\n'.encode()


@pytest.mark.parametrize(
    "line",
    [
        b"[" * 100_000 + b"\n",
        entry('{"a":' + "[" * 100_000 + "]" * 100_000 + "}"),
        entry('{"a":' + "[" * 900 + "]" * 900 + "}"),
        entry('{"a":NaN}'),
        entry('{"a":1e999}'),
        entry('{"a":' + "1" * 5_000 + "}"),
        entry("[1]"),
        entry("{}", kind='"evil"'),
        entry("{}", kind="1"),
        entry("{}", form='"' + "x" * 100_000 + '"'),
    ],
)
def test_a_line_that_no_auditor_writes_is_damage_and_no_crash(tmp_path: Path, line: bytes) -> None:
    """Right digests included: whoever writes a ledger can compute them."""
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(line + b"{}\n")
    with pytest.raises(LedgerDamaged) as caught:
        read_entries(path)
    assert str(caught.value).startswith(f"{path}:1: ")
    assert len(str(caught.value)) < 400


def test_a_linked_ledger_is_neither_read_nor_cut(tmp_path: Path) -> None:
    """A torn tail is cut off; a file of one line elsewhere would be all tail."""
    victim = tmp_path / "victim"
    victim.write_text("one line without an end")
    path = tmp_path / "ledger.jsonl"
    path.symlink_to(victim)
    with pytest.raises(OutputNotWritable):
        Ledger(path)
    with pytest.raises(OperationFailed, match="no link"):
        read_entries(path)
    assert victim.read_text() == "one line without an end"


def test_a_pipe_is_no_ledger(tmp_path: Path) -> None:
    """Nobody waits for what never comes."""
    path = tmp_path / "ledger.jsonl"
    os.mkfifo(path)
    with pytest.raises(OperationFailed, match="no plain file"):
        Ledger(path)
    with pytest.raises(OperationFailed, match="no plain file"):
        read_entries(path)


def test_trying_a_folder_writes_through_no_link(tmp_path: Path) -> None:
    """The trial file has a name that nobody can plant."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / ".write-test").symlink_to(tmp_path / "victim")
    make_folder(folder)
    assert not (tmp_path / "victim").exists()
    assert [path.name for path in folder.iterdir()] == [".write-test"]


@pytest.fixture
def cache(tmp_path: Path) -> AnswerCache:
    """A cache with linked folders in it, and files where they lead."""
    folder = tmp_path / "cache"
    home = tmp_path / "home"
    (home / "aa").mkdir(parents=True)
    (home / "precious").write_text("x")
    (home / "aa" / "precious.json").write_text("x")
    (folder / "evidence").mkdir(parents=True)
    (folder / "auditor-cache").write_text("")
    (folder / "evidence" / "aa").symlink_to(home)
    (folder / "answers").symlink_to(home)
    return AnswerCache(folder)


def test_pruning_a_cache_removes_nothing_behind_a_link(cache: AnswerCache, tmp_path: Path) -> None:
    """What lies there is not evidence that no entry names."""
    assert cache.prune() == 0
    assert (tmp_path / "home" / "precious").exists()
    assert (tmp_path / "home" / "aa" / "precious.json").exists()


def test_clearing_a_cache_removes_the_link_alone(cache: AnswerCache, tmp_path: Path) -> None:
    """The cache's folders are gone, and what a link led to is not."""
    assert cache.clear() == 0
    assert sorted(path.name for path in cache.folder.iterdir()) == ["auditor-cache"]
    assert (tmp_path / "home" / "precious").exists()


def test_a_poisoned_entry_counts_as_none(tmp_path: Path) -> None:
    """Deep nesting where the digest should be is no crash."""
    name = hashlib.sha256(b"key").hexdigest()
    place = tmp_path / "answers" / name[:2] / f"{name}.json"
    place.parent.mkdir(parents=True)
    place.write_text("[" * 100_000 + ',"entry":{}}\n')
    assert not AnswerCache(tmp_path).holds("key")
