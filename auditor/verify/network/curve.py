"""Activations that are not piecewise linear and continuous: Sigmoid, Tanh and Sign."""

from __future__ import annotations

from enum import StrEnum


class Curve(StrEnum):
    """A non-decreasing function applied to every neuron of a layer; its ONNX operator.

    Attributes:
        SIGMOID: `1 / (1 + exp(-z))`.
        TANH: The hyperbolic tangent.
        SIGN: -1, 0 or 1, and 0 only at z = 0.
    """

    SIGMOID = "Sigmoid"
    TANH = "Tanh"
    SIGN = "Sign"
