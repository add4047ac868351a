"""`auditor model scan` beside its peers: picklescan, modelscan, fickling and modelaudit.

    python benchmarks/model_scanners.py --out FILE --picklescan ENV/bin/picklescan
        --modelscan ENV/bin/modelscan --fickling ENV/bin/fickling --modelaudit ENV/bin/modelaudit
        [--ordinary PATH ...] [--samples FOLDER] [--limit 60] [--parts table ...] [--groups ...]

Peers come from the package index, each in an environment of its own; those that are not given are
left out. What their answers mean stands in `model_scanners_peers.py`, what they are given in
`model_scanners_files.py`. `--ordinary` adds files, and every file of folders, that nobody should
flag; `--samples` a folder with `malicious/SOURCE/` and `harmless/SOURCE/`, for samples of the
peers' own tests. One process at a time, tools by turns; markers are watched. Linux.

The table of hostile files is built around what auditor defends, so it favours auditor. It has cases
that carry no payload and are refused for what they are, and its payload is a name that deny-lists
do not hold; the part `shell` gives them one that all hold. What is harmless in the table is
accepted by auditor, as tested; of those, two crash a library when they are loaded.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.model_scanners_peers import PEERS, auditor
from benchmarks.model_scanners_process import ANSWERS, FLAGGED, Answer, Scanner

ROOT: Final = Path(__file__).parents[1]
REPEATS: Final = 3
PARTS: Final = ("timed", "table", "shell", "pickles", "ordinary", "samples", "given")
Scanned = Mapping[str, Answer]


@dataclass(frozen=True)
class Asked:
    """What was scanned, and what each tool said.

    Attributes:
        what: The record of `model_scanners_files.Written`.
        answers: By tool.
        ran: Tools after whose scan the marker lay there.
    """

    what: Mapping[str, str]
    answers: Scanned
    ran: tuple[str, ...]


def ask(what: Mapping[str, str], tools: Mapping[str, Scanner], limit: float) -> Asked:
    """Have every tool scan one path."""
    answers, ran = {}, []
    for name, tool in tools.items():
        answers[name] = tool.scan(Path(what["path"]), limit)
        if what["marker"] and Path(what["marker"]).exists():
            ran.append(name)
            Path(what["marker"]).unlink()
    return Asked(what, answers, tuple(ran))


def measure(what: Mapping[str, str], tools: Mapping[str, Scanner], limit: float) -> Asked:
    """The same `REPEATS` times by turns after one that warms the pages; the fastest answers."""
    found = [ask(what, tools, limit).answers for _ in range(REPEATS + 1)][1:]
    best = {name: min((each[name] for each in found), key=lambda a: a.seconds) for name in tools}
    return Asked(what, best, ())


def write_files(folder: Path) -> list[dict[str, str]]:
    """The records of what was written there."""
    command = [sys.executable, "-m", "benchmarks.model_scanners_files", str(folder)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def listed(part: str, group: str, root: Path, expected: str = "accepted") -> list[dict[str, str]]:
    """Every file at or below a path, and a folder that has a configuration as a whole."""
    files = sorted(path for path in root.rglob("*") if path.is_file()) if root.is_dir() else [root]
    files += [root] if (root / "config.json").is_file() else []
    return [{"part": part, "group": group, "name": str(path.relative_to(root.parent)),
             "path": str(path), "marker": "", "expected": expected} for path in files]  # fmt: skip


def listed_samples(root: Path) -> list[dict[str, str]]:
    """Samples by kind and source."""
    words = {"malicious": "refused", "harmless": "accepted"}
    return [
        each
        for kind, word in words.items()
        for source in sorted((root / kind).iterdir())
        for each in listed("samples", f"{kind}, from {source.name}", source, word)
    ]


def counts(asked: Iterable[Asked], tool: str) -> str:
    """How often a tool gave each answer, in the order of ANSWERS."""
    found = Counter(each.answers[tool].word for each in asked)
    return " / ".join(str(found[word]) for word in ANSWERS)


def print_table(title: str, asked: Sequence[Asked], tools: Sequence[str], by: str) -> None:
    """A row for each group, a row of sums, and how many end with exit code 0."""
    if not asked:
        return
    print(f"\n### {title}\n\nEach cell: {' / '.join(ANSWERS)}.\n")
    print(f"| | n | {' | '.join(tools)} |\n|{'---|' * (2 + len(tools))}")
    groups = list(dict.fromkeys(each.what[by] for each in asked))
    for group in groups if len(groups) > 1 else []:
        here = [each for each in asked if each.what[by] == group]
        print(f"| {group} | {len(here)} | {' | '.join(counts(here, tool) for tool in tools)} |")
    print(f"| all | {len(asked)} | {' | '.join(counts(asked, tool) for tool in tools)} |")
    passed = [sum(each.answers[tool].code == 0 for each in asked) for tool in tools]
    print(f"| exit code 0 | | {' | '.join(map(str, passed))} |")


def print_times(asked: Sequence[Asked], tools: Sequence[str]) -> None:
    """Seconds, times those of auditor, peak memory and the answer."""
    if not asked:
        return
    print(f"\n### Time of a process, best of {REPEATS} by turns; peak memory\n")
    print(f"| | {' | '.join(tools)} |\n|{'---|' * (1 + len(tools))}")
    for each in asked:
        own = each.answers["auditor"].seconds
        cells = [f"{a.seconds:.2f} s ({a.seconds / own:.2f}), {a.megabytes:.0f} MB, {a.word}"
                 for a in each.answers.values()]  # fmt: skip
        print(f"| {each.what['name']} | {' | '.join(cells)} |")


def print_apart(asked: Sequence[Asked], tools: Sequence[str]) -> None:
    """What a peer flags and auditor does not, where auditor is not as tested, what ran."""
    print("\n### Flagged by a peer, not refused by auditor\n")
    for each in asked:
        for tool in tools:
            own, answer = each.answers["auditor"], each.answers[tool]
            if tool != "auditor" and answer.word == FLAGGED and own.word != FLAGGED:
                print(f"- {each.what['part']}, {each.what['name']} (auditor: {own.word}, "
                      f"{own.said or 'nothing'}): {tool}: {answer.said}")  # fmt: skip
    words = {"flagged": "refused", "not looked at": "inconclusive", "clean": "accepted"}
    print("\n### Not what auditor has to answer\n")
    for each in asked:
        own = each.answers["auditor"]
        if words.get(own.word, own.word) not in each.what["expected"].split(" or "):
            print(f"- {each.what['part']}, {each.what['name']}: {own.word}, {own.said}")
    print("\n### Payloads that ran\n")
    ran = [f"- {tool} on {each.what['name']}" for each in asked for tool in each.ran]
    print("\n".join(ran) or "none")


def print_all(asked: Sequence[Asked], tools: Sequence[str]) -> None:
    """Every table."""
    part = {name: [each for each in asked if each.what["part"] == name] for name in PARTS}
    table = part["table"]
    hostile = [each for each in table if each.what["expected"] == "refused"]
    print_table("Hostile files of our table: to be refused", hostile, tools, "group")
    print_table("The same with `posix.system` as payload, where it can be exchanged",
                part["shell"], tools, "group")  # fmt: skip
    print_table("Those of them with the payload of the table",
                [each for each in table
                 if each.what["name"] in {other.what["name"] for other in part["shell"]}],
                tools, "group")  # fmt: skip
    print_table("Hostile files that may stay undecided",
                [each for each in table if "inconclusive" in each.what["expected"]], tools,
                "expected")  # fmt: skip
    print_table("Odd and harmless forms: to be accepted",
                [each for each in table if each.what["expected"] == "accepted"], tools,
                "expected")  # fmt: skip
    print_table("Ordinary files", part["ordinary"] + part["given"], tools, "group")
    print_table("Ordinary pickles", part["pickles"], tools, "group")
    print_table("Samples of the peers' own tests", part["samples"], tools, "group")
    print_times(part["timed"], tools)
    print_apart([each for each in asked if each.what["part"] != "timed"], tools)


def main() -> None:
    """Scan, print and write the answers."""
    parser = argparse.ArgumentParser(description="The model scan beside other scanners.")
    for name in PEERS:
        parser.add_argument(f"--{name}", type=Path, help="its program; left out where absent")
    parser.add_argument("--ordinary", type=Path, nargs="*", default=[])
    parser.add_argument("--samples", type=Path)
    parser.add_argument("--limit", type=float, default=60.0, help="seconds for each process")
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS)
    parser.add_argument("--groups", nargs="*", default=[], help="of these parts; all where absent")
    parser.add_argument("--out", type=Path, required=True, help="a JSON file for all answers")
    options = parser.parse_args()
    tools = {"auditor": auditor()}
    for name, make in PEERS.items():
        if program := getattr(options, name):
            tools[name] = make(program.absolute())
        else:
            print(f"{name}: left out, its program was not given")
    versions = {name: tool.version() for name, tool in tools.items()}
    print(", ".join(f"{name} {version}" for name, version in versions.items()), flush=True)
    found: list[Asked] = []
    with tempfile.TemporaryDirectory(prefix="model-scanners-") as made:
        given = write_files(Path(made))
        given += [each for path in options.ordinary
                  for each in listed("given", path.name, path.absolute())]  # fmt: skip
        given += listed_samples(options.samples.absolute()) if options.samples else []
        for part in options.parts:
            for what in (each for each in given if each["part"] == part):
                if options.groups and what["group"] not in options.groups:
                    continue
                found.append((measure if part == "timed" else ask)(what, tools, options.limit))
            answers: list[dict[str, Any]] = [asdict(each) for each in found]
            record = {"versions": versions, "limit_s": options.limit, "asked": answers}
            options.out.write_text(json.dumps(record, indent=1) + "\n")
            print(f"{part}: done", file=sys.stderr, flush=True)
    print_all(found, list(tools))


if __name__ == "__main__":
    main()
