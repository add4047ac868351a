"""Law: bounds whose slopes and multipliers were improved still hold every point.

Chains, and graphs with convolutions and residual sums.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from auditor.verify.bounds import BoundedNetwork, layer_bounds, relaxation_of
from auditor.verify.case_tree import Nodes
from auditor.verify.network import GraphNetwork, Network
from auditor.verify.network.chain import Float64
from auditor.verify.network.from_onnx import graph_from_onnx
from auditor.verify.outcome import Limits, Statistics
from auditor.verify.problem import problems_of
from auditor.verify.relu_search import ReluSearch
from auditor.verify.shared_tree import SharedNodes
from auditor.verify.slope_search import Multipliers, improve_bounds
from tests.models.random_graphs import random_model
from tests.models.relu_chains import output_at_least, random_chain, samples

TOLERANCE = 1e-9  # of the samples, which are evaluated in plain floats

chains = st.builds(
    random_chain,
    st.integers(0, 10_000),
    st.sampled_from([(2, 5, 1), (3, 8, 8, 2), (1, 6, 6, 6, 1), (4, 3, 9, 2)]),
)
graphs = st.builds(lambda seed: graph_from_onnx(random_model(seed)), st.integers(0, 100_000))
networks = st.one_of(chains, graphs)
seeds = st.integers(0, 2**32 - 1)


def _box(network: Network | GraphNetwork, random: np.random.Generator) -> tuple[Float64, Float64]:
    center = random.uniform(-1, 1, network.num_inputs)
    radius = random.choice([0.0, 0.01, 0.1, 0.5], network.num_inputs)
    return center - radius, center + radius


def _relus(network: Network | GraphNetwork) -> list[bool]:
    graph = GraphNetwork.from_chain(network) if isinstance(network, Network) else network
    return [layer.relu for layer in graph.layers]


def _tensors(lower: Float64, upper: Float64) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(lower)[None], torch.from_numpy(upper)[None]


def _search(
    network: Network | GraphNetwork, lower: Float64, upper: Float64, threshold: float
) -> ReluSearch:
    prop = output_at_least(network, lower.tolist(), upper.tolist(), threshold)
    (problem,) = problems_of(network, prop)
    return ReluSearch(problem, 1.0)


@settings(deadline=None, max_examples=12)
@given(networks, seeds)
def test_improved_root_bounds_hold_every_sample(network: Network | GraphNetwork, seed: int) -> None:
    random = np.random.default_rng(seed)
    lower, upper = _box(network, random)
    values = network.preactivations(samples(random, lower, upper, 200))
    search = _search(network, lower, upper, float(values[-1][:, 0].min()))
    search.bound_roots(Statistics(), math.inf)
    relus, kept = _relus(network), _kept(search, values)
    for relu, value, live, (low, high) in zip(relus, values, kept, search.bounds, strict=True):
        if relu:
            assert (value[:, live] >= low.numpy() - TOLERANCE).all()
            assert (value[:, live] <= high.numpy() + TOLERANCE).all()
            assert (np.delete(value, live, axis=1) <= TOLERANCE).all()


@settings(deadline=None, max_examples=25)
@given(networks, seeds, st.integers(1, 12))
def test_improved_forms_stay_below_where_their_phases_hold(
    network: Network | GraphNetwork, seed: int, steps: int
) -> None:
    """Steps on slopes, on multipliers of random phases and on weights of rows."""
    random = np.random.default_rng(seed)
    lower, upper = _box(network, random)
    net, box = BoundedNetwork.over_box(network, lower, upper), _tensors(lower, upper)
    points = samples(random, lower, upper, 200)
    values = network.preactivations(points)
    phases, relaxations = [], []
    holds = np.ones(len(points), dtype=bool)
    for k, (low, high) in enumerate(layer_bounds(net, box)[:-1]):
        width = low.shape[1] if net.relus[k] else 0
        chosen = random.random(width) < 2.0 / max(1, width)
        sigma = np.where(chosen, np.sign(values[k][0, :width]), 0).astype(np.int8)
        holds &= (values[k][:, :width] * sigma >= 0).all(axis=1)
        phase = torch.from_numpy(sigma)[None]
        phases.append(phase)
        fixed = (low, high)
        if width:
            fixed = (
                torch.where(phase > 0, low.clamp(min=0.0), low),
                torch.where(phase < 0, high.clamp(max=0.0), high),
            )
        relaxations.append(relaxation_of(net, k, fixed))
    rows = torch.from_numpy(random.standard_normal((1, 1, network.num_outputs)))
    start = Multipliers(
        [torch.from_numpy(random.random((1, 1, phase.shape[1]))) for phase in phases],
        [torch.from_numpy(random.exponential(0.1, (1, 1, p.shape[1]))) for p in phases],
        rows.clone(),
    )
    found = improve_bounds(
        net, len(network.layers) - 1, relaxations, phases, box, start, steps
    )  # fmt: skip
    reached = values[-1][holds] @ rows[0].numpy().T
    assert (found.lower[0].numpy() <= reached + TOLERANCE).all()
    for slope, beta in zip(found.multipliers.slopes, found.multipliers.betas, strict=True):
        assert bool(((slope >= 0) & (slope <= 1) & (beta >= 0)).all())


@settings(deadline=None, max_examples=20)
@given(networks, seeds, st.booleans())
def test_open_nodes_cover_every_violating_sample(
    network: Network | GraphNetwork, seed: int, shared: bool
) -> None:
    """Stopped anywhere, each violation lies in the box and the phases of some open node.

    Or, in a tree that bounds hidden neurons anew, within all of their bounds.
    """
    random = np.random.default_rng(seed)
    lower, upper = _box(network, random)
    points = samples(random, lower, upper, 200)
    values = network.preactivations(points)
    threshold = float(np.quantile(values[-1][:, 0], 0.05))
    violating = values[-1][:, 0] < threshold - TOLERANCE
    assume(bool(violating.any()))
    search = _search(network, lower, upper, threshold)
    search.shares_tree = search.shares_tree and shared
    assert not search.bound_roots(Statistics(), math.inf)
    search.batch = int(random.integers(1, 5))
    (tree,) = search.trees
    resisting = _record_resisting_leaves(tree)
    limits = Limits(max_boxes=int(random.integers(2, 40)))
    search.run(limits, math.inf, lambda point: False, lambda share, text: None)
    kept = zip(values, _relus(network), _kept(search, values), strict=True)
    hidden = np.concatenate([value[:, live] for value, relu, live in kept if relu], axis=1)
    covered = np.zeros(len(points), dtype=bool)
    for nodes in (tree.nodes, *resisting):
        covered |= _covered(nodes, points, hidden)
    assert covered[violating].all()


def _kept(search: ReluSearch, values: Any) -> list[np.ndarray]:
    """The neurons of each layer that the search counts."""
    return [
        np.arange(value.shape[1]) if live is None else live.numpy()
        for value, live in zip(values, search.kept, strict=True)
    ]


def _record_resisting_leaves(tree: Any) -> list[Nodes | SharedNodes]:
    """Leaves that could not be refuted, which a search that goes on keeps as a count only."""
    leaves: list[Nodes | SharedNodes] = []
    close_leaf = tree._close_leaf

    def record(nodes: Any, *arguments: Any) -> bool:
        closed: bool = close_leaf(nodes, *arguments)
        if not closed:
            shared = isinstance(nodes, SharedNodes)
            leaves.append(nodes.pick(torch.tensor([arguments[0]])) if shared else nodes)
        return closed

    tree._close_leaf = record
    return leaves


def _covered(nodes: Nodes | SharedNodes, points: Float64, hidden: Float64) -> np.ndarray:
    covered = np.zeros(len(points), dtype=bool)
    bounded = hidden if isinstance(nodes, SharedNodes) else points
    for number in range(len(nodes)):
        low, high = nodes.lower[number].numpy(), nodes.upper[number].numpy()
        inside = ((bounded >= low - TOLERANCE) & (bounded <= high + TOLERANCE)).all(axis=1)
        phases = nodes.phases[number].numpy().astype(np.float64)
        covered |= inside & (hidden * phases >= -TOLERANCE).all(axis=1)
    return covered
