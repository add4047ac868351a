"""Laws of networks with sigmoid, tanh and sign: bounds, evaluation, enclosures, verdicts."""

from __future__ import annotations

from fractions import Fraction

import flint
import numpy as np
import onnx
import onnxruntime
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.findings import Verdict
from auditor.verify.bounds import BoundedNetwork, interval_bounds, layer_bounds
from auditor.verify.enclosure import enclose_outputs
from auditor.verify.network.chain import Float64
from auditor.verify.network.from_onnx import graph_from_onnx
from auditor.verify.outcome import Limits
from auditor.verify.search import verify
from tests.models.curved_networks import at_most, difference_model, mixed_model

TOLERANCE = 1e-9  # of samples, which are evaluated in plain floats

seeds = st.integers(0, 2**32 - 1)
models = st.builds(mixed_model, st.integers(0, 100_000))
BOX = [-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]


def random_box(random: np.random.Generator) -> tuple[Float64, Float64]:
    center = random.uniform(-1, 1, 3)
    radius = random.choice([0.0, 0.01, 0.1, 1.0], 3)
    return center - radius, center + radius


@settings(deadline=None, max_examples=60)
@given(models, seeds)
def test_sampled_points_lie_inside_the_bounds_of_every_layer(
    model: onnx.ModelProto, seed: int
) -> None:
    network, random = graph_from_onnx(model), np.random.default_rng(seed)
    lower, upper = random_box(random)
    net = BoundedNetwork.over_box(network, lower, upper)
    box = torch.from_numpy(lower)[None], torch.from_numpy(upper)[None]
    points = lower + random.random((300, 3)) * (upper - lower)
    points[:100] = np.where(random.random((100, 3)) < 0.5, lower, upper)
    values = network.preactivations(points)
    for bounds in (interval_bounds(net, box), layer_bounds(net, box)):
        for value, (low, high) in zip(values, bounds, strict=True):
            # A sample whose sign float64 rounds wrongly would be no counterexample.
            assert (value >= low[0].numpy() - TOLERANCE).all()
            assert (value <= high[0].numpy() + TOLERANCE).all()


@settings(deadline=None, max_examples=60)
@given(models, seeds)
def test_evaluation_agrees_with_onnxruntime(model: onnx.ModelProto, seed: int) -> None:
    inputs = np.random.default_rng(seed).standard_normal((1, 3)).astype(np.float32)
    network = graph_from_onnx(model)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    expected = session.run(None, {"x": inputs})[0]
    actual = network.evaluate(inputs.astype(np.float64))
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(["Sigmoid", "Tanh"]), seeds)
def test_an_enclosure_holds_the_value_of_ball_arithmetic(operator: str, seed: int) -> None:
    network, random = graph_from_onnx(difference_model(operator)), np.random.default_rng(seed)
    x, v, w = (Fraction(float(value)) for value in random.standard_normal(3))
    lower, upper = enclose_outputs(network, [x, v, w])
    with flint.ctx.workprec(200):

        def f(value: Fraction) -> flint.arb:
            ball = flint.arb(flint.fmpq(value.numerator, value.denominator))
            return ball.tanh() if operator == "Tanh" else 1 / (1 + (-ball).exp())

        exact = f(x + 1) - f(x) + f(v - w)
        assert flint.arb(float(lower[0])) <= exact <= flint.arb(float(upper[0]))
    assert upper[0] - lower[0] < 1e-11


@settings(deadline=None, max_examples=15)
@given(models, seeds, st.floats(-0.3, 0.3))
def test_verdicts_agree_with_dense_sampling(
    model: onnx.ModelProto, seed: int, shift: float
) -> None:
    """What holds has no sample above; what is violated has a witness that is above."""
    network = graph_from_onnx(model)
    points = np.random.default_rng(seed).uniform(-1, 1, (20_000, 3))
    largest = float(network.evaluate(points)[:, 0].max())
    value = largest + shift
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    outcome = verify(
        network,
        at_most(value, *BOX, outputs=2),
        limits=Limits(max_boxes=600, falsifier_evaluations=1_000),
        replay=lambda inputs: session.run(None, {"x": inputs.reshape(1, 3)})[0],
    )
    if outcome.verdict is Verdict.HOLDS:
        assert largest <= value + TOLERANCE
    if outcome.verdict is Verdict.VIOLATED:
        assert outcome.witness is not None
        found = network.evaluate(outcome.witness.inputs[None].astype(np.float64))
        assert found[0, 0] > value - TOLERANCE
