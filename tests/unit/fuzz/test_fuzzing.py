"""The fuzzer itself: what it changes, what it calls a finding, and that it keeps it."""

from __future__ import annotations

import pickle
import random
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.errors import AuditorError, InvalidText, OutputNotWritable
from tests.fuzz.child import fuzz_at_random, problem_of, replay
from tests.fuzz.guarded import TooLarge, TooSlow, limited_in_memory, limited_in_time
from tests.fuzz.inert_unpickler import asked_by
from tests.fuzz.mutation import mutated
from tests.fuzz.run import run_target
from tests.fuzz.target import Check, Contradiction, Target, only, parts_of, with_parts

ROOT = Path(__file__).parents[3]


class _Marker:
    """Unpickling it creates a file; nothing else."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


@given(st.lists(st.binary(max_size=30), max_size=4), st.integers(0, 2**32), st.integers(0, 40))
def test_a_mutation_follows_from_its_seed_and_stays_short(
    seeds: list[bytes], number: int, longest: int
) -> None:
    """The same seed gives the same input."""
    first, second = (mutated(seeds, random.Random(number), longest) for _ in range(2))
    assert first == second
    assert len(first) <= longest


@given(st.lists(st.tuples(st.integers(0, 5), st.binary(max_size=20)), max_size=5))
def test_parts_come_back(parts: list[tuple[int, bytes]]) -> None:
    """As they were written."""
    assert parts_of(with_parts(parts), 6) == parts


@given(st.binary(max_size=60))
def test_any_bytes_have_parts(data: bytes) -> None:
    """Numbers that there are, and no more bytes than were given."""
    parts = parts_of(data, 3)
    assert all(0 <= number < 3 for number, _ in parts)
    assert sum(len(part) for _, part in parts) <= len(data)


def test_a_documented_error_passes_and_another_does_not() -> None:
    """The class decides."""

    def fail(error: AuditorError) -> None:
        with only(InvalidText):
            raise error

    fail(InvalidText("file:1", "wrong"))
    with pytest.raises(OutputNotWritable):
        fail(OutputNotWritable("out", "full"))


@pytest.mark.parametrize("message", ["", "two\nlines", "a \x1b[31m word", "\u2028", "x" * 20_000])
def test_an_unfit_message_is_a_finding(message: str) -> None:
    """Even of a documented error."""
    with pytest.raises(Contradiction), only(ValueError):
        raise ValueError(message)


def test_an_input_that_takes_too_long_is_a_finding() -> None:
    """It is interrupted."""
    with pytest.raises(TooSlow), limited_in_time(1):
        time.sleep(20)


def test_an_input_that_takes_too_much_memory_is_a_finding() -> None:
    """As soon as it is done; a small one is none. In a process that was never that large."""
    program = (
        "from tests.fuzz.guarded import limited_in_memory\n"
        "check = limited_in_memory(lambda data: bytearray(int(data)).count(b'1'))\n"
        "check(b'1000')\n"
        "print('small', flush=True)\n"
        "check(b'700000000')\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (1, "small\n")
    assert TooLarge.__name__ in ended.stderr


def test_the_oracle_of_imports_runs_nothing(tmp_path: Path) -> None:
    """It says what a pickle asks for and calls, and the payload's file does not appear."""
    marker = tmp_path / "marker"
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        asked = asked_by(pickle.dumps(_Marker(marker), protocol))
        assert "pathlib" in {module for module, _ in asked.imports}
        assert any("touch" in name or name == "getattr" for _, name in asked.imports)
        assert asked.called
    assert not marker.exists()
    assert asked_by(b"cos\npath\n").called == set()


def _planted(folder: Path) -> Check:
    def check(data: bytes) -> None:
        if len(data) % 7 == 3:
            raise RecursionError("planted")
        if len(data) % 7 == 4:
            warnings.warn("planted", DeprecationWarning, stacklevel=1)

    return check


def test_a_finding_is_kept_and_comes_back_when_it_is_replayed(tmp_path: Path) -> None:
    """The input that broke a reader, as a file; a warning counts, too."""
    (tmp_path / "findings").mkdir()
    target = Target("planted", _planted)
    found = fuzz_at_random(target, tmp_path, tmp_path, 20, 1)
    assert found is not None
    assert len(found.read_bytes()) % 7 in (3, 4)
    assert "planted" in replay(target, found, tmp_path)
    (tmp_path / "fine").write_bytes(b"")
    assert replay(target, tmp_path / "fine", tmp_path) == ""


def test_what_is_in_order_is_no_finding() -> None:
    """Neither a result nor a documented error leaves a target."""
    assert problem_of(lambda data: None, b"") == ""
    assert "IndexError" in problem_of(lambda data: [][len(data)], b"")


def test_limits_of_memory_let_the_answer_through() -> None:
    """An error of the reader stays what it is."""

    def check(data: bytes) -> None:
        raise ValueError("its own")

    with pytest.raises(ValueError, match="its own"):
        limited_in_memory(check)(b"")


def test_a_process_that_dies_is_a_finding(tmp_path: Path) -> None:
    """A target that cannot even be opened has not been fuzzed without a finding."""
    outcome = run_target(Target("absent", _planted), "mutation", 1, 1, tmp_path)
    assert outcome.executions == 0
    assert [f"{tmp_path / 'log.txt'} (exit code 1, no new input kept)"] == list(outcome.findings)
    assert "KeyError" in (tmp_path / "log.txt").read_text()


def test_the_driver_runs_a_target_without_atheris_and_says_so(tmp_path: Path) -> None:
    """Exit code 0 where nothing is found, and what was done."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.run", "strict-json", "--engine", "mutation",
         "--seconds", "1", "--work", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert "without atheris" in ended.stdout
    assert "strict-json: " in ended.stdout
    assert list((tmp_path / "strict-json" / "findings").iterdir()) == []
