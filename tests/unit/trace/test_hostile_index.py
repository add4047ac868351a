"""Corpus indexes of strangers: no query leaves the index's own files, whatever they hold."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from auditor.errors import AuditorError, RefusedInput
from auditor.trace.index import add_to_index, build_index, verify_index
from auditor.trace.manifest import Manifest, read_manifest, write_manifest
from auditor.trace.matches import TraceIndex
from tests.models.small_index import index_of

TEXTS = [
    ("a", "benign", "the quick brown fox jumps over the lazy dog and the quick fox sleeps. " * 9),
    ("b", "benign", "another document with the quick brown words"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An index of two documents in one shard."""
    return index_of(tmp_path, TEXTS).folder


def shard_of(folder: Path) -> Path:
    """The folder of the only shard."""
    (found,) = (folder / "shards").iterdir()
    return found


def seal(folder: Path) -> None:
    """Write sizes and digests as they are now, as whoever wrote the files can."""
    plain = json.loads((folder / "index.json").read_text())
    for shard in plain["shards"]:
        for name, stored in shard["files"].items():
            content = (folder / "shards" / shard["name"] / name).read_bytes()
            stored["size"] = len(content)
            stored["digest"] = f"sha256:{hashlib.sha256(content).hexdigest()}"
    write_manifest(folder, Manifest.model_validate({**plain, "digest": ""}))


def ask(folder: Path) -> None:
    """Every kind of query; only errors made on purpose may come out."""
    with contextlib.suppress(AuditorError):
        index = TraceIndex(folder)
        index.count(b"the quick")
        index.find(b"quick brown fox", 5)
        index.spans(b"see the quick brown fox jumps over it")


@pytest.mark.parametrize(
    ("name", "dtype", "change"),
    [
        ("suffixes.i32", "<i4", lambda old: np.full_like(old, -(2**31))),
        ("suffixes.i32", "<i4", lambda old: np.full_like(old, -1)),
        ("suffixes.i32", "<i4", lambda old: np.full_like(old, 2**31 - 1)),
        ("suffixes.i32", "<i4", lambda old: old[::-1]),
        ("buckets.i64", "<i8", lambda old: old * 10**9),
        ("buckets.i64", "<i8", lambda old: old - 10**12),
        ("starts.i64", "<i8", lambda old: np.full_like(old, -(2**62))),
        ("starts.i64", "<i8", lambda old: np.full_like(old, 2**62)),
        ("tokens.i64", "<i8", lambda old: np.full_like(old, -1)),
        ("text.u8", "u1", lambda old: np.full_like(old, 0xFF)),
    ],
)
def test_numbers_out_of_range_lead_nowhere(
    folder: Path, name: str, dtype: str, change: Callable[[Any], Any]
) -> None:
    """Compiled searches check no bounds; a check of the whole index finds every change."""
    path = shard_of(folder) / name
    change(np.fromfile(path, dtype=dtype)).tofile(path)
    seal(folder)
    ask(folder)
    with pytest.raises(RefusedInput):
        verify_index(folder)


def test_documents_that_begin_elsewhere_are_found_by_a_check(folder: Path) -> None:
    """Starts that rise and end as they should, and are not where the text is divided."""
    path = shard_of(folder) / "starts.i64"
    starts = np.fromfile(path, dtype="<i8")
    starts[1] -= 1
    starts.tofile(path)
    seal(folder)
    with pytest.raises(RefusedInput, match="do not begin where its text says"):
        verify_index(folder)


@pytest.mark.parametrize(
    "lines",
    [
        b"",
        b"x\ny\n",
        b"[" * 100_000 + b"\n{}\n",
        b"[]\n[]\n",
        b'{"id":1,"source":[],"place":"x","label":null,"is_text":5}\n' * 2,
    ],
)
def test_document_lines_of_any_form_are_damage(folder: Path, lines: bytes) -> None:
    """The index says so when one of them is asked for."""
    (shard_of(folder) / "documents.jsonl").write_bytes(lines)
    seal(folder)
    with pytest.raises(RefusedInput, match=r"documents\.jsonl"):
        TraceIndex(folder).find(b"quick brown fox", 5)


@pytest.mark.parametrize("linked", ["shards", "shard"])
def test_a_linked_folder_is_refused(folder: Path, linked: str) -> None:
    """Files outside the index are not read as its own."""
    place = folder / "shards" if linked == "shards" else shard_of(folder)
    away = folder.parent / "away"
    shutil.move(place, away)
    place.symlink_to(away)
    with pytest.raises(RefusedInput, match="is a link"):
        TraceIndex(folder)


def test_what_a_linked_folder_leads_to_is_not_cleared_away(folder: Path, tmp_path: Path) -> None:
    """Folders that no manifest names are removed, and a home directory is full of them."""
    precious = tmp_path / "home" / "documents" / "precious"
    precious.parent.mkdir(parents=True)
    precious.write_text("x")
    shutil.rmtree(folder / "shards")
    (folder / "shards").symlink_to(tmp_path / "home")
    with pytest.raises(RefusedInput, match="is a link"):
        add_to_index([tmp_path / "corpus.jsonl"], folder)
    assert precious.exists()


@pytest.mark.parametrize(
    "notes",
    [
        b"[" * 100_000,
        b"[]",
        b"5",
        b'{"corpus":"x","shards":[],"read":"x"}',
        b'{"corpus":"x","shards":[],"evil":1}',
        b'{"corpus":"x","shards":null}',
    ],
)
def test_notes_of_an_interrupted_build_may_hold_anything(tmp_path: Path, notes: bytes) -> None:
    """The build begins anew."""
    (tmp_path / "corpus.txt").write_text("hello world")
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "unfinished.json").write_bytes(notes)
    assert build_index([tmp_path / "corpus.txt"], tmp_path / "index").documents == 1


@pytest.mark.parametrize("content", [b"[" * 100_000, b"[" + b"[]," * 600_000 + b"[]]", b"1" * 5000])
def test_a_manifest_that_asks_for_much_is_refused(tmp_path: Path, content: bytes) -> None:
    """Before anything of that size is made."""
    (tmp_path / "index.json").write_bytes(content)
    with pytest.raises(RefusedInput, match="is damaged"):
        read_manifest(tmp_path)
