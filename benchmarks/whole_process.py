"""Whole-process seconds on eight ACAS Xu instances, side by side with other verifiers.

    python benchmarks/whole_process.py
    python benchmarks/whole_process.py --marabou VENV/bin/Marabou --neuralsat VENV/bin/python

Seconds are those of a process from its start to its end: interpreter, imports, reading and
search. Tools take turns on each instance, so that load on the machine meets all alike. A tool
that reaches the limit on an instance is not run on it again. The peers come from the package
index (`maraboupy`, `neuralsat`), each in an environment of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
# (network, property): the expected answer, which every tool that decides gives.
INSTANCES = {
    ("1_1", 1): "holds", ("2_3", 2): "violated", ("3_3", 3): "holds", ("4_5", 4): "holds",
    ("5_9", 1): "holds", ("5_9", 3): "holds", ("1_1", 3): "holds", ("3_3", 2): "holds",
}  # fmt: skip
WORDS = {"unsat": "holds", "sat": "violated", "holds": "holds", "violated": "violated"}
_ANSWER = re.compile(r"^(unsat|sat|holds|violated|timeout|unknown)\b", re.I | re.M)
Command = Callable[[Path, Path, float], list[str]]


@dataclass(frozen=True)
class Measured:
    """One process.

    Attributes:
        answer: `holds`, `violated`, `limit` or `none`.
        seconds: Wall-clock seconds.
        processor_s: Processor seconds of all its threads.
        megabytes: Peak resident memory.
    """

    answer: str
    seconds: float
    processor_s: float
    megabytes: float


def auditor_command(model: Path, prop: Path, limit: float) -> list[str]:
    return [sys.executable, "-m", "auditor_cli.main", "verify", str(model), str(prop), "-q",
            "--time", str(limit)]  # fmt: skip


def marabou_command(program: Path) -> Command:
    return lambda model, prop, limit: [
        str(program), str(model), str(prop), "--verbosity", "0", "--timeout", f"{limit:.0f}",
    ]  # fmt: skip


def neuralsat_command(interpreter: Path) -> Command:
    """The package installs a module called `src`, which expects its own folder on the path."""
    program = (
        "import importlib.util, runpy, sys; "
        "sys.path.insert(0, importlib.util.find_spec('src').submodule_search_locations[0]); "
        "runpy.run_module('src.main', run_name='__main__', alter_sys=True)"
    )
    return lambda model, prop, limit: [
        str(interpreter), "-c", program, "--net", str(model), "--spec", str(prop),
        "--device", "cpu", "--verbosity", "0", "--timeout", str(limit),
    ]  # fmt: skip


def measure(command: list[str], limit: float) -> Measured:
    """Run a process to its end, or to the limit, when it is killed."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL, cwd=folder)
        killer = threading.Timer(limit, process.kill)
        killer.start()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        killer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        found = _ANSWER.findall(out.read())
    answer = WORDS.get(found[-1].lower(), "none") if found else "none"
    if answer == "none" and seconds >= 0.95 * limit:
        answer = "limit"
    used = usage.ru_utime + usage.ru_stime
    return Measured(answer, round(seconds, 3), round(used, 3), round(usage.ru_maxrss / 1024, 1))


def run_all(
    tools: dict[str, Command], data: Path, repeats: int, limit: float
) -> dict[str, dict[str, list[Measured]]]:
    """Every tool on every instance, in turns: instance, tool, measurements."""
    found: dict[str, dict[str, list[Measured]]] = {}
    for network, number in INSTANCES:
        model = data / "onnx" / f"ACASXU_run2a_{network}_batch_2000.onnx"
        prop = data / "vnnlib" / f"prop_{number}.vnnlib"
        here = found[f"{network}/p{number}"] = defaultdict(list)
        for _ in range(repeats):
            for name, command in tools.items():
                if here[name] and here[name][-1].answer not in WORDS.values():
                    continue
                here[name].append(measure(command(model, prop, limit), limit))
        print(f"| {network}/p{number} | {INSTANCES[network, number]} | "
              + " | ".join(describe(here[name]) for name in tools) + " |", flush=True)  # fmt: skip
    return found


def describe(measured: list[Measured]) -> str:
    """Smallest, median and largest seconds, least processor seconds; or why there are none."""
    if measured[-1].answer not in WORDS.values():
        return {"limit": "limit"}.get(measured[-1].answer, "no answer")
    seconds = [each.seconds for each in measured]
    used = min(each.processor_s for each in measured)
    middle = statistics.median(seconds)
    return f"{min(seconds):.2f} / {middle:.2f} / {max(seconds):.2f} ({used:.2f})"


def contradictions(found: dict[str, dict[str, list[Measured]]]) -> list[str]:
    """Answers that are not the expected one."""
    expected = {f"{network}/p{number}": answer for (network, number), answer in INSTANCES.items()}
    return [
        f"{instance}: {tool} says {each.answer}"
        for instance, tools in found.items()
        for tool, measured in tools.items()
        for each in measured
        if each.answer in WORDS.values() and each.answer != expected[instance]
    ]


def main() -> int:
    """Measure and print the table; exits 1 on a wrong answer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path,
                        default=ROOT / ".." / "shared" / "data" / "vnncomp" / "acasxu")  # fmt: skip
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--limit", type=float, default=60.0, help="seconds for each process")
    parser.add_argument("--marabou", type=Path, help="the program that maraboupy installs")
    parser.add_argument("--neuralsat", type=Path, help="an interpreter that has neuralsat")
    arguments = parser.parse_args()
    data = arguments.data.resolve()
    tools: dict[str, Command] = {"auditor": auditor_command}
    if arguments.marabou:
        tools["Marabou"] = marabou_command(arguments.marabou.absolute())
    if arguments.neuralsat:
        tools["NeuralSAT"] = neuralsat_command(arguments.neuralsat.absolute())
    # Once without counting: the kernel is compiled and the files are read from disk.
    for name, command in tools.items():
        first = command(data / "onnx" / "ACASXU_run2a_5_9_batch_2000.onnx",
                        data / "vnnlib" / "prop_3.vnnlib", arguments.limit)  # fmt: skip
        if measure(first, 4 * arguments.limit).answer == "none":
            raise SystemExit(f"{name} gives no answer: {' '.join(first)}")
    print(f"| instance | answer | {' | '.join(tools)} |\n|{'---|' * (2 + len(tools))}")
    found = run_all(tools, data, arguments.repeats, arguments.limit)
    target = ROOT / "benchmarks" / "results" / "whole_process.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(found, default=vars, indent=1) + "\n")
    for tool in tools:
        largest = max(each.megabytes for row in found.values() for each in row[tool])
        print(f"{tool}: at most {largest:.0f} MB")
    for line in (wrong := contradictions(found)):
        print(f"wrong: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
