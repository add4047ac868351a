"""Makes the demo's model and data again: a classifier of scikit-learn's scanned digits.

    python specs/make_demo.py            writes digits.onnx, digits_test.npz,
                                         digits_patterns.safetensors, MANIFEST.json
    python specs/make_demo.py --check    compares with what is committed

1,797 real scans of 8x8 pixels (Alpaydin and Kaynak 1998), grey levels divided by 16. A
network 64-32-32-10 with ReLU is trained on three quarters of them with inputs disturbed
along the gradient's sign (Goodfellow et al. 2015), so that robustness has something to
show. Weights are rounded to float32 multiples of 2^-12: the file compresses better and
every product in it is exact in float64.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits

from auditor.models.onnx_model import OnnxModel
from auditor.patterns.evaluate import evaluate_patterns
from auditor.patterns.mine import mine_patterns
from auditor.patterns.pattern_file import write_patterns

FOLDER = Path(__file__).parent / "auditor_specs" / "plans" / "demo"
SEED = 20261123
TRAIN_SIZE = 1347
LAYERS = (64, 32, 32, 10)
EPOCHS = 120
BATCH = 128
RADIUS = 0.06
WEIGHT_STEP = 2.0**-12
DELTAS = ("0.99", "0.95", "0.6")
# Held-out scans that the written properties speak of.
THREE, ZERO, EIGHT = 11, 1, 29
DIGIT_NAMES = "[zero, one, two, three, four, five, six, seven, eight, nine]"


def split_digits() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """All scans [1797, 64] in [0, 1] and labels, in a shuffled order fixed by the seed."""
    digits = load_digits()
    order = np.random.default_rng(SEED).permutation(len(digits.target))
    images = (digits.data[order] / 16.0).astype(np.float32)
    return images, digits.target[order].astype(np.int64)


def train(images: NDArray[np.float32], labels: NDArray[np.int64]) -> torch.nn.Sequential:
    """A ReLU network trained on disturbed inputs."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    layers: list[torch.nn.Module] = []
    for inputs, outputs in pairwise(LAYERS):
        layers += [torch.nn.Linear(inputs, outputs), torch.nn.ReLU()]
    network = torch.nn.Sequential(*layers[:-1])
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3, weight_decay=1e-4)
    loss = torch.nn.CrossEntropyLoss()
    x, y = torch.from_numpy(images), torch.from_numpy(labels)
    for epoch in range(EPOCHS):
        for group in optimiser.param_groups:
            group["lr"] = 3e-3 * (1 - epoch / EPOCHS)
        for rows in torch.randperm(len(x)).split(BATCH):
            optimiser.zero_grad()
            loss(network(disturb(network, x[rows], y[rows])), y[rows]).backward()
            optimiser.step()
    return network


