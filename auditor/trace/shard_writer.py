"""One shard of a corpus index is written: text and documents first, then what is sorted."""

from __future__ import annotations

import contextlib
import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from auditor.errors import ConfigurationError
from auditor.files import plain_digest
from auditor.trace.corpus import Document
from auditor.trace.encoder import TextEncoder
from auditor.trace.manifest import SEPARATOR, ShardRecord, StoredFile
from auditor.trace.memory import BASE_BYTES_OF_TOKENS, refuse_more_than_stated
from auditor.trace.shard import (
    BUCKETS,
    DOCUMENTS,
    FILES,
    MAX_SYMBOLS,
    PADDING,
    STARTS,
    SUFFIXES,
    TEXT,
    TOKENS,
    storable,
)
from auditor.trace.suffix_kernel import count_pairs
from auditor.trace.token_shard import (
    ALPHABET,
    PLACES,
    SYMBOLS,
    sort_symbols,
    sorting_memory,
    write_symbols,
)
from auditor.trace.tokens import KIND, LOWER, count_tokens

_FIRST_ROOM: Final = 2**16

Bytes = NDArray[np.uint8]
Int64 = NDArray[np.int64]


class ShardWriter:
    """Takes documents for one shard and writes its text; `sort_shard` does the rest.

    Args:
        folder: An empty folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._starts = [0]
        self._text: BinaryIO = (folder / TEXT).open("wb")
        self._documents: BinaryIO = (folder / DOCUMENTS).open("wb")

    @property
    def symbols(self) -> int:
        """Bytes written, separators included."""
        return self._starts[-1]

    @property
    def documents(self) -> int:
        """Documents written."""
        return len(self._starts) - 1

    def add(self, document: Document) -> None:
        """Write one document.

        Raises:
            ConfigurationError: It is too large for a shard.
        """
        end = self.symbols + len(document.content) + 1
        if end + PADDING > MAX_SYMBOLS:
            raise ConfigurationError(
                f"{document.source} (at {document.place}) has {len(document.content)} bytes; "
                f"a shard holds {MAX_SYMBOLS}; split it"
            )
        self._text.write(storable(document.content) + bytes([SEPARATOR]))
        self._documents.write(_line(document))
        self._starts.append(end)

    def close(self) -> None:
        """Write what is left: the end of the text, and where documents begin."""
        self._text.write(bytes([SEPARATOR] * PADDING))
        self._text.close()
        self._documents.close()
        np.array(self._starts, dtype="<i8").tofile(self.folder / STARTS)

    def abandon(self) -> None:
        """Close the files whatever became of them."""
        for file in (self._text, self._documents):
            with contextlib.suppress(OSError):  # a full disk, which was said before
                file.close()


def _line(document: Document) -> bytes:
    record = {
        "id": document.identifier, "source": document.source, "place": document.place,
        "label": document.label, "is_text": document.is_text,
    }  # fmt: skip
    return (json.dumps(record, sort_keys=True) + "\n").encode()


def sort_shard(folder: Path) -> dict[str, str]:
    """Sort the suffixes of a written text; holds five bytes for each of its bytes.

    Returns:
        The digests of all files, computed beside the sorting.
    """
    from pydivsufsort import divsufsort  # type: ignore[import-untyped]  # only building needs it

    # Copy on write, since the sorter refuses arrays that cannot be written.
    text = np.memmap(folder / TEXT, dtype=np.uint8, mode="c")
    buckets = np.zeros(65_537, dtype="<i8")
    np.cumsum(count_pairs(text), out=buckets[1:])
    buckets.tofile(folder / BUCKETS)
    # Neither sorting nor counting nor hashing holds the interpreter's lock.
    with ThreadPoolExecutor(max_workers=1) as thread:
        written = thread.submit(lambda: sorted_tokens(text).tofile(folder / TOKENS))
        others = {name: thread.submit(plain_digest, folder / name)
                  for name in FILES if name != SUFFIXES}  # fmt: skip
        suffixes = divsufsort(text).astype("<i4", copy=False)
        sorted_digest = thread.submit(lambda: hashlib.sha256(suffixes).hexdigest())
        # Written from memory: assigning into a memory-mapped file doubles the peak.
        suffixes.tofile(folder / SUFFIXES)
        written.result()
        digests = {name: future.result() for name, future in others.items()}
        return {**digests, SUFFIXES: f"sha256:{sorted_digest.result()}"}


def sorted_tokens(text: Bytes) -> Int64:
    """Every token of a text: hash, first position, length, count; [types, 4], by hash."""
    found: Int64 = count_tokens(text, KIND, LOWER, _FIRST_ROOM)
    return found[np.lexsort((found[:, 1], found[:, 0]))].astype("<i8", copy=False)


def tokenise_shard(folder: Path, encoder: TextEncoder, name: str, stated: int) -> ShardRecord:
    """Tokenise a written text, sort its tokens' suffixes, and count its words.

    Args:
        folder: Where the text is.
        encoder: The tokenizer.
        name: Of the shard.
        stated: Bytes of memory that were said to suffice.

    Returns:
        What the manifest says of it.

    Raises:
        ConfigurationError: The tokenizer fails, or sorting takes more memory than there is.
    """
    text = np.memmap(folder / TEXT, dtype=np.uint8, mode="r")
    starts = np.fromfile(folder / STARTS, dtype="<i8")
    known = write_symbols(folder, text, starts, encoder)
    needed = BASE_BYTES_OF_TOKENS + len(text) + sorting_memory(known)
    refuse_more_than_stated(needed, stated, f"text of {known.counts.sum()} tokens")
    buckets = np.concatenate([[0], np.cumsum(known.counts)]).astype("<i8")
    buckets.tofile(folder / BUCKETS)
    sorted_tokens(text).tofile(folder / TOKENS)
    others = tuple(each for each in (*FILES, ALPHABET, PLACES, SYMBOLS[known.width])
                   if each != SUFFIXES)  # fmt: skip
    digests = sort_symbols(folder, known, others, SUFFIXES)
    return record_of(folder, name, digests, int(known.counts.sum()), known.width)


def record_of(
    folder: Path, name: str, digests: dict[str, str], tokens: int = 0, width: int = 0
) -> ShardRecord:
    """What the manifest says of a finished shard with these digests."""
    sizes = {each: (folder / each).stat().st_size for each in sorted(digests)}
    return ShardRecord.model_validate(
        {
            "name": name,
            "symbols": sizes[TEXT],
            "documents": sizes[STARTS] // 8 - 1,
            "tokens": tokens,
            "width": width,
            "files": {each: StoredFile(size=sizes[each], digest=digests[each]) for each in sizes},
        }
    )
