"""How the time and memory of `verify` grow with width, depth, inputs and radius.

    python benchmarks/scaling.py                       # all points, in a few minutes
    python benchmarks/scaling.py --plot docs/scaling.svg
    python benchmarks/scaling.py --kept --plot docs/scaling.svg   # draw the last results

Networks are random (He-scaled weights, fixed seeds). The property is robust classification
around a random centre with a margin: `y0 - y1` stays above a threshold a little below the
least value that sampling and gradient steps reach, so that the search has to work. Every
point runs in a process of its own: bounds of the undivided box first, then `verify`. The
start of the process and the loading of libraries are not part of the seconds; they are part
of the peak memory. Seconds, also those of the cap, are processor seconds of one thread, which
other work on the machine hardly changes. A point that reaches the cap is drawn hollow.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "scaling.json"
MARGIN = 0.1  # of the distance between the centre's value and the least value found


class CapReached(Exception):
    """A point has used up its processor seconds."""


@dataclass(frozen=True)
class Point:
    """One network and box; `side` above 0 means a convolutional network on side x side."""

    panel: str
    value: float
    width: int = 32
    depth: int = 3
    inputs: int = 4
    radius: float = 0.5
    side: int = 0
    seed: int = 1

    @property
    def series(self) -> str:
        """The line of the plot that the point belongs to."""
        return "convolutional" if self.side else "dense"


def points() -> list[Point]:
    """All points, panel by panel."""
    return [
        *(Point("width", n, width=n) for n in (8, 16, 32, 64, 128, 256, 512)),
        *(Point("depth", n, depth=n) for n in (1, 2, 3, 4, 6, 8)),
        *(Point("inputs", n, inputs=n, radius=0.1, depth=2) for n in (2, 4, 8, 16, 32, 64, 256)),
        *(Point("inputs", n * n, side=n, radius=0.05) for n in (4, 6, 8, 12, 16)),
        *(Point("radius", r, radius=r) for r in (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)),
    ]


# In the process of a point


def build_model(point: Point) -> onnx.ModelProto:
    """The network of a point as an ONNX model with two outputs."""
    random = np.random.default_rng(point.seed)
    tensors: dict[str, Any] = {}
    nodes, name, size, shape = [], "x", point.inputs, [1, point.inputs]
    if point.side:
        shape = [1, 1, point.side, point.side]
        for number, (before, after) in enumerate(((1, 4), (4, 4))):
            kernel = random.standard_normal((after, before, 3, 3)) * math.sqrt(2 / (9 * before))
            tensors[f"k{number}"] = kernel.astype(np.float32)
            stride = 1 + number
            nodes += [
                helper.make_node("Conv", [name, f"k{number}"], [f"c{number}"], pads=[1, 1, 1, 1],
                                 strides=[stride, stride]),
                helper.make_node("Relu", [f"c{number}"], [f"r{number}"]),
            ]  # fmt: skip
            name = f"r{number}"
        nodes.append(helper.make_node("Flatten", [name], ["flat"]))
        name, size = "flat", 4 * math.ceil(point.side / 2) ** 2
    hidden = [16] if point.side else [point.width] * point.depth
    for number, after in enumerate([*hidden, 2]):
        weight = random.standard_normal((after, size)) * math.sqrt(2 / size)
        tensors[f"w{number}"] = weight.astype(np.float32)
        tensors[f"b{number}"] = (0.1 * random.standard_normal(after)).astype(np.float32)
        last = number == len(hidden)
        out = "y" if last else f"z{number}"
        nodes.append(helper.make_node("Gemm", [name, f"w{number}", f"b{number}"], [out], transB=1))
        if not last:
            nodes.append(helper.make_node("Relu", [out], [f"h{number}"]))
        name, size = f"h{number}", after
    return helper.make_model(
        helper.make_graph(
            nodes, "scaling",
            [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 2])],
            [numpy_helper.from_array(values, key) for key, values in tensors.items()],
        ),
        opset_imports=[helper.make_opsetid("", 17)], ir_version=9,
    )  # fmt: skip


def least_margin_found(network: Any, center: Any, radius: float, seed: int) -> tuple[float, float]:
    """`y0 - y1` at the centre, and the least that samples and signed gradient steps reach."""
    random = np.random.default_rng(seed)
    row = np.array([1.0, -1.0])
    inputs = center + radius * random.uniform(-1, 1, (64, len(center)))
    least, rows = math.inf, np.tile(row, (len(inputs), 1))
    for step in range(30):
        before = network.preactivations(inputs)
        least = min(least, float((before[-1] @ row).min()))
        descent = np.sign(network.gradient(before, rows))
        inputs = inputs - radius * 0.5 * 0.9**step * descent
        inputs = np.clip(inputs, center - radius, center + radius)
    return float(network.evaluate(center[None])[0] @ row), least


def measure_point(point: Point, cap: float) -> dict[str, Any]:
    """Bound the undivided box, then verify; seconds and peak memory of both."""
    from fractions import Fraction

    import onnxruntime
    import torch

    from auditor.verify.bounds import BoundedNetwork, layer_bounds
    from auditor.verify.network import read_network
    from auditor.verify.property import Property, UnsafeCase, UnsafeRow
    from auditor.verify.search import Limits, verify

    torch.set_num_threads(1)
    model = build_model(point)
    network = read_network(model)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    shape = session.get_inputs()[0].shape
    center = np.random.default_rng(point.seed + 1).uniform(-1, 1, network.num_inputs)
    at_center, least = least_margin_found(network, center, point.radius, point.seed)
    threshold = least - MARGIN * (at_center - least)
    lower, upper = center - point.radius, center + point.radius

    def at_least(value: float, low: Any, high: Any) -> Property:
        row = UnsafeRow((Fraction(1), Fraction(-1)), Fraction(value), strict=True)
        case = UnsafeCase(tuple(map(Fraction, low)), tuple(map(Fraction, high)), (row,))
        return Property("p", (case,), "", "", network.num_inputs, 2)

    def replay(inputs: Any, /) -> Any:
        return session.run(None, {"x": inputs.reshape(shape)})[0].ravel()

    # Loads the compiled kernel, so that it is not part of what is measured.
    verify(network, at_least(at_center - 1e6, center, center))
    bounding_s = math.inf
    for _ in range(3):  # the first call sets torch up
        started = time.process_time()
        with torch.no_grad():
            rows = np.array([[1.0, -1.0]]), np.zeros(1)
            net = BoundedNetwork.over_box(network, lower, upper, rows=rows)
            box = torch.from_numpy(lower)[None], torch.from_numpy(upper)[None]
            bound = float(layer_bounds(net, box)[-1][0])
        bounding_s = min(bounding_s, time.process_time() - started)
    bounding_mb = _peak_mb()
    del net
    started, boxes = time.process_time(), [0]

    def watch(share: float, text: str) -> None:
        boxes[0] = int(text.split()[0]) if text[:1].isdigit() else 0
        if time.process_time() - started > cap:
            raise CapReached

    try:
        outcome = verify(
            network, at_least(threshold, lower, upper), limits=Limits(time_s=10 * cap),
            replay=replay, progress=watch,
        )  # fmt: skip
        verdict, boxes[0] = outcome.verdict.value, outcome.statistics.boxes
    except CapReached:
        verdict = "unknown"
    return asdict(point) | {
        "series": point.series, "bounding_s": bounding_s, "bounding_mb": bounding_mb,
        "verify_s": time.process_time() - started, "verify_mb": _peak_mb(),
        "verdict": verdict, "boxes": boxes[0],
        "root_gap": (threshold - bound) / (at_center - least),
    }  # fmt: skip


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# In the process that draws


def run_all(cap: float) -> list[dict[str, Any]]:
    """Every point in a fresh process, one after the other."""
    found = []
    for point in points():
        done = subprocess.run(
            [sys.executable, __file__, "--point", json.dumps(asdict(point)), "--cap", str(cap)],
            capture_output=True, text=True, check=False, cwd=ROOT,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"{point}: {done.stderr[-2000:]}")
        found.append(json.loads(done.stdout.splitlines()[-1]))
        print(f"{point.panel:7} {point.value:6g} {point.series:13} {describe(found[-1])}",
              flush=True)  # fmt: skip
    return found


def describe(record: dict[str, Any]) -> str:
    """A point in one line."""
    return (
        f"{record['verdict']:8} {record['verify_s']:7.2f} s {record['verify_mb']:6.0f} MB "
        f"{record['boxes']:8} boxes; bounding {record['bounding_s']:.4f} s, "
        f"gap {record['root_gap']:.2f}"
    )


def main() -> int:
    """Measure, keep the results, draw them."""
    from scaling_plot import draw

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cap", type=float, default=20.0, help="seconds for each point")
    parser.add_argument("--kept", action="store_true", help="draw the results of the last run")
    parser.add_argument("--plot", type=Path, help="write the plot (SVG) here")
    parser.add_argument("--point", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.point:
        point = replace(Point("", 0), **json.loads(arguments.point))
        print(json.dumps(measure_point(point, arguments.cap)))
        return 0
    if not arguments.kept:
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        RESULTS.write_text(json.dumps(run_all(arguments.cap), indent=1) + "\n")
    if arguments.plot:
        arguments.plot.write_text(draw(json.loads(RESULTS.read_text()), arguments.cap))
    return 0


if __name__ == "__main__":
    sys.exit(main())
