"""The files of a folder, by rules that nothing outside of it can bend, and their digest.

A link is followed only to a regular file inside the folder, or from a snapshot of the
Hugging Face cache (`REPOSITORY/snapshots/REVISION`) to `REPOSITORY/blobs`. Files are opened
by their resolved path without following a link again, and judged on the open descriptor.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BufferedReader
from itertools import islice
from pathlib import Path
from typing import Final

from auditor.errors import FileMissing, RefusedFolder

MAX_FILES: Final = 100_000
MAX_DEPTH: Final = 16
_COPY: Final = "copy the file itself into the folder"


@dataclass(frozen=True)
class FolderFile:
    """A regular file of a folder.

    Attributes:
        name: Its path inside the folder, with `/` between the parts.
        path: Where it lies, links resolved.
        size: Its bytes when it was listed.
    """

    name: str
    path: Path
    size: int


def list_files(
    folder: Path, *, hidden: bool = True, max_files: int = MAX_FILES, max_depth: int = MAX_DEPTH
) -> tuple[FolderFile, ...]:
    """The files of a folder and its sub-folders, sorted by name.

    Args:
        folder: The folder, which may itself be reached through a link.
        hidden: Whether files and folders whose name begins with a dot count.
        max_files: More files than this, or more entries in one folder, are refused.
        max_depth: Folders nested deeper than this are refused.

    Raises:
        FileMissing: There is no such folder.
        RefusedFolder: A link that leaves the folder, a link to a folder, a pipe or device, a
            name with control characters, or more than the limits allow.
    """
    if not folder.is_dir():
        raise FileMissing(folder, "folder")
    found: list[FolderFile] = []
    for entry in _walk(folder, folder.resolve(), "", hidden, max_files, max_depth):
        found.append(entry)
        if len(found) > max_files:
            raise _too_many(folder, max_files)
    return tuple(sorted(found, key=lambda file: file.name))


def _too_many(folder: Path, max_files: int) -> RefusedFolder:
    return RefusedFolder(
        folder, "file-limit", f"more than {max_files} files",
        way_out="leave only what belongs to it",
    )  # fmt: skip


def _walk(
    folder: Path, root: Path, prefix: str, hidden: bool, max_files: int, depth: int
) -> Iterator[FolderFile]:
    try:
        with os.scandir(root / prefix) as entries:
            # One more than allowed is enough to know.
            listed = sorted(islice(entries, max_files + 1), key=lambda entry: entry.name)
    except OSError as error:
        raise RefusedFolder(
            folder, "unreadable", str(error.strerror), place=prefix, way_out="check its permissions"
        ) from error
    if len(listed) > max_files:
        raise _too_many(folder, max_files)
    for entry in listed:
        if entry.name.startswith(".") and not hidden:
            continue
        name = prefix + entry.name
        if not name.isprintable():
            raise RefusedFolder(
                folder, "control-character", f"a file is called {name!r}", way_out="rename it"
            )
        if entry.is_dir(follow_symlinks=False):
            if depth <= 1:
                raise RefusedFolder(
                    folder, "nesting-limit", "folders are nested too deep", place=name,
                    way_out="leave only what belongs to it",
                )  # fmt: skip
            yield from _walk(folder, root, f"{name}/", hidden, max_files, depth - 1)
        else:
            yield regular_file(folder, root, name)


def regular_file(folder: Path, root: Path, name: str) -> FolderFile:
    """The regular file that an entry of a folder is or may link to.

    Args:
        folder: The folder as it was named, for messages.
        root: The same, links resolved.
        name: The entry's path inside it.

    Raises:
        RefusedFolder: A link that leaves the folder or leads nowhere, a pipe or a device.
    """
    listed = root / name
    try:
        path = listed.resolve(strict=True) if listed.is_symlink() else listed
        status = path.lstat()
    except (OSError, RuntimeError) as error:
        raise RefusedFolder(
            folder, "broken-link", "a link to nowhere", place=name, way_out=_COPY
        ) from error
    if path != listed and not _may_link_to(root, path):
        raise RefusedFolder(
            folder, "link-escape", "a link that leaves the folder", place=name, way_out=_COPY
        )
    if not stat.S_ISREG(status.st_mode):
        raise RefusedFolder(
            folder, "not-a-file", "a pipe, a device, or a link to a folder", place=name,
            way_out="leave only files and folders there",
        )  # fmt: skip
    return FolderFile(name, path, status.st_size)


def _may_link_to(root: Path, target: Path) -> bool:
    in_cache = root.parent.name == "snapshots" and target.parent == root.parent.parent / "blobs"
    return in_cache or target.is_relative_to(root)


def open_listed(folder: Path, file: FolderFile) -> BufferedReader:
    """A listed file opened for reading.

    Raises:
        RefusedFolder: It can no longer be opened as what it was when it was listed.
    """
    root = folder.resolve()
    base = root if file.path.is_relative_to(root) else root.parent.parent
    try:
        descriptor = open_without_links(base, file.path.relative_to(base).parts)
    except (OSError, ValueError) as error:
        raise RefusedFolder(
            folder, "unreadable", f"cannot be opened as what was listed: {error}", place=file.name,
            way_out="check the file's permissions, and that nothing writes to the folder",
        ) from error  # fmt: skip
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size != file.size:
        os.close(descriptor)
        raise RefusedFolder(
            folder, "changed", "another file than when it was listed", place=file.name,
            way_out="run again when nothing writes to the folder",
        )  # fmt: skip
    return os.fdopen(descriptor, "rb")


def open_without_links(folder: Path, parts: Sequence[str]) -> int:
    """A read descriptor of `folder/part/.../part`; the folder itself may be reached by a link.

    Raises:
        OSError: With ELOOP or ENOTDIR where a part is a link, or as opening does.
    """
    flags = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    no_follow = getattr(os, "O_NOFOLLOW", 0)
    if os.open not in os.supports_dir_fd:
        return _open_checking_names(folder, parts, flags)
    current = os.open(folder, flags | getattr(os, "O_DIRECTORY", 0))
    try:
        for part in parts[:-1]:
            inner = os.open(part, flags | no_follow | getattr(os, "O_DIRECTORY", 0), dir_fd=current)
            os.close(current)
            current = inner
        # O_NONBLOCK: a named pipe must not stop the audit before it is refused.
        last = flags | no_follow | getattr(os, "O_NONBLOCK", 0)
        return os.open(parts[-1], last, dir_fd=current)
    finally:
        os.close(current)


def _open_checking_names(folder: Path, parts: Sequence[str], flags: int) -> int:
    """The same for systems without `openat`: names are checked, then opened."""
    current = folder
    for part in parts:
        current = current / part
        if current.is_symlink():
            raise OSError(errno.ELOOP, "symbolic link", str(current))
    return os.open(current, flags)


def folder_digest(folder: Path) -> str:
    """`sha256:<hex>` of the names and contents of all files in a folder.

    Raises:
        FileMissing: There is no such folder.
        RefusedFolder: See `list_files`.
    """
    hashes: dict[str, str] = {}
    for file in list_files(folder):
        with open_listed(folder, file) as stream:
            hashes[file.name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return combine_hashes(hashes)


def combine_hashes(hashes: Mapping[str, str]) -> str:
    """The digest of a folder from the SHA-256 (hex) of each file by its name.

    It is the SHA-256 of one line per file, `<hex>  <name>`, sorted by name: what
    `sha256sum` prints for the sorted names, through `sha256sum` once more.
    """
    lines = "".join(f"{hashes[name]}  {name}\n" for name in sorted(hashes))
    return f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"
