"""Time and memory that one input may take."""

from __future__ import annotations

import contextlib
import re
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
_STATUS: Final = Path("/proc/self/status")
_PEAK: Final = re.compile(rb"VmHWM:\s+(\d+) kB")
_NOW: Final = re.compile(rb"VmRSS:\s+(\d+) kB")


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
    if found := _told(_PEAK):
        return found
    try:
        import resource  # not on Windows
    except ImportError:
        return 0
    # On Linux this may be the peak of the process that this one was started from.
    found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found if sys.platform == "darwin" else found * 1024


def _size() -> int:
    """Bytes of memory that the process has now, or had at most where only that is known."""
    return _told(_NOW) or _largest_size()


def _told(line: re.Pattern[bytes]) -> int:
    """Bytes in a line of what Linux says of a process, 0 on other systems."""
    try:
        found = line.search(_STATUS.read_bytes())
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0
