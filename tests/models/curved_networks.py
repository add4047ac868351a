"""Small networks with sigmoid, tanh or sign whose answers are known, and random ones."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import onnx
from onnx import helper

from auditor.verify.property import Property, UnsafeCase, UnsafeRow
from tests.models.onnx_networks import make_model


def mixed_model(seed: int) -> onnx.ModelProto:
    """A residual network on three inputs with a random activation at each of three places."""
    random = np.random.default_rng(seed)

    def gauss(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return random.standard_normal(shape).astype(np.float32)

    names = [("Sigmoid", "Tanh", "Sign", "Relu")[i] for i in random.integers(4, size=3)]
    names[int(random.integers(3))] = ("Sigmoid", "Tanh", "Sign")[seed % 3]
    tensors = {"w0": gauss(3, 5), "b0": gauss(5), "w1": gauss(5, 5), "b1": gauss(5)}
    tensors |= {"w2": gauss(5, 2), "b2": gauss(2)}
    nodes = [
        helper.make_node("Gemm", ["x", "w0", "b0"], ["z0"]),
        helper.make_node(names[0], ["z0"], ["h0"]),
        helper.make_node("Gemm", ["h0", "w1", "b1"], ["z1"]),
        helper.make_node(names[1], ["z1"], ["h1"]),
        helper.make_node("Add", ["h1", "h0"], ["s"]),
        helper.make_node(names[2], ["s"], ["h2"]),
        helper.make_node("Gemm", ["h2", "w2", "b2"], ["y"]),
    ]
    return make_model(nodes, {"x": [1, 3]}, {"y": [1, 2]}, tensors)


def difference_model(operator: str) -> onnx.ModelProto:
    """`y = f(x + 1) - f(x) + f(v - w)`: x in one input, v and w in two more.

    For sigmoid and tanh the first difference is largest at x = -1/2 (f' is even and falls
    away from zero), and falls on both sides of it.
    """
    tensors = {
        "w0": np.array([[1, 1, 0], [0, 0, 1], [0, 0, -1]], np.float32),
        "b0": np.array([1, 0, 0], np.float32),
        "w1": np.array([[1], [-1], [1]], np.float32),
    }
    nodes = [
        helper.make_node("Gemm", ["x", "w0", "b0"], ["z"], "before"),
        helper.make_node(operator, ["z"], ["h"], "curve"),
        helper.make_node("Gemm", ["h", "w1"], ["y"], "after"),
    ]
    return make_model(nodes, {"x": [1, 3]}, {"y": [1, 1]}, tensors)


def at_most(value: float, lower: list[float], upper: list[float], outputs: int = 1) -> Property:
    """The first output is at most a value on a box."""
    row = UnsafeRow((Fraction(-1), *[Fraction(0)] * (outputs - 1)), -Fraction(value), True)
    ends = tuple(map(Fraction, lower)), tuple(map(Fraction, upper))
    return Property("at most", (UnsafeCase(*ends, (row,)),), "", "", len(lower), outputs)
