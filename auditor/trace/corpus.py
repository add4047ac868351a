"""Training text as a stream of documents: plain text, JSONL and Parquet, gzip and zstd.

Nothing is normalised: line ends, NUL bytes and invalid UTF-8 come out as they went in.
A file is read once, in order, and refused if it changes meanwhile. Empty documents and
documents that repeat are not dropped here.
"""

from __future__ import annotations

import codecs
import contextlib
import gzip
import io
import itertools
import json
import os
import sys
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Final, NamedTuple

from auditor.errors import (
    AuditorError,
    FileMissing,
    InvalidText,
    NothingToAudit,
    OperationFailed,
    Place,
)
from auditor.trace.parquet_pages import DamagedTable
from auditor.trace.parquet_rows import read_rows

# The usual package `zstandard` takes a file that ends within a frame for a whole one.
if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MAX_DOCUMENT_BYTES: Final = 2**31 - 2**20
"""Most bytes of one document, or of one line of JSONL, after decompression."""

CHUNK_BYTES: Final = 2**20
"""Bytes taken from a stream at once; a limit is overshot by no more than this."""

_PACKINGS: Final = (".gz", ".zst")
_RECORDS: Final = (".jsonl", ".ndjson")
_PARQUET: Final = ".parquet"
_JSON_KINDS: Final[dict[type, str]] = {
    dict: "object", list: "array", str: "string", int: "number", float: "number",
    bool: "boolean", type(None): "null",
}  # fmt: skip


@dataclass(frozen=True)
class Document:
    """One document of a corpus.

    Attributes:
        content: Its bytes, UTF-8 unless `is_text` is false; they may be none.
        source: The file it is from; see `corpus_files`.
        place: Where in the file: 0 for plain text, the line from 1 for JSONL, the row
            from 0 for Parquet.
        identifier: From the id field; without one `source` for plain text and
            `source#place` for records.
        label: From the label field; `unknown` without one.
        is_text: Whether the content is valid UTF-8.
    """

    content: bytes
    source: str
    place: int
    identifier: str
    label: str
    is_text: bool


@dataclass(frozen=True)
class CorpusOptions:
    """How a corpus is read.

    Attributes:
        text_field: Field of a JSONL record, or column of a Parquet file, with the text.
        id_field: The same for the identifier; it may be absent, null or empty.
        label_field: The same for the label; it may be absent, null or empty.
        suffixes: Ends of the names that are read in a folder, in either case, also with
            `.gz` or `.zst` behind them, but for Parquet. A file named by itself is read
            whatever its name.
    """

    text_field: str = "text"
    id_field: str = "id"
    label_field: str = "label"
    suffixes: frozenset[str] = frozenset({".txt", ".md", ".rst", *_RECORDS, _PARQUET})


@dataclass(frozen=True)
class CorpusFile:
    """A file to read, and the name its documents carry as `source`."""

    path: Path
    source: str


def corpus_files(paths: Sequence[Path], options: CorpusOptions) -> list[CorpusFile]:
    """The files of a corpus, ordered by source and then path, whatever the order given.

    A file's source is its path as given, or as given for its folder, if that is relative. Of what
    was given from the root on only the last name counts, so that no machine's path is kept; where
    two files would have one source then, as many names more as tell them apart.

    In folders, names that begin with a dot, linked folders, and links to files outside
    the folder are skipped. A file that is reached by several ways is listed once.

    Args:
        paths: Files and folders; links among these are followed.
        options: Which files of a folder count.

    Raises:
        FileMissing: A path is neither a file nor a folder.
        InvalidText: A folder cannot be listed.
        NothingToAudit: A folder holds no file that counts.
    """
    found = [file for path in paths for file in _files_at(path, options)]
    found.sort(key=lambda file: (_source(file), file.path.as_posix()))
    once: dict[Path, _Listed] = {}
    for file in found:
        once.setdefault(file.path.resolve(), file)
    named = [CorpusFile(file.path, source) for file, source in _told_apart(list(once.values()))]
    return sorted(named, key=lambda file: (file.source, file.path.as_posix()))


def read_documents(file: CorpusFile, options: CorpusOptions) -> Iterator[Document]:
    """The documents of one file in their order, empty ones too, holding few at a time.

    `.jsonl` and `.ndjson` hold one JSON object a line, `.parquet` one document a row, and
    every other file is one document. Documents are out before the end of the file is seen:
    what is made of them counts only once the iterator has ended without an error.

    Raises:
        FileMissing: The file is gone.
        InvalidText: The file is damaged or has an unfitting record, field or column, or a
            document is longer than `MAX_DOCUMENT_BYTES`.
        OperationFailed: The file changed while it was read, or the disk failed.
    """
    name, packing = _split_packing(file.path)
    with _open_at_rest(file.path) as raw, _name_damage(file.path):
        if name.endswith(_PARQUET):
            if packing:
                raise InvalidText(str(file.path), f"Parquet within {packing}; unpack it")
            yield from _read_table(file, raw, options)
        elif name.endswith(_RECORDS):
            yield from _read_records(file, _unpack(raw, packing), options)
        else:
            yield _read_text(file, _unpack(raw, packing))


