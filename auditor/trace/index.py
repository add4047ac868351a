"""A corpus index: shards in a folder, and a manifest that names those that count.

A build writes each shard into a folder of its own and notes it in `unfinished.json`. The
manifest is swapped at the end, so a build that is killed leaves the index as it was, and the
same command goes on behind the last finished shard.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

from auditor.bounded_json import parse_json
from auditor.errors import (
    ConfigurationError,
    NothingToAudit,
    OutputNotWritable,
    RefusedInput,
)
from auditor.executor import Executor
from auditor.files import write_atomically
from auditor.trace.building import Made, Plan, executor_for, make_shards
from auditor.trace.corpus import (
    CorpusFile,
    CorpusOptions,
    Document,
    corpus_files,
    read_documents,
)
from auditor.trace.encoder import TextEncoder, read_encoder, tokenizer_name, tokenizer_of
from auditor.trace.manifest import (
    MANIFEST,
    MAX_MANIFEST_BYTES,
    Manifest,
    ShardRecord,
    read_manifest,
    write_manifest,
)
from auditor.trace.memory import needed_memory, refuse_too_little_memory
from auditor.trace.shard import MAX_SYMBOLS, PADDING, SHARDS, Shard, open_shards
from auditor.trace.verification import verify_shard

UNFINISHED: Final = "unfinished.json"
SHARD_BYTES: Final = 256 * 2**20

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

    def __post_init__(self) -> None:
        counted = (self.read, self.documents, self.empty, self.not_text)
        if not all(type(each) is int and each >= 0 for each in counted):
            raise ValueError("counts that are none")

    def take(self, made: Made) -> None:
        """Count what was made."""
        for name, value in made.tally._asdict().items():
            setattr(self, name, getattr(self, name) + value)
        if made.record:
            self.shards.append(made.record)

    def save(self, folder: Path) -> None:
        plain = {**self.__dict__, "shards": [each.model_dump(mode="json") for each in self.shards]}
        write_atomically(folder / UNFINISHED, json.dumps(plain, sort_keys=True).encode())


def build_index(
    paths: Sequence[Path],
    folder: Path,
    *,
    options: CorpusOptions | None = None,
    shard_bytes: int = SHARD_BYTES,
    tokenizer: Path | None = None,
    workers: int = 1,
    executor: Executor | None = None,
    progress: Progress = lambda text: None,
) -> BuildResult:
    """Index a corpus in a new folder, or go on with a build that was interrupted.

    What is written depends on the corpus, `shard_bytes` and the tokenizer, not on `workers`.

    Args:
        paths: Files and folders.
        folder: Where the index will be.
        options: How files are read.
        shard_bytes: About how many bytes of text a shard holds; memory is `needed_memory`.
        tokenizer: A `tokenizer.json`, whose tokens are indexed instead of bytes; it is copied.
        workers: How many shards are sorted at once; more than one in processes of their own.
        executor: Sorts them instead, `workers` at once; its machines must see the folder. The
            memory of this one is not asked about then, and it is not closed.
        progress: Called with a line for each step.

    Raises:
        OutputNotWritable: There is an index already, or the folder cannot be written.
        ConfigurationError: Too little memory for a shard, a wrong corpus or tokenizer.
        NothingToAudit: The corpus has no document with a byte.
    """
    if (folder / MANIFEST).exists():
        raise OutputNotWritable(folder, "an index is there; add to it")
    encoder = read_encoder(tokenizer) if tokenizer else None
    new = Manifest(shards=())
    if encoder:
        new = Manifest(version=2, mode="tokens", tokenizer=encoder.digest, shards=())
    making = _Making(folder, shard_bytes, workers, executor, progress)
    return _index(paths, making, new, encoder, options)


def add_to_index(
    paths: Sequence[Path],
    folder: Path,
    *,
    options: CorpusOptions | None = None,
    shard_bytes: int = SHARD_BYTES,
    workers: int = 1,
    executor: Executor | None = None,
    progress: Progress = lambda text: None,
) -> BuildResult:
    """Add a corpus to an index as new shards, by its own tokenizer; old ones are not touched.

    Args and Raises: As `build_index`; `FileMissing` where there is no index.
    """
    making = _Making(folder, shard_bytes, workers, executor, progress)
    manifest = read_manifest(folder)
    return _index(paths, making, manifest, tokenizer_of(folder, manifest), options)


def merge_shards(
    folder: Path,
    *,
    shard_bytes: int = SHARD_BYTES,
    workers: int = 1,
    executor: Executor | None = None,
    progress: Progress = lambda text: None,
) -> Manifest:
    """Sort the texts of small shards anew into fewer, larger ones, then swap the manifest.

    Shards of which two fit into one of `shard_bytes` are taken together; larger ones stay.

    Raises:
        As `add_to_index`.
    """
    making = _Making(folder, shard_bytes, workers, executor, progress)
    # A folder without an index gets no lock.
    encoder = tokenizer_of(folder, read_manifest(folder))
    making.refuse_limits(encoder)
    with _only_writer(folder):
        manifest = read_manifest(folder)
        small = [each for each in manifest.shards if 2 * each.symbols <= shard_bytes]
        if len(small) < 2:
            return manifest
        shards = open_shards(folder, manifest.model_copy(update={"shards": tuple(small)}))
        documents = (document for shard in shards for document in shard.contents())
        state = _State("", [])
        for made in making.shards(documents, encoder):
            state.take(made)
        names = {each.name for each in small}
        kept = tuple(each for each in manifest.shards if each.name not in names)
        merged = write_manifest(
            folder, manifest.model_copy(update={"shards": (*kept, *state.shards)})
        )
        _remove_strays(folder)
    return merged


def verify_index(folder: Path, progress: Progress = lambda text: None) -> Manifest:
    """Check every byte of an index: digests, and that the suffixes are all there and in order.

    In token mode the text is tokenised again, too.

    Raises:
        RefusedInput: The first thing that is wrong.
    """
    manifest = read_manifest(folder)
    encoder = tokenizer_of(folder, manifest)
    for shard in open_shards(folder, manifest):
        verify_shard(shard, encoder)
        progress(f"shard {shard.record.name}: {len(shard.suffixes)} suffixes in order")
    return manifest


@dataclass(frozen=True)
class _Making:
    """How shards are made, as asked for."""

    folder: Path
    shard_bytes: int
    workers: int
    executor: Executor | None
    progress: Progress

    def refuse_limits(self, encoder: TextEncoder | None) -> None:
        """Refuse what could not be made, before anything is read or written."""
        most = MAX_SYMBOLS - PADDING
        if not 1 <= self.shard_bytes <= most:
            raise ConfigurationError(f"shards of {self.shard_bytes} bytes; give 1 to {most}")
        if self.workers < 1:
            raise ConfigurationError(f"{self.workers} workers; give at least 1")
        if self.executor is None:
            refuse_too_little_memory(
                self.shard_bytes, tokens=encoder is not None, workers=self.workers
            )

    def shards(self, documents: Iterator[Document], encoder: TextEncoder | None) -> Iterator[Made]:
        """Make shards of documents, one after the other."""
        executor = self.executor or executor_for(self.workers)
        plan = Plan(
            folder=self.folder,
            shard_bytes=self.shard_bytes,
            stated=needed_memory(self.shard_bytes, tokens=encoder is not None),
            tokenizer=Path(encoder.name) if encoder else None,
            executor=executor,
            # One more than there are workers waits, so that none of them does.
            at_once=self.workers + 1,
        )
        try:
            for made in make_shards(documents, plan):
                yield made
                if record := made.record:
                    self.progress(
                        f"shard {record.name}: {record.documents} documents, "
                        f"{record.symbols} bytes"
                        + (f", {record.tokens - record.documents} tokens" if encoder else "")
                    )
        finally:
            if self.executor is None:
                executor.close()


def _index(
    paths: Sequence[Path],
    making: _Making,
    old: Manifest,
    encoder: TextEncoder | None,
    options: CorpusOptions | None,
) -> BuildResult:
    reading, folder = options or CorpusOptions(), making.folder
    making.refuse_limits(encoder)
    files = corpus_files(paths, reading)
    with _only_writer(folder):
        if encoder:
            encoder = _keep_tokenizer(folder, old, encoder)
        corpus = _corpus_digest(files, reading, making.shard_bytes, old)
        state = _resume(folder, corpus, making.progress)
        resumed = state.read
        unread = islice(_all_documents(files, reading), resumed, None)
        for made in making.shards(unread, encoder):
            state.take(made)
            if made.record:
                state.save(folder)
        if not state.shards and not old.shards:
            raise NothingToAudit(f"no document with a byte in {', '.join(map(str, paths))}")
        manifest = write_manifest(folder, old.model_copy(update={
            "shards": (*old.shards, *state.shards),
            "empty_documents": old.empty_documents + state.empty,
        }))  # fmt: skip
        (folder / UNFINISHED).unlink(missing_ok=True)
    return BuildResult(manifest, state.documents, state.empty, state.not_text, resumed)


def _keep_tokenizer(folder: Path, manifest: Manifest, encoder: TextEncoder) -> TextEncoder:
    """Copy the tokenizer into the index, for it to be asked and extended without the other."""
    path = folder / tokenizer_name(manifest)
    if not path.exists():
        write_atomically(path, encoder.content)
    return tokenizer_of(folder, manifest) or encoder


def _all_documents(files: Sequence[CorpusFile], options: CorpusOptions) -> Iterator[Document]:
    for file in files:
        yield from read_documents(file, options)


def _corpus_digest(
    files: Sequence[CorpusFile], options: CorpusOptions, shard_bytes: int, old: Manifest
) -> str:
    """What a build must have in common with an interrupted one to go on with it."""
    fields = (options.text_field, options.id_field, options.label_field)
    parts: list[Any] = [*map(repr, fields), shard_bytes, old.digest, old.tokenizer]
    for file in files:
        found = file.path.stat()
        parts += [file.source, found.st_size, found.st_mtime_ns]
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()


def _resume(folder: Path, corpus: str, progress: Progress) -> _State:
    """What an interrupted build of the same corpus has done; else nothing."""
    path = folder / UNFINISHED
    fresh = _State(corpus, [])
    try:
        plain = parse_json(_notes(path))
        shards = [ShardRecord.model_validate(each) for each in plain.pop("shards")]
        state = _State(shards=shards, **plain)
    except FileNotFoundError:
        return fresh
    except (ValueError, TypeError, KeyError, AttributeError):
        progress("the notes of an interrupted build are damaged: it begins anew")
        return fresh
    if state.corpus != corpus:
        progress("an interrupted build was of another corpus, or of files that changed: forgotten")
        return fresh
    for record in state.shards:
        Shard(folder / SHARDS / record.name, record)
    progress(f"going on behind {state.read} documents")
    return state


def _notes(path: Path) -> bytes:
    """The notes of an interrupted build; ValueError if they are too large to be any."""
    with path.open("rb") as stream:
        content = stream.read(MAX_MANIFEST_BYTES + 1)
    if len(content) > MAX_MANIFEST_BYTES:
        raise ValueError("too large")
    return content


@contextlib.contextmanager
def _only_writer(folder: Path) -> Iterator[None]:
    """Hold the index's lock; remove shards that nothing names, left by a killed build."""
    # What no manifest names is removed from there, so it must be the index's own.
    if (folder / SHARDS).is_symlink():
        raise RefusedInput(f"{folder / SHARDS} is a link; copy the index's own folder there")
    try:
        (folder / SHARDS).mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        lock = os.fdopen(os.open(folder / ".lock", flags, 0o666), "r+b")
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
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        plain = parse_json(_notes(folder / UNFINISHED))
        named |= {shard["name"] for shard in plain["shards"]}
    for each in (folder / SHARDS).iterdir():
        if each.name not in named and not each.is_symlink():
            shutil.rmtree(each, ignore_errors=True)
