"""Activations that are ReLUs in disguise, and a softmax at the end.

Each is written with ReLUs exactly, so bounds and branching need no further rules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from auditor.verify.network.affine_chain import exact_sum
from auditor.verify.network.chain import Float64
from auditor.verify.network.graph_arithmetic import against_constant
from auditor.verify.network.graph_tensor import GraphTensor, combined
from auditor.verify.network.linear_map import GatherMap, identity_map
from auditor.verify.network.operators import NodeView, Value, float64_of, spread


def _tensor(view: NodeView) -> GraphTensor:
    value = view.argument(0)
    if not isinstance(value, GraphTensor):
        raise view.refusal("a constant argument; fold constants on export")
    return value


def _abs(view: NodeView) -> Value:
    """|x| = relu(x) + relu(-x)."""
    value = view.argument(0)
    if not isinstance(value, GraphTensor):
        return np.abs(view.constant(0))
    ones = identity_map(value.size)
    negated = value.scaled(np.full(value.size, -1.0), view.name)
    parts = ((value.rectified(view.name), ones), (negated.rectified(view.name), ones))
    return combined(parts, None, value.shape, view.name)


def _leaky_relu(view: NodeView) -> Value:
    value = _tensor(view)
    slope = float(np.float32(view.attributes.get("alpha", 0.01)))
    return _with_slope(value, np.full(value.size, slope), view.name)


def _prelu(view: NodeView) -> Value:
    value = _tensor(view)
    return _with_slope(value, spread(view, value, view.constant(1)), view.name)


def _with_slope(value: GraphTensor, slope: Float64, name: str) -> GraphTensor:
    """Slope s below zero and 1 above: s x + (1 - s) relu(x), exact for every slope."""
    everything = np.arange(value.size)
    value.note_rounding(exact=exact_sum(np.ones(value.size), -slope) is not None)
    return combined(
        (
            (value, GatherMap(everything, value.size, slope)),
            (value.rectified(name), GatherMap(everything, value.size, 1.0 - slope)),
        ),
        None,
        value.shape,
        name,
    )


def _clip(view: NodeView) -> Value:
    value = _tensor(view)
    low, high = _limit(view, 1, "min"), _limit(view, 2, "max")
    if low is not None and high is not None and low > high:
        raise view.refusal(f"limits {low} and {high} in the wrong order")
    return _clipped(value, low, high, view.name)


def _limit(view: NodeView, index: int, attribute: str) -> float | None:
    if attribute in view.attributes:
        limit = float(np.float32(view.attributes[attribute]))
    elif view.optional(index) is not None:
        constant = float64_of(view, view.constant(index))
        if constant.size != 1:
            raise view.refusal("a limit that is not one number")
        limit = float(constant.ravel()[0])
    else:
        return None
    # Old exports write "no limit" as the largest float.
    return None if abs(limit) >= 3.4e38 else limit


def _clipped(value: GraphTensor, low: float | None, high: float | None, name: str) -> GraphTensor:
    if low is not None:
        value = against_constant(value, np.full(value.size, low), 1.0, name)
    if high is not None:
        value = against_constant(value, np.full(value.size, high), -1.0, name)
    return value


def _hard_sigmoid(view: NodeView) -> Value:
    value = _tensor(view)
    slope = float(np.float32(view.attributes.get("alpha", 0.2)))
    offset = float(np.float32(view.attributes.get("beta", 0.5)))
    factors = GatherMap(np.arange(value.size), value.size, np.full(value.size, slope))
    line = value.mapped(factors, np.full(value.size, offset), value.shape, view.name)
    return _clipped(line, 0.0, 1.0, view.name)


def _softmax(view: NodeView) -> Value:
    """Left out: it keeps the order of its inputs, which is all that may be asked then."""
    value = _tensor(view)
    axis = int(view.attributes.get("axis", -1))
    last = value.shape[axis:] if axis >= 0 else value.shape[axis % len(value.shape) :]
    if int(np.prod(last, dtype=np.int64)) != value.size:
        raise view.refusal("it does not run over all outputs")
    return replace(value, softmax=True)


ACTIVATIONS: Mapping[str, Callable[[NodeView], Value]] = {
    "Abs": _abs,
    "Clip": _clip,
    "HardSigmoid": _hard_sigmoid,
    "LeakyRelu": _leaky_relu,
    "LogSoftmax": _softmax,
    "PRelu": _prelu,
    "Softmax": _softmax,
}
