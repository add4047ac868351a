"""A worker ends with the process that started it, whatever it is doing."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
HELD_S = 600
WAIT_S = 120
PARENT = """\
import sys
from auditor.executor import LocalExecutor, WorkUnit
from tests.unit.test_orphaned_workers import hold_the_lock

executor = LocalExecutor()
executor.submit(WorkUnit("held", hold_the_lock, sys.argv[1]))
next(executor.as_completed())
"""


def hold_the_lock(note: str) -> None:
    """Say who runs, then sleep in native code without giving the interpreter's lock back."""
    path = Path(note)
    path.with_suffix(".new").write_text(str(os.getpid()))
    path.with_suffix(".new").rename(path)
    ctypes.PyDLL(None).sleep(HELD_S)


@pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere a worker looks for its parent itself"
)
def test_a_worker_that_keeps_the_lock_ends_with_its_killed_parent(tmp_path: Path) -> None:
    note = tmp_path / "worker"
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(note)], cwd=ROOT)
    try:
        deadline = time.monotonic() + WAIT_S
        while not note.exists():
            assert parent.poll() is None, "ended before it could be killed"
            assert time.monotonic() < deadline, "no worker in time"
            time.sleep(0.02)
        worker = psutil.Process(int(note.read_text()))
    finally:
        parent.kill()
        parent.wait()
    _, alive = psutil.wait_procs([worker], timeout=WAIT_S)
    for each in alive:
        each.kill()
    assert not alive
