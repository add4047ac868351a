"""Commands killed with SIGKILL at random moments, and what their next call makes of it.

    python benchmarks/kill_trials.py --out FOLDER [--trials 200] [--seed 0] [--only NAME ...]
        [--minutes 120]

Each command runs once undisturbed and once with its writes noted. Then it is killed: at a time
drawn from its whole duration, from the last tenth, or just before one of its writes (half of a
write to a ledger is done then). With workers, every third of the kills by time takes the first
process alone, as the kernel's out-of-memory killer does. Then everything that lies there is read
by what reads it; the same command is issued again until it ends; and what is there is compared
with the undisturbed run. One line of JSON for each trial goes to FOLDER/trials.jsonl.

What this covers: SIGKILL takes a process at any instruction and leaves the page cache, so every
order of writes that a reader on the same machine can see is tried. What it does not: a power
failure also loses what was not flushed. Of that, the noted writes show the order of flushes: a
file counts as flushed if its last write before it got its final name was followed by fsync, and a
name counts as kept if its folder was flushed after it. Files that a library writes without
Python's `open` are not seen as writes, only as files that no flush covers. Not shown at all: disks
that say they have flushed and have not, and blocks torn within a file; a ledger line and a
manifest carry digests against that, and reports can be written again from the ledger.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.flushed import unflushed
from benchmarks.killed_products import Conversion, IndexBuild, Patterns, Repair, way_out
from benchmarks.killed_runs import RUN, Audit, Reports
from benchmarks.killed_work import Look, Problem, Work, leftovers, tree
from benchmarks.killing import Moment, Whole, moments, run_and_kill, run_whole, temporary_of

# Of 200 trials; long commands get fewer.
TURNS = {
    "run demo": 6, "run many checks": 40, "report": 24, "report as PDF": 4,
    "index of bytes": 30, "index of tokens, 2 workers": 20, "fix experts": 6,
    "fix memorization": 5, "model convert": 12, "mine patterns": 25, "patterns monitor": 20,
    "patterns minimise": 20,
}  # fmt: skip
AUDITED = "run many checks"
"""Whose run the reports are of."""
REFUSES = 2
"""The exit code of a command that does not write over what is there and whole."""


def works(finished: Path) -> list[Work]:
    """Every command under trial; reports are of a finished run."""
    return [
        Audit("run demo"), Audit("run many checks", checks=12),
        Reports(finished, "report"), Reports(finished, "report as PDF", formats=("pdf",)),
        IndexBuild("index of bytes", 6),
        IndexBuild("index of tokens, 2 workers", 4, tokens=True, workers=True),
        Repair("fix experts", experts=True), Repair("fix memorization"),
        Patterns("mine patterns", "mine"), Patterns("patterns monitor", "monitor"),
        Patterns("patterns minimise", "minimise"), Conversion("model convert"),
    ]  # fmt: skip


def prepare(work: Work, place: Path) -> Path:
    """A new folder with what a command needs."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    work.prepare(place)
    return place


def undisturbed(work: Work, folder: Path) -> Whole:
    """Run a command with its writes noted, and then as it is; both are kept in `folder`.

    The second is timed: what is compiled once is compiled by then.

    Raises:
        SystemExit: It fails.
    """
    found = []
    for name in ("whole", "plain"):
        place = prepare(work, folder / name)
        found.append(run_whole(work.command, place, noted=name == "whole"))
        if found[-1].code not in work.codes:
            raise SystemExit(f"{work.name}: exit code {found[-1].code}: {found[-1].err[-500:]}")
    return Whole(found[1].code, found[1].seconds, found[0].points)


def try_once(work: Work, whole: Whole, moment: Moment, folder: Path) -> dict[str, Any]:
    """One trial; what is told of it."""
    place, expected = prepare(work, folder / "trial"), folder / "whole"
    prepared = set(tree(place))
    killed = run_and_kill(work.command, place, whole, moment)
    named = prepared | set(tree(expected))
    after = [*leftovers(place, named), *_temporary(place)]
    look, problems = _judge(work, place, expected)
    problems += [Problem("orphan", each) for each in killed.orphans]
    again = run_whole(work.command, place)
    by_hand = None if look.done else way_out(work, place, again.err)
    if again.code == REFUSES and by_hand:
        again = run_whole(by_hand, place)
    if again.code not in work.codes and not (look.done and again.code == REFUSES):
        problems.append(Problem("refused", f"exit code {again.code}: {again.err[-300:]}"))
    else:
        problems += _compared(work, place, expected, look, again)
    return {
        "command": work.name, **asdict(moment), "killed": killed.code == -9,
        "after_s": round(killed.seconds, 3), "of_s": round(whole.seconds, 3),
        "point": killed.point, "outlived_s": round(killed.outlived, 2), "done": look.done,
        "left": after, "left_for_good": leftovers(place, named),
        "by_hand": by_hand is not None,
        "problems": [list(each) for each in problems],
    }  # fmt: skip


