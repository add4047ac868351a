"""Running work units in other processes, within limits of time and memory.

A work unit is a module-level function and one picklable argument; it must be pure and
idempotent, so that it can be run again after a crash. `Executor` is the protocol every
engine for parallel work follows; `LocalExecutor` is the embedded one: spawned worker
processes on this machine that are killed when they pass a limit or lose their parent, and that
give up the network where the system has a filter for it.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import FrameType
from typing import Any, Literal, Protocol

import psutil

from auditor.guarded.protections import network_left
from auditor.guarded.system_calls import refuse_network

_POLL_S = 0.1
_ORPHAN_POLL_S = 1.0
_FAREWELL_S = 2.0
_TRIAL_S = 60.0
_PR_SET_PDEATHSIG = 1

Status = Literal["done", "failed", "timeout", "memory", "died", "cancelled"]


@dataclass(frozen=True)
class WorkUnit:
    """One piece of work.

    Attributes:
        id: Unique among the units of an executor.
        function: Module-level function called with `argument`; when `reports_progress`
            it is called with a second argument, a function (share, text) -> None.
        time_limit_s: The worker is killed after this many seconds of wall clock.
        memory_limit_mb: The worker is killed when its resident memory passes this.
    """

    id: str
    function: Callable[..., Any]
    argument: Any
    time_limit_s: float = float("inf")
    memory_limit_mb: float = float("inf")
    reports_progress: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of a work unit; `detail` is a traceback or says which limit was hit."""

    id: str
    status: Status
    value: Any = None
    detail: str = ""
    seconds: float = 0.0
    peak_memory_mb: float = 0.0


class Executor(Protocol):
    """The four calls every engine for parallel work offers."""

    def submit(self, unit: WorkUnit) -> None:
        """Queue a unit."""
        ...

    def as_completed(self) -> Iterator[Outcome]:
        """Outcomes in the order in which units end, until none is queued or running."""
        ...

    def cancel(self, unit_id: str) -> None:
        """Drop a queued unit or kill a running one; its outcome is `cancelled`."""
        ...

    def close(self) -> None:
        """Kill what runs and release every process."""
        ...


