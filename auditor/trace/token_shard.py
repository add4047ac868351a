"""The token side of a shard: its text as ranks of token ids, and their sorted suffixes.

| file | content |
|---|---|
| `alphabet.u32` | the ids that occur, the most frequent first, then by number |
| `symbols.u16`, `symbols.u32` | each document's ranks in it, then the separator, the largest rank |
| `places.i32` | first byte of each symbol in the text, and one behind its last, [symbols, 2] |
| `suffixes.i32` | positions of the symbols in the order of the suffixes that begin there |
| `buckets.i64` | first rank among the suffixes of each symbol, and their number |

Ranks go by frequency, so that the coded text that is sorted (`symbol_code`) is short: for text of
which no token covers less than a byte it is about as long as the text itself, or shorter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from auditor.errors import ConfigurationError
from auditor.files import plain_digest
from auditor.trace.encoder import UNKNOWN, TextEncoder
from auditor.trace.symbol_code import code_text, keep_symbols, shortest_code

ALPHABET: Final = "alphabet.u32"
PLACES: Final = "places.i32"
SYMBOLS: Final = {2: "symbols.u16", 4: "symbols.u32"}
"""The file of ranks by their width in bytes."""
# The coded text and its suffixes as 32-bit numbers, and where its codes begin.
SORT_BYTES_PER_CODE_BYTE: Final = 5.2
_IDS: Final = ".ids.u32"
_BATCH: Final = 2**18
SEPARATOR_ID: Final = -1
MAX_CODE_BYTES: Final = 2**31 - 2

Bytes = NDArray[np.uint8]
Int64 = NDArray[np.int64]


class TokenText(NamedTuple):
    """What is known of a shard's tokens before they are sorted.

    Attributes:
        counts: Occurrences of each symbol by rank, that of separators last, [symbols].
        width: Bytes of a rank.
    """

    counts: Int64
    width: int


def write_symbols(folder: Path, text: Bytes, starts: Int64, encoder: TextEncoder) -> TokenText:
    """Tokenise a shard's text, and write alphabet, ranks, places and buckets; few in memory."""
    unknown, separator = encoder.vocabulary, encoder.vocabulary + 1
    counts = np.zeros(separator + 1, dtype=np.int64)
    with (folder / _IDS).open("wb") as ids, (folder / PLACES).open("wb") as places:
        for found, covered in _batches(symbols_of(text, starts, encoder)):
            found[found == UNKNOWN] = unknown
            found[found == SEPARATOR_ID] = separator
            np.add.at(counts, found, 1)
            _append(ids, found.astype("<u4"))
            _append(places, covered.astype("<i4"))
    used = np.flatnonzero(counts[:separator])
    used = used[np.lexsort((used, -counts[used]))]
    np.where(used == unknown, UNKNOWN, used).astype("<u4").tofile(folder / ALPHABET)
    order = np.append(used, separator)
    ranks = np.zeros(separator + 1, dtype=np.int64)
    ranks[order] = np.arange(len(order))
    width = 2 if len(order) <= 2**16 else 4
    with (folder / SYMBOLS[width]).open("wb") as symbols:
        for batch in _slices(np.memmap(folder / _IDS, dtype="<u4", mode="r")):
            _append(symbols, ranks[batch].astype(f"<u{width}"))
    (folder / _IDS).unlink()
    return TokenText(counts[order], width)


def symbols_of(text: Bytes, starts: Int64, encoder: TextEncoder) -> Iterator[tuple[Int64, Int64]]:
    """The ids of a shard's text with the bytes that they cover; `SEPARATOR_ID` ends a document.

    Args:
        text: Its bytes, each document followed by a separator.
        starts: Where documents begin, and the end of the last one.
        encoder: The tokenizer.
    """
    view: memoryview = text.data
    for begin, stop in zip(starts[:-1].tolist(), (starts[1:] - 1).tolist(), strict=True):
        for piece in encoder.pieces(view[begin:stop]):
            covered = np.stack([piece.begins, piece.ends], axis=1)
            yield piece.ids.astype(np.int64), covered + begin
        yield np.array([SEPARATOR_ID]), np.array([[stop, stop]])


def sort_symbols(
    folder: Path, known: TokenText, names: tuple[str, ...], suffixes_name: str
) -> dict[str, str]:
    """Sort the suffixes of a shard's symbols.

    Returns:
        The digests of the files of these names, and of the suffixes.

    Raises:
        ConfigurationError: There are more symbols than can be sorted.
    """
    from pydivsufsort import divsufsort  # type: ignore[import-untyped]  # only building needs it

    code = shortest_code(known.counts)
    length = code.length(known.counts)
    if length > MAX_CODE_BYTES:
        raise ConfigurationError(
            f"{int(known.counts.sum())} tokens in a shard take {length} bytes to sort, and "
            f"{MAX_CODE_BYTES} can be; choose smaller shards"
        )
    symbols = np.memmap(folder / SYMBOLS[known.width], dtype=f"<u{known.width}", mode="r")
    coded = code_text(symbols, code, length)
    with ThreadPoolExecutor(max_workers=1) as thread:
        others = {name: thread.submit(plain_digest, folder / name) for name in names}
        suffixes = divsufsort(coded.code)
        count = keep_symbols(suffixes, coded.starts, coded.before)
        kept = suffixes[:count].astype("<i4", copy=False)
        kept.tofile(folder / suffixes_name)
        digests = {name: future.result() for name, future in others.items()}
        return {**digests, suffixes_name: f"sha256:{hashlib.sha256(kept).hexdigest()}"}


def sorting_memory(known: TokenText) -> int:
    """Bytes of memory that `sort_symbols` takes beside the mapped text."""
    return int(SORT_BYTES_PER_CODE_BYTE * shortest_code(known.counts).length(known.counts))


def _batches(parts: Iterator[tuple[Int64, Int64]]) -> Iterator[tuple[Int64, Int64]]:
    """The same in fewer, larger parts."""
    ids: list[Int64] = []
    covered: list[Int64] = []
    held = 0
    for part in parts:
        ids.append(part[0])
        covered.append(part[1])
        held += len(part[0])
        if held >= _BATCH:
            yield np.concatenate(ids), np.concatenate(covered)
            ids, covered, held = [], [], 0
    if ids:
        yield np.concatenate(ids), np.concatenate(covered)


def _append(file: BinaryIO, values: NDArray[np.generic]) -> None:
    file.write(np.ascontiguousarray(values).data)


def _slices(values: NDArray[np.generic]) -> Iterator[NDArray[np.generic]]:
    for start in range(0, len(values), _BATCH):
        yield values[start : start + _BATCH]
