"""Minimal patterns of an MNIST classifier: how small they get, and what recall they gain.

    python benchmarks/minimal_patterns.py
    python benchmarks/minimal_patterns.py --delta 0.95 --class 0 8 --radius 0.15

Patterns are mined from the first 8,000 images as in `patterns_mnist.py`. Those that the verifier
proves, over all of [0, 1]^784 or within a radius of the first samples that follow them, are made
smaller with these images as samples; recall is that of the other 2,000. The control counts random
subsets of the same size that hold.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from auditor.models.labelled_data import divided, read_labelled
from auditor.patterns.evaluate import evaluate_patterns
from auditor.patterns.mine import mine_patterns
from auditor.verify.onnx_subject import open_subject
from auditor.verify.outcome import Limits
from auditor.verify.pattern_trials import PatternVerifier
from auditor_cli.pattern_minimise import CONTROL_DRAWS, Ball, Minimised, minimise, with_states

ROOT = Path(__file__).parents[1]
MINED = 8_000
METHODS = ("optimistic", "conservative", "statistical")


def record(found: Minimised, method: str, delta: str, seconds: float) -> dict[str, Any]:
    """What was found for one class, as plain data."""
    return {
        "delta": delta, "method": method, "class": found.label, "verdict": str(found.verdict),
        "before": len(found.before), "after": None if found.after is None else len(found.after),
        "judged": found.calls, "unsettled": found.unsettled, "control": found.control,
        "seconds": seconds,
    }  # fmt: skip


def main() -> None:
    """Make patterns smaller, print, and keep what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network", nargs="?", default="256x2")
    parser.add_argument("--delta", nargs="+", default=["0.95", "0.90"])
    parser.add_argument("--method", nargs="+", default=["optimistic"], choices=METHODS)
    parser.add_argument("--class", dest="classes", nargs="+", type=int, default=list(range(10)))
    parser.add_argument("--radius", default="", help="ask only near samples")
    parser.add_argument("--count", type=int, default=1, help="how many samples of each class")
    parser.add_argument("--time", type=float, default=20.0, help="seconds for each question")
    parser.add_argument("--calls", type=int, default=200, help="patterns judged for each class")
    parser.add_argument("--data", type=Path, default=ROOT / ".." / "shared" / "data")
    options = parser.parse_args()
    data = options.data
    subject = open_subject(data / f"vnncomp/mnist_fc/onnx/mnist-net_{options.network}.onnx.gz")
    labelled = read_labelled(
        data / "mnist/t10k-images-idx3-ubyte.gz", data / "mnist/t10k-labels-idx1-ubyte.gz"
    )
    inputs, labels = divided(labelled.inputs, 255), labelled.labels
    samples = np.asarray(inputs[:MINED], np.float32).reshape(MINED, -1)
    patterns = mine_patterns(subject.model, inputs[:MINED], labels[:MINED], options.delta)
    before = evaluate_patterns(patterns, subject.model, inputs[MINED:], labels[MINED:])
    verifier = PatternVerifier(subject, ("0", "1"), samples, limits=Limits(time_s=options.time))
    print("| delta | method | class | mined pattern | states | minimal | judged | unsettled "
          f"| random subsets that hold, of {CONTROL_DRAWS} | held-out recall before | after "
          "| seconds |\n|---|---|---|---|---|---|---|---|---|---|---|---|")  # fmt: skip
    records = []
    for number, delta in enumerate(options.delta):
        for label in options.classes:
            for method in options.method:
                started = time.perf_counter()
                found = minimise(
                    verifier, patterns, delta, label, method, labels[:MINED].tolist(),
                    max_calls=options.calls,
                    ball=Ball(options.radius, options.count) if options.radius else None,
                )  # fmt: skip
                made = record(found, method, delta, time.perf_counter() - started)
                smaller = with_states(patterns, delta, [found])
                (after,) = evaluate_patterns(smaller, subject.model, inputs[MINED:], labels[MINED:])
                recalls = before[number].recall(label).value, after.recall(label).value
                made["recall_before"], made["recall_after"] = recalls
                records.append(made)
                print(f"| {delta} | {method} | {label} | {made['verdict']} | {made['before']} | "
                      f"{made['after'] or '-'} | {made['judged']} | {made['unsettled']} | "
                      f"{made['control']} | {recalls[0]:.3f} | {recalls[1]:.3f} | "
                      f"{made['seconds']:.0f} |", flush=True)  # fmt: skip
    out = ROOT / "benchmarks" / "results" / "minimal_patterns.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(records, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
