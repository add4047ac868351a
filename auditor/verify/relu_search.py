"""Branch and bound over ReLU phases, batched: for networks with many inputs.

Each case is a tree of its own. A node fixes the phases of some neurons; its bound comes
from backward passes with slopes and phase multipliers improved together (beta-CROWN,
Wang et al. 2021, 2103.06624) over root bounds of the hidden layers. The neuron to split
is the one whose two phases both promise most, in the spirit of BaBSR (Bunel et al. 2020,
1909.06588). Each node keeps its own box, contracted by the violation's linear form, and
the first layer's bounds over it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from auditor.verify.bounds import (
    BoundedNetwork,
    LayerBounds,
    ReluRelaxation,
    backward_bounds,
    interval_bounds,
    layer_bounds,
    one_hot,
    relaxation_of,
)
from auditor.verify.contraction import contract_boxes
from auditor.verify.leaf_program import least_violation
from auditor.verify.network.chain import Float64
from auditor.verify.network.graph import INPUT
from auditor.verify.outcome import Limits, Statistics
from auditor.verify.problem import Problem
from auditor.verify.proof import SLACK, Proof
from auditor.verify.relu_record import ReluRecord
from auditor.verify.slope_search import (
    Improved,
    Multipliers,
    improve_bounds,
    starting_multipliers,
)

HIDDEN_STEPS = 12
ROOT_STEPS = 40
NODE_STEPS = 4
BATCH_CELLS = 400_000
HIDDEN_TARGET = 0.5
MAX_NODE_CELLS = 100_000_000
LEAST_SHRINKING = 0.01  # share of its width by which a side must move to be moved
IsWitness = Callable[[Float64], bool]


@dataclass
class Nodes:
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

    def __len__(self) -> int:
        return len(self.depth)

    def pick(self, index: Tensor | slice) -> Nodes:
        """Some of the nodes."""
        return Nodes(*(part[index] for part in self.parts()))

    def followed_by(self, other: Nodes) -> Nodes:
        """These nodes and then others."""
        pairs = zip(self.parts(), other.parts(), strict=True)
        return Nodes(*(torch.cat(pair) for pair in pairs))

    def parts(self) -> tuple[Tensor, ...]:
        """All attributes in order."""
        return tuple(getattr(self, each.name) for each in fields(self))


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
        self.batch = max(8, BATCH_CELLS // max(1, sum(self.hidden)))
        self.bounds: list[LayerBounds] = []
        self.trees: list[_Tree] = []

    def bound_roots(self, statistics: Statistics, deadline: float) -> bool:
        """Bound every undivided case; True when that refutes all of them."""
        with torch.no_grad():
            self.bounds = self._hidden_bounds(deadline)
            trees = [_Tree(self, case, statistics) for case in range(len(self.problem.cases))]
            open_trees = [tree for tree in trees if not tree.close_root()]
            if self.record is not None:
                numbers = self.record.each_case(len(open_trees))
                for tree, number in zip(open_trees, numbers, strict=True):
                    tree.nodes.number[:] = number
        # Easy cases first: a refuted one costs little, and the report gets further.
        self.trees = sorted(open_trees, key=lambda each: -each.root_bound)
        return not self.trees

    def run(
        self,
        limits: Limits,
        deadline: float,
        is_witness: IsWitness,
        progress: Callable[[float, str], None],
    ) -> str:
        """Branch until every case left over by `bound_roots` is refuted, or say why not.

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

    def _hidden_bounds(self, deadline: float) -> list[LayerBounds]:
        """Root bounds of every layer's pre-activations, unstable ones improved."""
        net = BoundedNetwork.over_box(
            self.problem.network,
            self.problem.lower,
            self.problem.upper,
            device=self.device,
            semantics=self.problem.semantics,
            slack=self.slack,
        )
        asked = [torch.from_numpy(each)[None].to(self.device) for each in self.problem.layer_phases]
        if self.record is not None:
            bounds = interval_bounds(net, self.box)
        else:
            bounds = layer_bounds(net, self.box, deadline=deadline)
        for layer, phase in enumerate(asked):
            if not net.relus[layer]:
                continue
            # A proof repeats every bound; otherwise the first layer's are exact intervals.
            if layer > 0 or self.record is not None:
                bounds[layer] = self._improved(net, layer, bounds, asked, deadline)
            bounds[layer] = with_phases(bounds[layer], phase)
        return [
            pair if relu else (pair[0][:, :0], pair[1][:, :0])
            for pair, relu in zip(bounds, net.relus, strict=True)
        ]

    def _improved(
        self,
        net: BoundedNetwork,
        layer: int,
        bounds: Sequence[LayerBounds],
        asked: Sequence[Tensor],
        deadline: float,
    ) -> LayerBounds:
        """Bounds of a layer, those of some neurons by passes with improved slopes."""
        lower, upper = (end.clone() for end in bounds[layer])
        relaxations = [relaxation_of(net, k, bounds[k]) for k in range(layer)]
        phases = asked if self.problem.has_pattern else None
        neurons = torch.nonzero((lower[0] < 0) & (upper[0] > 0)).ravel()
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
            if self.record is not None:
                best = self.record.lemma(net, layer, chunk, (lower[0], upper[0]), improved)
                lower[0, chunk], upper[0, chunk] = best[:count], -best[count:]
            lower[0, chunk] = torch.fmax(lower[0, chunk], best[:count])
            upper[0, chunk] = torch.fmin(upper[0, chunk], -best[count:])
        return lower, upper


