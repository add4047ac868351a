"""Activation patterns of MNIST classifiers: recall, and what the verifier says of them.

    python benchmarks/patterns_mnist.py                     # both networks, four deltas
    python benchmarks/patterns_mnist.py 256x2 --delta 0.95

Patterns are mined from the first 8,000 images that the network reads correctly and judged on
the other 2,000. Only MNIST's 10,000 test images are at hand, so both parts are of the test set.
AUD203 asks of each class whether all inputs in [0, 1] that follow its pattern get the class,
AUD204 of each pair whether no input follows both patterns.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from auditor.findings import Verdict
from auditor.models.labelled_data import divided, read_labelled
from auditor.patterns.evaluate import evaluate_patterns
from auditor.patterns.mine import mine_patterns
from auditor.patterns.pattern_set import PatternSet
from auditor.verify.onnx_subject import OnnxSubject, open_subject
from auditor.verify.outcome import Limits
from auditor.verify.pattern_trials import PatternTrial, PatternVerifier

ROOT = Path(__file__).parents[1]
MINED = 8_000


def of_class(
    subject: OnnxSubject, patterns: PatternSet, delta: str, samples: np.ndarray, time_s: float
) -> tuple[list[dict[str, Any]], PatternVerifier, dict[int, Any]]:
    """One record for each class: verdict, seconds, and how the proof or the witness came."""
    states = {k: patterns.class_states(k, delta) for k in range(patterns.num_classes)}
    verifier = PatternVerifier(subject, ("0", "1"), samples, limits=Limits(time_s=time_s))
    records = []
    for label, each in states.items():
        started = time.perf_counter()
        (trial,) = verifier.classes({label: each})
        records.append({
            "class": label, "verdict": str(trial.verdict), "reason": trial.reason,
            "seconds": time.perf_counter() - started,
        })  # fmt: skip
    return records, verifier, states


def standing(trial: PatternTrial) -> str:
    """The verdict on a pair, with what settled it."""
    if trial.conflict is not None:
        return "disjoint by a neuron"
    return "proved disjoint" if trial.verdict is Verdict.HOLDS else str(trial.verdict)


def run(network: str, data: Path, deltas: list[str], time_s: float) -> list[dict[str, Any]]:
    """Mine, judge and verify one network at every delta."""
    subject = open_subject(data / f"vnncomp/mnist_fc/onnx/mnist-net_{network}.onnx.gz")
    labelled = read_labelled(
        data / "mnist/t10k-images-idx3-ubyte.gz", data / "mnist/t10k-labels-idx1-ubyte.gz"
    )
    inputs = divided(labelled.inputs, 255)
    patterns = mine_patterns(subject.model, inputs[:MINED], labelled.labels[:MINED], deltas)
    heldout = evaluate_patterns(patterns, subject.model, inputs[MINED:], labelled.labels[MINED:])
    results = []
    for number, delta in enumerate(deltas):
        fixed = patterns.fixed[number].mean() / patterns.num_neurons
        records, verifier, states = of_class(subject, patterns, delta, inputs[:MINED], time_s)
        recall = [heldout[number].recall(label).value for label in states]
        started = time.perf_counter()
        pairs = Counter(map(standing, verifier.pairs(states)))
        seconds = time.perf_counter() - started
        print(f"\n{network}, delta {delta}: {fixed:.3f} of the neurons fixed, recall of all "
              f"held-out images {heldout[number].total_recall.value:.3f}")  # fmt: skip
        print("| class | recall | AUD203 | seconds |\n|---|---|---|---|")
        for record, share in zip(records, recall, strict=True):
            record["recall"] = share
            print(f"| {record['class']} | {share:.3f} | {record['verdict']} | "
                  f"{record['seconds']:.1f} |", flush=True)  # fmt: skip
        found = ", ".join(f"{count} {name}" for name, count in sorted(pairs.items()))
        print(f"AUD204, 45 pairs: {found}; {seconds:.1f} s", flush=True)
        results.append({
            "network": network, "delta": delta, "fixed": float(fixed), "classes": records,
            "pairs": dict(pairs), "pairs_s": seconds,
        })  # fmt: skip
    return results


def main() -> None:
    """Run the networks and keep what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", default=["256x2", "256x4"])
    parser.add_argument("--delta", nargs="+", default=["1.0", "0.99", "0.95", "0.90"])
    parser.add_argument("--time", type=float, default=60.0, help="seconds for each question")
    parser.add_argument("--data", type=Path, default=ROOT / ".." / "shared" / "data")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/patterns_mnist.json")
    arguments = parser.parse_args()
    results = []
    for network in arguments.networks:
        results += run(network, arguments.data, arguments.delta, arguments.time)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(results, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
