"""A corpus index: shards in a folder, and a manifest that names those that count.

A build writes each shard into a folder of its own and notes it in `unfinished.json`. The
manifest is swapped at the end, so a build that is killed leaves the index as it was, and the
same command goes on behind the last finished shard.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import psutil

from auditor.errors import (
    ConfigurationError,
    NothingToAudit,
    OperationFailed,
    OutputNotWritable,
    RefusedInput,
)
from auditor.files import plain_digest, write_atomically
from auditor.trace.corpus import (
    CorpusFile,
    CorpusOptions,
    Document,
    corpus_files,
    read_documents,
)
from auditor.trace.manifest import MANIFEST, Manifest, ShardRecord, read_manifest, write_manifest
from auditor.trace.shard import (
    MAX_SYMBOLS,
    PADDING,
    PEAK_BYTES_PER_SYMBOL,
    Shard,
    ShardWriter,
    record_of,
    sort_shard,
    sorted_tokens,
)

SHARDS: Final = "shards"
UNFINISHED: Final = "unfinished.json"
SHARD_BYTES: Final = 256 * 2**20
# What the interpreter and its libraries take beside the shard that is sorted.
_BASE_BYTES: Final = 300 * 2**20

Progress = Callable[[str], None]


class BuildResult(NamedTuple):
    """What a build or an addition did.

    Attributes:
        manifest: The index as it is now.
        documents: Documents added.
        empty: Documents without a byte, which are not kept.
        not_text: Documents that are no valid UTF-8; kept as bytes.
        resumed: Documents that an interrupted build had already indexed.
    """

    manifest: Manifest
    documents: int
    empty: int
    not_text: int
    resumed: int


@dataclass
class _State:
    """How far a build is; what `unfinished.json` holds."""

    corpus: str
    shards: list[ShardRecord]
    read: int = 0
    documents: int = 0
    empty: int = 0
    not_text: int = 0

    def save(self, folder: Path) -> None:
        plain = {**self.__dict__, "shards": [each.model_dump(mode="json") for each in self.shards]}
        write_atomically(folder / UNFINISHED, json.dumps(plain, sort_keys=True).encode())


def needed_memory(shard_bytes: int) -> int:
    """Bytes of memory that sorting a shard of a size takes at its peak."""
    return _BASE_BYTES + int(PEAK_BYTES_PER_SYMBOL * shard_bytes)


def build_index(
    paths: Sequence[Path],
    folder: Path,
    *,
    options: CorpusOptions | None = None,
    shard_bytes: int = SHARD_BYTES,
    progress: Progress = lambda text: None,
) -> BuildResult:
    """Index a corpus in a new folder, or go on with a build that was interrupted.

    Args:
        paths: Files and folders.
        folder: Where the index will be.
        options: How files are read.
        shard_bytes: About how many bytes of text a shard holds; memory is five times that.
        progress: Called with a line for each step.

    Raises:
        OutputNotWritable: There is an index already, or the folder cannot be written.
        ConfigurationError: Too little memory for a shard, or a wrong corpus.
        NothingToAudit: The corpus has no document with a byte.
    """
    if (folder / MANIFEST).exists():
        raise OutputNotWritable(folder, "an index is there; add to it")
    return _index(paths, folder, Manifest(shards=()), options, shard_bytes, progress)


def add_to_index(
    paths: Sequence[Path],
    folder: Path,
    *,
    options: CorpusOptions | None = None,
    shard_bytes: int = SHARD_BYTES,
    progress: Progress = lambda text: None,
) -> BuildResult:
    """Add a corpus to an index as new shards; the old ones are not touched.

    Args and Raises: As `build_index`; `FileMissing` where there is no index.
    """
    return _index(paths, folder, read_manifest(folder), options, shard_bytes, progress)


def _index(
    paths: Sequence[Path],
    folder: Path,
    old: Manifest,
    options: CorpusOptions | None,
    shard_bytes: int,
    progress: Progress,
) -> BuildResult:
    reading = options or CorpusOptions()
    if not 1 <= shard_bytes <= MAX_SYMBOLS - PADDING:
        raise ConfigurationError(
            f"shards of {shard_bytes} bytes; give 1 to {MAX_SYMBOLS - PADDING}"
        )
    refuse_too_little_memory(shard_bytes)
    files = corpus_files(paths, reading)
    with _only_writer(folder):
        state = _resume(folder, _corpus_digest(files, reading, shard_bytes, old), progress)
        resumed = state.read
        unread = islice(_all_documents(files, reading), resumed, None)
        for record in _new_shards(unread, folder, state, shard_bytes):
            state.shards.append(record)
            state.save(folder)
            progress(f"shard {record.name}: {record.documents} documents, {record.symbols} bytes")
        if not state.shards and not old.shards:
            raise NothingToAudit(f"no document with a byte in {', '.join(map(str, paths))}")
        manifest = write_manifest(folder, old.model_copy(update={
            "shards": (*old.shards, *state.shards),
            "empty_documents": old.empty_documents + state.empty,
        }))  # fmt: skip
        (folder / UNFINISHED).unlink(missing_ok=True)
    return BuildResult(manifest, state.documents, state.empty, state.not_text, resumed)


def refuse_too_little_memory(shard_bytes: int) -> None:
    """Refuse to begin what would only swap.

    Raises:
        ConfigurationError: A shard of this size needs more memory than is available.
    """
    needed, free = needed_memory(shard_bytes), psutil.virtual_memory().available
    if needed > free:
        raise ConfigurationError(
            f"a shard of {shard_bytes >> 20} MiB needs {needed >> 20} MiB of memory and "
            f"{free >> 20} MiB are available; choose smaller shards"
        )


def _all_documents(files: Sequence[CorpusFile], options: CorpusOptions) -> Iterator[Document]:
    for file in files:
        yield from read_documents(file, options)


def _corpus_digest(
    files: Sequence[CorpusFile], options: CorpusOptions, shard_bytes: int, old: Manifest
) -> str:
    """What a build must have in common with an interrupted one to go on with it."""
    parts: list[Any] = [repr(options.text_field), repr(options.id_field),
                        repr(options.label_field), shard_bytes, old.digest]  # fmt: skip
    for file in files:
        found = file.path.stat()
        parts += [file.source, found.st_size, found.st_mtime_ns]
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()


def _resume(folder: Path, corpus: str, progress: Progress) -> _State:
    """What an interrupted build of the same corpus has done; else nothing."""
    path = folder / UNFINISHED
    fresh = _State(corpus, [])
    try:
        plain = json.loads(path.read_bytes())
        shards = [ShardRecord.model_validate(each) for each in plain.pop("shards")]
        state = _State(shards=shards, **plain)
    except FileNotFoundError:
        return fresh
    except (ValueError, TypeError, KeyError):
        progress("the notes of an interrupted build are damaged: it begins anew")
        return fresh
    if state.corpus != corpus:
        progress("an interrupted build was of another corpus, or of files that changed: forgotten")
        return fresh
    for record in state.shards:
        Shard(folder / SHARDS / record.name, record)
    progress(f"going on behind {state.read} documents")
    return state


def _new_shards(
    documents: Iterator[Document], folder: Path, state: _State, shard_bytes: int
) -> Iterator[ShardRecord]:
    """Write and sort shards; the state counts the documents of those that are finished."""
    waiting: Document | None = None
    more = True
    while more:
        name = _free_name(folder)
        with _unfinished_folder(folder, name) as made:
            writer = ShardWriter(made)
            more = False
            while (document := waiting or next(documents, None)) is not None:
                waiting = None
                size = len(document.content) + 1
                if writer.documents and writer.symbols + size > shard_bytes:
                    waiting, more = document, True
                    break
                state.read += 1
                if not document.content:
                    state.empty += 1
                    continue
                state.documents += 1
                state.not_text += not document.is_text
                writer.add(document)
            writer.close()
            if not writer.documents:
                return
            record = record_of(made, name, sort_shard(made))
            made.rename(folder / SHARDS / name)
        yield record


def _free_name(folder: Path) -> str:
    taken = {each.name for each in (folder / SHARDS).iterdir()}
    return next(name for number in range(10**9) if (name := f"{number:06d}") not in taken)


@contextlib.contextmanager
def _unfinished_folder(folder: Path, name: str) -> Iterator[Path]:
    """A folder for a shard that is being made; gone if that fails."""
    made = folder / SHARDS / f".{name}"
    shutil.rmtree(made, ignore_errors=True)
    try:
        made.mkdir()
        yield made
    except OSError as error:
        raise OperationFailed(
            f"cannot write {made}: {error.strerror or error}; the index is as it was, mend that "
            "and run again"
        ) from None
    finally:
        shutil.rmtree(made, ignore_errors=True)


@contextlib.contextmanager
def _only_writer(folder: Path) -> Iterator[None]:
    """Hold the index's lock; remove shards that nothing names, left by a killed build."""
    try:
        (folder / SHARDS).mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("a+b")
    except OSError as error:
        raise OutputNotWritable(folder, error.strerror or str(error)) from None
    with lock:
        _lock(lock, folder)
        _remove_strays(folder)
        yield