class _Tree:
    """The tree of one case."""

    def __init__(self, search: ReluSearch, case: int, statistics: Statistics) -> None:
        self.search_, self.statistics = search, statistics
        problem = search.problem
        first, last = int(problem.starts[case]), int(problem.starts[case + 1])
        self.rows = last - first
        self.net = BoundedNetwork.over_box(
            problem.network,
            problem.lower,
            problem.upper,
            rows=(problem.rows[first:last], problem.bounds[first:last]),
            device=search.device,
            semantics=problem.semantics,
            slack=search.slack,
        )
        self.case, self.record = case, search.record
        self.layer = len(search.hidden)
        self.share = search.share / len(problem.cases)
        self.root_bound = 0.0
        self.found = False
        self.nodes = self._within_pattern(self._root())

    def _within_pattern(self, nodes: Nodes) -> Nodes:
        """The root with its box shrunk to where the first layer can follow the pattern."""
        width = self.search_.hidden[0]
        fixed = torch.nonzero(nodes.phases[0, :width]).ravel()
        if not len(fixed):
            return nodes
        sign = nodes.phases[0, fixed].to(nodes.lower.dtype)
        (term,) = self.net.terms[0]
        weight = term.map.pull_back(one_hot(fixed, self.net.biases[0]))
        error = self.net.factor * self.net.magnitudes[0][fixed] + self.net.floor
        constant = -sign * self.net.biases[0][fixed] - error
        for coefficients, offset in zip(-sign[:, None] * weight, constant, strict=True):
            boxes = nodes.lower, nodes.upper
            nodes.lower, nodes.upper = contract_boxes(boxes, coefficients[None], offset[None])
        self._tighten_first_layer(nodes)
        return nodes

    def _root(self) -> Nodes:
        box, upper = self.search_.box
        relaxations = self._relaxations(self.search_.bounds)
        slopes = torch.cat([r.lower_slope for r in relaxations], dim=1)
        return Nodes(
            phases=torch.from_numpy(self.search_.problem.phases)[None].to(box.device),
            slopes=slopes,
            betas=torch.zeros_like(slopes),
            weights=box.new_full((1, self.rows), 1.0 / max(1, self.rows)),
            depth=torch.zeros(1, dtype=torch.int64, device=box.device),
            lower=box.clone(),
            upper=upper.clone(),
            first_lower=self.search_.bounds[0][0],
            first_upper=self.search_.bounds[0][1],
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

    def search(
        self,
        limits: Limits,
        deadline: float,
        is_witness: IsWitness,
        progress: Callable[[float, str], None],
    ) -> str:
        """Branch until the case is refuted; an empty text then, else why it stopped."""
        stuck = 0
        while len(self.nodes):
            if self.statistics.boxes >= limits.max_boxes:
                return f"the limit of {limits.max_boxes} sub-problems is reached"
            if time.monotonic() >= deadline:
                return f"the time limit of {limits.time_s:g} s is reached"
            if self.nodes.lower.numel() > MAX_NODE_CELLS:
                return f"{len(self.nodes)} sub-problems wait, too many for the memory"
            cut = max(0, len(self.nodes) - self.search_.batch)
            batch, self.nodes = self.nodes.pick(slice(cut, None)), self.nodes.pick(slice(0, cut))
            relaxations, empty, improved = self._bound(batch, NODE_STEPS)
            if self._has_witness(improved, is_witness):
                return "a witness was found"
            refuted = empty | (improved.lower[:, 0] > 0)
            self.statistics.boxes += len(batch)
            self._count_refuted(batch.depth[refuted])
            scores = _split_scores(relaxations, improved)
            splittable = scores.amax(dim=1) > -torch.inf
            for index in torch.nonzero(~refuted & ~splittable).ravel().tolist():
                leaf = batch.pick(slice(index, index + 1))
                if self._close_leaf(leaf, is_witness):
                    self._count_refuted(leaf.depth)
                elif self.found:
                    return "a witness was found"
                else:
                    stuck += 1
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
        self.statistics.open_leaves += stuck
        return f"{stuck} sub-problems without open ReLUs could not be refuted" if stuck else ""

    def _bound(self, nodes: Nodes, steps: int) -> tuple[list[ReluRelaxation], Tensor, Improved]:
        """Bounds of nodes, and which of them are empty because phases contradict bounds."""
        phases = torch.split(nodes.phases, self.search_.hidden, dim=1)
        bounds: list[LayerBounds] = []
        empty = (nodes.lower > nodes.upper).any(dim=1)
        known = [(nodes.first_lower, nodes.first_upper), *self.search_.bounds[1:]]
        for pair, phase in zip(known, phases, strict=True):
            lower, upper = with_phases(pair, phase)
            empty |= (lower > upper).any(dim=1)
            bounds.append((lower, upper))
        start = Multipliers(
            [each[:, None, :] for each in torch.split(nodes.slopes, self.search_.hidden, dim=1)],
            [each[:, None, :] for each in torch.split(nodes.betas, self.search_.hidden, dim=1)],
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
        box = leaf.lower, leaf.upper
        phases = torch.split(leaf.phases, self.search_.hidden, dim=1)
        rows = backward_bounds(
            self.net, self.layer, torch.eye(self.rows).to(leaf.weights)[None], relaxations, box
        )
        forms, constants = [rows.coefficients[0]], [rows.constant[0]]
        places: list[tuple[int, Tensor, Tensor]] = []
        for k, phase in enumerate(phases):
            neurons = torch.nonzero(phase[0]).ravel()
            if not len(neurons):
                continue
            start = one_hot(neurons, self.net.biases[k])[None]
            found = backward_bounds(self.net, k, start, relaxations, box)
            sign = phase[0, neurons].to(leaf.lower.dtype)
            forms.append(-sign[:, None] * found.coefficients[0])
            constants.append(-sign * found.constant[0])
            places.append((k, neurons, sign))
        answer = least_violation(
            torch.cat(forms).cpu().numpy(),
            torch.cat(constants).cpu().numpy(),
            leaf.lower[0].cpu().numpy(),
            leaf.upper[0].cpu().numpy(),
        )
        if answer is None:
            return False
        self.found = self.found or self._is_witness(answer.point, is_witness)
        duals = torch.from_numpy(answer.multipliers).to(leaf.lower.device)
        leaf.weights = duals[None, : self.rows]
        betas = [torch.zeros_like(each) for each in torch.split(leaf.betas, self.search_.hidden, 1)]
        used = self.rows
        for k, neurons, _ in places:
            betas[k][0, neurons] = duals[used : used + len(neurons)]
            used += len(neurons)
        leaf.betas = torch.cat(betas, dim=1)
        _, _, improved = self._bound(leaf, 1)
        if not float(improved.lower[0, 0]) > 0:
            return False
        if self.record is not None:
            self.record.refuted(self.case, leaf.number, improved.multipliers)
        return True

    def _is_witness(self, point: Float64, is_witness: IsWitness) -> bool:
        problem = self.search_.problem
        values = problem.violation(point[None])
        return bool((values <= 0).any()) and is_witness(point)

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
            phases = nodes.phases[:, : self.search_.hidden[0]]
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
        values = self.search_.problem.violation(points)
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


def with_phases(bounds: LayerBounds, phases: Tensor) -> LayerBounds:
    """Bounds of neurons whose phases in {-1, 0, 1} say which side of zero they are on."""
    low, high = bounds
    return (
        torch.where(phases > 0, low.clamp(min=0.0), low),
        torch.where(phases < 0, high.clamp(max=0.0), high),
    )


def _split_scores(relaxations: Sequence[ReluRelaxation], improved: Improved) -> Tensor:
    """What fixing each neuron's phase promises, [nodes, neurons]; -inf where fixed.

    With coefficient c on the activation and its linear piece `d z + e` at the bound's
    minimiser, the inactive phase gains `-c (d z + e)` and the active one
    `c ((1 - d) z - e)`; the score favours neurons where both gain.
    """
    scores = []
    for k, relaxation in enumerate(relaxations):
        if not relaxation.unstable.shape[-1]:
            continue
        c, z = improved.forms.at_layers[k][:, 0], improved.values[k][:, 0]
        slope = torch.where(c >= 0, improved.multipliers.slopes[k][:, 0], relaxation.upper_slope)
        offset = torch.where(c >= 0, torch.zeros_like(c), relaxation.upper_intercept)
        off, on = -c * (slope * z + offset), c * ((1.0 - slope) * z - offset)
        score = torch.minimum(off, on).clamp(min=0.0) + 0.05 * torch.maximum(off, on)
        score = score + 1e-9 * relaxation.upper_intercept
        scores.append(score.nan_to_num(0.0).masked_fill(~relaxation.unstable, -torch.inf))
    nothing = improved.lower.new_full((len(improved.lower), 1), -torch.inf)
    return torch.cat(scores, dim=1) if scores else nothing
