"""Law: what onnxruntime executes lies inside the bounds of float32 semantics.

Also when the units of every layer stand in another order, so that sums are taken in
another order, and with graph optimisation on and off.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import helper

from auditor.verify.bounds import BoundedNetwork, interval_bounds, layer_bounds
from auditor.verify.network import AffineLayer, Network
from auditor.verify.network.chain import Float64
from auditor.verify.semantics import Semantics
from tests.models.onnx_networks import make_model
from tests.models.relu_chains import chain

Float32 = NDArray[np.float32]


def random_network(seed: int, scale: float) -> Network:
    """Widths up to 70, so that runtimes sum in blocks and in vectors."""
    draws = np.random.default_rng(seed)
    sizes = draws.integers(1, 70, size=int(draws.integers(2, 5))).tolist()
    layers = []
    for number, (before, after) in enumerate(pairwise(sizes)):
        weight = scale * draws.standard_normal((after, before)) / np.sqrt(before)
        bias = scale * draws.standard_normal(after)
        layers.append(AffineLayer(_rounded(weight), _rounded(bias), relu=number < len(sizes) - 2))
    return Network(tuple(layers))


def _rounded(values: Float64) -> Float64:
    return values.astype(np.float32).astype(np.float64)


@dataclass(frozen=True)
class Reordered:
    """A network with its inputs and hidden units in other orders, as an ONNX model.

    Attributes:
        model: Its outputs are the sums of every layer, `z0`, `z1`, ..., or only the last.
        orders: For inputs and each layer: which unit of the original stands where.
    """

    model: onnx.ModelProto
    orders: list[NDArray[np.int64]]

    def run(self, inputs: Float32, *, optimised: bool) -> list[Float32]:
        """Sums of the layers, [samples, neurons], in the order of the original."""
        options = onnxruntime.SessionOptions()
        level = onnxruntime.GraphOptimizationLevel
        options.graph_optimization_level = (
            level.ORT_ENABLE_ALL if optimised else level.ORT_DISABLE_ALL
        )
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(
            self.model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        found = session.run(None, {"x": np.ascontiguousarray(inputs[:, self.orders[0]])})
        orders = self.orders[-len(found) :]
        return [values[:, np.argsort(order)] for values, order in zip(found, orders, strict=True)]


def reordered(network: Network, draws: np.random.Generator | None, *, every: bool) -> Reordered:
    """The network with columns and rows permuted alike; as it is without `draws`."""
    widths = [network.num_inputs, *(layer.num_outputs for layer in network.layers)]
    orders = [np.arange(n) if draws is None else draws.permutation(n) for n in widths]
    nodes, name = [], "x"
    tensors: dict[str, Any] = {}
    for k, (layer, (before, after)) in enumerate(
        zip(network.layers, pairwise(orders), strict=True)
    ):
        weight: Any = layer.weight[after][:, before].astype(np.float32)
        tensors |= {f"w{k}": weight, f"b{k}": layer.bias[after].astype(np.float32)}
        nodes.append(helper.make_node("Gemm", [name, f"w{k}", f"b{k}"], [f"z{k}"], transB=1))
        name = f"z{k}"
        if layer.relu:
            nodes.append(helper.make_node("Relu", [name], [f"h{k}"]))
            name = f"h{k}"
    kept = range(len(network.layers)) if every else [len(network.layers) - 1]
    outputs: dict[str, list[int | str]] = {f"z{k}": ["batch", widths[k + 1]] for k in kept}
    return Reordered(make_model(nodes, {"x": ["batch", widths[0]]}, outputs, tensors), orders)


def float32_bounds(network: Network, lower: Float64, upper: Float64) -> list[list[Any]]:
    """Interval and backward bounds of every layer, in turn."""
    net = BoundedNetwork.over_box(network, lower, upper, semantics=Semantics.FLOAT32)
    box = torch.from_numpy(lower)[None], torch.from_numpy(upper)[None]
    with torch.no_grad():
        return [
            [(low[0].numpy(), high[0].numpy()) for low, high in bounds]
            for bounds in (interval_bounds(net, box), layer_bounds(net, box))
        ]


@pytest.mark.parametrize("optimised", [False, True])
@settings(deadline=None, max_examples=20)
@given(
    seed=st.integers(0, 2**32 - 1),
    scale=st.sampled_from([1e-3, 1.0, 30.0]),
    radius=st.sampled_from([0.0, 1e-6, 0.1]),
)
def test_executions_in_any_order_lie_inside_the_bounds(
    optimised: bool, seed: int, scale: float, radius: float
) -> None:
    network, draws = random_network(seed, scale), np.random.default_rng(seed)
    center = _rounded(draws.standard_normal(network.num_inputs))
    lower, upper = center - radius, center + radius
    inputs = draws.uniform(lower, upper, (5, network.num_inputs)).astype(np.float32)
    inputs = inputs[((inputs >= lower) & (inputs <= upper)).all(axis=1)]
    inputs = np.concatenate([center[None].astype(np.float32), inputs])
    both = float32_bounds(network, lower, upper)
    for every in (True, False):  # with every layer as an output, nothing can be fused
        for shuffle in (None, draws, draws):
            variant = reordered(network, shuffle, every=every)
            found = variant.run(inputs, optimised=optimised)
            for bounds in both:
                for (low, high), values in zip(bounds[-len(found) :], found, strict=True):
                    assert (values >= low).all()
                    assert (values <= high).all()


def test_orders_do_change_what_is_executed() -> None:
    """Control: x and two large numbers that cancel give x or 0, and the bounds hold both."""
    network = chain(
        ([[0.0], [1.0], [0.0]], [2.0**26, 0.0, 2.0**26], True), ([[1.0, 1.0, -1.0]], [0.0], False)
    )
    inputs = np.array([[0.75]], dtype=np.float32)
    found = {
        float(reordered(network, np.random.default_rng(seed), every=True)
              .run(inputs, optimised=False)[-1][0, 0])
        for seed in range(20)
    }  # fmt: skip
    assert found == {0.0, 0.75}
    for bounds in float32_bounds(network, np.array([0.75]), np.array([0.75])):
        low, high = bounds[-1]
        assert low[0] <= 0.0
        assert high[0] >= 0.75