def is_utf8(content: bytes) -> bool:
    """Whether bytes are valid UTF-8; no decoded copy of all of them is made."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    view = memoryview(content)
    try:
        for start in range(0, len(view), CHUNK_BYTES):
            decoder.decode(view[start : start + CHUNK_BYTES])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


class _Listed(NamedTuple):
    """A file, the path that was given for it, and its path in that folder."""

    path: Path
    given: Path
    inside: Path


def _source(file: _Listed, names: int = 1) -> str:
    """A file's source, with so many names of a path that was given from the root on."""
    given = file.given
    if given.is_absolute():
        given = Path(*given.parts[1:][-names:])
    return _printable((given / file.inside).as_posix())


def _told_apart(files: Sequence[_Listed]) -> Iterator[tuple[_Listed, str]]:
    """Each file with a source of its own."""
    taken: set[str] = set()
    for names in range(1, max((len(file.given.parts) for file in files), default=1) + 1):
        sources = [_source(file, names) for file in files]
        counts = Counter(sources) + Counter(taken)
        unlike = [(file, source) for file, source in zip(files, sources, strict=True)
                  if counts[source] == 1]  # fmt: skip
        yield from unlike
        taken.update(source for _, source in unlike)
        files = [file for file, source in zip(files, sources, strict=True) if counts[source] > 1]
    # What is left: a relative path, and one from the root on that reads the same without it.
    yield from ((file, _printable(file.path.as_posix())) for file in files)


def _files_at(path: Path, options: CorpusOptions) -> list[_Listed]:
    try:
        if path.is_file():
            return [_Listed(path, path, Path())]
        if not path.is_dir():
            raise FileMissing(path, "corpus file or folder")
        inside = [file for file in _walk(path) if _counts(file, options)]
    except OSError as error:
        raise InvalidText(str(error.filename), f"cannot be listed: {error.strerror}") from None
    if not inside:
        raise NothingToAudit(
            f"{path} holds no file that ends in {', '.join(sorted(options.suffixes))} (hidden "
            "ones and links out of the folder do not count); name the files themselves"
        )
    return [_Listed(file, path, file.relative_to(path)) for file in inside]


def _walk(folder: Path) -> Iterator[Path]:
    def fail(error: OSError) -> None:
        raise error

    home = folder.resolve()
    for place, folders, names in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for file in (Path(place, name) for name in names if not name.startswith(".")):
            if file.is_file() and (not file.is_symlink() or file.resolve().is_relative_to(home)):
                yield file


def _counts(path: Path, options: CorpusOptions) -> bool:
    name, packing = _split_packing(path)
    suffixes = tuple(suffix.lower() for suffix in options.suffixes)
    return name.endswith(suffixes) and not (packing and name.endswith(_PARQUET))


def _split_packing(path: Path) -> tuple[str, str]:
    name = Path(path.name.lower())
    return (name.stem, name.suffix) if name.suffix in _PACKINGS else (name.name, "")


def _printable(text: str) -> str:
    r"""Text that can be written as UTF-8: lone surrogates become `\udc80` and the like."""
    return text.encode(errors="backslashreplace").decode()


# Opening, unpacking, and the errors of both.


@contextlib.contextmanager
def _open_at_rest(path: Path) -> Iterator[io.BufferedReader]:
    try:
        raw = path.open("rb")
    except FileNotFoundError:
        raise FileMissing(path, "corpus file") from None
    except OSError as error:
        raise InvalidText(str(path), f"cannot be read: {error.strerror}") from None
    with raw:
        before = _state(path, raw)
        try:
            yield raw
        except AuditorError:
            _refuse_change(path, raw, before)  # a file half written looks damaged
            raise
        _refuse_change(path, raw, before)


def _state(path: Path, raw: IO[bytes]) -> list[tuple[int, int, int]] | None:
    """Size, time and inode of the open file, and of what its path now leads to."""
    try:
        stats = [os.fstat(raw.fileno()), path.stat()]
    except OSError:
        return None
    return [(stat.st_size, stat.st_mtime_ns, stat.st_ino) for stat in stats]


def _refuse_change(path: Path, raw: IO[bytes], before: list[tuple[int, int, int]] | None) -> None:
    after = _state(path, raw)
    if after is None or after != before:
        raise OperationFailed(f"{path} changed while it was read; build again when it is at rest")


@contextlib.contextmanager
def _name_damage(path: Path) -> Iterator[None]:
    try:
        yield
    except (EOFError, zlib.error, zstd.ZstdError, DamagedTable) as error:
        raise _damaged(path, error) from error
    except OSError as error:
        if error.errno is None:  # gzip and Parquet readers say so of what they cannot decode
            raise _damaged(path, error) from error
        raise OperationFailed(
            f"cannot read {path}: {error.strerror}; mend that and run again"
        ) from None


def _damaged(path: Path, error: Exception) -> InvalidText:
    return InvalidText(str(path), f"damaged: {' '.join(str(error).split())}; fetch it anew")


