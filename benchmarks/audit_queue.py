"""Many audits in a queue, two at a time, under a cap on memory, with some that must fail.

    python benchmarks/audit_queue.py --out FOLDER [--audits 200] [--memory-mb 4096] [--at-once 2]

Every process of an audit may address half of the cap (RLIMIT_AS), and the resident memory of all
processes of all running audits is sampled five times a second; should the sum pass the cap, the
largest audit is killed and counted. Kinds of audits take turns; each is run alone first, and every
later one of its kind has to end with the same exit code and, apart from times, the same report.
Then three commands are given the same folder at once; and one plan of half as many models, each
asked twice, is run by one and by two workers. Linux.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import statistics
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Final

from auditor.audit.ledger import read_entries
from auditor.audit.run_directory import LEDGER
from auditor.findings import AuditReport
from benchmarks.killed_runs import missing_evidence, report_of, timeless, wrong_reports
from benchmarks.queued_audits import Queued, kinds, write_many, write_plans
from benchmarks.running_audits import LIMIT_S, Running, run_queue, start

INTERNAL: Final = 4
_STOPPED: Final = re.compile(r"stopped at \d+ MB")
IN_USE: Final = "is in use by another auditor process"


def judge(audit: Running, kind: Queued, expected: Any) -> list[str]:
    """What is wrong with an audit that ended; `expected` is the report of its kind alone."""
    if audit.stopped:
        return [audit.stopped]
    wrong = []
    if audit.process.returncode != kind.code:
        wrong.append(f"exit code {audit.process.returncode} instead of {kind.code}")
    if not kind.verdicts:
        return wrong + (["something was written"] if audit.out.exists() else [])
    if not (audit.out / LEDGER).is_file():
        return [*wrong, "no ledger"]
    report = report_of(audit.out)
    found = {result.id: str(result.verdict) for result in report.results}
    if found != dict(kind.verdicts) or not report.complete:
        wrong.append(f"verdicts {found}")
    if expected is not None and _comparable(report) != expected:
        wrong.append("another report than alone")
    broken = [*missing_evidence(audit.out), *wrong_reports(audit.out, report)]
    return wrong + [each.text for each in broken]


def _comparable(report: AuditReport) -> Any:
    """A report without times, and without the size at which a worker happened to be stopped."""
    return json.loads(_STOPPED.sub("stopped at", json.dumps(timeless(report))))


def collide(folder: Path, out: Path, memory_mb: int, commands: int = 3) -> tuple[list[str], str]:
    """Give several commands one folder at once, and then one more; what is wrong, and what was.

    Each either audits or says that the folder is in use; what is committed is committed once.
    """
    every = [start(folder, "slow", out, memory_mb) for _ in range(commands)]
    codes = [each.process.wait(LIMIT_S) for each in every]
    refused = [each for each in every if IN_USE in each.log.read_text()]
    wrong = [f"{each.name} on one folder: exit code {code}: {each.log.read_text()[-200:]}"
             for each, code in zip(every, codes, strict=True)
             if code != (INTERNAL if each in refused else 0)]  # fmt: skip
    if not refused:
        wrong.append("no command met another one; use slower checks")
    last = start(folder, "slow", out, memory_mb)
    if last.process.wait(LIMIT_S) or "8 known from before" not in last.log.read_text():
        wrong.append(f"one more command: {last.log.read_text()[-200:]}")
    entries = [each for each in read_entries(out / LEDGER) if each.kind == "result"]
    if len(entries) != 8 or not report_of(out).complete:
        wrong.append(f"{len(entries)} results of 8")
    return wrong, f"{commands} commands, {len(refused)} said that the folder is in use"


def compare_orders(folder: Path, out: Path, memory_mb: int, subjects: int) -> tuple[list[str], str]:
    """One plan of many units by one and by two workers; what is wrong, and what was."""
    write_many(folder, subjects)
    wrong, reports, orders, seconds = [], [], [], []
    for workers in (1, 2):
        place = out.with_name(f"{out.name}-{workers}")
        audit = start(folder, "many", place, memory_mb, workers)
        if (code := audit.process.wait(LIMIT_S)) != 0:
            return [f"exit code {code}: {audit.log.read_text()[-300:]}"], "failed"
        seconds.append(time.perf_counter() - audit.started)
        results = [
            each.body["id"] for each in read_entries(place / LEDGER) if each.kind == "result"
        ]
        orders.append(results)
        if len(results) != 2 * subjects or len(set(results)) != len(results):
            wrong.append(f"{len(results)} results of {2 * subjects}")
        report = report_of(place)
        wrong += [each.text for each in missing_evidence(place)]
        reports.append(timeless(report))
    if reports[0] != reports[1]:
        wrong.append("other results with another number of workers")
    apart = sum(one != other for one, other in zip(*orders, strict=True))
    return wrong, (
        f"{2 * subjects} units by 1 and 2 workers in {seconds[0]:.0f} and {seconds[1]:.0f} s; "
        f"{apart} were committed in another order"
    )


def main() -> int:
    """Run the queue and print what came of it; exits 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of all runs; a new one")
    parser.add_argument("--audits", type=int, default=200)
    parser.add_argument("--memory-mb", type=int, default=4096)
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=120.0, help="begin no audit after these")
    options = parser.parse_args()
    out = options.out.resolve()
    every = kinds(options.memory_mb)
    write_plans(out / "plans", every)
    alone, _ = run_queue(
        out / "plans", [(name, out / f"alone {name}") for name in every], options.memory_mb, 1
    )
    expected = {each.name: _comparable(report_of(each.out)) for each in alone if each.out.exists()}
    wrong = [f"{each.name} alone: {text}" for each in alone
             for text in judge(each, every[each.name], None)]  # fmt: skip
    names = islice(cycle(every), options.audits)
    queue = [(name, out / f"{number:03d}") for number, name in enumerate(names)]
    before, started = _processor_s(), time.perf_counter()
    ended, peak = run_queue(
        out / "plans", queue, options.memory_mb, options.at_once, options.minutes
    )
    seconds, used = time.perf_counter() - started, _processor_s() - before
    print(_table(ended, every))
    for audit in ended:
        found = judge(audit, every[audit.name], expected.get(audit.name))
        wrong += [f"{audit.out.name}, {audit.name}: {text}" for text in found]
    largest = max(each.peak_mb for each in ended)
    print(f"{len(ended)} of {options.audits} audits ended in {seconds:.0f} s: "
          f"{60 * len(ended) / seconds:.1f} a minute, {used / len(ended):.1f} processor seconds "
          f"each (load of the machine {os.getloadavg()[1]:.1f})\nresident memory: at most "
          f"{peak:.0f} MB at once of {options.memory_mb}, {largest:.0f} MB for one audit",
          flush=True)  # fmt: skip
    for name, (found, said) in {
        "one folder": collide(out / "plans", out / "shared", options.memory_mb),
        "one plan": compare_orders(
            out / "plans", out / "many", options.memory_mb, max(1, options.audits // 2)
        ),
    }.items():
        print(f"{name}: {said}")
        wrong += [f"{name}: {text}" for text in found]
    for text in wrong:
        print(f"wrong: {text}", file=sys.stderr)
    return int(bool(wrong))


def _processor_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _table(ended: Sequence[Running], every: Mapping[str, Queued]) -> str:
    lines = ["| audit | times | exit code | median s | at most MB |", "|---|---|---|---|---|"]
    for name in every:
        these = [each for each in ended if each.name == name]
        if these:
            codes = Counter(str(each.process.returncode) for each in these)
            told = ", ".join(
                code if n == len(these) else f"{code} ({n})" for code, n in codes.items()
            )
            middle = statistics.median(each.seconds for each in these)
            most = max(each.peak_mb for each in these)
            lines.append(f"| {name} | {len(these)} | {told} | {middle:.1f} | {most:.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
