"""Workers give up the network, and keep what they work with."""

from __future__ import annotations

import errno
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from auditor.executor import LocalExecutor, WorkUnit, network_of_workers
from auditor.guarded.outcome import GuardOutcome, GuardStatus
from auditor.guarded.process import run_guarded
from auditor.guarded.system_calls import MACHINES

ROOT = Path(__file__).parents[2]
FAMILIES = 46
WAIT_S = 30

filtered = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in MACHINES,
    reason="the filter knows Linux on x86-64 and AArch64",
)

WITHOUT_FILTER = """\
import platform
platform.machine = lambda: "riscv64"
if __name__ == "__main__":
    from auditor.executor import network_of_workers
    print(network_of_workers())
"""
"""A worker imports its parent's script, so that both believe they are on such a machine."""

WITHOUT_WORKERS = """\
import multiprocessing
from auditor.executor import network_of_workers
multiprocessing.set_executable("/bin/false")
print(network_of_workers())
"""
BEGUN_BEFORE = """\
import socket, threading
from auditor.guarded.system_calls import refuse_network
refused, told = threading.Event(), []
def probe():
    refused.wait()
    try:
        socket.socket()
    except OSError as error:
        told.append(type(error).__name__)
thread = threading.Thread(target=probe)
thread.start()
refuse_network()
refused.set()
thread.join()
print(*told)
"""
CONNECT = "import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[1]))).send(b'x')"


def connect(address: tuple[str, int]) -> str:
    """Send a byte to a server; the error's name if that fails."""
    try:
        with socket.create_connection(address, timeout=5) as stream:
            stream.send(b"x")
    except OSError as error:
        return type(error).__name__
    return "connected"