def _lock(lock: Any, folder: Path) -> None:
    try:
        import fcntl
    except ImportError:  # no such locks there; two writers at once are the user's to avoid
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise ConfigurationError(
            f"{folder} is being written by another process; wait until it has ended"
        ) from None


def _remove_strays(folder: Path) -> None:
    """Remove folders of shards that neither the manifest nor an interrupted build names."""
    named: set[str] = set()
    if (folder / MANIFEST).exists():
        named |= {shard.name for shard in read_manifest(folder).shards}
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        plain = json.loads((folder / UNFINISHED).read_bytes())
        named |= {shard["name"] for shard in plain["shards"]}
    for each in (folder / SHARDS).iterdir():
        if each.name not in named and not each.is_symlink():
            shutil.rmtree(each, ignore_errors=True)


def open_shards(folder: Path, manifest: Manifest) -> tuple[Shard, ...]:
    """The shards of an index, their sizes checked.

    Raises:
        RefusedInput: A file is missing, a link, or of another size.
    """
    return tuple(Shard(folder / SHARDS / each.name, each) for each in manifest.shards)


def verify_index(folder: Path, progress: Progress = lambda text: None) -> Manifest:
    """Check every byte of an index: digests, and that the suffixes are all there and in order.

    Raises:
        RefusedInput: The first thing that is wrong.
    """
    from auditor.trace.suffix_kernel import count_pairs, first_disorder, invert

    manifest = read_manifest(folder)
    for shard in open_shards(folder, manifest):
        for name, stored in shard.record.files.items():
            if plain_digest(shard.folder / name) != stored.digest:
                raise RefusedInput(f"{shard.folder / name} is damaged; build the index anew")
        ranks = np.empty(shard.record.symbols + 1, dtype=np.int32)
        if not invert(shard.suffixes, ranks):
            raise RefusedInput(f"{shard.folder}: its suffixes are no permutation")
        at = int(first_disorder(shard.text, shard.suffixes, ranks))
        if at >= 0:
            raise RefusedInput(f"{shard.folder}: suffixes {at} and {at + 1} are out of order")
        if (np.diff(shard.buckets) != count_pairs(shard.text)).any() or shard.buckets[0]:
            raise RefusedInput(f"{shard.folder}: its buckets are not those of its text")
        if not np.array_equal(sorted_tokens(shard.text), shard.tokens):
            raise RefusedInput(f"{shard.folder}: its tokens are not those of its text")
        progress(f"shard {shard.record.name}: {shard.record.symbols} suffixes in order")
    return manifest


def merge_shards(
    folder: Path, *, shard_bytes: int = SHARD_BYTES, progress: Progress = lambda text: None
) -> Manifest:
    """Sort the texts of small shards anew into fewer, larger ones, then swap the manifest.

    Shards of which two fit into one of `shard_bytes` are taken together; larger ones stay.

    Raises:
        As `add_to_index`.
    """
    refuse_too_little_memory(shard_bytes)
    read_manifest(folder)  # a folder without an index gets no lock
    with _only_writer(folder):
        manifest = read_manifest(folder)
        small = [each for each in manifest.shards if 2 * each.symbols <= shard_bytes]
        if len(small) < 2:
            return manifest
        state = _State("", [])
        shards = open_shards(folder, manifest.model_copy(update={"shards": tuple(small)}))
        documents = (document for shard in shards for document in shard.contents())
        for record in _new_shards(documents, folder, state, shard_bytes):
            state.shards.append(record)
            progress(f"shard {record.name}: {record.documents} documents")
        names = {each.name for each in small}
        kept = tuple(each for each in manifest.shards if each.name not in names)
        merged = write_manifest(
            folder, manifest.model_copy(update={"shards": (*kept, *state.shards)})
        )
        _remove_strays(folder)
    return merged
