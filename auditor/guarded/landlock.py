"""File access by an allow-list (Landlock), which a process puts on itself and cannot take off.

Source: Linux, Documentation/userspace-api/landlock.rst. Kernels since 5.13 have it, not all
switch it on. It judges opening, listing, making and removing; not `stat`.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

_PR_SET_NO_NEW_PRIVS: Final = 38
# The same numbers on every architecture.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG: Final = 1
_PATH_BENEATH: Final = 1

_READ_FILE: Final = 1 << 2
_READ_DIR: Final = 1 << 3
_FIRST_RIGHTS: Final = (1 << 13) - 1
_RIGHTS_SINCE: Final = ((2, 1 << 13), (3, 1 << 14), (5, 1 << 15))  # link away, truncate, ioctl
_FILE_RIGHTS: Final = 0b111 | 1 << 14
_TCP: Final = 0b11  # bind and connect, since version 4
_SCOPES: Final = 0b11  # abstract sockets and signals, since version 6


def restrict_files(
    trees: Iterable[Path], files: Iterable[Path], listed: Iterable[Path], writable: Path | None
) -> None:
    """Leave this process these files and no others; what does not exist is left out.

    Args:
        trees: Folders of which everything may be read.
        files: Single files that may be read.
        listed: Folders whose names may be listed.
        writable: A folder in which everything may be done.

    Raises:
        OSError: The system has no Landlock, or does not let this process use it.
    """
    if sys.platform != "linux":
        raise OSError(errno.ENOSYS, "no Landlock")
    library = ctypes.CDLL(None, use_errno=True)
    version = _call(library, _CREATE_RULESET, None, 0, _VERSION_FLAG)
    rights = _FIRST_RIGHTS
    for since, right in _RIGHTS_SINCE:
        rights |= right if version >= since else 0
    fields = struct.pack("=QQQ", rights, _TCP, _SCOPES)
    size = 8 if version < 4 else 16 if version < 6 else 24
    rules = _call(library, _CREATE_RULESET, fields[:size], size, 0)
    try:
        for path in trees:
            _allow(library, rules, path, _READ_FILE | _READ_DIR)
        for path in files:
            _allow(library, rules, path, _READ_FILE)
        for path in listed:
            _allow(library, rules, path, _READ_DIR)
        if writable is not None:
            _allow(library, rules, writable, rights)
        if library.prctl(_PR_SET_NO_NEW_PRIVS, *map(ctypes.c_ulong, (1, 0, 0, 0))):
            raise OSError(ctypes.get_errno(), "privileges could still be gained")
        _call(library, _RESTRICT_SELF, rules, 0)
    finally:
        os.close(rules)


def _allow(library: ctypes.CDLL, rules: int, path: Path, rights: int) -> None:
    with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
        target = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            rights = rights if path.is_dir() else rights & _FILE_RIGHTS
            _call(library, _ADD_RULE, rules, _PATH_BENEATH, struct.pack("=Qi", rights, target), 0)
        finally:
            os.close(target)


def _call(library: ctypes.CDLL, number: int, *values: int | bytes | None) -> int:
    passed = [ctypes.c_long(value) if isinstance(value, int) else value for value in values]
    answer = int(library.syscall(ctypes.c_long(number), *passed))
    if answer < 0:
        failed = ctypes.get_errno()
        raise OSError(failed, os.strerror(failed))
    return answer
