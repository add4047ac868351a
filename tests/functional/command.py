"""Runs the real `auditor` command in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

TIMEOUT_S = 240


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


def command_line(*arguments: str | Path) -> list[str]:
    """The command: an installed executable when AUDITOR_EXECUTABLE names one."""
    executable = os.environ.get("AUDITOR_EXECUTABLE")
    start = [executable] if executable else [sys.executable, "-m", "auditor_cli.main"]
    return [*start, *map(str, arguments)]


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without what would steer the command."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AUDITOR_", "GITHUB_"))}
    return {**kept, "OMP_NUM_THREADS": "1", **(extra or {})}


def heed_interrupts() -> None:
    """For a new process: shells start what runs in the background with interrupts ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def auditor(*arguments: str | Path, cwd: Path, env: Mapping[str, str] | None = None) -> Ended:
    """Run `auditor` with these arguments in a folder."""
    done = subprocess.run(
        command_line(*arguments),
        cwd=cwd,
        env=clean_environment(env),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr)
