"""ACAS Xu (VNN-COMP): verdict, seconds and sub-problems of every instance.

    python benchmarks/acasxu.py             # properties 3 and 4, and 2 on three networks
    python benchmarks/acasxu.py --all       # properties 1 to 4 on all 45 networks

Every `violated` is replayed in onnxruntime, optimised and not. Seconds include the
search alone; loading and the one-off compilation are listed apart.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from auditor.findings import Verdict
from auditor.verify.network import Network, network_from_onnx
from auditor.verify.property import load_property
from auditor.verify.search import Limits, verify
from auditor.verify.witness import Replayer

ROOT = Path(__file__).parents[1]
HARD_ON = ("2_3", "4_5", "5_9")  # networks on which property 2 is part of the default set


class OnnxRuntimeReplay:
    """One onnxruntime session on the CPU."""

    def __init__(self, path: Path, network: Network, *, optimised: bool) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        if not optimised:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        self.session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        self.network = network
        self.label = "onnxruntime, optimised" if optimised else "onnxruntime, as written"

    def __call__(self, inputs: np.ndarray, /) -> np.ndarray:
        """Outputs of one flat input."""
        feed = {self.network.input_name: inputs.reshape(self.network.input_shape)}
        return np.asarray(self.session.run(None, feed)[0])


def chosen(row: dict[str, str], everything: bool) -> bool:
    """Whether an instance belongs to the set that is run."""
    number = Path(row["property"]).stem[-1]
    model = Path(row["onnx"]).stem.split("_")[2:4]
    return everything or number in "34" or (number == "2" and "_".join(model) in HARD_ON)


def run_instance(folder: Path, row: dict[str, str], time_s: float) -> dict[str, object]:
    """Verify one instance; the record of what came out."""
    path = folder / row["onnx"]
    network = network_from_onnx(onnx.load(path))
    prop = load_property(
        folder / row["property"], num_inputs=network.num_inputs, num_outputs=network.num_outputs
    )
    replay: list[Replayer] = [
        OnnxRuntimeReplay(path, network, optimised=optimised) for optimised in (False, True)
    ]
    started = time.perf_counter()
    outcome = verify(network, prop, limits=Limits(time_s=time_s), replay=replay)
    seconds = time.perf_counter() - started
    known = row["known_verdict"]
    decided = not outcome.verdict.is_open
    return {
        "instance": f"{path.stem.removeprefix('ACASXU_run2a_')[:3]}/{prop.name}",
        "verdict": str(outcome.verdict),
        "known": known,
        "contradicts": decided and known in ("holds", "violated") and known != outcome.verdict,
        "replayed": len(outcome.witness.replays) if outcome.witness else 0,
        "seconds": seconds,
        "boxes": outcome.statistics.boxes,
        "depth": outcome.statistics.max_depth,
        "evaluations": outcome.statistics.falsifier_evaluations,
        "z3_queries": outcome.statistics.z3_queries,
        "reason": outcome.reason,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true", help="all 180 instances")
    parser.add_argument("--data", type=Path, default=ROOT / "../shared/data")
    parser.add_argument("--time", type=float, default=60.0, help="seconds per instance")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/acasxu.json")
    options = parser.parse_args()
    folder = options.data / "vnncomp/acasxu"
    if not (folder / "instances.csv").is_file():
        raise SystemExit(f"no data at {folder}; give the folder with --data")
    with (folder / "instances.csv").open() as stream:
        rows = [row for row in csv.DictReader(stream) if chosen(row, options.all)]
    started = time.perf_counter()
    run_instance(folder, rows[0], options.time)
    print(f"first call, compilation or its cache included: {time.perf_counter() - started:.2f} s")
    results = []
    print(f"{'instance':14} {'verdict':9} {'known':9} {'seconds':>8} {'boxes':>7}")
    for row in rows:
        result = run_instance(folder, row, options.time)
        results.append(result)
        print(
            f"{result['instance']!s:14} {result['verdict']!s:9} {result['known']!s:9} "
            f"{result['seconds']:8.3f} {result['boxes']:7}"
            f"{'  CONTRADICTION' if result['contradicts'] else ''}",
            flush=True,
        )
    seconds = [float(str(result["seconds"])) for result in results]
    decided = sum(result["verdict"] in (Verdict.HOLDS, Verdict.VIOLATED) for result in results)
    print(
        f"{decided} of {len(results)} decided, "
        f"{sum(bool(result['contradicts']) for result in results)} contradictions, "
        f"{sum(seconds):.1f} s in total, median {statistics.median(seconds):.3f} s, "
        f"max {max(seconds):.2f} s"
    )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
