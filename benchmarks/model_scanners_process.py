"""One process of a program that scans model files, and what came of it.

`run` gives it an emptied environment, a fresh folder that is its home, its working folder and its
place for temporary files, and limits on time and memory.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FLAGGED: Final = "flagged"
NOT_LOOKED_AT: Final = "not looked at"
FAILED: Final = "failed"
CLEAN: Final = "clean"
ANSWERS: Final = (FLAGGED, NOT_LOOKED_AT, FAILED, CLEAN)
"""In the order in which one answer stands for several files."""
MEMORY: Final = 6 * 2**30
"""Bytes of its own that a program may use (RLIMIT_DATA; mapped files do not count)."""
_READ: Final = 2**25
_SAID: Final = 200


@dataclass(frozen=True)
class Ended:
    """A process that came to its end.

    Attributes:
        code: Exit code; negative for a signal.
        out: What it wrote to standard output.
        err: What it wrote to standard error.
        seconds: Wall-clock time.
        megabytes: Peak resident memory of it and of the processes that it waited for.
    """

    code: int
    out: str
    err: str
    seconds: float
    megabytes: float


@dataclass(frozen=True)
class Answer:
    """What a program says of a path.

    Attributes:
        word: One of ANSWERS.
        code: Its exit code; of several files the one that is furthest from 0.
        said: The beginning of what it says.
        seconds: Wall-clock time.
        megabytes: Peak resident memory.
    """

    word: str
    code: int
    said: str
    seconds: float
    megabytes: float


@dataclass(frozen=True)
class Scanner:
    """A program that scans.

    Attributes:
        package: The distribution that it comes from.
        python: The interpreter of its environment.
        command: What is run, before the path.
        judge: The word for a process that ended, and what it said.
        folders: Whether it takes a folder; otherwise it is given one file after the other.
    """

    package: str
    python: Path
    command: tuple[str, ...]
    judge: Callable[[Ended], tuple[str, str]]
    folders: bool = True

    def version(self) -> str:
        """Of its distribution."""
        program = f"import importlib.metadata as m; print(m.version({self.package!r}))"
        done = subprocess.run([self.python, "-c", program], capture_output=True, check=True)
        return done.stdout.decode().strip()

    def scan(self, path: Path, limit: float) -> Answer:
        """Its answer for a file or folder; `limit` in seconds, for each process."""
        paths = [path]
        if not self.folders and path.is_dir():
            paths = sorted(each for each in path.rglob("*") if each.is_file())
        found = [self._scan(each, limit) for each in paths]
        if not found:
            return Answer(NOT_LOOKED_AT, 0, "no file in it", 0.0, 0.0)
        worst = min(found, key=lambda each: ANSWERS.index(each.word))
        code = max((each.code for each in found), key=abs)
        seconds = sum(each.seconds for each in found)
        return Answer(worst.word, code, worst.said, seconds, max(each.megabytes for each in found))

    def _scan(self, path: Path, limit: float) -> Answer:
        ended = run([*self.command, str(path)], limit)
        word, said = self.judge(ended)
        if ended.code == -signal.SIGKILL and ended.seconds >= limit:
            word, said = FAILED, "stopped at the limit of time"
        said = " ".join(said.split())[:_SAID]
        return Answer(word, ended.code, said, round(ended.seconds, 3), round(ended.megabytes, 1))


def run(command: list[str], limit: float) -> Ended:
    """Run a process to its end, or to the limit in seconds, when its whole group is killed."""
    with tempfile.TemporaryDirectory(prefix="scanner-", ignore_cleanup_errors=True) as made:
        folder = Path(made)
        environment = {
            "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": made, "TMPDIR": made,
            # modelaudit counts its users unless one of these is set (its README, Telemetry).
            "PROMPTFOO_DISABLE_TELEMETRY": "1", "NO_ANALYTICS": "1",
        }  # fmt: skip
        with (folder / ".out").open("w+b") as out, (folder / ".err").open("w+b") as err:
            started = time.perf_counter()
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=made,
                env=environment, start_new_session=True,
            )  # fmt: skip
            resource.prlimit(process.pid, resource.RLIMIT_DATA, (MEMORY, MEMORY))
            killer = threading.Timer(limit, os.killpg, (process.pid, signal.SIGKILL))
            killer.start()
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - started
            killer.cancel()
            process.returncode = os.waitstatus_to_exitcode(status)
            said, complained = (_text(stream.fileno()) for stream in (out, err))
    return Ended(process.returncode, said, complained, seconds, usage.ru_maxrss / 1024)


def _text(descriptor: int) -> str:
    return os.pread(descriptor, _READ, 0).decode(errors="replace")
