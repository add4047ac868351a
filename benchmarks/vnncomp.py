"""Every VNN-COMP set at hand: verdicts against the known ones, and the time they take.

    python benchmarks/vnncomp.py                      # all sets; long, resumes
    python benchmarks/vnncomp.py acasxu mnist_fc      # some
    python benchmarks/vnncomp.py --plot docs/vnncomp.svg

Each instance gets the smaller of its own limit and --limit seconds. Answers are kept in
benchmarks/results/vnncomp/SET and used again. Seconds include reading model and property;
the start of a worker process and the one-off compilation are not included.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SETS = ("acasxu", "mnist_fc", "safenlp", "collins_rul_cnn", "rl_benchmarks", "oval21", "cora")
COLOURS = ("#1d4ed8", "#b45309", "#047857", "#be123c", "#6d28d9", "#0e7490", "#4d7c0f")
WIDTH, HEIGHT, LEFT, BOTTOM = 640, 400, 60, 50


@dataclass(frozen=True)
class SetResult:
    """The answers of one set."""

    name: str
    records: list[dict[str, Any]]

    @property
    def decided(self) -> list[dict[str, Any]]:
        """Answers that are verdicts."""
        return [r for r in self.records if r["verdict"] in ("holds", "violated")]

    @property
    def seconds(self) -> list[float]:
        """Seconds of the decided instances, ascending."""
        return sorted(r["seconds"] for r in self.decided)


def run_set(name: str, data: Path, limit: float, workers: int) -> SetResult:
    """Verify one set, or read its answers where they are kept."""
    out = ROOT / "benchmarks" / "results" / "vnncomp" / name
    command = [
        sys.executable, "-m", "auditor_cli.main", "verify", "--instances",
        str(data / name / "instances.csv"), "--out", str(out), "--time", str(limit),
        "--workers", str(workers), "--json",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode not in (0, 1, 3):
        raise SystemExit(f"{name}: {done.stderr or done.stdout}")
    return SetResult(name, [json.loads(line) for line in done.stdout.splitlines()])


def describe(result: SetResult) -> str:
    """One line of the table."""
    seconds = result.seconds or [0.0]
    contradictions = sum(r["contradicts"] for r in result.records)
    return (
        f"| {result.name} | {len(result.records)} | {len(result.decided)} | "
        f"{sum(r['verdict'] == 'holds' for r in result.records)} | "
        f"{sum(r['verdict'] == 'violated' for r in result.records)} | {contradictions} | "
        f"{seconds[len(seconds) // 2]:.2f} | {seconds[int(0.9 * (len(seconds) - 1))]:.2f} | "
        f"{seconds[-1]:.1f} | {sum(r['seconds'] for r in result.records):.0f} |"
    )


def cactus_plot(results: list[SetResult], limit: float) -> str:
    """Instances decided against seconds each, as SVG."""
    most = max([len(result.decided) for result in results] or [1])
    lines = []
    for number, result in enumerate(results):
        points = " ".join(
            f"{_x(count, most):.1f},{_y(seconds, limit):.1f}"
            for count, seconds in enumerate(result.seconds, start=1)
        )
        colour = COLOURS[number % len(COLOURS)]
        lines.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
            f'<text x="{WIDTH - 140}" y="{20 + 16 * number}" fill="{colour}">{result.name} '
            f"({len(result.decided)}/{len(result.records)})</text>"
        )
    ticks = "".join(
        f'<text x="{LEFT - 6}" y="{_y(value, limit) + 4:.1f}" text-anchor="end">{value:g} s</text>'
        f'<line x1="{LEFT}" x2="{WIDTH - 150}" y1="{_y(value, limit):.1f}" '
        f'y2="{_y(value, limit):.1f}" stroke="#ddd"/>'
        for value in (0.01, 0.1, 1, 10, 100)
        if value <= limit
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12" role="img"><title>Instances decided within '
        f"a number of seconds each</title>{ticks}{''.join(lines)}"
        f'<text x="{LEFT}" y="{HEIGHT - 12}">instances decided, easiest first (up to {most})</text>'
        "</svg>\n"
    )


def _x(count: int, most: int) -> float:
    return LEFT + (WIDTH - 150 - LEFT) * count / most


def _y(seconds: float, limit: float) -> float:
    low, high = math.log10(0.005), math.log10(limit)
    share = (math.log10(max(seconds, 0.005)) - low) / (high - low)
    return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - 20) * min(1.0, share)


def main() -> int:
    """Run the sets and print their table; exits 1 on any contradiction."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="*", default=SETS, help=f"among {', '.join(SETS)}")
    parser.add_argument("--data", type=Path, default=ROOT / ".." / "shared" / "data" / "vnncomp")
    parser.add_argument("--limit", type=float, default=120.0, help="seconds for each instance")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--plot", type=Path, help="write a cactus plot (SVG) here")
    arguments = parser.parse_args()
    print("| set | instances | decided | holds | violated | contradictions | median s | p90 s "
          "| largest s | all s |\n|---|---|---|---|---|---|---|---|---|---|")  # fmt: skip
    results = []
    for name in arguments.sets:
        results.append(run_set(name, arguments.data, arguments.limit, arguments.workers))
        print(describe(results[-1]), flush=True)
    if arguments.plot:
        arguments.plot.write_text(cactus_plot(results, arguments.limit))
    wrong = [r["name"] for result in results for r in result.records if r["contradicts"]]
    for name in wrong:
        print(f"contradiction: {name}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
