"""The ledger: an append-only file of what a run has established, and its evidence.

Evidence is written first (temporary file, fsync, rename to its digest), the ledger line
that refers to it last, so that a line never speaks of evidence that is not there. Each
line carries the digest of itself and of the line before: a torn tail is dropped when the
file is opened again, anything else that does not fit is damage and is refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, cast

from pydantic import JsonValue, ValidationError

from auditor.bounded_json import parse_json
from auditor.errors import AuditorError, FileMissing, OperationFailed, OutputNotWritable
from auditor.files import write_atomically
from auditor.findings import BlobRef, Record

FORMAT = 1
MAX_BYTES = 2**32
MAX_LINE_VALUES = 20_000_000
_START = "0" * 64
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
# Neither exists on Windows.
_NO_DETOUR = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)

Kind = Literal["plan", "result"]


class LedgerDamaged(OperationFailed):
    """A ledger line other than a torn last one does not fit its digest."""

    def __init__(self, path: Path, line: int, problem: str) -> None:
        self.path, self.line = path, line
        super().__init__(
            f"{path}:{line}: {problem}; restore the file from a copy or start over with "
            "another --out folder"
        )


class RunInUse(AuditorError):
    """Another process is writing to the run directory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(
            f"{path} is in use by another auditor process; wait for it or choose another --out"
        )


class EvidenceUnusable(OperationFailed):
    """A file of the evidence folder is missing or is not what the ledger speaks of."""

    def __init__(self, path: Path, problem: str) -> None:
        self.path, self.problem = path, problem
        super().__init__(f"{path}: {problem}; restore the run's evidence folder from a copy")


class Entry(Record):
    """One committed line."""

    kind: Kind
    body: dict[str, JsonValue]


class Ledger:
    """An open ledger file; a context manager that holds a lock on it.

    Law: for every prefix of the file's bytes, opening yields the longest sequence of
    entries that lies wholly in the prefix, and appending continues from there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: list[Entry] = []
        self._previous = _START
        try:
            # Never through a link: a torn tail is cut off, and that of another file is no tail.
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | _NO_DETOUR, 0o644)
        except OSError as error:
            raise OutputNotWritable(path, error.strerror or str(error)) from None
        try:
            _require_plain(self._file, path)
            _lock(self._file, path)
            self._recover()
        except AuditorError:
            os.close(self._file)
            raise

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def append(self, kind: Kind, body: dict[str, JsonValue]) -> None:
        """Commit one entry: it is on disk when this returns.

        Raises:
            OperationFailed: The disk refused it; the ledger is as before.
        """
        line, digest = _line(self._previous, kind, body)
        end = os.lseek(self._file, 0, os.SEEK_END)
        try:
            _write_all(self._file, line)
            os.fsync(self._file)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, end)
            raise OperationFailed(
                f"cannot write {self.path}: {error.strerror}; free space and run again"
            ) from None
        self._previous = digest
        # As it will be read back, so that a resumed run renders the same bytes.
        self.entries.append(_parse_line(line))

    def _recover(self) -> None:
        content = _read_all(self._file)
        kept, self.entries, self._previous = _replay(content, self.path)
        if kept < len(content):
            os.ftruncate(self._file, kept)
            os.fsync(self._file)


def read_entries(path: Path) -> list[Entry]:
    """The entries of a ledger that nobody writes to; the file is not changed.

    Raises:
        LedgerDamaged: A line other than a torn last one does not fit.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | _NO_DETOUR)
    except FileNotFoundError:
        raise FileMissing(path, "ledger") from None
    except OSError as error:
        raise OperationFailed(
            f"cannot read {path}: {error.strerror}; it must be a file of its own, no link"
        ) from None
    try:
        _require_plain(descriptor, path)
        return _replay(_read_all(descriptor), path)[1]
    finally:
        os.close(descriptor)


def _require_plain(descriptor: int, path: Path) -> None:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise OperationFailed(f"{path} is no plain file; name the folder of a run")
    if status.st_size > MAX_BYTES:
        raise OperationFailed(
            f"{path} has {status.st_size:,} bytes, and at most {MAX_BYTES:,} are read; split the "
            "plan"
        )


def _line(previous: str, kind: str, body: dict[str, JsonValue]) -> tuple[bytes, str]:
    content = json.dumps(
        {"body": body, "format": FORMAT, "kind": kind, "previous": previous},
        sort_keys=True,
        separators=(",", ":"),
        allow_nan=False,
        ensure_ascii=True,
    )
    digest = hashlib.sha256(content.encode()).hexdigest()
    return f'{{"digest":"{digest}","entry":{content}}}\n'.encode(), digest


