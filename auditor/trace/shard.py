"""One shard of a corpus index: its text, sorted suffixes, and documents.

| file | content |
|---|---|
| `text.u8` | the documents' bytes, each followed by the separator; two more at the end |
| `suffixes.i32` | positions of the text in the order of the suffixes that begin there |
| `buckets.i64` | first rank of each pair of bytes, 65,537 entries |
| `starts.i64` | where each document begins, and the end of the last one |
| `documents.jsonl` | one line for each document: identifier, source, place, label, is_text |
| `tokens.i64` | each token: hash, first position, length, count; by hash, then position |
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from auditor.errors import ConfigurationError, RefusedInput
from auditor.files import plain_digest
from auditor.trace.corpus import Document
from auditor.trace.manifest import SEPARATOR, ShardRecord, StoredFile
from auditor.trace.suffix_kernel import count_pairs
from auditor.trace.tokens import KIND, LOWER, count_tokens, hash_of

TEXT: Final = "text.u8"
SUFFIXES: Final = "suffixes.i32"
BUCKETS: Final = "buckets.i64"
STARTS: Final = "starts.i64"
DOCUMENTS: Final = "documents.jsonl"
TOKENS: Final = "tokens.i64"
FILES: Final = (TEXT, SUFFIXES, BUCKETS, STARTS, DOCUMENTS, TOKENS)
PADDING: Final = 2
MAX_SYMBOLS: Final = 2**31 - 1
# The text, its suffixes as 32-bit numbers; measured, see docs/benchmarks.md.
PEAK_BYTES_PER_SYMBOL: Final = 5.0
_FIRST_ROOM: Final = 2**16

Bytes = NDArray[np.uint8]
Int64 = NDArray[np.int64]
_NOTHING: Final[Int64] = np.zeros(0, dtype=np.int64)


def storable(content: bytes) -> bytes:
    """A document's or query's bytes as they are kept: 0xFF, never part of UTF-8, becomes 0xFE."""
    return content.replace(b"\xff", b"\xfe")


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


def record_of(folder: Path, name: str, digests: dict[str, str]) -> ShardRecord:
    """What the manifest says of a finished shard with these digests."""
    sizes = {each: (folder / each).stat().st_size for each in FILES}
    return ShardRecord(
        name=name,
        symbols=sizes[TEXT],
        documents=sizes[STARTS] // 8 - 1,
        files={each: StoredFile(size=sizes[each], digest=digests[each]) for each in FILES},
    )


@dataclass(frozen=True)
class DocumentRecord:
    """Where a document of the index is from.

    Attributes:
        identifier: Its name.
        source: The file.
        place: Where in the file: a byte, line or row.
        label: What the corpus says of it, `unknown` if nothing.
        is_text: Whether it is valid UTF-8.
    """

    identifier: str
    source: str
    place: int
    label: str
    is_text: bool


class Shard:
    """A shard to be read; files are mapped on first use.

    Args:
        folder: Its folder.
        record: What the manifest says of it.

    Raises:
        RefusedInput: A file is not there, is a link, or is not of its size.
    """

    def __init__(self, folder: Path, record: ShardRecord) -> None:
        self.folder, self.record = folder, record
        for name, stored in record.files.items():
            path = folder / name
            if path.is_symlink() or not path.is_file():
                raise RefusedInput(f"{path} is no file of the index; build the index anew")
            size = path.stat().st_size
            if size != stored.size:
                raise RefusedInput(
                    f"{path} has {size} bytes instead of {stored.size}; build the index anew"
                )
        sizes = {
            TEXT: record.symbols, SUFFIXES: 4 * record.symbols, BUCKETS: 8 * 65_537,
            STARTS: 8 * (record.documents + 1),
        }  # fmt: skip
        for name, size in sizes.items():
            if name not in record.files or record.files[name].size != size:
                raise RefusedInput(f"{folder / name} does not fit its shard; build the index anew")
        if TOKENS not in record.files or record.files[TOKENS].size % 32:
            raise RefusedInput(f"{folder / TOKENS} does not fit its shard; build the index anew")

    @property
    def num_bytes(self) -> int:
        """Bytes of all documents, without separators."""
        return self.record.symbols - self.record.documents - PADDING

    @cached_property
    def text(self) -> Bytes:
        """The bytes, [symbols]."""
        mapped: Bytes = self._mapped(TEXT, "u1")
        return mapped

    @cached_property
    def suffixes(self) -> NDArray[np.int32]:
        """Positions in the order of their suffixes, [symbols]."""
        mapped: NDArray[np.int32] = self._mapped(SUFFIXES, "<i4")
        return mapped

    @cached_property
    def buckets(self) -> Int64:
        """First rank of each pair of bytes, [65,537]."""
        return np.array(self._mapped(BUCKETS, "<i8"))

    @cached_property
    def starts(self) -> Int64:
        """Where documents begin, [documents + 1]."""
        return np.array(self._mapped(STARTS, "<i8"))

    @cached_property
    def _lines(self) -> tuple[Any, Int64]:
        """The documents' lines, and where each of them begins."""
        lines = self._mapped(DOCUMENTS, "u1")
        ends = np.flatnonzero(lines == ord("\n")) + 1
        if len(ends) != self.record.documents:
            raise RefusedInput(
                f"{self.folder / DOCUMENTS} has {len(ends)} lines for {self.record.documents} "
                "documents; build the index anew"
            )
        return lines, np.concatenate([[0], ends])

    @cached_property
    def tokens(self) -> Int64:
        """Hash, first position, length and count of each token, [types, 4], by hash."""
        flat: Int64 = np.array(self._mapped(TOKENS, "<i8")) if self._token_bytes else _NOTHING
        return flat.reshape(-1, 4)

    @property
    def _token_bytes(self) -> int:
        return self.record.files[TOKENS].size

    def count_token(self, token: bytes) -> int:
        """How often a token, in lower case, stands in the text."""
        hashes, value = self.tokens[:, 0], hash_of(token)
        for row in range(int(np.searchsorted(hashes, value)), len(hashes)):
            key, position, length, count = self.tokens[row].tolist()
            if key != value:
                break
            if bytes(self.text[position : position + length]).lower() == token:
                return int(count)
        return 0

    def document(self, number: int) -> DocumentRecord:
        """The record of one document."""
        lines, starts = self._lines
        fields = json.loads(bytes(lines[starts[number] : starts[number + 1]]))
        return DocumentRecord(
            fields["id"], fields["source"], fields["place"], fields["label"], fields["is_text"]
        )

    def content(self, number: int) -> bytes:
        """The bytes of one document as they are kept."""
        return bytes(self.text[self.starts[number] : self.starts[number + 1] - 1])

    def contents(self) -> Iterator[Document]:
        """Every document, as it was read from its corpus."""
        for number in range(self.record.documents):
            record = self.document(number)
            yield Document(
                content=self.content(number), source=record.source, place=record.place,
                identifier=record.identifier, label=record.label, is_text=record.is_text,
            )  # fmt: skip

    def document_at(self, position: int) -> tuple[int, int]:
        """Number of the document at a position of the text, and the offset in it."""
        number = int(np.searchsorted(self.starts, position, side="right")) - 1
        return number, position - int(self.starts[number])

    def _mapped(self, name: str, dtype: str) -> Any:
        return np.memmap(self.folder / name, dtype=dtype, mode="r")
