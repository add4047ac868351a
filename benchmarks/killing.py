"""Commands in a process group of their own that are killed at a moment, and what outlives them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final, Literal

import psutil

from tests.functional.command import clean_environment, command_line

POINTS: Final = Path(__file__).parent / "write_points"
LIMIT_S: Final = 300.0
GONE_S: Final = 5.0
"""Within this time every process of a killed command has to be gone."""
LATE: Final = 0.9
Kind = Literal["time", "late", "write"]


@dataclass(frozen=True)
class Moment:
    """When a command is killed.

    Attributes:
        kind: At a time of the whole duration, of its last tenth, or before a write.
        share: Of the undisturbed duration, or of its points of writing.
        alone: Whether only the first process is killed, as by the kernel that runs out of memory,
            and not its group.
    """

    kind: Kind
    share: float
    alone: bool = False


@dataclass(frozen=True)
class Whole:
    """A command that was not disturbed.

    Attributes:
        code: How it ended.
        seconds: Wall-clock seconds.
        points: What it wrote, in order: event and paths, see `write_points`.
        err: What it said on stderr.
    """

    code: int
    seconds: float
    points: tuple[tuple[str, ...], ...]
    err: str = ""


@dataclass(frozen=True)
class Killed:
    """A command that was killed.

    Attributes:
        code: -9, or how it ended if it was faster.
        seconds: Until then.
        point: What it was about to write, if that was the moment.
        outlived: Seconds until the last of its processes was gone.
        orphans: Processes that were still there after `GONE_S`; they are killed then.
    """

    code: int
    seconds: float
    point: str = ""
    outlived: float = 0.0
    orphans: tuple[str, ...] = ()


@dataclass(frozen=True)
class Command:
    """What is run, where.

    Attributes:
        arguments: Of `auditor`.
        path: Where Python looks for modules besides.
    """

    arguments: Sequence[str]
    path: Sequence[str] = ()

    def start(self, folder: Path, points: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start it as the leader of a group."""
        path = (str(POINTS) if points else "", *self.path, os.environ.get("PYTHONPATH", ""))
        environment = {
            **clean_environment(points), "PYTHONPATH": os.pathsep.join(filter(None, path)),
            "TMPDIR": str(temporary_of(folder)),
        }  # fmt: skip
        with (
            (folder.parent / "out.txt").open("w") as out,
            (folder.parent / "err.txt").open("w") as err,
        ):
            return subprocess.Popen(
                command_line(*self.arguments), cwd=folder, env=environment, stdout=out, stderr=err,
                text=True, start_new_session=True,
            )  # fmt: skip


def temporary_of(folder: Path) -> Path:
    """Where a command that runs in a folder keeps temporary files; made if need be."""
    place = folder.parent / "tmp"
    place.mkdir(exist_ok=True)
    return place


def run_whole(command: Command, folder: Path, *, noted: bool = False) -> Whole:
    """Run a command to its end; noting what it writes takes time of its own.

    Raises:
        TimeoutError: It does not end.
    """
    log = folder.parent / "points.txt"
    log.unlink(missing_ok=True)
    points = {"WRITE_POINTS_BELOW": str(folder), "WRITE_POINTS_LOG": str(log)} if noted else None
    started = time.perf_counter()
    process = command.start(folder, points)
    try:
        process.wait(LIMIT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise TimeoutError(
            f"{' '.join(command.arguments)} did not end within {LIMIT_S} s"
        ) from None
    seconds = time.perf_counter() - started
    lines = log.read_text().splitlines() if noted and log.exists() else []
    err = (folder.parent / "err.txt").read_text()
    return Whole(process.returncode, seconds, tuple(tuple(each.split("\t")) for each in lines), err)


def run_and_kill(command: Command, folder: Path, whole: Whole, moment: Moment) -> Killed:
    """Start a command and kill it with SIGKILL at a moment of its undisturbed self."""
    log = folder.parent / "points.txt"
    log.unlink(missing_ok=True)
    points = None
    if moment.kind == "write":
        number = 1 + int(moment.share * len(whole.points))
        points = {
            "WRITE_POINTS_BELOW": str(folder), "WRITE_POINTS_LOG": str(log),
            "WRITE_POINTS_KILL": str(number),
        }  # fmt: skip
    started = time.perf_counter()
    process = command.start(folder, points)
    family: dict[int, psutil.Process] = {}
    deadline = started + (LIMIT_S if points else moment.share * whole.seconds)
    while process.poll() is None and time.perf_counter() < deadline:
        _add_family(process.pid, family)
        time.sleep(min(0.02, max(0.0, deadline - time.perf_counter())))
    if process.poll() is None:
        _add_family(process.pid, family)
        _kill(process, alone=moment.alone)
    process.wait()
    seconds = time.perf_counter() - started
    point = ""
    if points and process.returncode == -signal.SIGKILL and log.exists():
        point = log.read_text().splitlines()[-1]
    outlived, orphans = _await_end(family)
    return Killed(process.returncode, seconds, point, outlived, orphans)


def _kill(process: subprocess.Popen[str], *, alone: bool) -> None:
    if alone:
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGKILL)


def _add_family(leader: int, family: dict[int, psutil.Process]) -> None:
    """Note the children, and theirs: a session of their own would hide them from the group."""
    try:
        for each in psutil.Process(leader).children(recursive=True):
            family.setdefault(each.pid, each)
    except psutil.Error:
        return


def _await_end(family: Mapping[int, psutil.Process]) -> tuple[float, tuple[str, ...]]:
    """Seconds until all are gone, and those that are not; they are killed."""
    started = time.perf_counter()
    left = list(family.values())
    while left and time.perf_counter() - started < GONE_S:
        left = [each for each in left if _is_alive(each)]
        time.sleep(0.02 if left else 0.0)
    outlived = time.perf_counter() - started if family else 0.0
    names = []
    for each in left:
        try:
            names.append(" ".join(each.cmdline())[:200])
            each.kill()
        except psutil.Error:
            continue
    return outlived, tuple(names)


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def moments(count: int, source: Random, *, workers: bool) -> list[Moment]:
    """Moments in turns: a random time, a random write, the last tenth of the duration.

    Times and writes are spread: one in each of as many equal parts as there are of them.
    """
    kinds: list[Kind] = [("time", "write", "late")[number % 3] for number in range(count)]  # type: ignore[misc]
    found = []
    for kind in ("time", "write", "late"):
        number = kinds.count(kind)
        for place in range(number):
            share = (place + source.random()) / number
            if kind == "late":
                share = LATE + (1 - LATE) * share
            # The group of one without workers is the process.
            alone = workers and kind != "write" and place % 3 == 2
            found.append(Moment(kind, share, alone))
    source.shuffle(found)
    return found
