"""Shards are read one after the other, and made by the work units of an executor.

The reader writes the text of a shard into a folder of its own; a work unit tokenises and sorts
it there. Finished shards get their names in the order of the reading, so that what is built does
not depend on how many are made at once. The units need the folder of the index: executors with
several machines need one that all of them see.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

from auditor.errors import AuditorError, ConfigurationError, OperationFailed, RefusedInput
from auditor.executor import Executor, InThread, LocalExecutor, WorkUnit
from auditor.files import flush_folder, flush_names
from auditor.trace.corpus import Document
from auditor.trace.encoder import read_encoder
from auditor.trace.manifest import ShardRecord
from auditor.trace.memory import needed_memory, refuse_more_than_stated
from auditor.trace.shard import SHARDS, TEXT
from auditor.trace.shard_writer import ShardWriter, record_of, sort_shard, tokenise_shard


class Tally(NamedTuple):
    """Documents of a part of a corpus.

    Attributes:
        read: All of them.
        documents: Those with a byte.
        empty: Those without one.
        not_text: Those with a byte that are no valid UTF-8.
    """

    read: int = 0
    documents: int = 0
    empty: int = 0
    not_text: int = 0

    def and_also(self, document: Document) -> Tally:
        """The tally with one more document."""
        some = bool(document.content)
        return Tally(
            self.read + 1, self.documents + some, self.empty + (not some),
            self.not_text + (some and not document.is_text),
        )  # fmt: skip


class Made(NamedTuple):
    """A finished shard, and the documents that were read for it; the last one may be no shard."""

    record: ShardRecord | None
    tally: Tally


@dataclass(frozen=True)
class Plan:
    """How shards are made.

    Attributes:
        folder: The index.
        shard_bytes: About how many bytes of text a shard holds.
        stated: Bytes of memory that were said to suffice for one.
        tokenizer: The file whose tokens are sorted; bytes are if None.
        executor: Runs the work units.
        at_once: How many of them are submitted at once.
    """

    folder: Path
    shard_bytes: int
    stated: int
    tokenizer: Path | None
    executor: Executor
    at_once: int


class ShardJob(NamedTuple):
    """The argument of a work unit."""

    folder: str
    name: str
    tokenizer: str
    stated: int


class Failure(NamedTuple):
    """An error of a work unit, which may be of another process."""

    kind: type[AuditorError]
    text: str


def executor_for(workers: int) -> Executor:
    """Runs so many units at once on this machine; one alone in a thread, beside the reading.

    Raises:
        ConfigurationError: Fewer than one.
    """
    if workers < 1:
        raise ConfigurationError(f"{workers} workers; give at least 1")
    return InThread() if workers == 1 else LocalExecutor(workers=workers)


def make_shards(documents: Iterator[Document], plan: Plan) -> Iterator[Made]:
    """Shards of all documents, in their order; each is in its place when it is yielded.

    Raises:
        OperationFailed: The disk is full, or a worker ended; what was yielded stays.
        AuditorError: What reading and sorting raise.
    """
    staged: dict[str, Tally] = {}
    finished: dict[str, ShardRecord] = {}
    try:
        for name, tally in _stage(documents, plan):
            staged[name] = tally
            if not tally.documents:
                break  # the last one, of documents without a byte
            tokenizer = str(plan.tokenizer.absolute()) if plan.tokenizer else ""
            folder = str(_unfinished(plan.folder, name).absolute())
            job = ShardJob(folder, name, tokenizer, plan.stated)
            plan.executor.submit(WorkUnit(name, make_shard, job))
            if len(staged) - len(finished) >= plan.at_once:
                _finish_one(plan, finished)
            yield from _in_order(plan, staged, finished)
        while any(tally.documents for name, tally in staged.items() if name not in finished):
            _finish_one(plan, finished)
            yield from _in_order(plan, staged, finished)
        for tally in staged.values():
            yield Made(None, tally)
    finally:
        for name in staged:
            plan.executor.cancel(name)
            shutil.rmtree(_unfinished(plan.folder, name), ignore_errors=True)


def make_shard(job: ShardJob) -> ShardRecord | Failure:
    """A work unit: sort the text that lies in a folder, and say what the manifest says of it.

    All of it is on the disk then.
    """
    folder = Path(job.folder)
    try:
        record = _sort(folder, job)
        flush_folder(folder)
    except AuditorError as error:
        kind = next((each for each in _BRANCHES if isinstance(error, each)), OperationFailed)
        return Failure(kind, str(error))
    except OSError as error:
        return Failure(OperationFailed, _cannot_write(folder, error))
    except MemoryError:
        return Failure(OperationFailed, f"no memory left for {folder}; choose smaller shards")
    return record


def _sort(folder: Path, job: ShardJob) -> ShardRecord:
    if job.tokenizer:
        return tokenise_shard(folder, _encoder(Path(job.tokenizer)), job.name, job.stated)
    size = (folder / TEXT).stat().st_size
    refuse_more_than_stated(needed_memory(size), job.stated, f"a document of {size} bytes")
    return record_of(folder, job.name, sort_shard(folder))


_BRANCHES: Final = (ConfigurationError, RefusedInput)
_encoder = lru_cache(maxsize=1)(read_encoder)


def _stage(documents: Iterator[Document], plan: Plan) -> Iterator[tuple[str, Tally]]:
    """Write the texts of shards; the last one may have no document, and then has no folder."""
    waiting = next(documents, None)
    for name in _free_names(plan.folder):
        tally, folder = Tally(), _unfinished(plan.folder, name)
        try:
            with _new_writer(folder) as writer:
                while waiting is not None:
                    size = len(waiting.content) + 1
                    if writer.documents and writer.symbols + size > plan.shard_bytes:
                        break
                    tally = tally.and_also(waiting)
                    if waiting.content:
                        writer.add(waiting)
                    waiting = next(documents, None)
        except OSError as error:
            raise OperationFailed(_cannot_write(folder, error)) from None
        if not tally.documents:
            shutil.rmtree(folder, ignore_errors=True)
        yield name, tally
        if waiting is None:
            return


@contextlib.contextmanager
def _new_writer(folder: Path) -> Iterator[ShardWriter]:
    """A writer into a new folder, which is gone if that fails."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    writer = ShardWriter(folder)
    try:
        yield writer
        writer.close()
    except BaseException:
        writer.abandon()
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _finish_one(plan: Plan, finished: dict[str, ShardRecord]) -> None:
    """Wait until a unit has ended."""
    outcome = next(iter(plan.executor.as_completed()), None)
    if outcome is None:
        raise OperationFailed("the executor lost a shard; run again")
    if isinstance(outcome.value, Failure):
        raise outcome.value.kind(outcome.value.text)
    if outcome.status != "done" or not isinstance(outcome.value, ShardRecord):
        reason = outcome.detail.strip().splitlines()[-1:] or [outcome.status]
        raise OperationFailed(
            f"shard {outcome.id} could not be made: {reason[0]}; the index is as it was, run "
            "again with fewer workers or smaller shards"
        )
    finished[outcome.id] = outcome.value


def _in_order(
    plan: Plan, staged: dict[str, Tally], finished: dict[str, ShardRecord]
) -> Iterator[Made]:
    """Give the shards that have none before them left their names."""
    for name in list(staged):
        if name not in finished:
            return
        try:
            _unfinished(plan.folder, name).rename(plan.folder / SHARDS / name)
            flush_names(plan.folder / SHARDS)
        except OSError as error:
            raise OperationFailed(_cannot_write(plan.folder, error)) from None
        yield Made(finished.pop(name), staged.pop(name))


def _free_names(folder: Path) -> Iterator[str]:
    taken = {each.name for each in (folder / SHARDS).iterdir()}
    return (name for number in range(10**9) if (name := f"{number:06d}") not in taken)


def _unfinished(folder: Path, name: str) -> Path:
    # A worker outlives a killed build for a moment, and must not write into the next one's shard.
    return folder / SHARDS / f".{name}.{os.getpid()}"


def _cannot_write(folder: Path, error: OSError) -> str:
    return (
        f"cannot write {folder}: {error.strerror or error}; the index is as it was, mend that "
        "and run again"
    )
