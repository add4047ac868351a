"""Certificates on ACAS Xu: size, and seconds to check beside seconds to prove.

    python benchmarks/certificates.py                # what holds of properties 1 to 4
    python benchmarks/certificates.py --first 20

For each instance, one after the other in this process: the search alone (falsifier
included), the certificate (the proof once more, and writing it), and the check; each with
its own reading of model and property, but without the start of a process. The first
instance is run once before, so that compilation and imports count nowhere.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

# Matrices are small: threads only get into each other's way. Read by NumPy when it loads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import onnx

from auditor.verify.certificate.checker import check_certificate
from auditor.verify.certificate.producer import write_certificate
from auditor.verify.network import network_from_onnx
from auditor.verify.property import load_property
from auditor.verify.search import Limits, verify

ROOT = Path(__file__).parents[1]


def run_instance(folder: Path, row: dict[str, str], time_s: float) -> dict[str, object]:
    """Prove, certify and check one instance."""
    model, property_file = folder / row["onnx"], folder / row["property"]
    started = time.perf_counter()
    network = network_from_onnx(onnx.load(model))
    prop = load_property(property_file, num_inputs=5, num_outputs=5)
    outcome = verify(network, prop, limits=Limits(time_s=time_s))
    proved = time.perf_counter() - started
    with tempfile.TemporaryDirectory() as name:
        target = Path(name) / "certificate"
        started = time.perf_counter()
        written = write_certificate(model, property_file, prop, target, time_limit_s=time_s)
        certified = time.perf_counter() - started
        result: dict[str, object] = {
            "instance": f"{model.stem.removeprefix('ACASXU_run2a_')[:3]}/{prop.name}",
            "verdict": str(outcome.verdict),
            "boxes": outcome.statistics.boxes,
            "prove_s": proved,
            "certify_s": certified,
            "stopped": written.stopped,
            "bytes": written.bytes,
            "nodes": written.nodes,
        }
        if not written.stopped:
            started = time.perf_counter()
            checked = check_certificate(target, model, property_file)
            result["check_s"] = time.perf_counter() - started
            result["accepted"] = checked.accepted
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT / "../shared/data")
    parser.add_argument("--time", type=float, default=120.0, help="seconds per instance")
    parser.add_argument("--first", type=int, default=1000, help="only so many instances")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/certificates.json")
    options = parser.parse_args()
    folder = options.data / "vnncomp/acasxu"
    if not (folder / "instances.csv").is_file():
        raise SystemExit(f"no data at {folder}; give the folder with --data")
    with (folder / "instances.csv").open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["known_verdict"] == "holds"]
    run_instance(folder, rows[0], options.time)
    results = []
    print(f"{'instance':12} {'boxes':>7} {'prove':>8} {'nodes':>7} {'certify':>8} {'check':>8} "
          f"{'kB':>8} {'check/prove':>11} {'accepted':>8}")  # fmt: skip
    for row in rows[: options.first]:
        each = run_instance(folder, row, options.time)
        results.append(each)
        check = float(str(each.get("check_s", "nan")))
        print(
            f"{each['instance']!s:12} {each['boxes']:7} {each['prove_s']:8.3f} "
            f"{each['nodes']:7} {each['certify_s']:8.3f} {check:8.3f} "
            f"{float(str(each['bytes'])) / 1e3:8.0f} {check / float(str(each['prove_s'])):11.2f} "
            f"{each.get('accepted', each['stopped'])!s:>8}",
            flush=True,
        )
    summarise(results)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=1) + "\n", "utf-8")


def summarise(results: list[dict[str, object]]) -> None:
    """Totals and medians, and check against both notions of proving."""

    def column(name: str) -> list[float]:
        return [float(str(each[name])) for each in done]

    done = [each for each in results if each.get("accepted")]
    prove, certify, check = column("prove_s"), column("certify_s"), column("check_s")
    pairs = list(zip(prove, certify, check, strict=True))
    print(f"{len(done)} of {len(results)} certificates written and accepted")
    for name, values in (("prove", prove), ("certify", certify), ("check", check)):
        print(f"{name:8} median {statistics.median(values):.3f} s, total {sum(values):.1f} s, "
              f"max {max(values):.2f} s")  # fmt: skip
    print(
        f"size     median {statistics.median(column('bytes')) / 1e3:.0f} kB, "
        f"total {sum(column('bytes')) / 1e6:.1f} MB, max {max(column('bytes')) / 1e6:.1f} MB"
    )
    alone = statistics.median(c / p for p, _, c in pairs)
    both = statistics.median(c / (p + w) for p, w, c in pairs)
    print(f"check / (search alone): median {alone:.2f}; "
          f"check / (search and certificate): median {both:.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
