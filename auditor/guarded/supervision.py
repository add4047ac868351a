"""A process and all it starts, watched from outside: time, memory and how much it says.

Whatever happens here, nothing of it is left when `supervise` returns.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path
from typing import IO, Final, cast

import psutil

from auditor.guarded.limits import GuardLimits
from auditor.guarded.outcome import GuardStatus

_POLL_S: Final = 0.01
_CHUNK: Final = 64 * 1024
_FAREWELL_S: Final = 2.0
_WAITS_WITHOUT_REAPING: Final = hasattr(os, "waitid")


@dataclass(frozen=True)
class Supervised:
    """How a process ended.

    Attributes:
        stopped: Why it was killed here; None if it ended by itself.
        returncode: Its exit code, negative for a signal.
        output: What it said on standard output, `limits.output_bytes` at most.
        errors: The same of standard error.
        peak_memory_mb: Most resident memory that was seen.
        cpu_seconds: Processor time; 0 where the system does not tell.
    """

    stopped: GuardStatus | None
    returncode: int
    output: bytes
    errors: bytes
    peak_memory_mb: float
    cpu_seconds: float


def supervise(
    command: Sequence[str],
    pieces: Sequence[bytes],
    environment: Mapping[str, str],
    folder: Path,
    limits: GuardLimits,
) -> Supervised:
    """Start a process in a session of its own, feed it, watch it, and end all of it.

    Args:
        command: Program and arguments.
        pieces: What it gets on standard input, one after the other.
        environment: All it sees of the environment.
        folder: Where it begins.
        limits: Wall clock, memory in use and output are watched here.

    Raises:
        OSError: It cannot be started.
    """
    process = subprocess.Popen(  # noqa: S603  # our own interpreter and module
        command,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        bufsize=0, env=dict(environment), cwd=folder, start_new_session=True, umask=0o077,
    )  # fmt: skip
    feeder = threading.Thread(target=_feed, args=(process.stdin, pieces), daemon=True)
    readers = [_Reader(stream, limits.output_bytes) for stream in (process.stdout, process.stderr)]
    stopped, peak = None, 0.0
    try:
        for thread in (feeder, *readers):
            thread.start()
        stopped, peak = _watch(process, readers, limits)
    finally:
        _kill_group(process)
        cpu_seconds = _reap(process)
        for thread in (feeder, *readers):
            # One that left the session may hold the pipe; the thread closes it when that ends.
            thread.join(_FAREWELL_S)
    if any(reader.flooded for reader in readers):
        stopped = GuardStatus.FLOODED
    output, errors = (bytes(reader.content) for reader in readers)
    return Supervised(stopped, process.returncode, output, errors, peak, cpu_seconds)


class _Reader(threading.Thread):
    """Keeps what a stream brings up to a limit, then closes it."""

    def __init__(self, stream: IO[bytes] | None, limit: int) -> None:
        super().__init__(daemon=True)
        self._stream, self._limit = cast(RawIOBase, stream), limit
        self.content, self.flooded = bytearray(), False

    def run(self) -> None:
        with self._stream, contextlib.suppress(OSError):
            while chunk := self._stream.read(_CHUNK):
                room = self._limit - len(self.content)
                self.content += chunk[:room]
                if len(chunk) > room:
                    self.flooded = True
                    return


def _feed(stream: IO[bytes], pieces: Sequence[bytes]) -> None:
    # A child that ends early closes the pipe; how it ended is told elsewhere.
    with contextlib.suppress(OSError), stream:
        for piece in pieces:
            view = memoryview(piece)
            while view:
                view = view[stream.write(view) :]


def _watch(
    process: subprocess.Popen[bytes], readers: Sequence[_Reader], limits: GuardLimits
) -> tuple[GuardStatus | None, float]:
    deadline, peak = time.monotonic() + limits.seconds, 0.0
    while not _has_ended(process):
        peak = max(peak, _memory_mb(process.pid))
        if any(reader.flooded for reader in readers):
            return GuardStatus.FLOODED, peak
        if peak > limits.memory_mb * 1.048576:
            return GuardStatus.OUT_OF_MEMORY, peak
        if time.monotonic() > deadline:
            return GuardStatus.OUT_OF_TIME, peak
        time.sleep(_POLL_S)
    return None, peak


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    if not _WAITS_WITHOUT_REAPING:
        return process.poll() is not None
    # Not reaped before its group was killed: its number cannot belong to another until then.
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()


def _reap(process: subprocess.Popen[bytes]) -> float:
    """Wait for its end, which was brought about; its processor time in seconds."""
    if not _WAITS_WITHOUT_REAPING or process.returncode is not None:
        process.wait()
        return 0.0
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime


def _memory_mb(pid: int) -> float:
    """Most resident memory so far where the system keeps it, else what is in use now."""
    try:
        status = Path(f"/proc/{pid}/status").read_text("ascii", errors="replace")
        _, found, rest = status.partition("VmHWM:")
        if found:
            return int(rest.split()[0]) * 1024 / 1e6
    except OSError:
        with contextlib.suppress(psutil.Error):
            return float(psutil.Process(pid).memory_info().rss / 1e6)
    return 0.0
