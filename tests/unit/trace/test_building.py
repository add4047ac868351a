"""Shards are made by an executor: what is written does not depend on which, nor on how many."""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from auditor.errors import ConfigurationError, OperationFailed
from auditor.executor import LocalExecutor, Outcome, WorkUnit
from auditor.trace.building import Failure, ShardJob, make_shard
from auditor.trace.corpus import Document
from auditor.trace.index import (
    UNFINISHED,
    add_to_index,
    build_index,
    merge_shards,
    verify_index,
)
from auditor.trace.manifest import MANIFEST, ShardRecord, read_manifest
from auditor.trace.matches import TraceIndex
from auditor.trace.memory import BASE_BYTES, needed_memory
from auditor.trace.shard import SHARDS
from auditor.trace.shard_writer import ShardWriter
from tests.unit.trace.tokenizers_for_tests import byte_tokenizer

TEXTS = [f"document {number} of the corpus".encode() for number in range(9)]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Nine documents, of which two fit into a shard of 60 bytes, and an empty one at the end."""
    made = tmp_path / "corpus"
    made.mkdir()
    for number, text in enumerate([*TEXTS, b""]):
        (made / f"{number}.txt").write_bytes(text)
    return made


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of an index, but for its lock."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


class InProcess:
    """An executor that runs each unit in this process when its outcome is asked for."""

    def __init__(self) -> None:
        self._queue = deque[WorkUnit]()

    def submit(self, unit: WorkUnit) -> None:
        """Queue a unit."""
        self._queue.append(unit)

    def as_completed(self) -> Iterator[Outcome]:
        """Run what is queued; what a unit raises is raised here."""
        while self._queue:
            unit = self._queue.popleft()
            yield Outcome(unit.id, "done", unit.function(unit.argument))

    def cancel(self, unit_id: str) -> None:
        """Drop a queued unit."""
        self._queue = deque(unit for unit in self._queue if unit.id != unit_id)

    def close(self) -> None:
        """Forget what is queued."""
        self._queue.clear()


class LastFirst(InProcess):
    """Runs what is queued in the wrong order."""

    def as_completed(self) -> Iterator[Outcome]:
        """Outcomes, the last one first."""
        self._queue.reverse()
        yield from super().as_completed()


@pytest.mark.parametrize("tokens", [False, True])
def test_bytes_do_not_depend_on_workers(tmp_path: Path, source: Path, tokens: bool) -> None:
    """One process, two others, and units that end in another order than they began."""
    tokenizer = byte_tokenizer(tmp_path / "t.json") if tokens else None
    folders = [tmp_path / name for name in ("one", "two", "wrong")]
    build_index([source], folders[0], shard_bytes=60, tokenizer=tokenizer)
    result = build_index([source], folders[1], shard_bytes=60, tokenizer=tokenizer, workers=2)
    build_index([source], folders[2], shard_bytes=60, tokenizer=tokenizer, workers=3,
                executor=LastFirst())  # fmt: skip
    assert len(result.manifest.shards) == 5
    assert (result.documents, result.empty) == (9, 1)
    assert contents(folders[0]) == contents(folders[1]) == contents(folders[2])
    merged = [merge_shards(folder, shard_bytes=120, workers=number + 1)
              for number, folder in enumerate(folders[:2])]  # fmt: skip
    assert merged[0] == merged[1]
    assert contents(folders[0]) == contents(folders[1])
    verify_index(folders[1])


def test_an_executor_that_was_given_stays_open(tmp_path: Path, source: Path) -> None:
    """It serves two builds."""
    given = LocalExecutor(workers=1)
    try:
        for name in ("one", "two"):
            build_index([source], tmp_path / name, shard_bytes=60, executor=given)
        assert contents(tmp_path / "one") == contents(tmp_path / "two")
    finally:
        given.close()


class Dying(InProcess):
    """Says of the third unit that its process was killed."""

    def as_completed(self) -> Iterator[Outcome]:
        """The outcomes."""
        for outcome in super().as_completed():
            died = outcome.id == "000002"
            yield Outcome(outcome.id, "died", detail="killed by SIGKILL") if died else outcome


def test_a_worker_that_dies_leaves_the_shards_before_it(tmp_path: Path, source: Path) -> None:
    with pytest.raises(OperationFailed, match="shard 000002 could not be made: killed by SIGKILL"):
        build_index([source], tmp_path / "idx", shard_bytes=60, executor=Dying())
    assert sorted(each.name for each in (tmp_path / "idx" / SHARDS).iterdir()) == [
        "000000", "000001"
    ]  # fmt: skip
    assert not (tmp_path / "idx" / MANIFEST).exists()
    result = build_index([source], tmp_path / "idx", shard_bytes=60)
    assert (result.resumed, result.documents) == (4, 9)
    build_index([source], tmp_path / "whole", shard_bytes=60)
    assert contents(tmp_path / "idx") == contents(tmp_path / "whole")


def kill_oneself(job: ShardJob) -> ShardRecord:
    """A work unit that ends its process."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def test_a_killed_process_is_one_line(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("auditor.trace.building.make_shard", kill_oneself)
    with pytest.raises(OperationFailed, match="killed by SIGKILL; the index is as it was") as error:
        build_index([source], tmp_path / "idx", shard_bytes=60, workers=2)
    assert "\n" not in str(error.value)
    assert list((tmp_path / "idx" / SHARDS).iterdir()) == []