def _unpack(raw: io.BufferedReader, packing: str) -> io.BufferedReader:
    if not packing:
        return raw
    if not raw.peek(1):
        raise EOFError("an empty file is not a compressed one")
    if packing == ".gz":
        return io.BufferedReader(gzip.GzipFile(fileobj=raw), CHUNK_BYTES)
    window = zstd.DecompressionParameter.window_log_max
    widest = {int(window): window.bounds()[1]}  # what `zstd --long=31` needs
    return io.BufferedReader(zstd.ZstdFile(raw, options=widest), CHUNK_BYTES)


def _too_long(place: Place | str) -> InvalidText:
    return InvalidText(place, f"more than {MAX_DOCUMENT_BYTES} bytes in one document; split it")


# Plain text and JSONL.


def _read_text(file: CorpusFile, stream: io.BufferedReader) -> Document:
    chunks, size = [], 0
    while chunk := stream.read(CHUNK_BYTES):
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_DOCUMENT_BYTES:
            raise _too_long(str(file.path))
    content = b"".join(chunks)
    return Document(content, file.source, 0, file.source, "unknown", is_utf8(content))


def _read_records(
    file: CorpusFile, stream: io.BufferedReader, options: CorpusOptions
) -> Iterator[Document]:
    for number, line in enumerate(_lines(file.path, stream), start=1):
        record = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
        if record.strip():
            yield _read_record(file, number, record, options)


def _lines(path: Path, stream: io.BufferedReader) -> Iterator[bytes]:
    for number in itertools.count(1):
        pieces, size = [], 0
        while piece := stream.readline(CHUNK_BYTES):
            pieces.append(piece)
            size += len(piece)
            if size > MAX_DOCUMENT_BYTES:
                raise _too_long(Place(str(path), number))
            if piece.endswith(b"\n"):
                break
        if not pieces:
            return
        yield b"".join(pieces)


def _read_record(file: CorpusFile, number: int, line: bytes, options: CorpusOptions) -> Document:
    place = Place(str(file.path), number)
    record = _parse(place, line)
    field = options.text_field
    if field not in record:
        raise InvalidText(place, f"no field '{field}'; there are {sorted(record)[:10]}; name one")
    text = record[field]
    if not isinstance(text, str):
        raise _unfitting(place, field, text)
    identifier = _read_name(place, record, options.id_field)
    label = _read_name(place, record, options.label_field)
    return _as_document(file, number, _encode(text, line), identifier, label)


def _parse(place: Place, line: bytes) -> dict[str, object]:
    try:
        record = json.loads(line.rstrip(b"\r\n").decode(errors="surrogateescape"))
    except json.JSONDecodeError as error:
        raise InvalidText(
            replace(place, column=error.colno), f"not JSON: {error.msg}; give one object a line"
        ) from None
    except (ValueError, RecursionError) as error:  # huge numbers, deep nesting
        raise InvalidText(place, f"JSON that cannot be read: {error}; simplify it") from None
    if not isinstance(record, dict):
        raise InvalidText(
            place, f"JSON of type {_JSON_KINDS[type(record)]}; give one object a line"
        )
    return record


def _read_name(place: Place, record: dict[str, object], field: str) -> str:
    value = record.get(field)
    if isinstance(value, dict | list):
        raise _unfitting(place, field, value)
    if value is None:
        return ""
    return _printable(value) if isinstance(value, str) else json.dumps(value)


def _unfitting(place: Place, field: str, value: object) -> InvalidText:
    kind = _JSON_KINDS[type(value)]
    return InvalidText(place, f"field '{field}' is of type {kind}; give a string, or name another")


def _encode(text: str, line: bytes) -> bytes:
    r"""The bytes of a JSON string.

    Bytes of the line that are no UTF-8 were decoded to U+DC80 to U+DCFF and become
    themselves again. Other lone surrogates, written as `\ud800`, become three bytes each.
    """
    try:
        return text.encode()
    except UnicodeEncodeError:
        if is_utf8(line):
            return text.encode(errors="surrogatepass")
    return b"".join(
        char.encode(errors="surrogateescape" if "\udc80" <= char <= "\udcff" else "surrogatepass")
        for char in text
    )


def _as_document(
    file: CorpusFile, place: int, content: bytes, identifier: str, label: str
) -> Document:
    return Document(
        content=content,
        source=file.source,
        place=place,
        identifier=identifier or f"{file.source}#{place}",
        label=label or "unknown",
        is_text=is_utf8(content),
    )


def _read_table(file: CorpusFile, raw: IO[bytes], options: CorpusOptions) -> Iterator[Document]:
    fields = (options.text_field, options.id_field, options.label_field)
    rows = read_rows(file.path, raw, fields, MAX_DOCUMENT_BYTES, CHUNK_BYTES)
    for number, (text, *names) in enumerate(rows):
        if len(text) > MAX_DOCUMENT_BYTES:
            raise _too_long(f"{file.path}, row {number}")
        identifier, label = (name.decode(errors="backslashreplace") for name in names)
        yield _as_document(file, number, text, identifier, label)
