"""The local executor: outcomes, limits, replacement of killed workers."""

from __future__ import annotations

import atexit
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from auditor.executor import Executor, InThread, LocalExecutor, Outcome, WorkUnit


def double(value: int) -> int:
    return 2 * value


def fail(message: str) -> None:
    raise ValueError(message)


def sleep(seconds: float) -> str:
    time.sleep(seconds)
    return "rested"


def fill_memory(megabytes: int) -> int:
    kept = bytearray(os.urandom(1024)) * (1024 * megabytes)
    time.sleep(30)
    return len(kept)


def kill_self(_: None) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def exit_quietly(code: int) -> None:
    os._exit(code)


def leave_a_note(path: str) -> None:
    atexit.register(Path(path).touch)


def report(steps: int, progress: Callable[[float, str], None]) -> str:
    for step in range(1, steps + 1):
        progress(step / steps, f"step {step}")
    return "reported"


def threads(_: None) -> str:
    return os.environ["OMP_NUM_THREADS"]


@pytest.fixture
def executor() -> Iterator[LocalExecutor]:
    made = LocalExecutor(workers=2)
    yield made
    made.close()


def run(executor: LocalExecutor, *units: WorkUnit) -> dict[str, Outcome]:
    for unit in units:
        executor.submit(unit)
    return {outcome.id: outcome for outcome in executor.as_completed()}


def test_units_return_their_values(executor: LocalExecutor) -> None:
    outcomes = run(executor, *(WorkUnit(str(n), double, n) for n in range(5)))
    assert {name: o.value for name, o in outcomes.items()} == {str(n): 2 * n for n in range(5)}
    assert {o.status for o in outcomes.values()} == {"done"}


def test_an_exception_is_an_outcome_with_its_traceback(executor: LocalExecutor) -> None:
    outcome = run(executor, WorkUnit("bad", fail, "no such layer"))["bad"]
    assert outcome.status == "failed"
    assert outcome.detail.strip().endswith("ValueError: no such layer")


def test_a_unit_past_its_time_is_killed_and_others_go_on(executor: LocalExecutor) -> None:
    outcomes = run(
        executor,
        WorkUnit("slow", sleep, 60, time_limit_s=2.0),
        WorkUnit("quick", double, 4),
        WorkUnit("later", double, 5),
    )
    assert (outcomes["slow"].status, outcomes["slow"].detail) == ("timeout", "stopped after 2 s")
    assert (outcomes["quick"].value, outcomes["later"].value) == (8, 10)


def test_a_unit_past_its_memory_is_killed(executor: LocalExecutor) -> None:
    outcome = run(executor, WorkUnit("big", fill_memory, 400, memory_limit_mb=200))["big"]
    assert outcome.status == "memory"
    assert outcome.peak_memory_mb > 200


def test_a_killed_worker_is_an_outcome_that_names_the_signal(executor: LocalExecutor) -> None:
    outcomes = run(executor, WorkUnit("dead", kill_self, None), WorkUnit("next", double, 1))
    assert (outcomes["dead"].status, outcomes["dead"].detail) == (
        "died", "the worker was killed by SIGKILL"
    )  # fmt: skip
    assert outcomes["next"].value == 2


def test_a_worker_that_exits_is_an_outcome_that_names_the_code(executor: LocalExecutor) -> None:
    outcome = run(executor, WorkUnit("gone", exit_quietly, 7))["gone"]
    assert (outcome.status, outcome.detail) == ("died", "the worker ended with exit code 7")


def test_progress_reaches_the_observer() -> None:
    seen: list[tuple[str, float, str]] = []
    executor = LocalExecutor(on_progress=lambda *step: seen.append(step))
    outcome = run(executor, WorkUnit("u", report, 2, reports_progress=True))["u"]
    executor.close()
    assert outcome.value == "reported"
    assert seen == [("u", 0.5, "step 1"), ("u", 1.0, "step 2")]


def test_cancelled_units_end_as_cancelled(executor: LocalExecutor) -> None:
    for name, seconds in (("a", 60.0), ("b", 60.0), ("queued", 60.0), ("short", 0.0)):
        executor.submit(WorkUnit(name, sleep, seconds))
    outcomes: list[Outcome] = []
    executor.cancel("queued")
    for outcome in executor.as_completed():
        outcomes.append(outcome)
        if outcome.id == "queued":
            executor.cancel("a")
            executor.cancel("b")
    assert {o.id: o.status for o in outcomes} == {
        "a": "cancelled", "b": "cancelled", "queued": "cancelled", "short": "done",
    }  # fmt: skip


def test_everything_can_be_cancelled_from_inside_the_loop() -> None:
    """What a time cap does: cancel all that is left as soon as one unit has ended."""
    executor = LocalExecutor(workers=2)
    names = ["first", *"abcd"]
    for name in names:
        executor.submit(WorkUnit(name, sleep, 0.0 if name == "first" else 60.0))
    seen = {}
    for outcome in executor.as_completed():
        seen[outcome.id] = outcome.status
        for name in names:
            executor.cancel(name)
    executor.close()
    assert seen == {"first": "done"} | dict.fromkeys("abcd", "cancelled")


def test_workers_use_the_threads_they_are_given() -> None:
    executor = LocalExecutor(threads=3)
    before = os.environ.get("OMP_NUM_THREADS")
    assert run(executor, WorkUnit("t", threads, None))["t"].value == "3"
    executor.close()
    assert os.environ.get("OMP_NUM_THREADS") == before


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_python_drops_is_raised_all_the_same(executor: LocalExecutor) -> None:
    """In a destructor the exception is printed and forgotten; the unit would run for long."""

    class Interrupted:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    def drop(unit: str, share: float, text: str) -> None:
        Interrupted()

    executor.on_progress = drop
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    executor.submit(WorkUnit("a", report, 1, reports_progress=True))
    executor.submit(WorkUnit("b", sleep, 60))
    try:
        with pytest.raises(KeyboardInterrupt):
            list(executor.as_completed())
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_idle_worker_ends_by_itself(tmp_path: Path) -> None:
    """Closing lets it run what its libraries registered for the end of the process."""
    note = tmp_path / "note"
    executor = LocalExecutor()
    assert run(executor, WorkUnit("note", leave_a_note, str(note)))["note"].status == "done"
    executor.close()
    assert note.exists()


def test_a_thread_runs_units_in_order_and_drops_what_has_not_begun() -> None:
    """The unit that runs is waited for; one behind it never runs."""
    began, go_on, ran = threading.Event(), threading.Event(), list[str]()

    def first(argument: str) -> str:
        began.set()
        go_on.wait(10)
        ran.append(argument)
        return argument.upper()

    def second(argument: str) -> str:
        ran.append(argument)
        return argument.upper()

    executor: Executor = InThread()
    executor.submit(WorkUnit("a", first, "a"))
    executor.submit(WorkUnit("b", second, "b"))
    executor.submit(WorkUnit("c", second, "c"))
    began.wait(10)
    executor.cancel("b")
    go_on.set()
    assert [outcome.value for outcome in executor.as_completed()] == ["A", "C"]
    executor.submit(WorkUnit("d", second, "d"))
    executor.cancel("d")  # may have ended already; it is not given out
    executor.close()
    assert list(executor.as_completed()) == []
    assert ran[:2] == ["a", "c"]
