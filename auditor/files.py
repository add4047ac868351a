"""Writing files so that nobody ever reads half of one, and telling them apart."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from auditor.errors import FileMissing, InvalidText, OperationFailed, OutputNotWritable

# What the user can mend by choosing another place; all else is the machine's failure.
_WRONG_PLACE = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR,
    errno.EEXIST, errno.ENAMETOOLONG,
}  # fmt: skip


def read_text_file(path: Path, role: str, most_bytes: int) -> str:
    """The text of a small UTF-8 file, without a byte order mark.

    Args:
        path: The file.
        role: What it is, for messages.
        most_bytes: A larger one is not read.

    Raises:
        FileMissing: There is no such file.
        InvalidText: It is too large, no UTF-8 text, or cannot be read.
    """
    if not path.is_file():
        raise FileMissing(path, role)
    try:
        if path.stat().st_size > most_bytes:
            raise InvalidText(str(path), f"larger than {most_bytes} bytes; split the {role}")
        return path.read_text(encoding="utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise InvalidText(str(path), f"not UTF-8 text at byte {error.start}") from None
    except OSError as error:
        raise InvalidText(str(path), f"cannot be read: {error.strerror}") from None


def plain_digest(path: Path) -> str:
    """`sha256:<hex>` of a file's bytes."""
    with path.open("rb") as stream:
        return f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"


def refuse_existing(target: Path, what: str) -> None:
    """Refuse to write over a file, or over a link to one; `what` says what would be written.

    Raises:
        OutputNotWritable: There is something at the path.
    """
    if target.exists() or target.is_symlink():
        raise OutputNotWritable(target, f"it exists, and {what} is a new file")


def refuse_unwritable(target: Path) -> None:
    """Refuse, before long work, a place where nothing can be made.

    Raises:
        OutputNotWritable: The nearest folder above that exists is none, or must not be written.
    """
    parent = next(each for each in target.absolute().parents if each.exists())
    if not parent.is_dir():
        raise OutputNotWritable(target, f"{parent} is no folder")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise OutputNotWritable(target, f"{parent} must not be written")


def write_atomically(target: Path, content: bytes) -> None:
    """Write a file, and its folder if need be, so that a reader sees all of it or the old one.

    Raises:
        OutputNotWritable: The place cannot be written.
        OperationFailed: The disk failed or is full. In both cases nothing is left behind.
    """
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        reason = error.strerror or str(error)
        if error.errno in _WRONG_PLACE:
            raise OutputNotWritable(target, reason) from None
        raise OperationFailed(f"cannot write {target}: {reason}; mend that and run again") from None


@contextmanager
def unfinished_folder(out: Path, source: Path) -> Iterator[Path]:
    """A hidden folder beside `out` that becomes `out` if the block ends well, and is gone else.

    Args:
        out: A path at which nothing is.
        source: What it is made from, for the message.

    Raises:
        OperationFailed: The disk failed; says that the source is as it was.
    """
    made = out.with_name(f".{out.name}.{os.getpid()}.unfinished")
    try:
        made.mkdir(parents=True)
        yield made
        made.rename(out)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OperationFailed(f"cannot write {out}: {reason}; {source} is as it was") from None
    finally:
        shutil.rmtree(made, ignore_errors=True)
