"""What a monitor costs in deployment, and how well it tells shifted images from others.

    python benchmarks/monitor.py [--runs 31] [--data ../shared/data] [--other FILE.npz]

Patterns are mined from the first 8,000 test images of MNIST, thresholds come from the next
1,000, and the last 1,000 are the ordinary images; the same 1,000 shifted are the strange ones,
and with `--other` those of another set (`inputs`, in [0, 1]). AUROC of the pattern distance
stands beside two baselines on the same inputs, with DeLong's 95 % intervals. Overhead is the
median ratio of paired runs of the plain and the monitored model.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray

from auditor.activations.onnx_capture import exposed_graph
from auditor.auroc import difference_interval, measure_auroc
from auditor.models.idx_file import read_idx
from auditor.models.input_file import read_arrays
from auditor.models.onnx_model import OnnxModel
from auditor.patterns.mine import mine_patterns
from auditor.patterns.monitor import Monitor, fit_thresholds, make_monitor
from auditor.patterns.monitor_graph import append_monitor
from auditor.patterns.shift import DISTANCE, Detectors, add_noise, blur, rotate

ROOT = Path(__file__).parents[1]
NETWORKS = ("mnist-net_256x2", "mnist-net_256x4")
DELTAS = ("1", "0.99", "0.95", "0.9")
MINED, FITTED = 8000, 9000
SHAPE = (28, 28)
Array = NDArray[Any]
SHIFTS: dict[str, Callable[[Array], Array]] = {
    "noise, deviation 0.1": lambda images: add_noise(images, 0.1),
    "noise, deviation 0.3": lambda images: add_noise(images, 0.3),
    "blur, deviation 1 pixel": lambda images: blur(images, SHAPE, 1.0),
    "blur, deviation 2 pixels": lambda images: blur(images, SHAPE, 2.0),
    "rotation by 20 degrees": lambda images: rotate(images, SHAPE, 20),
    "rotation by 45 degrees": lambda images: rotate(images, SHAPE, 45),
    "inverted images": lambda images: 1 - images,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT / ".." / "shared" / "data")
    parser.add_argument("--runs", type=int, default=31)
    parser.add_argument("--other", type=Path, help="another data set: .npz with inputs")
    arguments = parser.parse_args()
    if arguments.other:
        other = read_arrays(arguments.other)["inputs"].reshape(-1, 784, 1).astype(np.float32)
        SHIFTS[f"another set: {arguments.other.name}"] = lambda images: other[: len(images)]
    pixels = read_idx(arguments.data / "mnist" / "t10k-images-idx3-ubyte.gz")
    labels = read_idx(arguments.data / "mnist" / "t10k-labels-idx1-ubyte.gz").astype(np.int64)
    images = pixels.reshape(len(pixels), 784, 1).astype(np.float32) / 255
    for name in NETWORKS:
        folder = arguments.data / "vnncomp" / "mnist_fc" / "onnx"
        model = OnnxModel.open(folder / f"{name}.onnx.gz")
        print(f"\n{name}")
        monitors = make_monitors(model, images, labels)
        show_labels(model, monitors, images[FITTED:])
        compare_detectors(model, monitors, images, labels)
        for batch in (1, 64, 512):
            compare_times(model, monitors[1], images, batch, arguments.runs)


def make_monitors(model: OnnxModel, images: Array, labels: Array) -> list[Monitor]:
    """One for each delta, thresholds from held-out images."""
    patterns = mine_patterns(model, images[:MINED], labels[:MINED], DELTAS)
    held = slice(MINED, FITTED)
    return [
        fit_thresholds(make_monitor(patterns, delta), model, images[held], labels[held], "0.99")
        for delta in DELTAS
    ]


def show_labels(model: OnnxModel, monitors: list[Monitor], ordinary: Array) -> None:
    """Shares of labels on ordinary and on shifted images, at thresholds of 0 and fitted ones."""
    print("delta  thresholds     explained / contradicted / unexplained, ordinary images")
    for monitor in monitors:
        strict = replace(monitor, thresholds=np.minimum(monitor.thresholds, 0))
        for name, chosen in (("all 0", strict), ("99 % held out", monitor)):
            counts = chosen.label_inputs(model, ordinary).counts()
            shares = " / ".join(f"{count / len(ordinary):.3f}" for count in counts.values())
            print(f"{float(monitor.delta):<5g}  {name:13}  {shares}")
    print(f"thresholds: {[monitor.thresholds.tolist() for monitor in monitors]}")


def compare_detectors(
    model: OnnxModel, monitors: list[Monitor], images: Array, labels: Array
) -> None:
    """AUROC of every delta's distance and of the baselines, shift by shift."""
    detectors = [Detectors(each, model, images[:MINED], labels[:MINED]) for each in monitors]
    ordinary = [each.scores(images[FITTED:]) for each in detectors]
    print("AUROC, 95 % interval")
    for shift, change in SHIFTS.items():
        shifted = change(images[FITTED:])
        strange = [each.scores(shifted) for each in detectors]
        predicted = monitors[0].label_inputs(model, shifted)
        known = labels[FITTED:][: len(shifted)]  # means nothing for another set
        accuracy = float((predicted.predicted == known).mean())
        found = {
            f"distance at {delta}": measure_auroc(before[DISTANCE], after[DISTANCE])
            for delta, before, after in zip(DELTAS, ordinary, strange, strict=True)
        }
        found |= {
            name: measure_auroc(ordinary[0][name], strange[0][name])
            for name in ordinary[0]
            if name != DISTANCE
        }
        chosen = found["distance at 0.99"]
        print(f"  {shift} (accuracy {accuracy:.3f})")
        for name, auroc in found.items():
            interval, difference = auroc.interval, difference_interval(chosen, auroc)
            print(f"    {name:18} {auroc.value:.3f} [{interval.lower:.3f}, {interval.upper:.3f}]"
                  f"   distance at 0.99 minus this: [{difference.lower:+.3f}, "
                  f"{difference.upper:+.3f}]")  # fmt: skip


def compare_times(model: OnnxModel, monitor: Monitor, images: Array, batch: int, runs: int) -> None:
    """The monitored model against the plain one on the same images, by turns."""
    name, monitored = model.inputs[0].name, append_monitor(monitor, model)
    free = batch > 1  # as written the networks take one image at a time
    plain, watched = (
        replace(each, proto=exposed_graph(each.proto, (), free_batch=free)).session()
        for each in (model, monitored)
    )
    part = images[:512] if batch == 1 else images[:2048]

    def run(session: Any) -> float:
        start = time.perf_counter()
        for first in range(0, len(part), batch):
            session.run({name: part[first : first + batch]})
        return time.perf_counter() - start

    ratios, base = [], []
    for number in range(runs + 3):
        order = (plain, watched) if number % 2 else (watched, plain)
        seconds = {id(session): run(session) for session in order}
        if number >= 3:  # the first rounds warm up
            base.append(seconds[id(plain)])
            ratios.append(seconds[id(watched)] / seconds[id(plain)])
    low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
    microseconds = float(np.median(base)) / len(part) * 1e6
    print(f"batches of {batch}: {middle:.3f} times plain (quartiles {low:.3f} to {high:.3f}), "
          f"plain {microseconds:.1f} us an image")  # fmt: skip


if __name__ == "__main__":
    main()