def _temporary(place: Path) -> list[str]:
    """What a killed command left among the temporary files; they are removed.

    Files whose names begin with a dot are notes that libraries keep there after every run.
    """
    folder = temporary_of(place)
    found = ["$TMPDIR/..." for each in folder.iterdir() if not each.name.startswith(".")]
    shutil.rmtree(folder)
    return found


def _judge(work: Work, place: Path, expected: Path) -> tuple[Look, list[Problem]]:
    try:
        look = work.look(place, expected)
    except Exception:  # noqa: BLE001 - a reader that crashes is what is looked for
        return Look(), [Problem("crash", traceback.format_exc())]
    return look, list(look.problems)


def _compared(work: Work, place: Path, expected: Path, look: Look, again: Whole) -> list[Problem]:
    try:
        return work.compare(place, expected, look, again)
    except Exception:  # noqa: BLE001 - as above
        return [Problem("crash", traceback.format_exc())]


def planned(
    names: Sequence[str], trials: int, seed: int, workers: set[str]
) -> list[tuple[str, Moment]]:
    """Which command is killed when, in turns."""
    total = sum(TURNS[name] for name in names)
    counts = {name: max(1, round(trials * TURNS[name] / total)) for name in names}
    order = [
        (place / counts[name], name, moment)
        for name in names
        for place, moment in enumerate(
            moments(counts[name], Random(f"{seed} {name}"), workers=name in workers)
        )
    ]
    return [(name, moment) for _, name, moment in sorted(order, key=lambda each: each[:2])]


def main() -> int:
    """Try everything and print the table; exits 1 if anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the log; a new one")
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=120.0, help="begin no trial after these")
    parser.add_argument("--only", nargs="+", choices=list(TURNS), default=list(TURNS))
    options = parser.parse_args()
    out = options.out.resolve()
    out.mkdir(parents=True)
    known = {work.name: work for work in works(out / AUDITED / "plain" / RUN)}
    names = [name for name in known if name in options.only]
    whole: dict[str, Whole] = {}
    for name in dict.fromkeys(
        [AUDITED, *names] if any(name.startswith("report") for name in names) else names
    ):
        whole[name] = undisturbed(known[name], out / name)
        print(f"{name}: {whole[name].seconds:.1f} s, {len(whole[name].points)} writes", flush=True)
        prepared = set(tree(prepare(known[name], out / name / "trial")))
        for line in unflushed(whole[name].points, out / name / "whole", prepared):
            print(f"  not flushed: {line}", flush=True)
    records: list[dict[str, Any]] = []
    end = time.monotonic() + 60 * options.minutes
    workers = {name for name in names if known[name].workers}
    with (out / "trials.jsonl").open("w") as log:
        for name, moment in planned(names, options.trials, options.seed, workers):
            if time.monotonic() > end:
                print(f"stopped after {len(records)} trials")
                break
            records.append(try_once(known[name], whole[name], moment, out / name))
            log.write(json.dumps(records[-1]) + "\n")
            log.flush()
            for kind, text in records[-1]["problems"]:
                print(f"{len(records)}. {name}, {moment}: {kind}: {text[:300]}", flush=True)
    return summarise(records)


def summarise(records: Sequence[dict[str, Any]]) -> int:
    """Print a row for each command and every problem by its kind; 1 if there is one."""
    heads = (
        "command", "trials", "killed", "time / write / late", "first process alone",
        "share of the run", "left after", "left for good", "gone within s", "by hand", "problems",
    )  # fmt: skip
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for name in dict.fromkeys(each["command"] for each in records):
        print(f"| {name} | {' | '.join(_row([r for r in records if r['command'] == name]))} |")
    total = _row(list(records))
    print(f"| all | {' | '.join(total)} |")
    for kind in ("left", "left_for_good"):
        counted = Counter(each for record in records for each in record[kind])
        print(f"{kind}: " + "; ".join(f"{name} ({n})" for name, n in counted.most_common(12)))
    return int(any(record["problems"] for record in records))


def _row(records: Sequence[dict[str, Any]]) -> list[str]:
    killed = [each for each in records if each["killed"]]
    kinds = Counter(each["kind"] for each in records)
    shares = sorted(min(1.0, each["after_s"] / each["of_s"]) for each in killed
                    if each["kind"] != "write") or [0.0]  # fmt: skip
    wrong = Counter(kind for each in records for kind in {k for k, _ in each["problems"]})
    return [
        str(len(records)), str(len(killed)),
        f"{kinds['time']} / {kinds['write']} / {kinds['late']}",
        str(sum(each["alone"] for each in records)),
        f"{shares[0]:.0%} to {shares[-1]:.0%}, median {statistics.median(shares):.0%}",
        str(sum(bool(each["left"]) for each in records)),
        str(sum(bool(each["left_for_good"]) for each in records)),
        f"{max(each['outlived_s'] for each in records):.1f}",
        str(sum(each.get("by_hand", False) for each in records)),
        ", ".join(f"{kind} {count}" for kind, count in sorted(wrong.items())) or "none",
    ]  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
