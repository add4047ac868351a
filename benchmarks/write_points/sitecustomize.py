"""Put on the path of a command under trial: notes what it writes, and may end it before it does.

Python imports this module by its name at the start of every process, workers included. The points
are: a file opened to be written, renamed or removed, a folder made or removed, a file flushed to
disk or cut, and each write to a descriptor; only below the folder that `WRITE_POINTS_BELOW` names.
All processes note theirs in the one file `WRITE_POINTS_LOG`, a line each. At the point with the
number `WRITE_POINTS_KILL` the process group is killed before the point happens, but half of a
write is done first: what a power failure may leave of it. Linux.
"""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_NAMED = {"os.rename": 2, "os.remove": 1, "os.mkdir": 1, "os.rmdir": 1}


class Points:
    """The points of this process.

    Args:
        below: Folder whose files count.
        log: File of all processes' points.
        wanted: The point at which to end, counted from 1; 0 for none.
    """

    def __init__(self, below: str, log: str, wanted: int) -> None:
        self.below, self.wanted = f"{Path(below).resolve()}/", wanted
        # At the end of the largest numbers, where nothing else looks for a descriptor.
        opened = os.open(log, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        self.log = fcntl.fcntl(opened, fcntl.F_DUPFD_CLOEXEC, 900)
        os.close(opened)
        self.write = os.write

    def pass_by(self, event: str, *names: str) -> bool:
        """Note a point; whether it is the one to end at."""
        line = "\t".join([event, *(name.removeprefix(self.below) for name in names)]) + "\n"
        fcntl.flock(self.log, fcntl.LOCK_EX)
        self.write(self.log, line.encode())
        done = os.pread(self.log, os.fstat(self.log).st_size, 0).count(b"\n")
        fcntl.flock(self.log, fcntl.LOCK_UN)
        return done == self.wanted

    def named(self, value: Any) -> str:
        """A path, or a descriptor's, if it is below the folder; else nothing."""
        try:
            link = Path(f"/proc/self/fd/{value}")
            path = link.readlink() if isinstance(value, int) else Path(os.fsdecode(value))
        except (OSError, TypeError, ValueError):
            return ""
        if isinstance(value, int) and not path.is_absolute():  # a pipe or a socket
            return ""
        whole = os.path.normpath(Path.cwd() / path)
        return whole if whole.startswith(self.below) else ""

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        """An audit event, which comes before what it tells of."""
        if event == "open":
            if not isinstance(arguments[2], int) or not arguments[2] & _WRITING:
                return
            names = [self.named(arguments[0])]
        elif event in _NAMED:
            names = [self.named(each) for each in arguments[: _NAMED[event]]]
        else:
            return
        if all(names) and self.pass_by(event, *names):
            _end()

    def around(self, function: Callable[..., Any], event: str) -> Callable[..., Any]:
        """A function of `os` on a descriptor, noted before it is called."""

        def noted(descriptor: int, *more: Any) -> Any:
            name = self.named(descriptor)
            if name and self.pass_by(event, name):
                if event == "os.write":
                    self.write(descriptor, more[0][: len(more[0]) // 2])
                _end()
            return function(descriptor, *more)

        return noted


def _end() -> None:
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _begin() -> None:
    import sys

    below, log = (os.environ.get(f"WRITE_POINTS_{name}", "") for name in ("BELOW", "LOG"))
    if not below or not log:
        return
    points = Points(below, log, int(os.environ.get("WRITE_POINTS_KILL", "0")))
    for name in ("write", "fsync", "ftruncate"):
        setattr(os, name, points.around(getattr(os, name), f"os.{name}"))
    sys.addaudithook(points.hear)


_begin()
