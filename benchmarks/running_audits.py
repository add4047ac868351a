"""Audits in processes of their own under a cap on memory, two or so at a time."""

from __future__ import annotations

import os
import resource
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

from tests.functional.command import clean_environment, command_line

SAMPLE_S: Final = 0.2
LIMIT_S: Final = 600.0


@dataclass
class Running:
    """An audit that runs.

    Attributes:
        log: What it said on stderr.
        peak_mb: Largest sum of resident memory of its processes.
        stopped: Why it was killed from outside, or nothing.
    """

    name: str
    out: Path
    log: Path
    process: subprocess.Popen[bytes]
    started: float = field(default_factory=time.perf_counter)
    peak_mb: float = 0.0
    stopped: str = ""
    seconds: float = 0.0

    def resident_mb(self) -> float:
        """Resident memory of all its processes; shared pages count in each."""
        total = 0.0
        try:
            leader = psutil.Process(self.process.pid)
            family = [leader, *leader.children(recursive=True)]
        except psutil.Error:
            return 0.0
        for each in family:
            try:
                total += each.memory_info().rss / 1e6
            except psutil.Error:
                continue
        self.peak_mb = max(self.peak_mb, total)
        return total


def start(folder: Path, plan: str, out: Path, memory_mb: int, workers: int = 1) -> Running:
    """Start an audit whose processes may address half of the cap each."""
    log = out.with_name(f"{out.name}.{time.monotonic_ns()}.err")
    most = memory_mb * 2**20 // 2
    path = os.pathsep.join(filter(None, ("site", os.environ.get("PYTHONPATH", ""))))
    with log.open("wb") as err:
        process = subprocess.Popen(
            command_line("run", f"{plan}.yaml", "--out", out, "--progress", "plain", "--workers",
                         str(workers)),
            cwd=folder, env={**clean_environment(), "PYTHONPATH": path}, stderr=err,
            stdout=subprocess.DEVNULL, start_new_session=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (most, most)),
        )  # fmt: skip
    return Running(plan, out, log, process)


def run_queue(
    folder: Path,
    queue: Sequence[tuple[str, Path]],
    memory_mb: int,
    at_once: int,
    minutes: float = float("inf"),
) -> tuple[list[Running], float]:
    """Run all of them, or those that can begin within some minutes.

    Returns:
        What ended, and the largest sum of resident memory, in MB.
    """
    waiting, running, ended, peak = list(queue), list[Running](), list[Running](), 0.0
    last = time.monotonic() + 60 * minutes
    while waiting or running:
        if time.monotonic() > last:
            waiting.clear()
        while waiting and len(running) < at_once:
            running.append(start(folder, *waiting.pop(0), memory_mb))
        time.sleep(SAMPLE_S)
        sizes = {id(each): each.resident_mb() for each in running}
        peak = max(peak, sum(sizes.values()))
        if sum(sizes.values()) > memory_mb:
            _stop(max(running, key=lambda each: sizes[id(each)]), "the cap was passed")
        for each in list(running):
            each.seconds = time.perf_counter() - each.started
            if each.process.poll() is not None:
                running.remove(each)
                ended.append(each)
            elif each.seconds > LIMIT_S:
                _stop(each, f"no end within {LIMIT_S:.0f} s")
    return ended, peak


def _stop(audit: Running, reason: str) -> None:
    audit.stopped = reason
    os.killpg(audit.process.pid, 9)