class Silent(InProcess):
    """Ends without an outcome."""

    def as_completed(self) -> Iterator[Outcome]:
        """Nothing."""
        return iter(())


def test_an_executor_that_loses_a_shard_is_noticed(tmp_path: Path, source: Path) -> None:
    with pytest.raises(OperationFailed, match="lost a shard"):
        build_index([source], tmp_path / "idx", executor=Silent())


def test_no_workers_are_refused(tmp_path: Path, source: Path) -> None:
    with pytest.raises(ConfigurationError, match="0 workers; give at least 1"):
        build_index([source], tmp_path / "idx", workers=0)
    assert not (tmp_path / "idx").exists()


def test_memory_is_asked_for_all_workers(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Enough for three shards at once is too little for four."""
    enough = needed_memory(2**20, workers=3)

    class Memory:
        available = enough

    monkeypatch.setattr(psutil, "virtual_memory", Memory)
    with pytest.raises(ConfigurationError, match=r"4 shards of 1 MiB at once need .* fewer work"):
        build_index([source], tmp_path / "idx", shard_bytes=2**20, workers=4)
    assert not (tmp_path / "idx").exists()
    build_index([source], tmp_path / "idx", shard_bytes=2**20, workers=1)


def test_a_document_that_needs_more_than_was_said_is_refused(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shard holds one document at least, however long; then memory is asked for again."""

    class Memory:
        available = BASE_BYTES + 5 * 2**20

    build_index([source], tmp_path / "idx")
    before = (tmp_path / "idx" / MANIFEST).read_bytes()
    (tmp_path / "long.txt").write_bytes(b"a" * 2 * 2**20)
    monkeypatch.setattr(psutil, "virtual_memory", Memory)
    with pytest.raises(ConfigurationError, match=r"a document of 2097\d+ bytes needs 310 MiB"):
        add_to_index([tmp_path / "long.txt"], tmp_path / "idx", shard_bytes=2**20)
    assert (tmp_path / "idx" / MANIFEST).read_bytes() == before


def test_tokens_that_need_more_than_was_said_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Memory:
        available = 2**20

    (tmp_path / "s").mkdir()
    writer = ShardWriter(tmp_path / "s")
    writer.add(Document(b"the cat", "a.txt", 0, "a.txt", "unknown", is_text=True))
    writer.close()
    tokenizer = byte_tokenizer(tmp_path / "t.json")
    monkeypatch.setattr(psutil, "virtual_memory", Memory)
    failure = make_shard(ShardJob(str(tmp_path / "s"), "s", str(tokenizer), stated=2**20))
    assert isinstance(failure, Failure)
    assert failure.kind is ConfigurationError
    assert "tokens needs" in failure.text


def test_a_build_goes_on_with_other_workers(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OperationFailed):
        build_index([source], tmp_path / "idx", shard_bytes=60, executor=Dying())
    assert (tmp_path / "idx" / UNFINISHED).exists()
    result = build_index([source], tmp_path / "idx", shard_bytes=60, workers=2)
    assert result.resumed == 4
    assert TraceIndex(tmp_path / "idx").count(b"document") == 9
    assert read_manifest(tmp_path / "idx") == result.manifest


def test_another_tokenizer_does_not_go_on_with_a_build(tmp_path: Path, source: Path) -> None:
    with pytest.raises(OperationFailed):
        build_index([source], tmp_path / "idx", shard_bytes=60, executor=Dying())
    tokenizer = byte_tokenizer(tmp_path / "t.json")
    result = build_index([source], tmp_path / "idx", shard_bytes=60, tokenizer=tokenizer)
    assert result.resumed == 0
    verify_index(tmp_path / "idx")


def test_a_build_of_bytes_does_not_go_on_with_one_of_tokens(tmp_path: Path, source: Path) -> None:
    tokenizer = byte_tokenizer(tmp_path / "t.json")
    with pytest.raises(OperationFailed):
        build_index([source], tmp_path / "idx", shard_bytes=60, tokenizer=tokenizer,
                    executor=Dying())  # fmt: skip
    assert build_index([source], tmp_path / "idx", shard_bytes=60).resumed == 0
    verify_index(tmp_path / "idx")
