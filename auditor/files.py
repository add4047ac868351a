"""Writing files so that nobody ever reads half of one, and telling them apart."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from auditor.abandoned import FILE, FOLDER, claimed, hidden_name, remove_abandoned
from auditor.errors import FileMissing, InvalidText, OperationFailed, OutputNotWritable

# What the user can mend by choosing another place; all else is the machine's failure.
_WRONG_PLACE = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR,
    errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP,
}  # fmt: skip
# Made anew or not at all, and never where a link leads; not all of these exist on Windows.
_NEW: Final = os.O_CREAT | os.O_EXCL | os.O_WRONLY
_NO_DETOUR: Final = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_BINARY: Final = getattr(os, "O_BINARY", 0)


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
    content = read_file(path, role, most_bytes)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidText(str(path), f"not UTF-8 text at byte {error.start}") from None
    return text.replace("\r\n", "\n").replace("\r", "\n").removeprefix("\ufeff")


def read_file(path: Path, role: str, most_bytes: int) -> bytes:
    """The bytes of a small file; not one more than the limit is read, however it grows.

    Args:
        path: The file.
        role: What it is, for messages.
        most_bytes: A larger one is refused.

    Raises:
        FileMissing: There is no such file.
        InvalidText: It is too large, or cannot be read.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise FileMissing(path, role)
        with path.open("rb") as stream:
            content = stream.read(most_bytes + 1)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # the last of a NUL in the name
        raise FileMissing(path, role) from None
    except OSError as error:
        raise InvalidText(str(path), f"cannot be read: {error.strerror}") from None
    if len(content) > most_bytes:
        raise InvalidText(str(path), f"larger than {most_bytes} bytes; split the {role}")
    return content


def user_cache() -> Path:
    """The user's own folder for what can be had again; it need not exist."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "auditor"


def has_changed(before: os.stat_result, file: BinaryIO) -> bool:
    """Whether an open file has another size or time of change than before."""
    after = os.fstat(file.fileno())
    return (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns)


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
    with new_file(target) as file:
        file.write(content)


@contextmanager
def new_file(target: Path) -> Iterator[BinaryIO]:
    """A stream whose content is at `target` once the block ends well, and nowhere else.

    Until then it is a file beside the target with a name that nobody can foresee, made anew: a
    file or link that somebody planted there is neither opened nor followed. A link at the target
    is replaced, not followed.

    Raises:
        As `write_atomically`, an OSError of the block included; all else passes through.
    """
    temporary = hidden_name(target, FILE)
    made = False
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # The mode is what the umask leaves, as of any other file.
        descriptor = os.open(temporary, _NEW | _NO_DETOUR | _BINARY, 0o666)
        made = True
        with claimed(temporary):
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
            made = False
        flush_names(target.parent)
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in _WRONG_PLACE:
            raise OutputNotWritable(target, reason) from None
        raise OperationFailed(f"cannot write {target}: {reason}; mend that and run again") from None
    finally:
        if made:
            with contextlib.suppress(OSError):
                temporary.unlink()


@contextmanager
def unfinished_folder(out: Path, source: Path) -> Iterator[Path]:
    """A hidden folder beside `out` that becomes `out` if the block ends well, and is gone else.

    Args:
        out: A path at which nothing is.
        source: What it is made from, for the message.

    Raises:
        OperationFailed: The disk failed; says that the source is as it was.
    """
    remove_abandoned(out)
    made = hidden_name(out, FOLDER)
    ours = False
    try:
        made.mkdir(parents=True)
        ours = True
        with claimed(made):
            yield made
            flush_folder(made)
            made.rename(out)
        flush_names(out.parent)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OperationFailed(f"cannot write {out}: {reason}; {source} is as it was") from None
    finally:
        if ours:
            shutil.rmtree(made, ignore_errors=True)


def flush_folder(folder: Path) -> None:
    """Flush the files below a folder, and their names, to the disk; links are left alone.

    Raises:
        OSError: The disk failed.
    """
    for parent, _, names in os.walk(folder):
        for name in sorted(names):
            path = Path(parent, name)
            if not path.is_symlink():
                with path.open("r+b") as file:
                    os.fsync(file.fileno())
        flush_names(Path(parent))


def flush_names(folder: Path) -> None:
    """Flush the names in a folder, where the system can.

    Raises:
        OSError: The disk failed.
    """
    if os.name != "posix":
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # a folder that may be written to and not be listed
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems know no such thing
            raise
    finally:
        os.close(descriptor)