class InThread:
    """An executor that runs units one after another in a thread of this process.

    The caller can prepare the next unit meanwhile. For units that rarely hold the interpreter's
    lock; one that runs cannot be killed, so cancelling waits for its end.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._queue = deque[tuple[str, Future[Any]]]()

    def submit(self, unit: WorkUnit) -> None:
        """Queue a unit."""
        self._queue.append((unit.id, self._pool.submit(unit.function, unit.argument)))

    def as_completed(self) -> Iterator[Outcome]:
        """Wait for what is queued; what a unit raises is raised here."""
        while self._queue:
            unit_id, future = self._queue.popleft()
            yield Outcome(unit_id, "done", future.result())

    def cancel(self, unit_id: str) -> None:
        """Drop a queued unit, or wait for the end of a running one."""
        for known, future in self._queue:
            if known == unit_id and not future.cancel():
                wait_for([future])
        self._queue = deque(each for each in self._queue if each[0] != unit_id)

    def close(self) -> None:
        """Drop what is queued and wait for what runs."""
        self._pool.shutdown(cancel_futures=True)
        self._queue.clear()


@dataclass(eq=False)
class _Worker:
    process: SpawnProcess
    connection: Connection
    unit: WorkUnit | None = None
    started: float = 0.0
    peak_mb: float = 0.0


@dataclass
class LocalExecutor:
    """Spawned worker processes on this machine.

    Args:
        workers: How many units run at the same time.
        threads: Threads each worker's numerical libraries may use.
        on_progress: Called in this process with (unit id, share in [0, 1], text).
        network: Whether workers keep the network, instead of giving it up for good before they
            get their first unit; where the system has no filter they keep it all the same.

    A worker is used again for the next unit; one that was killed is replaced.
    """

    workers: int = 1
    threads: int = 1
    on_progress: Callable[[str, float, str], None] | None = None
    network: bool = False
    _queue: deque[WorkUnit] = field(default_factory=deque)
    _running: list[_Worker] = field(default_factory=list)
    _cancelled: list[Outcome] = field(default_factory=list)

    def submit(self, unit: WorkUnit) -> None:
        """Queue a unit; nothing starts before `as_completed` is iterated."""
        self._queue.append(unit)

    def as_completed(self) -> Iterator[Outcome]:
        """Outcomes as units end.

        Raises:
            KeyboardInterrupt: Interrupted, even if that was lost where Python drops exceptions.
        """
        with _noted_interrupts() as interrupts:
            while self._queue or self._cancelled or any(w.unit for w in self._running):
                if interrupts:
                    raise KeyboardInterrupt
                while self._cancelled:
                    yield self._cancelled.pop()
                self._start_queued()
                yield from self._collect()

    def cancel(self, unit_id: str) -> None:
        """Drop a queued unit or kill the worker that runs it."""
        for unit in [unit for unit in self._queue if unit.id == unit_id]:
            self._queue.remove(unit)
            self._cancelled.append(Outcome(unit_id, "cancelled"))
        for worker in [w for w in self._running if w.unit and w.unit.id == unit_id]:
            self._cancelled.append(self._kill(worker, "cancelled", "cancelled"))

    def close(self) -> None:
        """Kill what runs and let idle workers end; queued units are forgotten."""
        self._queue.clear()
        idle = [worker for worker in self._running if worker.unit is None]
        for worker in idle:
            worker.connection.close()
        # One that is killed leaves its libraries' semaphores behind, and Python warns of them.
        deadline = time.monotonic() + _FAREWELL_S
        for worker in idle:
            worker.process.join(timeout=max(0.0, deadline - time.monotonic()))
        for worker in list(self._running):
            self._discard(worker)

    def _start_queued(self) -> None:
        while self._queue:
            worker = next((w for w in self._running if w.unit is None), None)
            if worker is None:
                if len(self._running) >= self.workers:
                    return
                worker = self._spawn()
            unit = self._queue.popleft()
            worker.unit, worker.started, worker.peak_mb = unit, time.monotonic(), 0.0
            worker.connection.send((unit.function, unit.argument, unit.reports_progress))

    def _spawn(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        # The kernel sees the end of the thread that started a worker, not of the process.
        lasting = threading.current_thread() is threading.main_thread()
        process = context.Process(
            target=_work, args=(there, os.getpid(), lasting, self.network), daemon=True,
            name="auditor-worker",
        )  # fmt: skip
        threads = {name: str(self.threads) for name in _THREAD_VARIABLES}
        before = {name: os.environ.get(name) for name in threads}
        os.environ.update(threads)
        try:
            process.start()
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
        there.close()
        worker = _Worker(process, here)
        self._running.append(worker)
        return worker

    def _collect(self) -> Iterator[Outcome]:
        busy = [worker for worker in self._running if worker.unit]
        ready = wait([worker.connection for worker in busy], timeout=_POLL_S)
        for worker in busy:
            if worker not in self._running:  # cancelled while an outcome was being looked at
                continue
            outcome = self._receive(worker) if worker.connection in ready else None
            outcome = outcome or self._enforce_limits(worker)
            if outcome:
                yield outcome

    def _receive(self, worker: _Worker) -> Outcome | None:
        unit = worker.unit
        if unit is None:
            return None
        try:
            kind, content = worker.connection.recv()
        except (EOFError, ConnectionResetError):
            worker.process.join(timeout=5)
            return self._kill(worker, "died", _exit_text(worker.process.exitcode))
        if kind == "progress":
            if self.on_progress:
                self.on_progress(unit.id, *content)
            return None
        self._measure(worker)
        worker.unit = None
        value, detail = (content, "") if kind == "done" else (None, content)
        return Outcome(
            unit.id, kind, value, detail, time.monotonic() - worker.started, worker.peak_mb
        )

    def _enforce_limits(self, worker: _Worker) -> Outcome | None:
        unit = worker.unit
        if unit is None:
            return None
        self._measure(worker)
        if time.monotonic() - worker.started > unit.time_limit_s:
            return self._kill(worker, "timeout", f"stopped after {unit.time_limit_s:g} s")
        if worker.peak_mb > unit.memory_limit_mb:
            text = f"stopped at {worker.peak_mb:.0f} MB, the limit is {unit.memory_limit_mb:.0f} MB"
            return self._kill(worker, "memory", text)
        return None

    def _measure(self, worker: _Worker) -> None:
        try:
            resident = psutil.Process(worker.process.pid).memory_info().rss / 1e6
        except psutil.Error:
            return
        worker.peak_mb = max(worker.peak_mb, resident)

    def _kill(self, worker: _Worker, status: Status, detail: str) -> Outcome:
        unit_id = worker.unit.id if worker.unit else ""
        seconds = time.monotonic() - worker.started
        self._discard(worker)
        return Outcome(unit_id, status, None, detail, seconds, worker.peak_mb)

    def _discard(self, worker: _Worker) -> None:
        self._running.remove(worker)
        worker.connection.close()
        worker.process.kill()
        worker.process.join()
        worker.process.close()


_THREAD_VARIABLES = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS",
)  # fmt: skip


def network_of_workers() -> str | None:
    """What a worker on this machine has of the network, as one found out; None if none works."""
    executor = LocalExecutor()
    try:
        executor.submit(WorkUnit("network", _find_network, None, _TRIAL_S))
        (outcome,) = executor.as_completed()
        return None if outcome.value is None else str(outcome.value)
    except OSError:
        return None
    finally:
        executor.close()


def _find_network(_: None) -> str:
    return network_left()


@contextlib.contextmanager
def _noted_interrupts() -> Iterator[list[int]]:
    """A list that holds every SIGINT of this block, which is raised as usual besides.

    Python prints and forgets an interrupt that arrives while it runs a destructor or a
    callback of a weak reference.
    """
    noted: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield noted
        return

    def note(number: int, frame: FrameType | None) -> None:
        noted.append(number)
        before(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)


def _exit_text(code: int | None) -> str:
    if code is not None and code < 0:
        return f"the worker was killed by {signal.Signals(-code).name}"
    return f"the worker ended with exit code {code}"


def _work(connection: Connection, parent: int, lasting: bool, network: bool) -> None:
    """A worker's life: receive a unit, run it, send what became of it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if lasting and sys.platform == "linux":
        # At once, also while native code keeps the interpreter's lock from the thread below.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))
    if not network:
        with contextlib.suppress(OSError):  # `auditor doctor` says what this system lacks
            refuse_network()
    threading.Thread(target=_die_with_parent, args=(parent,), daemon=True).start()
    while True:
        try:
            function, argument, reports_progress = connection.recv()
        except EOFError:
            return
        try:
            if reports_progress:
                value = function(argument, lambda *step: connection.send(("progress", step)))
            else:
                value = function(argument)
        except Exception:  # noqa: BLE001 - the border of a process: everything becomes an outcome
            connection.send(("failed", traceback.format_exc()))
        else:
            connection.send(("done", value))


def _die_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_ORPHAN_POLL_S)
    os._exit(1)