def _parse_line(line: bytes) -> Entry:
    entry = json.loads(line)["entry"]
    return Entry(kind=entry["kind"], body=entry["body"])


def _fields_of(line: bytes) -> tuple[dict[str, JsonValue], Kind, object]:
    """Body, kind and format of a line; ValueError if it is none."""
    entry = parse_json(line, most_values=MAX_LINE_VALUES, constants=False, doubles=True)["entry"]
    body, kind, form = entry["body"], entry["kind"], entry["format"]
    if not isinstance(body, dict) or not isinstance(kind, str):
        raise ValueError("another form")  # noqa: TRY004 - one error for all that does not fit
    if any(isinstance(value, float) and not math.isfinite(value) for value in _leaves(body)):
        raise ValueError("a number beyond all ranges")
    return body, cast(Kind, kind), form


def _leaves(body: JsonValue) -> Iterator[JsonValue]:
    waiting: list[JsonValue] = [body]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
        else:
            yield value


def _replay(content: bytes, path: Path) -> tuple[int, list[Entry], str]:
    """Bytes that are whole, the entries in them, and the last digest."""
    kept, previous, entries = 0, _START, list[Entry]()
    for number, line in _whole_lines(content):
        try:
            body, kind, form = _fields_of(line)
        except (ValueError, KeyError, TypeError):
            if kept + len(line) == len(content):  # the last line: a torn write after all
                break
            raise LedgerDamaged(path, number, "not a ledger line") from None
        if form != FORMAT:
            problem = f"written in format {str(form)[:40]}, this auditor reads format {FORMAT}"
            raise LedgerDamaged(path, number, problem)
        expected, digest = _line(previous, kind, body)
        if expected != line:
            raise LedgerDamaged(path, number, "the line does not fit its digest")
        try:
            entries.append(_parse_line(line))
        except ValidationError:
            raise LedgerDamaged(path, number, "its body is no record of a ledger") from None
        kept += len(line)
        previous = digest
    return kept, entries, previous


def _whole_lines(content: bytes) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(content.splitlines(keepends=True), start=1):
        if line.endswith(b"\n"):
            yield number, line


def _lock(descriptor: int, path: Path) -> None:
    try:
        import fcntl  # not on Windows, where runs are not locked
    except ImportError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise RunInUse(path.parent) from None


def _read_all(descriptor: int) -> bytes:
    os.lseek(descriptor, 0, os.SEEK_SET)
    chunks = []
    while chunk := os.read(descriptor, 1 << 20):
        chunks.append(chunk)
    return b"".join(chunks)


def _write_all(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]


class EvidenceFolder:
    """Content-addressed files of a run: `evidence/<first two digits>/<sha256>`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, content: bytes, media_type: str, name: str = "") -> BlobRef:
        """Store the bytes; storing the same bytes twice is storing them once.

        Raises:
            OperationFailed: The disk refused.
        """
        digest = hashlib.sha256(content).hexdigest()
        target = self.path(f"sha256:{digest}")
        if not target.exists():
            write_atomically(target, content)
        return BlobRef(
            digest=f"sha256:{digest}", media_type=media_type, size=len(content), name=name
        )

    def get(self, reference: BlobRef, most_bytes: int) -> bytes:
        """The bytes a reference names.

        Raises:
            EvidenceUnusable: There is no such file, or it is not what was stored.
        """
        if not _DIGEST.fullmatch(reference.digest):
            raise EvidenceUnusable(self.folder, f"no file has the digest {reference.digest!r:.80}")
        path = self.path(reference.digest)
        try:
            # Never through a link or a pipe: the folder may come from somebody else.
            descriptor = os.open(path, os.O_RDONLY | _NO_DETOUR)
        except FileNotFoundError:
            raise EvidenceUnusable(path, "the file is missing") from None
        except OSError as error:
            raise EvidenceUnusable(path, error.strerror or str(error)) from None
        try:
            content = _read_plain(descriptor, path, most_bytes)
        finally:
            os.close(descriptor)
        if f"sha256:{hashlib.sha256(content).hexdigest()}" != reference.digest:
            raise EvidenceUnusable(path, "its content does not fit its digest")
        return content

    def path(self, digest: str) -> Path:
        """Where the bytes with this digest lie."""
        plain = digest.removeprefix("sha256:")
        return self.folder / plain[:2] / plain


def _read_plain(descriptor: int, path: Path, most_bytes: int) -> bytes:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise EvidenceUnusable(path, "it is not a plain file")
    if status.st_size > most_bytes:
        raise EvidenceUnusable(path, f"{status.st_size:,} bytes; at most {most_bytes:,} are read")
    return _read_all(descriptor)
