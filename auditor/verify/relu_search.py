"""Branch and bound over ReLU phases, batched: for networks with many inputs.

Hidden layers are bounded over the whole box first, with slopes improved neuron by neuron
(alpha-CROWN, Xu et al. 2021, 2011.13824); neurons that are always off are left out from
there on. What the bounds leave open is split: by one `SharedTree` of all cases where
bounding hidden layers anew at every node pays, else by one `CaseTree` for each.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from auditor.verify.bounds import (
    BoundedNetwork,
    LayerBounds,
    interval_bounds,
    layer_bounds,
    one_hot,
    relaxation_of,
    with_phases,
)
from auditor.verify.case_tree import CaseTree
from auditor.verify.contraction import contract_to_phases
from auditor.verify.live_neurons import Kept, live_neurons, restricted
from auditor.verify.network import Network
from auditor.verify.network.linear_map import DenseMap
from auditor.verify.outcome import Limits, Statistics
from auditor.verify.problem import Problem
from auditor.verify.proof import SLACK, Proof
from auditor.verify.relu_record import ReluRecord
from auditor.verify.shared_tree import SharedNodes, SharedTree
from auditor.verify.slope_search import improve_bounds, starting_multipliers
from auditor.verify.witness import IsWitness

HIDDEN_STEPS = 12
BATCH_CELLS = 400_000
HIDDEN_TARGET = 0.5
MAX_SHARED_NEURONS = 3_000


class ReluSearch:
    """The search over one problem by ReLU splits."""

    def __init__(
        self, problem: Problem, share: float, device: str = "cpu", proof: Proof | None = None
    ) -> None:
        self.problem, self.share, self.device = problem, share, device
        self.record = ReluRecord(proof) if proof is not None else None
        self.slack = 1.0 if proof is None else SLACK
        self.box = (
            torch.from_numpy(problem.lower)[None].to(device),
            torch.from_numpy(problem.upper)[None].to(device),
        )
        # Only neurons with a ReLU can be split; other layers count as empty here.
        self.hidden = [layer.num_outputs if layer.relu else 0 for layer in problem.network.layers]
        self.asked = [torch.from_numpy(each)[None].to(device) for each in problem.layer_phases]
        self.kept: Kept = [None] * len(self.hidden)
        self.batch = self._batch_size()
        self.bounds: list[LayerBounds] = []
        self.trees: list[CaseTree] | list[SharedTree] = []
        self.root_slopes: list[list[Tensor] | None] = [None] * len(self.hidden)
        self.shares_tree = _suits_shared_tree(problem)

    def bound_roots(self, statistics: Statistics, deadline: float) -> bool:
        """Bound every undivided case; True when that refutes all of them."""
        with torch.no_grad():
            self._bound_neurons(deadline)
            trees = [CaseTree(self, case, statistics) for case in range(len(self.problem.cases))]
            open_trees = [tree for tree in trees if not tree.close_root()]
            if self.record is not None and not self.shares_tree:
                numbers = self.record.each_case(len(open_trees))
                for tree, number in zip(open_trees, numbers, strict=True):
                    tree.nodes.number[:] = number
        if open_trees and self.shares_tree:
            self.trees = [self._shared_tree(open_trees)]
        else:
            # Easy cases first: a refuted one costs little, and the report gets further.
            self.trees = sorted(open_trees, key=lambda each: -each.root_bound)
        return not self.trees

    @property
    def open_cases(self) -> set[int]:
        """Numbers of the cases that are not refuted."""
        return {case for tree in self.trees for case in tree.open_cases}

    def run(
        self,
        limits: Limits,
        deadline: float,
        is_witness: IsWitness,
        progress: Callable[[float, str], None],
    ) -> str:
        """Branch until every case left over by `bound_roots` is refuted, or say why not.

        Stopped by a limit, it goes on from there when called again.

        Args:
            limits: Limits of the whole verification.
            deadline: `time.monotonic()` value that stops the search.
            is_witness: Judges a candidate input, [inputs]; True stops the search.
            progress: Called with (refuted share, text).
        """
        with torch.no_grad():
            for tree in self.trees:
                stopped = tree.search(limits, deadline, is_witness, progress)
                if stopped:
                    return stopped
        return ""

    def _shared_tree(self, trees: Sequence[CaseTree]) -> SharedTree:
        """One tree for all cases that are still open."""
        problem = self.problem
        cases = [tree.case for tree in trees]
        whole = BoundedNetwork.over_box(
            problem.network,
            problem.lower,
            problem.upper,
            rows=(problem.rows[cases], problem.bounds[cases]),
            device=self.device,
            semantics=problem.semantics,
            slack=self.slack,
        )
        roots = [tree.nodes for tree in trees]
        first = roots[0]
        bounds = [(first.first_lower, first.first_upper), *self.bounds[1:]]
        root = SharedNodes(
            phases=first.phases,
            lower=torch.cat([low for low, _ in bounds], dim=1),
            upper=torch.cat([high for _, high in bounds], dim=1),
            slopes=torch.stack([root.slopes[0] for root in roots])[None],
            betas=torch.stack([root.betas[0] for root in roots])[None],
            is_open=torch.ones((1, len(cases)), dtype=torch.bool, device=self.device),
            depth=first.depth,
            number=first.number,
        )
        return SharedTree(
            restricted(whole, self.kept), problem, cases, self.hidden, root,
            (first.lower, first.upper), self.root_slopes,
            self.share * len(cases) / len(problem.cases), trees[0].statistics, self.record,
        )  # fmt: skip

    def _bound_neurons(self, deadline: float) -> None:
        """Bound all pre-activations over the box, and go on with the neurons that matter."""
        net = BoundedNetwork.over_box(
            self.problem.network,
            self.problem.lower,
            self.problem.upper,
            device=self.device,
            semantics=self.problem.semantics,
            slack=self.slack,
        )
        if self.problem.has_pattern:
            self.box = contract_to_phases(net, self.asked, self.box)
        bounds = self._hidden_bounds(net, deadline)
        self.kept = live_neurons(net, bounds, self.asked)
        widths, places = list(self.hidden), []
        for layer, (kept, count) in enumerate(zip(self.kept, widths, strict=True)):
            live = torch.arange(count, device=bounds[layer][0].device) if kept is None else kept
            places.append(live)
            low, high = (end[:, :count][:, live] for end in bounds[layer])
            self.bounds.append((low, high))
            self.asked[layer] = self.asked[layer][:, live]
            self.hidden[layer] = len(live)
            slopes = self.root_slopes[layer]
            if slopes is not None:
                self.root_slopes[layer] = [
                    each[:, live][:, :, before]
                    for each, before in zip(slopes, places, strict=False)
                ]
        self.batch = self._batch_size()
        if self.record is not None:
            self.record.count_only(places, widths)

    def _batch_size(self) -> int:
        """How many nodes, or rows of a bounded layer, to work on at once."""
        return max(8, BATCH_CELLS // (sum(self.hidden) + len(self.problem.lower)))

    def _hidden_bounds(self, net: BoundedNetwork, deadline: float) -> list[LayerBounds]:
        """Root bounds of every layer's pre-activations, unstable ones improved."""
        if self.record is not None:
            bounds = interval_bounds(net, self.box)
        else:
            bounds = layer_bounds(net, self.box, deadline=deadline)
        for layer, phase in enumerate(self.asked):
            if not net.relus[layer]:
                continue
            # A proof repeats every bound; otherwise the first layer's are exact intervals.
            if layer > 0 or self.record is not None:
                bounds[layer] = self._improved(net, layer, bounds, deadline)
            bounds[layer] = with_phases(bounds[layer], phase)
        return bounds

    def _improved(
        self,
        net: BoundedNetwork,
        layer: int,
        bounds: Sequence[LayerBounds],
        deadline: float,
    ) -> LayerBounds:
        """Bounds of a layer, those of some neurons by passes with improved slopes."""
        lower, upper = (end.clone() for end in bounds[layer])
        relaxations = [relaxation_of(net, k, bounds[k]) for k in range(layer)]
        phases = self.asked if self.problem.has_pattern else None
        neurons = torch.nonzero((lower[0] < 0) & (upper[0] > 0)).ravel()
        kept: list[Tensor] = []
        if self.shares_tree and layer:
            kept = [lower.new_zeros((2, lower.shape[1], width)) for width in self.hidden[:layer]]
            self.root_slopes[layer] = kept
        for chunk in torch.split(neurons, max(1, self.batch // 2)):
            if not len(chunk) or time.monotonic() >= deadline:
                break
            unit = one_hot(chunk, lower)
            weights = torch.cat([unit, -unit])[None]
            start = starting_multipliers(relaxations, weights)
            improved = improve_bounds(
                net, layer, relaxations, phases, self.box, start, HIDDEN_STEPS if layer else 1,
                relaxed_target=HIDDEN_TARGET, rounded=self.record is not None,
            )  # fmt: skip
            best, count = improved.lower[0], len(chunk)
            for each, slopes in zip(kept, improved.multipliers.slopes, strict=False):
                each[:, chunk] = slopes[0].reshape(2, count, -1)
            if self.record is not None:
                best = self.record.lemma(net, layer, chunk, (lower[0], upper[0]), improved)
                lower[0, chunk], upper[0, chunk] = best[:count], -best[count:]
            lower[0, chunk] = torch.fmax(lower[0, chunk], best[:count])
            upper[0, chunk] = torch.fmin(upper[0, chunk], -best[count:])
        return lower, upper


def _suits_shared_tree(problem: Problem) -> bool:
    """Whether bounding hidden layers anew pays: deep networks of matrices, not too large."""
    layers = problem.network.layers
    matrices = isinstance(problem.network, Network) or all(
        isinstance(term.map, DenseMap) and term.map.blocks == 1
        for layer in problem.network.layers
        for term in layer.terms
    )
    relus = [layer.num_outputs for layer in layers if layer.relu]
    single = bool((np.diff(problem.starts) == 1).all())
    return matrices and single and len(relus) > 1 and sum(relus) <= MAX_SHARED_NEURONS
