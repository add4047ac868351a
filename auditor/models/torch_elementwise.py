"""ONNX operators that act element by element, in torch."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from auditor.models.torch_node import Operator, TorchNode, Values, optional, require


def _unary(function: Callable[[Tensor], Tensor]) -> Operator:
    return lambda node, values: function(require(values, 0))


def _binary(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    return lambda node, values: function(require(values, 0), require(values, 1))


def _fold(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    """An operator over any number of inputs, taken pairwise from the left."""
    return lambda node, values: reduce(
        function, (require(values, index) for index in range(len(values)))
    )


def _divide(left: Tensor, right: Tensor) -> Tensor:
    if left.is_floating_point():
        return left / right
    return torch.div(left, right, rounding_mode="trunc")


def _mean(node: TorchNode, values: Values) -> Tensor:
    total = require(values, 0)
    for index in range(1, len(values)):
        total = total + require(values, index)
    return total / len(values)


def _clip(node: TorchNode, values: Values) -> Tensor:
    data, lower, upper = require(values, 0), optional(values, 1), optional(values, 2)
    if lower is None and "min" in node.attributes:
        lower = node.tensor_of(node.number("min", 0.0))
    if upper is None and "max" in node.attributes:
        upper = node.tensor_of(node.number("max", 0.0))
    data = data if lower is None else torch.maximum(data, lower.to(data.dtype))
    return data if upper is None else torch.minimum(data, upper.to(data.dtype))


def _softmax(log: bool) -> Operator:
    def softmax(node: TorchNode, values: Values) -> Tensor:
        data = require(values, 0)
        function = F.log_softmax if log else F.softmax
        if node.opset >= 13:
            return function(data, node.integer("axis", -1))
        # Before operator set 13 the data are flattened to two axes at `axis`.
        axis = node.integer("axis", 1) % max(data.ndim, 1)
        flat = data.reshape(*data.shape[:axis], -1)
        return function(flat, -1).reshape(data.shape)

    return softmax


def _leaky_relu(node: TorchNode, values: Values) -> Tensor:
    return F.leaky_relu(require(values, 0), node.number("alpha", 0.01))


def _elu(node: TorchNode, values: Values) -> Tensor:
    return F.elu(require(values, 0), node.number("alpha", 1.0))


def _hard_sigmoid(node: TorchNode, values: Values) -> Tensor:
    line = node.number("alpha", 0.2) * require(values, 0) + node.number("beta", 0.5)
    return line.clamp(0.0, 1.0)


def _prelu(node: TorchNode, values: Values) -> Tensor:
    data, slope = require(values, 0), require(values, 1)
    return torch.where(data < 0, data * slope, data)


def _gelu(node: TorchNode, values: Values) -> Tensor:
    return F.gelu(require(values, 0), approximate=node.text("approximate", "none"))


def _where(node: TorchNode, values: Values) -> Tensor:
    return torch.where(require(values, 0), require(values, 1), require(values, 2))


def _dropout(node: TorchNode, values: Values) -> list[Tensor]:
    data = require(values, 0)
    training = optional(values, 2)
    if training is not None and bool(training):
        raise ValueError("Dropout in training mode is random")
    return [data, torch.ones_like(data, dtype=torch.bool)]


ELEMENTWISE_OPERATORS: Final[dict[str, Operator]] = {
    "Abs": _unary(torch.abs),
    "Add": _binary(torch.add),
    "And": _binary(torch.logical_and),
    "Ceil": _unary(torch.ceil),
    "Clip": _clip,
    "Cos": _unary(torch.cos),
    "Div": _binary(_divide),
    "Dropout": _dropout,
    "Elu": _elu,
    "Equal": _binary(torch.eq),
    "Erf": _unary(torch.erf),
    "Exp": _unary(torch.exp),
    "Floor": _unary(torch.floor),
    "Gelu": _gelu,
    "Greater": _binary(torch.gt),
    "GreaterOrEqual": _binary(torch.ge),
    "HardSigmoid": _hard_sigmoid,
    "Identity": _unary(lambda data: data),
    "LeakyRelu": _leaky_relu,
    "Less": _binary(torch.lt),
    "LessOrEqual": _binary(torch.le),
    "Log": _unary(torch.log),
    "LogSoftmax": _softmax(log=True),
    "Max": _fold(torch.maximum),
    "Mean": _mean,
    "Min": _fold(torch.minimum),
    "Mul": _binary(torch.mul),
    "Neg": _unary(torch.neg),
    "Not": _unary(torch.logical_not),
    "Or": _binary(torch.logical_or),
    "PRelu": _prelu,
    "Pow": _binary(torch.pow),
    "Reciprocal": _unary(torch.reciprocal),
    "Relu": _unary(torch.relu),
    "Sigmoid": _unary(torch.sigmoid),
    "Sign": _unary(torch.sign),
    "Sin": _unary(torch.sin),
    "Softmax": _softmax(log=False),
    "Softplus": _unary(lambda data: F.softplus(data, threshold=1e9)),
    "Sqrt": _unary(torch.sqrt),
    "Sub": _binary(torch.sub),
    "Sum": _fold(torch.add),
    "Tanh": _unary(torch.tanh),
    "Where": _where,
}
