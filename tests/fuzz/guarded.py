"""Time and memory that one input may take."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Final

from tests.fuzz.target import Check

SECONDS: Final = 5
MEGABYTES: Final = 512
_MEGABYTE: Final = 2**20


class TooSlow(Exception):
    """An input took longer than `SECONDS`."""


class TooLarge(Exception):
    """An input made the process larger by more than `MEGABYTES`."""


def limited_in_memory(check: Check) -> Check:
    """The same, raising `TooLarge` where the process has grown too much during one input.

    The largest size that the process ever had is compared with its size when it was first called:
    what an input takes and gives back is seen, a little more from each of many is not.
    """
    largest = _largest_size()
    ground = _size()

    def limited(data: bytes) -> None:
        nonlocal largest
        check(data)
        now = _largest_size()
        if now > largest:
            grown, largest = now - ground, now
            if grown > MEGABYTES * _MEGABYTE:
                raise TooLarge(f"{grown // _MEGABYTE} MB for an input of {len(data)} bytes")

    return limited


@contextlib.contextmanager
def limited_in_time(seconds: int = SECONDS) -> Iterator[None]:
    """Raise `TooSlow` in a block that takes longer, where the system has alarms."""
    if not hasattr(signal, "SIGALRM"):
        yield
        return

    def ring(number: int, frame: FrameType | None) -> None:
        raise TooSlow(f"longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _largest_size() -> int:
    """Bytes of memory that the process had at most, 0 where the system does not say."""
    try:
        import resource  # not on Windows
    except ImportError:
        return 0
    found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found if sys.platform == "darwin" else found * 1024


def _size() -> int:
    """Bytes of memory that the process has now, or had at most where only that is known."""
    with contextlib.suppress(OSError):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * 4096
    return _largest_size()
