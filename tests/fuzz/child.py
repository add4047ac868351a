"""Fuzzing one target in this process: `python -m tests.fuzz.child NAME WORK SCRATCH ...`.

What it writes on its way (libFuzzer's lines, or lines of the same form) is read by
`tests.fuzz.run`. With atheris the choice of inputs follows what they reach in this code; without
it they are changed at random.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import random
import sys
import time
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tests.fuzz.guarded import SECONDS, limited_in_memory, limited_in_time
from tests.fuzz.mutation import mutated
from tests.fuzz.target import Check, Target
from tests.fuzz.targets import target_called

HERE: Final = Path(__file__).parent
CORPUS, REGRESSIONS = HERE / "corpus", HERE / "regressions"
CURRENT: Final = "current-input"
"""File in the scratch folder with the input that is being tried, where libFuzzer keeps none."""
_RESIDENT_MEGABYTES: Final = 3072
# Compiled by numba, which does not take instrumented functions.
_NOT_INSTRUMENTED: Final = [
    "auditor.compilation", "auditor.trace.suffix_kernel", "auditor.trace.tokens",
    "auditor.trace.symbol_code", "auditor.verify.box_kernel",
]  # fmt: skip


def main(arguments: Sequence[str]) -> int:
    """Fuzz or replay; 1 if there is a finding."""
    parser = argparse.ArgumentParser()
    parser.add_argument("target")
    parser.add_argument("work", type=Path, help="folder with `corpus` and `findings`")
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--engine", choices=["atheris", "mutation"], required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    asked = parser.parse_args(arguments)
    fuzz = fuzz_by_coverage if asked.engine == "atheris" else fuzz_at_random
    found = fuzz(target_called(asked.target), asked.work, asked.scratch, asked.seconds, asked.seed)
    return 1 if found else 0


def fuzz_by_coverage(
    target: Target, work: Path, scratch: Path, seconds: float, seed: int
) -> Path | None:
    """Fuzz with atheris, which ends the process itself."""
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(
        include=["auditor", "auditor_cli", "auditor_reports"], exclude=_NOT_INSTRUMENTED
    ):
        check = target.open(scratch)
        for seed_input in seeds_of(target):  # what is imported late is imported now
            problem_of(check, seed_input)
    warnings.simplefilter("error")
    known = [str(path) for path in (CORPUS / target.name, REGRESSIONS / target.name)
             if path.is_dir()]  # fmt: skip
    atheris.Setup(
        [
            "fuzz", str(work / "corpus"), *known, f"-max_total_time={int(seconds)}",
            f"-timeout={SECONDS}", f"-rss_limit_mb={_RESIDENT_MEGABYTES}",
            f"-max_len={target.longest}", f"-artifact_prefix={work / 'findings'}/",
            f"-seed={seed}", "-print_final_stats=1", "-len_control=20", "-use_value_profile=1",
        ],
        _keeping(limited_in_memory(check), work),
    )  # fmt: skip
    _say_began()
    atheris.Fuzz()
    return None


def _keeping(check: Check, work: Path) -> Check:
    """The same, which keeps an input before libFuzzer is told: the process may not get that far."""

    def kept(data: bytes) -> None:
        try:
            check(data)
        except Exception:
            keep_finding(work, data)
            raise

    return kept


def fuzz_at_random(
    target: Target, work: Path, scratch: Path, seconds: float, seed: int
) -> Path | None:
    """Fuzz with plain mutations until the first finding; its file, or None."""
    check = limited_in_memory(target.open(scratch))
    seeds, source, count = seeds_of(target), random.Random(seed), 0
    current, found = scratch / CURRENT, None
    _say_began()
    started = time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        while found is None and time.monotonic() - started < seconds:
            data = mutated(seeds, source, target.longest)
            current.write_bytes(data)  # for a library that ends the process
            count += 1
            if problem := problem_of(check, data):
                found = keep_finding(work, data)
                say(problem)
    current.unlink(missing_ok=True)
    say(f"stat::number_of_executed_units: {count}")
    return found


def keep_finding(work: Path, data: bytes) -> Path:
    """Write an input that must not do what it did; returns its file, called as libFuzzer does."""
    path = work / "findings" / f"crash-{hashlib.sha1(data, usedforsecurity=False).hexdigest()}"
    path.write_bytes(data)
    return path


def problem_of(check: Check, data: bytes) -> str:
    """Give one input to a target; the traceback if that is a finding, else nothing."""
    try:
        with limited_in_time():
            check(data)
    except Exception:  # noqa: BLE001 - whatever leaves a target is a finding
        return traceback.format_exc()
    return ""


def replay(target: Target, path: Path, scratch: Path) -> str:
    """The traceback that a file causes, or nothing."""
    check = limited_in_memory(target.open(scratch))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return problem_of(check, path.read_bytes())


def seeds_of(target: Target) -> list[bytes]:
    """The committed inputs of a target: its corpus, and what it once did not take."""
    folders = (CORPUS / target.name, REGRESSIONS / target.name)
    return [path.read_bytes() for folder in folders for path in sorted(folder.glob("*"))]


def say(text: str) -> None:
    """Write a line."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _say_began() -> None:
    say(f"stat::began: {time.time_ns() // 1_000_000}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
