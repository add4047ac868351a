"""A process watched from outside, without any protection inside: nothing of it is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

import psutil
import pytest

from auditor.guarded.limits import GuardLimits
from auditor.guarded.outcome import GuardStatus
from auditor.guarded.supervision import Supervised, supervise

pytestmark = pytest.mark.skipif(os.name == "nt", reason="processes fork on POSIX systems")

LIMITS = GuardLimits(seconds=30, memory_mb=1024)


def watch(code: str, tmp_path: Path, limits: GuardLimits = LIMITS) -> Supervised:
    """Supervise Python code without any protection inside."""
    command = [sys.executable, "-S", "-c", code]
    return supervise(command, [b"content"], {}, tmp_path, limits)


def test_what_a_child_leaves_behind_is_ended(tmp_path: Path) -> None:
    """A grandchild that would sleep on and holds the pipes; where processes can be made."""
    code = (
        "import os, time\nread, write = os.pipe()\nif os.fork() == 0:\n"
        "    print(os.getpid(), flush=True)\n    os.write(write, b'1')\n    time.sleep(600)\n"
        "os.read(read, 1)"
    )
    ended = watch(code, tmp_path)
    assert ended.returncode == 0
    assert _is_gone(int(ended.output))


def test_a_child_that_is_stopped_takes_its_children_along(tmp_path: Path) -> None:
    """The whole group is killed."""
    code = (
        "import os, time\nif os.fork() == 0:\n    print(os.getpid(), flush=True)\ntime.sleep(600)"
    )
    ended = watch(code, tmp_path, GuardLimits(seconds=1))
    assert ended.stopped is GuardStatus.OUT_OF_TIME
    assert _is_gone(int(ended.output))


def test_memory_is_watched_where_it_cannot_be_limited(tmp_path: Path) -> None:
    """Memory in use counts."""
    code = "import time\nkept = b'x' * (400 * 2**20)\ntime.sleep(600)"
    ended = watch(code, tmp_path, GuardLimits(seconds=30, memory_mb=200))
    assert ended.stopped is GuardStatus.OUT_OF_MEMORY
    assert ended.peak_memory_mb > 200


def test_a_child_that_does_not_listen_does_not_block_its_parent(tmp_path: Path) -> None:
    """Content that fits no pipe is given up."""
    ended = supervise([sys.executable, "-S", "-c", ""], [bytes(2**22)], {}, tmp_path, LIMITS)
    assert (ended.stopped, ended.returncode) == (None, 0)


def test_an_interrupt_leaves_nothing_running(tmp_path: Path) -> None:
    """The child is ended, and the interrupt goes on."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    others = psutil.Process().children()
    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        with pytest.raises(KeyboardInterrupt):
            watch("import time\ntime.sleep(600)", tmp_path)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert psutil.Process().children() == others


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_a_child_ends_with_its_parent() -> None:
    """Also with one that is killed and cannot tidy up."""
    code = (
        "import os\nfrom tests.unit.guarded.test_process import act\n"
        "print(os.getpid(), flush=True)\nact('sleep')"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[3], stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    with parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        child = _first_child(parent.pid)
        parent.kill()
    assert _is_gone(child)


def _first_child(pid: int) -> int:
    for _ in range(500):
        if children := psutil.Process(pid).children():
            return children[0].pid
        time.sleep(0.02)
    raise AssertionError("no child was started")


def _is_gone(pid: int) -> bool:
    for _ in range(250):
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False
