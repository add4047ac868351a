"""The tree of ReLU splits of one case, over the bounds that hidden layers have at the root.

A node fixes the phases of some neurons; its bound comes from backward passes with slopes and
phase multipliers improved together (beta-CROWN, Wang et al. 2021, 2103.06624). Each node
keeps its own box, contracted by the violation's linear form, and the first layer's bounds
over it. A leaf in which every phase is fixed is a linear program.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from auditor.verify.bounds import (
    BoundedNetwork,
    LayerBounds,
    ReluRelaxation,
    relaxation_of,
    with_phases,
)
from auditor.verify.branching import scores_in_bound
from auditor.verify.contraction import contract_boxes
from auditor.verify.leaf_duals import bound_leaf
from auditor.verify.live_neurons import restricted
from auditor.verify.network.graph import INPUT
from auditor.verify.node_batch import NodeBatch
from auditor.verify.outcome import Limits, Statistics
from auditor.verify.shared_tree import is_violating, why_stuck
from auditor.verify.slope_search import Improved, Multipliers, improve_bounds
from auditor.verify.witness import IsWitness

if TYPE_CHECKING:
    from auditor.verify.relu_search import ReluSearch

ROOT_STEPS = 40
NODE_STEPS = 4
MAX_NODE_CELLS = 100_000_000
LEAST_SHRINKING = 0.01  # share of its width by which a side must move to be moved


@dataclass
class Nodes(NodeBatch):
    """Nodes of a tree that wait; the first axis runs over nodes.

    Attributes:
        phases: Fixed phases of all hidden neurons, [nodes, neurons], int8 in {-1, 0, 1}.
        slopes: Slopes to start from, [nodes, neurons].
        betas: Multipliers of phases to start from, [nodes, neurons].
        weights: Row weights to start from, [nodes, rows].
        depth: Splits above each node, [nodes].
        lower: Lower ends of each node's box, [nodes, inputs].
        upper: Upper ends.
        first_lower: Bounds of the first layer's pre-activations, [nodes, neurons].
        first_upper: The same from above.
        number: The node's number in the proof, [nodes]; 0 without one.
    """

    phases: Tensor
    slopes: Tensor
    betas: Tensor
    weights: Tensor
    depth: Tensor
    lower: Tensor
    upper: Tensor
    first_lower: Tensor
    first_upper: Tensor
    number: Tensor


class CaseTree:
    """The tree of one case."""

    def __init__(self, search: ReluSearch, case: int, statistics: Statistics) -> None:
        self.owner, self.statistics = search, statistics
        problem = search.problem
        first, last = int(problem.starts[case]), int(problem.starts[case + 1])
        self.rows = last - first
        whole = BoundedNetwork.over_box(
            problem.network,
            problem.lower,
            problem.upper,
            rows=(problem.rows[first:last], problem.bounds[first:last]),
            device=search.device,
            semantics=problem.semantics,
            slack=search.slack,
        )
        self.net = restricted(whole, search.kept)
        self.case, self.record = case, search.record
        self.layer = len(search.hidden)
        self.share = search.share / len(problem.cases)
        self.root_bound = 0.0
        self.stuck = 0
        self.found = False
        self.nodes = self._root()

    def _root(self) -> Nodes:
        box, upper = self.owner.box
        relaxations = self._relaxations(self.owner.bounds)
        slopes = torch.cat([r.lower_slope for r in relaxations], dim=1)
        return Nodes(
            phases=torch.cat(self.owner.asked, dim=1),
            slopes=slopes,
            betas=torch.zeros_like(slopes),
            weights=box.new_full((1, self.rows), 1.0 / max(1, self.rows)),
            depth=torch.zeros(1, dtype=torch.int64, device=box.device),
            lower=box.clone(),
            upper=upper.clone(),
            first_lower=self.owner.bounds[0][0],
            first_upper=self.owner.bounds[0][1],
            number=torch.zeros(1, dtype=torch.int64, device=box.device),
        )

    def _relaxations(self, bounds: Sequence[LayerBounds]) -> list[ReluRelaxation]:
        return [relaxation_of(self.net, k, pair) for k, pair in enumerate(bounds)]

    def close_root(self) -> bool:
        """Bound the undivided case; True when that refutes it."""
        if not self.rows:
            self.root_bound = float("-inf")
            return False
        _, empty, improved = self._bound(self.nodes, ROOT_STEPS)
        self.statistics.boxes += 1
        # A pattern may contradict the bounds: then nothing is left to refute.
        self.root_bound = float("inf") if bool(empty[0]) else float(improved.lower[0, 0])
        if self.root_bound > 0:
            self.statistics.closed("bounds", self.share)
            if self.record is not None:
                self.record.refuted(self.case, self.nodes.number, improved.multipliers)
            return True
        self._remember(self.nodes, improved.multipliers)
        return False

    @property
    def open_cases(self) -> list[int]:
        """The case's number, unless it is refuted."""
        return [self.case] if len(self.nodes) else []

    def search(
        self,
        limits: Limits,
        deadline: float,
        is_witness: IsWitness,
        progress: Callable[[float, str], None],
    ) -> str:
        """Branch until the case is refuted; an empty text then, else why it stopped."""
        while len(self.nodes):
            if self.statistics.boxes >= limits.max_boxes:
                return f"the limit of {limits.max_boxes} sub-problems is reached"
            if time.monotonic() >= deadline:
                return f"the time limit of {limits.time_s:g} s is reached"
            if self.nodes.lower.numel() > MAX_NODE_CELLS:
                return f"{len(self.nodes)} sub-problems wait, too many for the memory"
            cut = max(0, len(self.nodes) - self.owner.batch)
            batch, self.nodes = self.nodes.pick(slice(cut, None)), self.nodes.pick(slice(0, cut))
            relaxations, empty, improved = self._bound(batch, NODE_STEPS)
            if self._has_witness(improved, is_witness):
                return "a witness was found"
            refuted = empty | (improved.lower[:, 0] > 0)
            self.statistics.boxes += len(batch)
            self._count_refuted(batch.depth[refuted])
            scores = scores_in_bound(relaxations, improved)
            splittable = scores.amax(dim=1) > -torch.inf
            for index in torch.nonzero(~refuted & ~splittable).ravel().tolist():
                leaf = batch.pick(slice(index, index + 1))
                # A leaf costs a linear program: without time for it it stays open.
                if time.monotonic() < deadline and self._close_leaf(leaf, is_witness):
                    self._count_refuted(leaf.depth)
                elif self.found:
                    return "a witness was found"
                else:
                    self.stuck += 1
                    self.statistics.open_leaves += 1
            if self.record is not None:
                closed = improved.multipliers.pick(refuted & ~empty)
                self.record.refuted(self.case, batch.number[refuted & ~empty], closed)
            keep = torch.nonzero(~refuted & splittable).ravel()
            if len(keep):
                self._remember(batch, improved.multipliers)
                self._shrink(batch, improved, keep)
                self._split(batch.pick(keep), scores[keep].argmax(dim=1))
            share = sum(self.statistics.decided_share.values())
            progress(share, f"{self.statistics.boxes} sub-problems")
        return why_stuck(self.stuck)

    def _bound(self, nodes: Nodes, steps: int) -> tuple[list[ReluRelaxation], Tensor, Improved]:
        """Bounds of nodes, and which of them are empty because phases contradict bounds."""
        phases = torch.split(nodes.phases, self.owner.hidden, dim=1)
        bounds: list[LayerBounds] = []
        empty = (nodes.lower > nodes.upper).any(dim=1)
        known = [(nodes.first_lower, nodes.first_upper), *self.owner.bounds[1:]]
        for pair, phase in zip(known, phases, strict=True):
            lower, upper = with_phases(pair, phase)
            empty |= (lower > upper).any(dim=1)
            bounds.append((lower, upper))
        start = Multipliers(
            [each[:, None, :] for each in torch.split(nodes.slopes, self.owner.hidden, dim=1)],
            [each[:, None, :] for each in torch.split(nodes.betas, self.owner.hidden, dim=1)],
            nodes.weights[:, None, :],
        )
        relaxations = self._relaxations(bounds)
        improved = improve_bounds(
            self.net, self.layer, relaxations, phases, (nodes.lower, nodes.upper),
            start, steps,
            mix_rows=self.rows > 1, rounded=self.record is not None,
        )  # fmt: skip
        return relaxations, empty, improved

    def _close_leaf(self, leaf: Nodes, is_witness: IsWitness) -> bool:
        """Refute a leaf in which every phase is fixed, by the duals of a linear program."""
        relaxations, _, _ = self._bound(leaf, 1)
        answer = bound_leaf(
            self.net,
            torch.eye(self.rows).to(leaf.weights),
            relaxations,
            torch.split(leaf.phases, self.owner.hidden, dim=1),
            (leaf.lower, leaf.upper),
            [each[:, None, :] for each in torch.split(leaf.slopes, self.owner.hidden, dim=1)],
            rounded=self.record is not None,
        )
        if answer is None:
            return False
        improved, point = answer
        self.found = self.found or is_violating(self.owner.problem, point, is_witness)
        if not float(improved.lower[0, 0]) > 0:
            return False
        if self.record is not None:
            self.record.refuted(self.case, leaf.number, improved.multipliers)
        return True

    def _tighten_first_layer(self, nodes: Nodes) -> None:
        """Bound the first layer again over each node's box, in place."""
        if not self.net.relus[0]:
            return
        center = 0.5 * nodes.lower + 0.5 * nodes.upper
        radius = 0.5 * nodes.upper - 0.5 * nodes.lower
        slack = 4.0 * self.net.factor * self.net.magnitudes[0] + self.net.floor
        middle = self.net.affine(0, {INPUT: center})
        spread = self.net.affine(0, {INPUT: radius}, absolute=True) + slack
        low, high = middle - spread, middle + spread
        if self.record is not None:
            phases = nodes.phases[:, : self.owner.hidden[0]]
            known = with_phases((nodes.first_lower, nodes.first_upper), phases)
            low, high = self.record.first_layer(nodes.number, known, (low, high))
        nodes.first_lower = torch.fmax(nodes.first_lower, low)
        nodes.first_upper = torch.fmin(nodes.first_upper, high)

    def _shrink(self, batch: Nodes, improved: Improved, keep: Tensor) -> None:
        """Contract boxes by the violation's forms where that pays, in place."""
        low, high = contract_boxes(
            (batch.lower, batch.upper),
            improved.forms.coefficients[:, 0],
            improved.forms.constant[:, 0],
        )
        width = LEAST_SHRINKING * (batch.upper - batch.lower)
        # An empty box can only come from rounding here: such nodes keep theirs.
        sound = (low <= high).all(dim=1, keepdim=True)
        moved = ((low - batch.lower > width) & sound, (batch.upper - high > width) & sound)
        batch.lower = torch.where(moved[0], low, batch.lower)
        batch.upper = torch.where(moved[1], high, batch.upper)
        kept = torch.zeros_like(sound)
        kept[keep] = True
        changed = torch.nonzero(((moved[0] | moved[1]) & kept).any(dim=1)).ravel()
        if len(changed):
            tightened = batch.pick(changed)
            if self.record is not None:
                self.record.shrunk(
                    self.case, tightened.number, (tightened.lower, tightened.upper),
                    improved.last.pick(changed), (moved[0][changed], moved[1][changed]),
                )  # fmt: skip
            self._tighten_first_layer(tightened)
            batch.first_lower[changed] = tightened.first_lower
            batch.first_upper[changed] = tightened.first_upper

    def _remember(self, nodes: Nodes, multipliers: Multipliers) -> None:
        nodes.slopes = torch.cat([each[:, 0] for each in multipliers.slopes], dim=1)
        nodes.betas = torch.cat([each[:, 0] for each in multipliers.betas], dim=1)
        nodes.weights = multipliers.weights[:, 0]

    def _has_witness(self, improved: Improved, is_witness: IsWitness) -> bool:
        points = improved.points[:, 0].cpu().numpy()
        values = self.owner.problem.violation(points)
        hits = np.flatnonzero((values <= 0).any(axis=1))
        return any(is_witness(points[index]) for index in hits[:4])

    def _count_refuted(self, depth: Tensor) -> None:
        for value in depth.tolist():
            self.statistics.closed("branching", self.share * 2.0 ** -float(value))
            self.statistics.max_depth = max(self.statistics.max_depth, value)

    def _split(self, nodes: Nodes, neurons: Tensor) -> None:
        """Push both phases of the chosen neuron of each node."""
        self.statistics.splits += len(nodes)
        numbers = [nodes.number, nodes.number]
        if self.record is not None:
            numbers = self.record.split(nodes.number, neurons)
        for phase, number in zip((-1, 1), numbers, strict=True):
            phases = nodes.phases.clone()
            phases[torch.arange(len(nodes), device=neurons.device), neurons] = phase
            child = replace(nodes, phases=phases, depth=nodes.depth + 1, number=number)
            self.nodes = self.nodes.followed_by(child)
