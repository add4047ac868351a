"""Law: whatever the multipliers, no point of a box lies outside its bounds."""

from __future__ import annotations

import time

import numpy as np
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
from auditor.verify.box_search import BoxSearch
from auditor.verify.magnitudes import interval_magnitudes
from auditor.verify.network import Network
from auditor.verify.network.chain import Float64
from auditor.verify.outcome import Limits, Statistics
from auditor.verify.problem import problems_of
from tests.models.relu_chains import output_at_least, random_chain, samples

TOLERANCE = 1e-9  # of the samples, which are evaluated in plain floats

networks = st.builds(
    random_chain,
    st.integers(0, 10_000),
    st.sampled_from([(2, 5, 1), (3, 8, 8, 2), (1, 6, 6, 6, 1), (4, 3, 9, 2)]),
)
seeds = st.integers(0, 2**32 - 1)


def _box(network: Network, random: np.random.Generator) -> tuple[Float64, Float64]:
    center = random.uniform(-1, 1, network.num_inputs)
    radius = random.choice([0.0, 0.01, 0.3, 1.0], network.num_inputs)
    return center - radius, center + radius


def _tensors(lower: Float64, upper: Float64) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(lower)[None], torch.from_numpy(upper)[None]


@settings(deadline=None, max_examples=40)
@given(networks, seeds)
def test_sampled_preactivations_lie_in_interval_and_backward_bounds(
    network: Network, seed: int
) -> None:
    random = np.random.default_rng(seed)
    lower, upper = _box(network, random)
    net = BoundedNetwork.over_box(network, lower, upper)
    values = network.preactivations(samples(random, lower, upper, 300))
    for bounds in (
        interval_bounds(net, _tensors(lower, upper)),
        layer_bounds(net, _tensors(lower, upper)),
    ):
        for value, (low, high) in zip(values, bounds, strict=True):
            assert (value >= low.numpy() - TOLERANCE).all()
            assert (value <= high.numpy() + TOLERANCE).all()


@settings(deadline=None, max_examples=40)
@given(networks, seeds)
def test_backward_bounds_are_never_wider_than_intervals(network: Network, seed: int) -> None:
    random = np.random.default_rng(seed)
    lower, upper = _box(network, random)
    net = BoundedNetwork.over_box(network, lower, upper)
    box = _tensors(lower, upper)
    for (low, high), (lower_k, upper_k) in zip(
        interval_bounds(net, box), layer_bounds(net, box), strict=True
    ):
        assert bool((lower_k >= low).all())
        assert bool((upper_k <= high).all())


@settings(deadline=None, max_examples=60)
@given(networks, seeds)
def test_linear_forms_stay_below_with_random_slopes_and_phase_multipliers(
    network: Network, seed: int
) -> None:
    """Random alpha in [0, 1], random phases and beta >= 0: sound where the phases hold."""
    random = np.random.default_rng(seed)
    lower, upper = _box(network, random)
    net = BoundedNetwork.over_box(network, lower, upper)
    box = _tensors(lower, upper)
    points = samples(random, lower, upper, 400)
    values = network.preactivations(points)
    relaxations, slopes, multipliers = [], [], []
    holds = np.ones(len(points), dtype=bool)
    for k, (low, high) in enumerate(layer_bounds(net, box)[:-1]):
        sigma = random.choice([-1, 0, 0, 0, 1], low.shape[1])
        holds &= (values[k] * sigma >= 0).all(axis=1)
        phase = torch.from_numpy(sigma)
        fixed = (
            torch.where(phase > 0, low.clamp(min=0.0), low),
            torch.where(phase < 0, high.clamp(max=0.0), high),
        )
        if bool((fixed[0] > fixed[1]).any()):
            return
        relaxations.append(relaxation_of(net, k, fixed))
        slopes.append(torch.from_numpy(random.random((1, 3, low.shape[1]))))
        beta = torch.from_numpy(random.exponential(1.0, (1, 3, low.shape[1])))
        multipliers.append(beta * phase)
    start = torch.from_numpy(random.standard_normal((1, 3, network.num_outputs)))
    forms = backward_bounds(
        net, len(network.layers) - 1, start, relaxations, box,
        slopes=slopes, multipliers=multipliers,
    )  # fmt: skip
    inside, reached = points[holds], values[-1][holds] @ start[0].numpy().T
    below = inside @ forms.coefficients[0].numpy().T + forms.constant[0].numpy()
    assert (below <= reached + TOLERANCE).all()
    assert (forms.lower[0].numpy() <= reached + TOLERANCE).all()


@settings(deadline=None, max_examples=30)
@given(networks, seeds)
def test_kernel_leaves_contain_every_violating_sample(network: Network, seed: int) -> None:
    """Stopped anywhere, the waiting boxes hold all violations and their neurons' values."""
    random = np.random.default_rng(seed)
    lower, upper = _box(network, random)
    points = samples(random, lower, upper, 400)
    values = network.preactivations(points)
    threshold = float(np.quantile(values[-1][:, 0], 0.3))
    (problem,) = problems_of(
        network, output_at_least(network, lower.tolist(), upper.tolist(), threshold)
    )
    search = BoxSearch(problem)
    search.run(
        Limits(), Statistics(), time.monotonic() + 60, int(random.integers(1, 8)),
        lambda point: False, lambda share, text: None,
    )  # fmt: skip
    covered = np.zeros(len(points), dtype=bool)
    boxes = [
        (
            search.stack.box_lower[i],
            search.stack.box_upper[i],
            search.stack.lower[i],
            search.stack.upper[i],
        )
        for i in range(search.top)
    ]
    for low, high, neuron_low, neuron_high in boxes:
        inside = ((points >= low - 1e-12) & (points <= high + 1e-12)).all(axis=1)
        violating = inside & (values[-1][:, 0] < threshold - TOLERANCE)
        for k, value in enumerate(values[:-1]):
            width = value.shape[1]
            assert (value[violating] >= neuron_low[k, :width] - TOLERANCE).all()
            assert (value[violating] <= neuron_high[k, :width] + TOLERANCE).all()
        covered |= inside
    for leaf in search.leaves:
        covered |= ((points >= leaf.lower - 1e-12) & (points <= leaf.upper + 1e-12)).all(axis=1)
    assert covered[values[-1][:, 0] < threshold - TOLERANCE].all()


@settings(deadline=None, max_examples=30)
@given(networks, seeds)
def test_magnitudes_bound_every_sampled_value(network: Network, seed: int) -> None:
    random = np.random.default_rng(seed)
    lower, upper = _box(network, random)
    sizes = interval_magnitudes(network, lower, upper)
    hidden = samples(random, lower, upper, 200)
    for layer, entering, total in zip(network.layers, sizes.hidden, sizes.sums, strict=False):
        assert (np.abs(hidden) <= entering + TOLERANCE).all()
        spread = np.abs(hidden) @ np.abs(layer.weight).T + np.abs(layer.bias)
        assert (spread <= total + TOLERANCE).all()
        value = hidden @ layer.weight.T + layer.bias
        hidden = np.maximum(value, 0) if layer.relu else value
