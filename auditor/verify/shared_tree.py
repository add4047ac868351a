"""One tree of ReLU splits for all open cases, with hidden layers bounded anew at every node.

A split narrows the neurons of later layers. Bounding those again costs as much as many
nodes, but it serves every case of the node, and on deep networks of matrices it needs far
fewer nodes: an instance of mnist_fc that 50,000 nodes of separate trees left open took 15.
The passes use the slopes that were best at the root.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from auditor.verify.bounds import (
    BoundedNetwork,
    LayerBounds,
    ReluRelaxation,
    backward_bounds,
    one_hot,
    relaxation_of,
    with_phases,
)
from auditor.verify.branching import Influence, scores_through_bounds
from auditor.verify.leaf_duals import bound_leaf
from auditor.verify.network.chain import Float64
from auditor.verify.node_batch import NodeBatch
from auditor.verify.outcome import Limits, Statistics
from auditor.verify.problem import Problem
from auditor.verify.relu_record import ReluRecord
from auditor.verify.slope_search import Improved, Multipliers, improve_bounds
from auditor.verify.witness import IsWitness

STEPS = 6
BATCH_CELLS = 4_000_000
MAX_NODE_CELLS = 100_000_000


@dataclass
class SharedNodes(NodeBatch):
    """Nodes that wait; the first axis runs over nodes.

    Attributes:
        phases: Fixed phases of all hidden neurons, [nodes, neurons], int8 in {-1, 0, 1}.
        lower: Bounds of their pre-activations, [nodes, neurons].
        upper: The same from above.
        slopes: Slopes to start from, [nodes, rows, neurons].
        betas: Multipliers of phases to start from, [nodes, rows, neurons].
        is_open: Rows that are still to be refuted, [nodes, rows].
        depth: Splits above each node, [nodes].
        number: The node's number in the proof, [nodes]; 0 without one.
    """

    phases: Tensor
    lower: Tensor
    upper: Tensor
    slopes: Tensor
    betas: Tensor
    is_open: Tensor
    depth: Tensor
    number: Tensor


class SharedTree:
    """The tree of several cases of one row each.

    Args:
        net: The network, with one property row for each case as its last layer.
        problem: What is searched.
        cases: Number of the case of each row.
        hidden: Number of neurons of each layer that a ReLU follows, else 0.
        root: The undivided node.
        box: The input box, [1, inputs] each.
        root_slopes: For each layer, slopes over each earlier one that bound z_j and -z_j,
            [2, neurons, neurons before]; None where nothing is bounded anew.
        share: Share of the search space that all cases together stand for.
        record: Where the proof is noted, if one is.
    """

    def __init__(
        self,
        net: BoundedNetwork,
        problem: Problem,
        cases: Sequence[int],
        hidden: Sequence[int],
        root: SharedNodes,
        box: LayerBounds,
        root_slopes: Sequence[Sequence[Tensor] | None],
        share: float,
        statistics: Statistics,
        record: ReluRecord | None,
    ) -> None:
        self.net, self.problem, self.cases, self.hidden = net, problem, list(cases), list(hidden)
        self.nodes, self.box, self.root_slopes = root, box, root_slopes
        self.share, self.statistics, self.record = share, statistics, record
        self.stuck = 0
        self.found = False

    @property
    def open_cases(self) -> list[int]:
        """Numbers of the cases that some waiting node leaves open."""
        is_open = self.nodes.is_open.any(dim=0).tolist()
        return [case for case, left in zip(self.cases, is_open, strict=True) if left]

    def search(
        self,
        limits: Limits,
        deadline: float,
        is_witness: IsWitness,
        progress: Callable[[float, str], None],
    ) -> str:
        """Branch until every case is refuted; an empty text then, else why it stopped."""
        while len(self.nodes):
            if self.statistics.boxes >= limits.max_boxes:
                return f"the limit of {limits.max_boxes} sub-problems is reached"
            if time.monotonic() >= deadline:
                return f"the time limit of {limits.time_s:g} s is reached"
            if self.nodes.slopes.numel() > MAX_NODE_CELLS:
                return f"{len(self.nodes)} sub-problems wait, too many for the memory"
            nodes = self._take()
            bounds, relaxations, influences = self._bound_neurons(nodes)
            empty = torch.stack([(low > high).any(dim=1) for low, high in bounds]).any(dim=0)
            improved = self._bound_rows(nodes, relaxations)
            if self._has_witness(improved, nodes.is_open, is_witness):
                return "a witness was found"
            self.statistics.boxes += len(nodes)
            self._close(nodes, empty, improved)
            scores = scores_through_bounds(bounds, relaxations, improved, nodes.is_open, influences)
            is_left = nodes.is_open.any(dim=1)
            splittable = scores.amax(dim=1) > -torch.inf
            for index in torch.nonzero(is_left & ~splittable).ravel().tolist():
                # A leaf costs linear programs: without time for them it stays open.
                in_time = time.monotonic() < deadline
                if not (in_time and self._close_leaf(nodes, index, relaxations, is_witness)):
                    self.stuck += 1
                    self.statistics.open_leaves += 1
                if self.found:
                    return "a witness was found"
            kept = torch.nonzero(is_left & splittable).ravel()
            if len(kept):
                nodes.lower = torch.cat([low for low, _ in bounds], dim=1)
                nodes.upper = torch.cat([high for _, high in bounds], dim=1)
                nodes.slopes = torch.cat(improved.multipliers.slopes, dim=2)
                nodes.betas = torch.cat(improved.multipliers.betas, dim=2)
                self._split(nodes.pick(kept), scores[kept].argmax(dim=1))
            share = sum(self.statistics.decided_share.values())
            progress(share, f"{self.statistics.boxes} sub-problems")
        return why_stuck(self.stuck)

    def _take(self) -> SharedNodes:
        """The last nodes, as many as are worth bounding together."""
        unstable = ((self.nodes.lower[-1:] < 0) & (self.nodes.upper[-1:] > 0)).sum()
        rows = 2 * int(unstable) + len(self.cases)
        count = max(1, BATCH_CELLS // (rows * max(len(self.box[0][0]), *self.hidden)))
        cut = max(0, len(self.nodes) - count)
        taken, self.nodes = self.nodes.pick(slice(cut, None)), self.nodes.pick(slice(0, cut))
        return taken

    def _bound_neurons(
        self, nodes: SharedNodes
    ) -> tuple[list[LayerBounds], list[ReluRelaxation], list[Influence | None]]:
        """Bounds of hidden layers on nodes: those of the parent, and better ones behind splits."""
        phases, lower, upper = (
            torch.split(part, self.hidden, dim=1)
            for part in (nodes.phases, nodes.lower, nodes.upper)
        )
        bounds: list[LayerBounds] = []
        relaxations: list[ReluRelaxation] = []
        influences: list[Influence | None] = []
        for k, phase in enumerate(phases):
            pair, influence = with_phases((lower[k], upper[k]), phase), None
            slopes = self.root_slopes[k]
            if slopes is not None:
                neurons = torch.nonzero(((pair[0] < 0) & (pair[1] > 0)).any(dim=0)).ravel()
                if len(neurons):
                    pair, influence = self._tightened(nodes, k, neurons, pair, relaxations, slopes)
                    pair = with_phases(pair, phase)
            bounds.append(pair)
            relaxations.append(relaxation_of(self.net, k, pair))
            influences.append(influence)
        return bounds, relaxations, influences

    def _tightened(
        self,
        nodes: SharedNodes,
        layer: int,
        neurons: Tensor,
        known: LayerBounds,
        relaxations: Sequence[ReluRelaxation],
        slopes: Sequence[Tensor],
    ) -> tuple[LayerBounds, Influence]:
        """Bounds of some neurons by one pass, and the forms that gave them."""
        low, high = (end.clone() for end in known)
        unit = one_hot(neurons, low)
        forms = backward_bounds(
            self.net, layer, torch.cat([unit, -unit]).expand(len(low), -1, -1), relaxations,
            self._boxes(len(low)), slopes=[each[:, neurons].flatten(0, 1) for each in slopes],
        )  # fmt: skip
        least, most = forms.lower[:, : len(neurons)], -forms.lower[:, len(neurons) :]
        if self.record is not None:
            before = low[:, neurons], high[:, neurons]
            places = sum(self.hidden[:layer]) + neurons
            least, most = self.record.tightened(
                sum(self.net.relus[:layer]), nodes.number, places, before, (least, most)
            )
        low[:, neurons] = torch.fmax(low[:, neurons], least)
        high[:, neurons] = torch.fmin(high[:, neurons], most)
        return (low, high), Influence(neurons, forms.at_layers)

    def _boxes(self, count: int) -> LayerBounds:
        return self.box[0].expand(count, -1), self.box[1].expand(count, -1)

    def _bound_rows(self, nodes: SharedNodes, relaxations: Sequence[ReluRelaxation]) -> Improved:
        rows = torch.eye(len(self.cases), dtype=nodes.lower.dtype, device=nodes.lower.device)
        start = Multipliers(
            list(torch.split(nodes.slopes, self.hidden, dim=2)),
            list(torch.split(nodes.betas, self.hidden, dim=2)),
            rows.expand(len(nodes), -1, -1),
        )
        return improve_bounds(
            self.net, len(self.hidden), relaxations, torch.split(nodes.phases, self.hidden, dim=1),
            self._boxes(len(nodes)), start, STEPS, rounded=self.record is not None,
        )  # fmt: skip

    def _has_witness(self, improved: Improved, is_open: Tensor, is_witness: IsWitness) -> bool:
        points = improved.points[is_open].cpu().numpy()
        hits = np.flatnonzero((self.problem.violation(points) <= 0).any(axis=1))
        return any(is_witness(points[index]) for index in hits[:4])

    def _close(self, nodes: SharedNodes, empty: Tensor, improved: Improved) -> None:
        """Close cases that are refuted, in place."""
        refuted = nodes.is_open & (improved.lower > 0)
        if self.record is not None:
            for row, case in enumerate(self.cases):
                which = torch.nonzero(refuted[:, row] & ~empty).ravel()
                chosen = _of_case(improved.multipliers.pick(which), row, row)
                self.record.refuted(case, nodes.number[which], chosen)
        nodes.is_open = nodes.is_open & ~refuted & ~empty[:, None]
        self._count_closed(nodes.depth[~nodes.is_open.any(dim=1)])

    def _count_closed(self, depth: Tensor) -> None:
        for value in depth.tolist():
            self.statistics.closed("branching", self.share * 2.0 ** -float(value))
            self.statistics.max_depth = max(self.statistics.max_depth, value)

    def _close_leaf(
        self,
        nodes: SharedNodes,
        index: int,
        relaxations: Sequence[ReluRelaxation],
        is_witness: IsWitness,
    ) -> bool:
        """Refute all open cases of a node without unstable neurons."""
        at = slice(index, index + 1)
        leaf = nodes.pick(at)
        mine = [relaxation.pick(at) for relaxation in relaxations]
        rows = torch.eye(len(self.cases), dtype=leaf.lower.dtype, device=leaf.lower.device)
        for row in torch.nonzero(leaf.is_open[0]).ravel().tolist():
            answer = bound_leaf(
                self.net, rows[row : row + 1], mine, torch.split(leaf.phases, self.hidden, dim=1),
                self.box, torch.split(leaf.slopes[:, row : row + 1], self.hidden, dim=2),
                rounded=self.record is not None,
            )  # fmt: skip
            if answer is None:
                return False
            improved, point = answer
            self.found = self.found or is_violating(self.problem, point, is_witness)
            if not float(improved.lower[0, 0]) > 0:
                return False
            if self.record is not None:
                chosen = _of_case(improved.multipliers, 0, row)
                self.record.refuted(self.cases[row], leaf.number, chosen)
        self._count_closed(leaf.depth)
        return True

    def _split(self, nodes: SharedNodes, neurons: Tensor) -> None:
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


def is_violating(problem: Problem, point: Float64, is_witness: IsWitness) -> bool:
    """Whether an input, [inputs], violates some case in floats and is a witness."""
    return bool((problem.violation(point[None]) <= 0).any()) and is_witness(point)


def why_stuck(count: int) -> str:
    """What to say of leaves that no bound refutes."""
    return f"{count} sub-problems without open ReLUs could not be refuted" if count else ""


def _of_case(multipliers: Multipliers, place: int, row: int) -> Multipliers:
    """Those of the bound at a place, as a proof of its case: with the one weight it has."""
    at = slice(place, place + 1)
    return Multipliers(
        [each[:, at] for each in multipliers.slopes],
        [each[:, at] for each in multipliers.betas],
        multipliers.weights[:, at, row : row + 1],
    )
