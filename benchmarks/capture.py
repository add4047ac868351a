"""What capture and mining cost beside plain inference, and whether memory stays flat.

    python benchmarks/capture.py [--runs 15] [--data ../shared/data]

Inference and mining take turns on the same images in one process; the ratio of each pair is
reported by its median. Plain inference is onnxruntime on the same batches with the batch axis
opened, which is many times faster than the model as it is written (one image at a time), given
beside it. Memory is that of a process of its own: the largest anonymous resident set (Linux)
while mining images that are mapped from a file.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray

from auditor.activations.capture import CaptureOptions
from auditor.activations.onnx_capture import OnnxCapture, exposed_graph
from auditor.models.idx_file import read_idx
from auditor.models.onnx_model import OnnxModel
from auditor.patterns.evaluate import evaluate_patterns
from auditor.patterns.mine import mine_patterns

ROOT = Path(__file__).parents[1]
DELTAS = (1, 0.99, 0.95, 0.9)
HELD_OUT = 2000
Array = NDArray[Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT / ".." / "shared" / "data")
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--network", default="mnist-net_256x4")
    parser.add_argument("--peak-of", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    path = arguments.data / "vnncomp" / "mnist_fc" / "onnx" / f"{arguments.network}.onnx.gz"
    model = OnnxModel.open(path)
    pixels = read_idx(arguments.data / "mnist" / "t10k-images-idx3-ubyte.gz")
    labels = read_idx(arguments.data / "mnist" / "t10k-labels-idx1-ubyte.gz").astype(np.int64)
    images = pixels.reshape(len(pixels), *model.inputs[0].shape[1:]).astype(np.float32) / 255
    if arguments.peak_of:
        print(peak_while_mining(model, images, labels, arguments.peak_of, arguments.batch_size))
        return
    compare_times(model, images, labels, arguments.runs, arguments.batch_size)
    compare_memory(arguments)


def compare_times(
    model: OnnxModel, images: Array, labels: Array, runs: int, batch_size: int
) -> None:
    name = model.inputs[0].name
    opened = replace(model, proto=exposed_graph(model.proto, (), free_batch=True)).session()
    capture = OnnxCapture(model, (), CaptureOptions(batch_size=batch_size))
    split = len(images) - HELD_OUT

    def infer() -> None:
        for start in range(0, len(images), batch_size):
            opened.run({name: images[start : start + batch_size]})

    def mine() -> None:
        mine_patterns(capture, images, labels, DELTAS)

    def mine_and_test() -> None:
        found = mine_patterns(capture, images[:split], labels[:split], DELTAS)
        evaluate_patterns(found, capture, images[split:], labels[split:])

    ways = {"capture and mining": mine, "mining 8,000, testing 2,000": mine_and_test}
    times: dict[str, list[float]] = {"inference": [], **{way: [] for way in ways}}
    for number in range(runs + 1):
        for way, run in {"inference": infer, **ways}.items():
            seconds = _seconds(run)
            if number:  # the first round warms up
                times[way].append(seconds)
    plain = times["inference"]
    print(f"{len(images)} images, batches of {batch_size}, {runs} rounds, one thread")
    print(f"plain inference: median {statistics.median(plain):.3f} s")
    for way in ways:
        ratios = [one / other for one, other in zip(times[way], plain, strict=True)]
        low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
        print(f"{way}: median {statistics.median(times[way]):.3f} s, {middle:.3f} times plain "
              f"(quartiles {low:.3f} to {high:.3f})")  # fmt: skip
    written = model.session()
    part = images[:1000]
    single = _seconds(lambda: written.run({name: part})) * len(images) / len(part)
    print(f"as the model is written, one image at a time: {single:.3f} s (from 1,000 images)")


def compare_memory(arguments: argparse.Namespace) -> None:
    peaks = []
    for samples in (10_000, 100_000):
        command = [sys.executable, __file__, "--peak-of", str(samples), "--data",
                   str(arguments.data), "--network", arguments.network, "--batch-size",
                   str(arguments.batch_size)]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append(float(done.stdout))
        print(f"{samples} images: mining adds {peaks[-1]:.1f} MiB at its peak")
    print(f"10 times the images: {peaks[1] - peaks[0]:+.1f} MiB")


def peak_while_mining(
    model: OnnxModel, images: Array, labels: Array, samples: int, batch_size: int
) -> float:
    """MiB by which the anonymous resident set grows at most; the images repeat."""
    capture = OnnxCapture(model, (), CaptureOptions(batch_size=batch_size))
    with tempfile.TemporaryDirectory() as folder:
        mapped = np.lib.format.open_memmap(
            Path(folder) / "images.npy", "w+", images.dtype, (samples, *images.shape[1:])
        )
        for start in range(0, samples, len(images)):
            mapped[start : start + len(images)] = images[: samples - start]
        repeated = np.resize(labels, samples)
        before, peak, done = _anonymous_mib(), [0.0], threading.Event()

        def watch() -> None:
            while not done.wait(0.002):
                peak[0] = max(peak[0], _anonymous_mib())

        watcher = threading.Thread(target=watch)
        watcher.start()
        mine_patterns(capture, mapped, repeated, DELTAS)
        done.set()
        watcher.join()
        return peak[0] - before


def _anonymous_mib() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024
    raise SystemExit("this system does not say how much anonymous memory is resident")


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
