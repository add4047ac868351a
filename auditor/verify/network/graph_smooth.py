"""Sigmoid, Tanh and Sign: activations that stay what they are.

No ReLUs can express them. A network that has one becomes a graph whose layers carry a
`Curve`, and only engines that bound curves decide about it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from auditor.verify.network.curve import Curve
from auditor.verify.network.graph_tensor import GraphTensor
from auditor.verify.network.operators import NodeView, Value


def _curved(curve: Curve, view: NodeView) -> Value:
    value = view.argument(0)
    if not isinstance(value, GraphTensor):
        raise view.refusal("a constant argument; fold constants on export")
    return value.curved(curve, view.name)


SMOOTH: Mapping[str, Callable[[NodeView], Value]] = {
    curve.value: partial(_curved, curve) for curve in Curve
}
