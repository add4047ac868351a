"""Certificates: size, and seconds to write and to check beside seconds to prove.

    python benchmarks/certificates.py                 # every set; long, resumes
    python benchmarks/certificates.py acasxu safenlp

For each instance that `vnncomp.py` found to hold, or that is not known to be violated where it
has not run: the search that notes its proof (reading of model and property included), writing
it down, and checking it. Answers are kept in benchmarks/results/certificates/SET and used again.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SETS = ("acasxu", "rl_benchmarks", "safenlp", "collins_rul_cnn", "mnist_fc", "oval21", "cora")


def answers(results: Path) -> dict[tuple[str, str], str]:
    """What `vnncomp.py` found of each model and property, in the competition's words."""
    if not results.is_file():
        return {}
    with results.open() as stream:
        return {(row[1], row[2]): row[4] for row in csv.reader(stream)}


def run_set(name: str, data: Path, limit: float, workers: int) -> list[dict[str, Any]]:
    """Certify one set, or read its answers where they are kept."""
    folder = data / name
    out = ROOT / "benchmarks" / "results" / "certificates" / name
    out.mkdir(parents=True, exist_ok=True)
    with (folder / "instances.csv").open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["known_verdict"] != "violated"]
    found = answers(ROOT / "benchmarks" / "results" / "vnncomp" / name / "results.csv")
    rows = [row for row in rows if found.get((row["onnx"], row["property"]), "unsat") == "unsat"]
    wanted = out / "instances.csv"
    with wanted.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("onnx", "property", "timeout_s", "known_verdict"))
        for row in rows:
            paths = (os.path.relpath(folder / row[key], out) for key in ("onnx", "property"))
            # Noting a proof takes longer: the competition's limits are for verdicts alone.
            writer.writerow((*paths, limit, row["known_verdict"]))
    command = [
        sys.executable, "-m", "auditor_cli.main", "verify", "--instances", str(wanted),
        "--out", str(out), "--time", str(limit), "--workers", str(workers), "--certificates",
        "--json",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode not in (0, 1, 3):
        raise SystemExit(f"{name}: {done.stderr or done.stdout}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def describe(name: str, records: list[dict[str, Any]]) -> str:
    """One line of the table."""
    done = [r for r in records if r["certificate_bytes"] is not None]
    lost = sum("no certificate" in r["reason"] for r in records)
    if not done:
        return f"| {name} | 0 | {lost} | | | | | |"
    ratios = [r["check_s"] / max(r["seconds"], 1e-9) for r in done]
    sizes = [r["certificate_bytes"] / 1e6 for r in done]

    def total(key: str) -> float:
        return float(sum(r[key] for r in done))

    return (
        f"| {name} | {len(done)} | {lost} | {total('seconds'):.0f} | {total('write_s'):.0f} | "
        f"{total('check_s'):.0f} | {statistics.median(ratios):.2f} | "
        f"{statistics.median(sizes):.3f} / {max(sizes):.1f} |"
    )


def main() -> None:
    """Certify the sets and print their table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="*", default=SETS, help=f"among {', '.join(SETS)}")
    parser.add_argument("--data", type=Path, default=ROOT / ".." / "shared" / "data" / "vnncomp")
    parser.add_argument("--limit", type=float, default=120.0, help="seconds for each search")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    print("| set | certified | holds without | prove s | write s | check s | "
          "check / prove, median | MB, median / largest |\n" + "|---" * 8 + "|")  # fmt: skip
    for name in arguments.sets:
        records = run_set(name, arguments.data, arguments.limit, arguments.workers)
        print(describe(name, records), flush=True)


if __name__ == "__main__":
    main()
