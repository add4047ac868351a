"""Fuzzing every target for a while: `python -m tests.fuzz.run --seconds 60`.

Each target runs in a process of its own, one after the other, so that a crash of a library ends
one target and not the run. What is found lies below build/fuzz, and the exit code is 1. An input
that was found and mended belongs into tests/fuzz/regressions/TARGET.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from tests.fuzz.child import CURRENT, HERE, keep_finding, replay, say
from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS, target_called

ROOT: Final = HERE.parent.parent
_STATUS: Final = re.compile(r"#\d+\s+\w+ *cov: (\d+) ft: (\d+) corp: (\d+)")
_STATISTIC: Final = re.compile(r"stat::(\w+):\s+(\d+)")
_STARTING_SECONDS: Final = 600


@dataclass(frozen=True)
class Outcome:
    """What came of one target.

    Attributes:
        target: Its name.
        engine: What chose the inputs.
        seconds: Wall-clock seconds, without opening the target.
        executions: Inputs that were tried.
        features: What atheris counts as reached, first and last; 0 where it did not run.
        corpus: Inputs that were kept, first and last.
        findings: Files with inputs that must not do what they did.
    """

    target: str
    engine: str
    seconds: float
    executions: int
    features: tuple[int, int]
    corpus: tuple[int, int]
    findings: tuple[str, ...]


def main(arguments: Sequence[str]) -> int:
    """Run the targets; 1 if there is a finding."""
    asked = _parser().parse_args(arguments)
    targets = [target_called(name) for name in asked.targets] or list(TARGETS)
    if asked.replay:
        return _replay(targets[0], asked.replay)
    engine = asked.engine or ("atheris" if importlib.util.find_spec("atheris") else "mutation")
    if engine == "mutation":
        say("without atheris: inputs are changed at random, without regard to what they reach; "
            "install auditor[fuzz] where there is a wheel of it")  # fmt: skip
    whole = sum(target.weight for target in targets)
    outcomes = []
    for target in targets:
        share = max(1, round(asked.seconds * target.weight / whole))
        outcome = run_target(target, engine, share, asked.seed, asked.work / target.name)
        outcomes.append(outcome)
        say(_line(outcome))
        if asked.record:
            with asked.record.open("a") as file:
                file.write(json.dumps(asdict(outcome)) + "\n")
    found = [path for outcome in outcomes for path in outcome.findings]
    for path in found:
        say(f"finding: {path}")
    return 1 if found else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.run")
    parser.add_argument("targets", nargs="*", help="names of targets; all of them if none")
    parser.add_argument("--seconds", type=float, default=60, help="for all targets together")
    parser.add_argument("--engine", choices=["atheris", "mutation"])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "fuzz",
                        help="where grown corpora and findings are kept")  # fmt: skip
    parser.add_argument("--record", type=Path, help="append a JSON line for each target")
    parser.add_argument("--replay", type=Path, help="give this file to the one target, and stop")
    return parser


def run_target(target: Target, engine: str, seconds: int, seed: int, work: Path) -> Outcome:
    """Fuzz one target in a process of its own; one that dies is a finding, too."""
    findings = work / "findings"
    findings.mkdir(parents=True, exist_ok=True)
    (work / "corpus").mkdir(exist_ok=True)
    before = set(findings.iterdir())
    with tempfile.TemporaryDirectory(dir=_quick_folder()) as scratch:
        command = [
            sys.executable, "-m", "tests.fuzz.child", target.name, str(work.absolute()), scratch,
            "--engine", engine, "--seconds", str(seconds), "--seed", str(seed),
        ]  # fmt: skip
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, check=False,
            timeout=2 * seconds + _STARTING_SECONDS,
        )  # fmt: skip
        ended = time.time_ns() // 1_000_000
        if done.returncode < 0 and (left := Path(scratch) / CURRENT).is_file():
            keep_finding(work, left.read_bytes())
    log = (done.stdout + done.stderr).decode(errors="replace")
    (work / "log.txt").write_text(log)
    statistics = {name: int(value) for name, value in _STATISTIC.findall(log)}
    states = [tuple(map(int, found)) for found in _STATUS.findall(log)] or [(0, 0, 0)]
    made = sorted(str(path) for path in set(findings.iterdir()) - before
                  if not path.name.startswith("slow-unit-"))  # fmt: skip
    if done.returncode and not made:
        made = [f"{work / 'log.txt'} (exit code {done.returncode}, no new input kept)"]
    return Outcome(
        target.name, engine, (ended - statistics.get("began", ended)) / 1000,
        statistics.get("number_of_executed_units", 0), (states[0][1], states[-1][1]),
        (states[0][2], states[-1][2]), tuple(made),
    )  # fmt: skip


def _replay(target: Target, path: Path) -> int:
    with tempfile.TemporaryDirectory(dir=_quick_folder()) as scratch:
        problem = replay(target, path, Path(scratch))
    say(problem or f"{target.name} takes {path} in an orderly way")
    return 1 if problem else 0


def _quick_folder() -> str | None:
    """Where scratch files are written: into memory, where there is a folder for that."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def _line(outcome: Outcome) -> str:
    rate = outcome.executions / outcome.seconds if outcome.seconds else 0.0
    reached = ""
    if outcome.engine == "atheris":
        reached = (
            f", features {outcome.features[0]} to {outcome.features[1]}, corpus "
            f"{outcome.corpus[0]} to {outcome.corpus[1]}"
        )
    return (
        f"{outcome.target}: {outcome.executions} inputs in {outcome.seconds:.0f} s, {rate:.0f} a "
        f"second{reached}, findings: {len(outcome.findings)}"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
