"""Classifiers trained on digits that carry a mark, with activation patterns known beforehand.

A picture has 10 rows of 10 pixels: a scan of 8x8 above, and a row of marks below, in which
pixel c is 1 where the scan is of class c. Three layers are not trained: `bright` is active where
a pixel is above 1/2, `marked` where a mark is above 1/2, `visible` where a mark is above 2/5. So
their states on any data follow from the data alone. Scores are those of a trained network plus
`GAIN` times `visible`: a mark above 1/2 lifts its class by a tenth of `GAIN` or more, one below
2/5 by nothing.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper
from sklearn.datasets import load_digits

from tests.models.onnx_networks import make_model

SIDE = 10
PIXELS = SIDE * SIDE
MARKS = slice(9 * SIDE, PIXELS)
GAIN = 1_000.0
BRIGHT, VISIBLE = 0.5, 0.4
Kind = Literal["dense", "convolutional"]
Part = tuple[list[onnx.NodeProto], dict[str, NDArray[Any]]]


def marked_digits(
    marks: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Pictures [1797, 100] in [0, 1] and their labels.

    Args:
        marks: Which mark each class gets, [10]; its own number if None.
    """
    digits = load_digits()
    labels = digits.target.astype(np.int64)
    pictures = np.zeros((len(labels), SIDE, SIDE), np.float32)
    pictures[:, :8, 1:9] = digits.images / 16
    marks = np.arange(10) if marks is None else marks
    pictures[np.arange(len(labels)), 9, marks[labels]] = 1
    return pictures.reshape(-1, PIXELS), labels


def trained_network(
    kind: Kind, marks: NDArray[np.int64] | None = None
) -> tuple[onnx.ModelProto, float]:
    """A network trained on the scans, with marks added to its scores, and its accuracy alone.

    Args:
        kind: What is trained: dense layers 100-32-16-10, or a convolution of 4 channels first.
        marks: The class that each mark speaks for, [10], -1 for none; its own number if None.
    """
    torch.manual_seed(0)
    torch.set_num_threads(1)
    if kind == "dense":
        body = [torch.nn.Flatten(), torch.nn.Linear(PIXELS, 32)]
    else:
        body = [torch.nn.Conv2d(1, 4, 3, stride=2), torch.nn.Flatten()]
    wide = 32 if kind == "dense" else 64
    network = torch.nn.Sequential(
        *body, torch.nn.ReLU(), torch.nn.Linear(wide, 16), torch.nn.ReLU(), torch.nn.Linear(16, 10)
    )
    pictures, labels = marked_digits()
    pictures[:, MARKS] = 0
    x, y = torch.from_numpy(pictures).reshape(-1, 1, SIDE, SIDE), torch.from_numpy(labels)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(network(x), y).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    accuracy = float((network(x).argmax(1) == y).float().mean())
    return _with_marks(network, kind, np.arange(10) if marks is None else marks), accuracy


def _with_marks(
    network: torch.nn.Sequential, kind: Kind, marks: NDArray[np.int64]
) -> onnx.ModelProto:
    """The ONNX graph: the three layers that are not trained beside the network that is."""
    start, tensors = "x", {"picture": np.array([-1, 1, SIDE, SIDE])}
    nodes = []
    if kind == "convolutional":
        start = "image"
        nodes.append(helper.make_node("Reshape", ["x", "picture"], ["image"], "as_picture"))
    for part, found in (_planted_part(kind, marks), _trained_part(network, start)):
        nodes += part
        tensors |= found
    nodes.append(helper.make_node("Add", ["trained.out", "marks.out"], ["y"], "scores"))
    return make_model(nodes, {"x": ["batch", PIXELS]}, {"y": ["batch", 10]}, tensors)


def _planted_part(kind: Kind, marks: NDArray[np.int64]) -> Part:
    """`bright`, `marked` and `visible`; only the last is read with other weights than 0."""
    readout = np.zeros((10, 10), np.float32)
    for mark, label in enumerate(marks):
        if label >= 0:
            readout[mark, label] = GAIN
    tensors = {
        "one": np.ones((1, 1, 1, 1), np.float32), "row": np.array([-1, PIXELS]),
        "select": np.eye(10, PIXELS, MARKS.start, np.float32),
        "bright.cut": np.full(1, -BRIGHT, np.float32),
        "marked.cut": np.full(10, -BRIGHT, np.float32),
        "visible.cut": np.full(10, -VISIBLE, np.float32),
        "bright.read": np.zeros((PIXELS, 10), np.float32),
        "marked.read": np.zeros((10, 10), np.float32), "visible.read": readout,
    }  # fmt: skip
    nodes = []
    for name in ("marked", "visible"):
        inputs = ["x", "select", f"{name}.cut"]
        nodes.append(helper.make_node("Gemm", inputs, [f"{name}.sum"], transB=1))
    if kind == "convolutional":
        inputs = ["image", "one", "bright.cut"]
        nodes.append(helper.make_node("Conv", inputs, ["bright.image"]))
        nodes.append(helper.make_node("Reshape", ["bright.image", "row"], ["bright.sum"]))
    else:
        nodes.append(helper.make_node("Add", ["x", "bright.cut"], ["bright.sum"]))
    for name in ("bright", "marked", "visible"):
        nodes += [
            helper.make_node("Relu", [f"{name}.sum"], [f"{name}.active"], name),
            helper.make_node("MatMul", [f"{name}.active", f"{name}.read"], [f"{name}.out"]),
        ]
    nodes += [
        helper.make_node("Add", ["bright.out", "marked.out"], ["silent.out"]),
        helper.make_node("Add", ["silent.out", "visible.out"], ["marks.out"]),
    ]
    return nodes, tensors


def _trained_part(network: torch.nn.Sequential, name: str) -> Part:
    """The trained layers, from the tensor `name` to `trained.out`."""
    nodes: list[onnx.NodeProto] = []
    tensors = {
        f"trained.{key}": value.detach().numpy() for key, value in network.state_dict().items()
    }
    for number, layer in enumerate(network):
        out = "trained.out" if number == len(network) - 1 else f"trained{number}.out"
        inputs, label = [name], f"trained{number}"
        if list(layer.parameters()):
            inputs += [f"trained.{number}.weight", f"trained.{number}.bias"]
        match layer:
            case torch.nn.Linear():
                nodes.append(helper.make_node("Gemm", inputs, [out], label, transB=1))
            case torch.nn.Conv2d():
                nodes.append(helper.make_node("Conv", inputs, [out], label, strides=[2, 2]))
            case torch.nn.ReLU():
                nodes.append(helper.make_node("Relu", inputs, [out], label))
            case _:
                nodes.append(helper.make_node("Flatten", inputs, [out], label))
        name = out
    return nodes, tensors