def disturb(network: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Inputs moved by RADIUS along the sign of the loss gradient, from a random start."""
    start = (x + torch.empty_like(x).uniform_(-RADIUS, RADIUS)).clamp(0, 1).requires_grad_()
    (gradient,) = torch.autograd.grad(torch.nn.functional.cross_entropy(network(start), y), start)
    moved = start.detach() + RADIUS * gradient.sign()
    return torch.minimum(torch.maximum(moved, x - RADIUS), x + RADIUS).clamp(0, 1)


def to_onnx(network: torch.nn.Sequential) -> bytes:
    """The network as ONNX: one Gemm and Relu for each layer, a free batch dimension."""
    nodes, weights, name = [], [], "scan"
    linear = [layer for layer in network if isinstance(layer, torch.nn.Linear)]
    for number, layer in enumerate(linear, start=1):
        for part, values in (("weight", layer.weight), ("bias", layer.bias)):
            rounded = np.round(values.detach().numpy().astype(np.float64) / WEIGHT_STEP)
            array = (rounded * WEIGHT_STEP).astype(np.float32)
            weights.append(numpy_helper.from_array(array, f"layer{number}.{part}"))
        last = number == len(linear)
        out = "scores" if last else f"layer{number}.sum"
        inputs = [name, f"layer{number}.weight", f"layer{number}.bias"]
        nodes.append(helper.make_node("Gemm", inputs, [out], f"layer{number}", transB=1))
        if not last:
            name = f"layer{number}.active"
            nodes.append(helper.make_node("Relu", [out], [name], f"layer{number}.relu"))
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("scan", TensorProto.FLOAT, ["batch", LAYERS[0]])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", LAYERS[-1]])],
        weights,
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="make_demo", ir_version=9
    )
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)


def pack(images: NDArray[np.float32], labels: NDArray[np.int64]) -> bytes:
    """The held-out scans as .npz with `inputs` and `labels`."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, inputs=images, labels=labels)
    return buffer.getvalue()


def write_properties(images: NDArray[np.float32], labels: NDArray[np.int64]) -> dict[str, bytes]:
    """The three written properties, each about one held-out scan."""
    three, zero, eight = THREE, ZERO, EIGHT
    for row, label in ((three, 3), (zero, 0), (eight, 8)):
        if labels[row] != label:
            raise ValueError(f"scan {row} is a {labels[row]}, not a {label}")
    borders = np.zeros((8, 8), dtype=bool)
    borders[:, [0, 7]] = True
    lower, upper = images[zero].reshape(8, 8).copy(), images[zero].reshape(8, 8).copy()
    lower[borders], upper[borders] = 0.0, 0.3125
    properties = {
        "steady-three": (
            "A scan of a three with up to 1.6 of 16 grey levels of noise is read as a three",
            _around(images[three], "0.1"),
            3,
        ),
        "smudged-zero": (
            "A scan of a zero is read as a zero whatever smudges its left and right border",
            f"  box:\n    lower: {_list(lower)}\n    upper: {_list(upper)}\n",
            0,
        ),
        "noisy-eight": (
            "A scan of an eight with up to one of 16 grey levels of noise is read as an eight",
            _around(images[eight], "0.0625"),
            8,
        ),
    }
    return {
        f"{name}.yaml": (
            f"# Made by specs/make_demo.py; pixels in [0, 1], row by row.\n"
            f"version: 1\nid: {name}\ntitle: {title}\ninputs:\n{inputs}"
            f"outputs: {{names: {DIGIT_NAMES}}}\nthen:\n  - class: {label}\n"
        ).encode()
        for name, (title, inputs, label) in properties.items()
    }


def _around(image: NDArray[np.float32], radius: str) -> str:
    return f"  around:\n    center: {_list(image)}\n    radius: {radius}\n    clip: [0, 1]\n"


def _list(image: NDArray[np.float32]) -> str:
    rows = [", ".join(repr(float(pixel)) for pixel in row) for row in image.reshape(8, 8)]
    indent = ",\n      "
    return f"[\n      {indent.join(rows)}\n    ]"


def mine(
    model: bytes, seen: tuple[NDArray[np.float32], NDArray[np.int64]],
    unseen: tuple[NDArray[np.float32], NDArray[np.int64]],
) -> bytes:  # fmt: skip
    """The activation patterns of the ten digits, judged on scans they were not mined from."""
    with tempfile.TemporaryDirectory() as name:
        path, target = Path(name) / "digits.onnx", Path(name) / "digits_patterns.safetensors"
        path.write_bytes(model)
        opened = OnnxModel.open(path)
        patterns = mine_patterns(opened, *seen, DELTAS)
        write_patterns(target, patterns, evaluate_patterns(patterns, opened, *unseen))
        return target.read_bytes()


def make() -> dict[str, bytes]:
    """Every file of the demo that is computed, by name."""
    images, labels = split_digits()
    network = train(images[:TRAIN_SIZE], labels[:TRAIN_SIZE])
    held_out, truth = images[TRAIN_SIZE:], labels[TRAIN_SIZE:]
    with torch.no_grad():
        guesses = network(torch.from_numpy(held_out)).argmax(1).numpy()
    files = {"digits.onnx": to_onnx(network), "digits_test.npz": pack(held_out, truth)}
    files["digits_patterns.safetensors"] = mine(
        files["digits.onnx"], (images[:TRAIN_SIZE], labels[:TRAIN_SIZE]), (held_out, truth)
    )
    files |= write_properties(held_out, truth)
    manifest = {
        "made_by": "specs/make_demo.py",
        "seed": SEED,
        "torch": torch.__version__.split("+")[0],
        "held_out_scans": len(truth),
        "held_out_accuracy": round(float((guesses == truth).mean()), 4),
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    }
    files["MANIFEST.json"] = (json.dumps(manifest, indent=2, sort_keys=True) + "\n").encode()
    return files


def main() -> int:
    """Write the files, or say how they differ from the committed ones."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    check = parser.parse_args().check
    FOLDER.mkdir(parents=True, exist_ok=True)
    differing = []
    for name, content in make().items():
        path = FOLDER / name
        if check and (not path.exists() or path.read_bytes() != content):
            differing.append(name)
        elif not check:
            path.write_bytes(content)
    if differing:
        print(f"differ from the committed files: {', '.join(differing)}", file=sys.stderr)
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
