"""Laws of graphs: rounding-aware bounds hold every sample, and the engines agree."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import onnx
import onnxruntime
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.verify.bounds import (
    BoundedNetwork,
    backward_bounds,
    interval_bounds,
    layer_bounds,
    relaxation_of,
)
from auditor.verify.enclosure import enclose_outputs
from auditor.verify.network.chain import Float64
from auditor.verify.network.from_onnx import graph_from_onnx
from auditor.verify.network.graph import GraphNetwork
from auditor.verify.torch_map import torch_terms
from tests.models.random_graphs import SHAPE, random_model
from tests.models.relu_chains import random_chain, samples

TOLERANCE = 1e-9  # of the samples, which are evaluated in plain floats

models = st.builds(random_model, st.integers(0, 100_000))
seeds = st.integers(0, 2**32 - 1)


def _box(size: int, random: np.random.Generator) -> tuple[Float64, Float64]:
    center = random.uniform(-1, 1, size)
    radius = random.choice([0.0, 0.01, 0.1, 0.5], size)
    return center - radius, center + radius


def _tensors(lower: Float64, upper: Float64) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(lower)[None], torch.from_numpy(upper)[None]


@settings(deadline=None, max_examples=40)
@given(models, seeds)
def test_evaluation_agrees_with_onnxruntime(model: onnx.ModelProto, seed: int) -> None:
    network = graph_from_onnx(model)
    inputs = np.random.default_rng(seed).standard_normal(SHAPE).astype(np.float32)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    expected = session.run(None, {"x": inputs})[0]
    actual = network.evaluate(inputs.reshape(1, -1).astype(np.float64))
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


@settings(deadline=None, max_examples=40)
@given(models, seeds)
def test_sampled_values_lie_in_the_bounds_of_every_layer(model: onnx.ModelProto, seed: int) -> None:
    network, random = graph_from_onnx(model), np.random.default_rng(seed)
    lower, upper = _box(network.num_inputs, random)
    net = BoundedNetwork.over_box(network, lower, upper)
    values = network.preactivations(samples(random, lower, upper, 200))
    for bounds in (
        interval_bounds(net, _tensors(lower, upper)),
        layer_bounds(net, _tensors(lower, upper)),
    ):
        for value, (low, high) in zip(values, bounds, strict=True):
            assert (value >= low.numpy() - TOLERANCE).all()
            assert (value <= high.numpy() + TOLERANCE).all()


@settings(deadline=None, max_examples=40)
@given(models, seeds)
def test_linear_forms_stay_below_with_random_slopes_and_phase_multipliers(
    model: onnx.ModelProto, seed: int
) -> None:
    """Random alpha in [0, 1], random phases and beta >= 0: sound where the phases hold."""
    network, random = graph_from_onnx(model), np.random.default_rng(seed)
    lower, upper = _box(network.num_inputs, random)
    net, box = BoundedNetwork.over_box(network, lower, upper), _tensors(lower, upper)
    points = samples(random, lower, upper, 200)
    values = network.preactivations(points)
    relaxations, slopes, multipliers = [], [], []
    holds = np.ones(len(points), dtype=bool)
    for k, (low, high) in enumerate(layer_bounds(net, box)[:-1]):
        width = low.shape[1] if net.relus[k] else 0
        sigma = np.where(random.random(width) < 0.02, np.sign(values[k][0, :width]), 0).astype(
            np.int64
        )
        holds &= (values[k][:, :width] * sigma >= 0).all(axis=1)
        phase = torch.from_numpy(sigma)
        fixed = (low, high)
        if width:
            fixed = (
                torch.where(phase > 0, low.clamp(min=0.0), low),
                torch.where(phase < 0, high.clamp(max=0.0), high),
            )
        relaxations.append(relaxation_of(net, k, fixed))
        slopes.append(torch.from_numpy(random.random((1, 2, width))))
        beta = torch.from_numpy(random.exponential(1.0, (1, 2, width)))
        multipliers.append(beta * phase)
    start = torch.from_numpy(random.standard_normal((1, 2, network.num_outputs)))
    forms = backward_bounds(
        net, len(network.layers) - 1, start, relaxations, box,
        slopes=slopes, multipliers=multipliers,
    )  # fmt: skip
    inside, reached = points[holds], values[-1][holds] @ start[0].numpy().T
    below = inside @ forms.coefficients[0].numpy().T + forms.constant[0].numpy()
    assert (below <= reached + TOLERANCE).all()
    assert (forms.lower[0].numpy() <= reached + TOLERANCE).all()


@settings(deadline=None, max_examples=40)
@given(models, seeds)
def test_pulling_back_is_the_transpose_of_applying(model: onnx.ModelProto, seed: int) -> None:
    """<form, W h> = <W^T form, h> for every map of a network."""
    network, random = graph_from_onnx(model), np.random.default_rng(seed)
    for layer, terms in zip(network.layers, torch_terms(network), strict=True):
        for term, linear in zip(terms, (each.map for each in layer.terms), strict=True):
            values = torch.from_numpy(random.standard_normal((3, linear.num_inputs)))
            forms = torch.from_numpy(random.standard_normal((3, linear.num_outputs)))
            there = (forms * term.map.apply(values)).sum()
            back = (term.map.pull_back(forms) * values).sum()
            assert abs(float(there - back)) < 1e-9
            absolute = term.map.absolute()
            assert bool((absolute.apply(values.abs()) + 1e-12 >= term.map.apply(values)).all())
            assert layer.num_outputs == linear.num_outputs


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), seeds)
def test_enclosures_contain_the_exact_outputs(network_seed: int, seed: int) -> None:
    """A chain evaluated in fractions lies inside the enclosure of the same graph."""
    chain, random = random_chain(network_seed, (3, 8, 8, 2)), np.random.default_rng(seed)
    inputs = [Fraction(float(value)) / 3 for value in random.standard_normal(3)]
    lower, upper = enclose_outputs(GraphNetwork.from_chain(chain), inputs)
    for low, exact, high in zip(lower, chain.evaluate_exact(inputs), upper, strict=True):
        assert Fraction(float(low)) <= exact <= Fraction(float(high))
        assert high - low < 1e-9


@settings(deadline=None, max_examples=40)
@given(models, seeds)
def test_gradients_agree_with_automatic_differentiation(model: onnx.ModelProto, seed: int) -> None:
    network, random = graph_from_onnx(model), np.random.default_rng(seed)
    points = random.standard_normal((3, network.num_inputs))
    rows = random.standard_normal((3, network.num_outputs))
    gradient = network.gradient(network.preactivations(points), rows)
    inputs = torch.from_numpy(points).requires_grad_()
    net = BoundedNetwork.over_box(network, points.min(axis=0), points.max(axis=0))
    hidden: dict[int, torch.Tensor] = {-1: inputs}
    for k in range(len(network.layers)):
        value = net.affine(k, hidden)
        hidden[k] = torch.relu(value) if net.relus[k] else value
    total = (hidden[len(network.layers) - 1] * torch.from_numpy(rows)).sum()
    (expected,) = torch.autograd.grad(total, inputs)
    np.testing.assert_allclose(gradient, expected.numpy(), atol=1e-9)