def connect_from_a_child(port: int) -> str:
    """The last line of a process that the worker starts."""
    command = [sys.executable, "-c", CONNECT, str(port)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stderr.strip().rpartition("\n")[2]


def made_families(_: None) -> list[int]:
    """Families whose sockets are not refused by the filter."""
    found = []
    for family in range(FAMILIES):
        try:
            socket.socket(family, socket.SOCK_DGRAM).close()
        except OSError as error:
            if error.errno == errno.EPERM:
                continue
        found.append(family)
    return found


def talk_here(text: str) -> str:
    """A text through a pair of local sockets, and through a local socket with a name."""
    one, other = socket.socketpair()
    with one, other, socket.socket(socket.AF_UNIX) as third:
        third.bind("")
        one.send(text.encode())
        return other.recv(len(text)).decode()


def write(path: str) -> int:
    """A file."""
    return Path(path).write_text("written")


def guard(name: str) -> GuardOutcome:
    """An act in a guarded child, which puts a filter of its own above the worker's."""
    return run_guarded(f"tests.unit.guarded.guarded_acts:{name}", {"family": int(socket.AF_UNIX)})


def work_and_report(argument: None, progress: Callable[[float, str], None]) -> str:
    """Progress, then a value."""
    progress(0.5, "half")
    return "done"


@pytest.fixture
def executor() -> Iterator[LocalExecutor]:
    """One worker, as every command has them."""
    made = LocalExecutor()
    yield made
    made.close()


@pytest.fixture(params=["127.0.0.1", "::1"])
def listener(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    """A server of this process on each loopback address."""
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    try:
        server = socket.create_server((request.param, 0), family=family)
    except OSError:
        pytest.skip(f"this system has no {request.param}")
    with server:
        server.setblocking(False)
        yield server


def value_of(executor: LocalExecutor, function: Callable[..., Any], argument: Any = None) -> Any:
    """What a unit gives in a worker."""
    executor.submit(WorkUnit("unit", function, argument, time_limit_s=60))
    (outcome,) = executor.as_completed()
    assert outcome.status == "done", outcome.detail
    return outcome.value


@filtered
def test_a_worker_reaches_no_server(executor: LocalExecutor, listener: socket.socket) -> None:
    """Not even one of this machine, which sees nothing of it."""
    assert value_of(executor, connect, listener.getsockname()[:2]) == "PermissionError"
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_a_worker_that_may_reaches_a_server(listener: socket.socket) -> None:
    """The same attempt where the network was asked for."""
    executor = LocalExecutor(network=True)
    try:
        assert value_of(executor, connect, listener.getsockname()[:2]) == "connected"
    finally:
        executor.close()
    listener.settimeout(WAIT_S)
    with listener.accept()[0] as stream:
        assert stream.recv(1) == b"x"


@filtered
def test_what_a_worker_starts_reaches_no_server(executor: LocalExecutor) -> None:
    """The filter is handed down."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ended = value_of(executor, connect_from_a_child, server.getsockname()[1])
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()
    assert ended.startswith("PermissionError")


@filtered
def test_sockets_of_other_families_are_not_made(executor: LocalExecutor) -> None:
    """Netlink, packets and those of virtual machines among them."""
    assert value_of(executor, made_families) == [socket.AF_UNIX]


@filtered
def test_threads_that_began_before_lose_the_network_too() -> None:
    """Libraries may start some when a worker imports the main module of its parent."""
    done = subprocess.run(
        [sys.executable, "-c", BEGUN_BEFORE], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["PermissionError"]


@filtered
def test_a_worker_talks_to_its_own_machine(executor: LocalExecutor) -> None:
    """By local sockets, as libraries do between processes."""
    assert value_of(executor, talk_here, "hello") == "hello"


def test_a_worker_writes_files(executor: LocalExecutor, tmp_path: Path) -> None:
    """Evidence, shards and certificates."""
    path = tmp_path / "file"
    assert value_of(executor, write, str(path)) == len("written")
    assert path.read_text() == "written"


@pytest.mark.skipif(os.name == "nt", reason="the acts are those of POSIX systems")
def test_a_worker_starts_guarded_children(executor: LocalExecutor) -> None:
    """They are held by the same protections as elsewhere."""
    here, there = guard("nothing"), value_of(executor, guard, "nothing")
    assert (there.status, there.stages) == (GuardStatus.DONE, ("nothing",))
    assert there.protections == here.protections


@filtered
def test_a_guarded_child_of_a_worker_has_not_even_local_sockets(executor: LocalExecutor) -> None:
    """Of two filters the stricter answer holds."""
    outcome = value_of(executor, guard, "open_socket")
    assert (outcome.status, outcome.problem) == (GuardStatus.REJECTED, "PermissionError")


def test_progress_of_a_worker_without_network_arrives(executor: LocalExecutor) -> None:
    """It comes through a pipe."""
    seen: list[tuple[str, float, str]] = []
    executor.on_progress = lambda *step: seen.append(step)
    unit = WorkUnit("unit", work_and_report, None, reports_progress=True)
    executor.submit(unit)
    (outcome,) = executor.as_completed()
    assert (outcome.value, seen) == ("done", [("unit", 0.5, "half")])


@filtered
def test_a_worker_finds_out_what_it_has_of_the_network() -> None:
    """What `auditor doctor` says."""
    assert network_of_workers() == "none (system call filter)"


@pytest.mark.skipif(sys.platform != "linux", reason="a machine that the filter does not know")
def test_where_there_is_no_filter_workers_go_on_and_say_so(tmp_path: Path) -> None:
    """The network stays open."""
    script = tmp_path / "script.py"
    script.write_text(WITHOUT_FILTER)
    done = subprocess.run(
        [sys.executable, script], cwd=ROOT, capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.stdout.strip() == "open"


@pytest.mark.skipif(os.name == "nt", reason="/bin/false is of POSIX systems")
def test_where_no_worker_starts_nothing_is_claimed() -> None:
    """`auditor doctor` calls that a problem."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_WORKERS], cwd=ROOT, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "None"
