"""Random small networks that are no chains."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper

from tests.models.onnx_networks import make_model

SHAPE = (1, 2, 5, 4)


def random_model(seed: int) -> onnx.ModelProto:
    """A small residual network: convolutions, a choice of operators between, a dense end."""
    random = np.random.default_rng(seed)

    def gauss(*shape: int) -> Any:
        return (random.standard_normal(shape) / 2).astype(np.float32)

    tensors: dict[str, Any] = {
        "k0": gauss(3, 2, 3, 3), "b0": gauss(3), "k1": gauss(3, 3, 1, 3), "b1": gauss(3),
        "s": gauss(3), "o": gauss(3), "m": gauss(3), "v": np.abs(gauss(3)) + np.float32(0.2),
        "d": np.abs(gauss(3, 1, 1)) + np.float32(0.5), "a": gauss(3, 1, 1),
        "l": np.float32(-0.4), "h": np.float32(0.6),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "k0", "b0"], ["t0"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["t0"], ["r0"]),
        helper.make_node("Conv", ["r0", "k1", "b1"], ["t1"], pads=[0, 1, 0, 1]),
    ]
    choices: dict[str, tuple[list[str], dict[str, Any]]] = {
        "BatchNormalization": (["s", "o", "m", "v"], {}),
        "LeakyRelu": ([], {"alpha": 0.2}),
        "PRelu": (["a"], {}),
        "Clip": (["l", "h"], {}),
        "Abs": ([], {}),
        "Div": (["d"], {}),
        "HardSigmoid": ([], {}),
        "MaxPool": ([], {"kernel_shape": [2, 2], "pads": [0, 0, 1, 1]}),
        "AveragePool": ([], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
        "Neg": ([], {}),
    }
    name = "t1"
    for step in range(int(random.integers(1, 4))):
        operator = sorted(choices)[int(random.integers(len(choices)))]
        extra, attributes = choices[operator]
        nodes.append(helper.make_node(operator, [name, *extra], [f"c{step}"], **attributes))
        name = f"c{step}"
    meet = ["Add", "Sub", "Max", "Min"][int(random.integers(4))]
    nodes += [
        helper.make_node(meet, [name, "r0"], ["met"]),
        helper.make_node("Relu", ["met"], ["r1"]),
        helper.make_node("Concat", ["r1", "t1"], ["both"], axis=1),
        helper.make_node("GlobalAveragePool", ["both"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "w"], ["y"]),
    ]
    tensors["w"] = gauss(6, 3)
    return make_model(nodes, {"x": list(SHAPE)}, {"y": [1, 3]}, tensors)
