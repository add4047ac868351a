"""Unfinished output: claimed by whoever writes it, and removed once nobody does.

A command that is killed leaves a hidden file or folder beside the place of its output, which no
reader takes for whole, and which may be as large as a model. A claim is a lock that the system
lifts when its process ends, however it ends; so what can be claimed was abandoned.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

if sys.platform != "win32":  # there nothing is claimed, and nothing removed
    import fcntl

FILE: Final = "tmp"
FOLDER: Final = "unfinished"
_SHOWN: Final = 64
_NUMBER: Final = 8


def hidden_name(target: Path, ending: str) -> Path:
    """A path beside a target that nobody can foresee; `ending` is FILE or FOLDER."""
    return target.with_name(f".{target.name[:_SHOWN]}.{secrets.token_hex(_NUMBER)}.{ending}")


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Hold the claim on a file or folder that exists; whether it could be had."""
    descriptor = _claim(path)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            os.close(descriptor)


def remove_abandoned(target: Path) -> None:
    """Remove what killed commands left of earlier attempts to write a target.

    What another process writes now is claimed and stays. So does what cannot be removed, which is
    in nobody's way.
    """
    hidden = re.compile(
        rf"\.{re.escape(target.name[:_SHOWN])}\.[0-9a-f]{{{2 * _NUMBER}}}\.({FILE}|{FOLDER})"
    )
    with contextlib.suppress(OSError), os.scandir(target.parent) as entries:
        for entry in entries:
            if hidden.fullmatch(entry.name):
                _remove_if_abandoned(Path(entry.path))


def _remove_if_abandoned(path: Path) -> None:
    with claimed(path) as is_ours, contextlib.suppress(OSError):
        if is_ours and path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif is_ours:
            path.unlink()


def _claim(path: Path) -> int | None:
    """A descriptor that holds the lock, or None; a link is not followed."""
    if sys.platform == "win32":
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # another process has it, or the file system knows no locks
        os.close(descriptor)
        return None
    return descriptor
