"""One shard of a corpus index: its text, sorted suffixes, and documents.

| file | content |
|---|---|
| `text.u8` | the documents' bytes, each followed by the separator; two more at the end |
| `suffixes.i32` | positions of the text in the order of the suffixes that begin there |
| `buckets.i64` | first rank of each pair of bytes, 65,537 entries |
| `starts.i64` | where each document begins, and the end of the last one |
| `documents.jsonl` | one line for each document: identifier, source, place, label, is_text |
| `tokens.i64` | each word and mark: hash, first position, length, count; by hash, then position |

In token mode suffixes and buckets are those of the files that `token_shard` describes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from auditor.bounded_json import parse_json
from auditor.errors import RefusedInput
from auditor.trace.corpus import Document
from auditor.trace.encoder import UNKNOWN
from auditor.trace.manifest import Manifest, ShardRecord
from auditor.trace.token_shard import ALPHABET, PLACES, SYMBOLS
from auditor.trace.tokens import hash_of

SHARDS: Final = "shards"
TEXT: Final = "text.u8"
SUFFIXES: Final = "suffixes.i32"
BUCKETS: Final = "buckets.i64"
STARTS: Final = "starts.i64"
DOCUMENTS: Final = "documents.jsonl"
TOKENS: Final = "tokens.i64"
FILES: Final = (TEXT, SUFFIXES, BUCKETS, STARTS, DOCUMENTS, TOKENS)
PADDING: Final = 2
_FIELDS: Final = ("id", "source", "place", "label", "is_text")
MAX_SYMBOLS: Final = 2**31 - 1

Bytes = NDArray[np.uint8]
Int64 = NDArray[np.int64]
_NOTHING: Final[Int64] = np.zeros(0, dtype=np.int64)


def storable(content: bytes) -> bytes:
    """A document's or query's bytes as they are kept: 0xFF, never part of UTF-8, becomes 0xFE."""
    return content.replace(b"\xff", b"\xfe")


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
        for each in (folder, folder.parent):
            if each.is_symlink():
                raise RefusedInput(f"{each} is a link; copy the index's own folder there")
        for name, stored in record.files.items():
            path = folder / name
            if path.is_symlink() or not path.is_file():
                raise RefusedInput(f"{path} is no file of the index; build the index anew")
            size = path.stat().st_size
            if size != stored.size:
                raise RefusedInput(
                    f"{path} has {size} bytes instead of {stored.size}; build the index anew"
                )
        for name, size in self._fitting_sizes().items():
            if name not in record.files or record.files[name].size != size:
                raise RefusedInput(f"{folder / name} does not fit its shard; build the index anew")
        if DOCUMENTS not in record.files or record.files[DOCUMENTS].size < record.documents:
            raise RefusedInput(f"{folder / DOCUMENTS} does not fit its shard; build the index anew")
        if TOKENS not in record.files or record.files[TOKENS].size % 32:
            raise RefusedInput(f"{folder / TOKENS} does not fit its shard; build the index anew")

    def _fitting_sizes(self) -> dict[str, int]:
        """Sizes that follow from the numbers of symbols and documents."""
        record = self.record
        sizes = {TEXT: record.symbols, STARTS: 8 * (record.documents + 1)}
        if not record.width:
            return sizes | {SUFFIXES: 4 * record.symbols, BUCKETS: 8 * 65_537}
        alphabet = record.files[ALPHABET].size if ALPHABET in record.files else 0
        return sizes | {
            SUFFIXES: 4 * record.tokens, SYMBOLS[record.width]: record.width * record.tokens,
            PLACES: 8 * record.tokens, ALPHABET: alphabet // 4 * 4, BUCKETS: 2 * alphabet + 16,
        }  # fmt: skip

    @property
    def num_bytes(self) -> int:
        """Bytes of all documents, without separators."""
        return self.record.symbols - self.record.documents - PADDING

    @property
    def num_symbols(self) -> int:
        """Bytes, in token mode tokens, of all documents, without separators."""
        record = self.record
        return record.tokens - record.documents if record.width else self.num_bytes

    @cached_property
    def text(self) -> Bytes:
        """The bytes, [symbols]."""
        mapped: Bytes = self._mapped(TEXT, "u1")
        return mapped

    @cached_property
    def sequence(self) -> NDArray[np.unsignedinteger]:
        """What is searched: the text, or its ranks in token mode; [symbols]."""
        width = self.record.width
        if not width:
            return self.text
        mapped: NDArray[np.unsignedinteger] = self._mapped(SYMBOLS[width], f"<u{width}")
        return mapped

    @cached_property
    def alphabet(self) -> NDArray[np.uint32]:
        """In token mode the id of each rank but the separator's, [ranks]."""
        if not self.record.files[ALPHABET].size:
            return np.zeros(0, np.uint32)
        return np.array(self._mapped(ALPHABET, "<u4"))

    @cached_property
    def places(self) -> NDArray[np.int32]:
        """In token mode the bytes of the text that each symbol covers, [symbols, 2]."""
        mapped: NDArray[np.int32] = self._mapped(PLACES, "<i4")
        return mapped.reshape(-1, 2)

    @cached_property
    def _by_id(self) -> tuple[NDArray[np.uint32], Int64]:
        order = np.argsort(self.alphabet, kind="stable")
        return self.alphabet[order], order

    def ranks_of(self, ids: NDArray[np.uint32]) -> Int64:
        """The ranks of token ids; -1 for what is not known or does not occur."""
        known, ranks = self._by_id
        if not len(known):
            return np.full(len(ids), -1, dtype=np.int64)
        at = np.minimum(np.searchsorted(known, ids), len(known) - 1)
        return np.where((known[at] == ids) & (ids != UNKNOWN), ranks[at], -1)

    def covered(self, position: int, length: int) -> tuple[int, int]:
        """The bytes [begin, end) of the text that some symbols from a position on cover."""
        if not 0 <= position <= len(self.sequence) - length:
            raise self._damaged(SUFFIXES)
        if not self.record.width:
            return position, position + length
        begin, end = int(self.places[position, 0]), int(self.places[position + length - 1, 1])
        if not 0 <= begin <= end <= len(self.text):
            raise self._damaged(PLACES)
        return begin, end

    def _damaged(self, name: str) -> RefusedInput:
        return RefusedInput(f"{self.folder / name} is damaged; build the index anew")

    @cached_property
    def suffixes(self) -> NDArray[np.int32]:
        """Positions in the order of their suffixes, [symbols]."""
        mapped: NDArray[np.int32] = self._mapped(SUFFIXES, "<i4")
        return mapped

    @cached_property
    def buckets(self) -> Int64:
        """First rank of each pair of bytes, [65,537]; in token mode of each symbol."""
        found: Int64 = np.array(self._mapped(BUCKETS, "<i8"))
        # Compiled searches check no bounds: what they are told to look at must be there.
        if found[0] != 0 or (np.diff(found) < 0).any() or found[-1] > len(self.sequence):
            raise self._damaged(BUCKETS)
        return found

    @cached_property
    def starts(self) -> Int64:
        """Where documents begin, [documents + 1]."""
        found: Int64 = np.array(self._mapped(STARTS, "<i8"))
        end = self.record.symbols - PADDING
        if found[0] != 0 or (np.diff(found) < 1).any() or found[-1] != end:
            raise self._damaged(STARTS)
        return found

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
        try:
            fields = parse_json(bytes(lines[starts[number] : starts[number + 1]]))
            found = DocumentRecord(*(fields[name] for name in _FIELDS))
        except (ValueError, KeyError, TypeError):
            raise self._damaged(DOCUMENTS) from None
        kinds = (found.identifier, str), (found.source, str), (found.place, int), (found.label, str)
        if not all(isinstance(value, kind) for value, kind in kinds):
            raise self._damaged(DOCUMENTS)
        return found

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
        if not 0 <= number < self.record.documents:
            raise self._damaged(SUFFIXES)
        return number, position - int(self.starts[number])

    def _mapped(self, name: str, dtype: str) -> Any:
        return np.memmap(self.folder / name, dtype=dtype, mode="r")


def open_shards(folder: Path, manifest: Manifest) -> tuple[Shard, ...]:
    """The shards of an index, their sizes checked.

    Raises:
        RefusedInput: A file is missing, a link, or of another size.
    """
    return tuple(Shard(folder / SHARDS / each.name, each) for each in manifest.shards)
