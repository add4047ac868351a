"""Branch and bound over input boxes in torch batches, for any graph with few inputs.

The engine for networks with sigmoid, tanh or sign, whose relaxations become exact as
boxes shrink; piecewise-linear graphs may use it, too. Each batch of boxes gets backward
bounds of every layer (1811.00866), then the rows of each open case, mixed and with
slopes improved (`slope_search`). What is left is contracted to where the violation's
linear forms allow it, the bound's minimiser is tried as a witness, and the input most
to blame, or a neuron, is split (`input_split`). Depth first, so that few boxes wait.
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
    LinearForms,
    ReluRelaxation,
    backward_bounds,
    layer_bounds,
    relaxation_of,
)
from auditor.verify.case_rows import CaseRows, picked
from auditor.verify.input_boxes import NeuronCuts, WaitingBoxes
from auditor.verify.input_split import InputBlame, cut_neurons, losses_by_neuron, neuron_scores
from auditor.verify.outcome import Limits, Statistics
from auditor.verify.problem import Problem
from auditor.verify.witness import IsWitness

ENGINE = "input_splits"
ROOT_STEPS = 20
BOX_STEPS = 5
BATCH_CELLS = 1_000_000
LARGEST_BATCH = 1024
DEPTH_PER_INPUT = 24
MAX_OPEN_LEAVES = 32
MAX_WAITING_CELLS = 100_000_000
OFFERS = 4


@dataclass(frozen=True)
class _Bounded:
    """Bounds of all layers and of all rows over a batch of boxes."""

    layers: Sequence[LayerBounds]
    relaxations: Sequence[ReluRelaxation]
    rows: LinearForms
    blame: InputBlame
    cuts: NeuronCuts


class InputSearch:
    """The search over one problem's box; `bound_root` first, then `run`.

    Attributes:
        waiting: Boxes that are neither refuted nor given up.
        stuck: Boxes that were given up.
        stuck_at_zero: Those of them in which a sign is exactly at zero.
    """

    def __init__(self, problem: Problem, share: float, device: str = "cpu") -> None:
        self.problem = problem
        self.net = BoundedNetwork.over_box(
            problem.network, problem.lower, problem.upper,
            rows=(problem.rows, problem.bounds), device=device, semantics=problem.semantics,
        )  # fmt: skip
        self.last = len(self.net.terms) - 1
        self.cases = [
            CaseRows(self.net, int(first), int(end))
            for first, end in zip(problem.starts[:-1], problem.starts[1:], strict=True)
        ]
        neurons = sum(self.net.width(k) for k in range(self.last))
        # Neurons that can be cut, by layer: those with an activation.
        self.widths = [self.net.width(k) * self.net.bends(k) for k in range(self.last)]
        per_box = neurons * max(4, problem.varying)
        self.batch = min(LARGEST_BATCH, max(8, BATCH_CELLS // max(1, per_box)))
        lower = torch.from_numpy(problem.lower)[None].to(device)
        self.waiting = WaitingBoxes(
            lower=lower,
            upper=torch.from_numpy(problem.upper)[None].to(device),
            cut_lower=lower.new_full((1, sum(self.widths)), -torch.inf),
            cut_upper=lower.new_full((1, sum(self.widths)), torch.inf),
            open_cases=torch.ones((1, len(problem.cases)), dtype=torch.bool, device=device),
            share=lower.new_full((1,), share),
            depth=torch.zeros(1, dtype=torch.int64, device=device),
        )
        self.stuck = self.stuck_at_zero = 0

    def bound_root(self, statistics: Statistics, deadline: float) -> bool:
        """Bound the undivided box and halve it; True when the bounds refute every case."""
        root, self.waiting = self.waiting, self.waiting.pick(slice(0, 0))
        with torch.no_grad():
            self._advance(root, statistics, deadline, "bounds", ROOT_STEPS, lambda point: False)
        return not len(self.waiting) and not self.stuck

    def run(
        self,
        limits: Limits,
        statistics: Statistics,
        deadline: float,
        is_witness: IsWitness,
        progress: Callable[[float, str], None],
    ) -> str:
        """Branch until every box is refuted; an empty text then, else why it stopped.

        Args:
            limits: Limits of the whole verification.
            statistics: Counted in place.
            deadline: `time.monotonic()` value that stops the search.
            is_witness: Judges a candidate input, [inputs]; True stops the search.
            progress: Called with (refuted share, text).
        """
        while len(self.waiting):
            if statistics.boxes >= limits.max_boxes:
                return f"the limit of {limits.max_boxes} sub-problems is reached"
            if time.monotonic() >= deadline:
                return f"the time limit of {limits.time_s:g} s is reached"
            if self.waiting.cells > MAX_WAITING_CELLS:
                return f"{len(self.waiting)} sub-problems wait, too many for the memory"
            if self.stuck > MAX_OPEN_LEAVES:
                return self._why_stuck(f"more than {MAX_OPEN_LEAVES}")
            count = min(self.batch, limits.max_boxes - statistics.boxes)
            cut = max(0, len(self.waiting) - count)
            boxes = self.waiting.pick(slice(cut, None))
            self.waiting = self.waiting.pick(slice(0, cut))
            with torch.no_grad():
                if self._advance(boxes, statistics, deadline, ENGINE, BOX_STEPS, is_witness):
                    return "a witness was found"
            progress(sum(statistics.decided_share.values()), f"{statistics.boxes} boxes")
        return self._why_stuck(str(self.stuck)) if self.stuck else ""

    def _why_stuck(self, count: str) -> str:
        zero = f", {self.stuck_at_zero} of them where a Sign is at zero" * bool(self.stuck_at_zero)
        return f"{count} sub-problems, as small as they get, could not be refuted{zero}"

    def _advance(
        self,
        boxes: WaitingBoxes,
        statistics: Statistics,
        deadline: float,
        engine: str,
        steps: int,
        is_witness: IsWitness,
    ) -> bool:
        """Bound, contract, try and split a batch of boxes; True when a witness was found."""
        bounded = self._bound(boxes, deadline)
        statistics.boxes += len(boxes)
        statistics.max_depth = max(statistics.max_depth, int(boxes.depth.max()))
        left, points = self._examine_cases(boxes, bounded, steps)
        closed = ~left.open_cases.any(dim=1)
        for share in boxes.share[closed].tolist():
            statistics.closed(engine, share)
        if self._has_witness(points, is_witness):
            return True
        keep = torch.nonzero(~closed).ravel()
        if len(keep):
            parts = self._parts(left, bounded, keep, statistics)
            empty = (parts.lower > parts.upper).any(dim=1)
            for share in parts.share[empty].tolist():
                statistics.closed(engine, share)
            self.waiting = self.waiting.followed_by(parts.pick(~empty))
        return False

    def _bound(self, boxes: WaitingBoxes, deadline: float) -> _Bounded:
        box = boxes.lower, boxes.upper
        blame, cuts = InputBlame(self.net, box), NeuronCuts(self.net, self.widths, boxes)
        layers = layer_bounds(
            self.net, box, deadline=deadline, outputs=False,
            record=blame.record, tighten=cuts.tighten,
        )  # fmt: skip
        relaxations = [relaxation_of(self.net, k, layers[k]) for k in range(self.last)]
        count = self.net.width(self.last)
        start = torch.eye(count, dtype=box[0].dtype, device=box[0].device)
        rows = backward_bounds(
            self.net, self.last, start.expand(len(boxes), -1, -1), relaxations, box
        )
        return _Bounded(layers, relaxations, rows, blame, cuts)

    def _examine_cases(
        self, boxes: WaitingBoxes, bounded: _Bounded, steps: int
    ) -> tuple[WaitingBoxes, list[Tensor]]:
        """Boxes shrunk to the hull of what open cases leave, and candidate inputs."""
        box = boxes.lower, boxes.upper
        open_cases = boxes.open_cases & ~bounded.cuts.empty[:, None]
        phases = bounded.cuts.phases()
        low, high = torch.full_like(box[0], torch.inf), torch.full_like(box[0], -torch.inf)
        points = [0.5 * box[0] + 0.5 * box[1]]
        for number, case in enumerate(self.cases):
            refuted = (bounded.rows.lower[:, case.rows] > 0).any(dim=1)
            open_cases[:, number] &= ~refuted
            index = torch.nonzero(open_cases[:, number]).ravel()
            if not len(index):
                continue
            if case.rows.start == case.rows.stop:  # without rows every output is unsafe
                low[index], high[index] = box[0][index], box[1][index]
                continue
            improved = case.improve(bounded.relaxations, bounded.rows, phases, box, index, steps)
            points.append(improved.points[:, 0])
            shrunk = case.contract(bounded.rows, improved, box, index)
            alive = (improved.lower[:, 0] <= 0) & (shrunk[0] <= shrunk[1]).all(dim=1)
            open_cases[index, number] = alive
            still = index[alive]
            low[still] = torch.minimum(low[still], shrunk[0][alive])
            high[still] = torch.maximum(high[still], shrunk[1][alive])
        return replace(boxes, lower=low, upper=high, open_cases=open_cases), points

    def _has_witness(self, points: Sequence[Tensor], is_witness: IsWitness) -> bool:
        candidates = torch.cat(list(points)).cpu().numpy()
        values = self.problem.violation(candidates)
        hits = np.flatnonzero((values <= 0).any(axis=1))
        return any(is_witness(candidates[index]) for index in hits[:OFFERS])

    def _sensitivity(self, boxes: WaitingBoxes, rows: LinearForms) -> list[Tensor]:
        """Sizes of the open rows' coefficients over each layer's activations."""
        mask = torch.cat(
            [
                boxes.open_cases[:, [number]].expand(-1, case.rows.stop - case.rows.start)
                for number, case in enumerate(self.cases)
            ],
            dim=1,
        ).to(boxes.lower.dtype)
        return [
            (form.abs() * mask[:, :, None]).sum(dim=1)
            if form.shape[-1]
            else form.new_zeros((len(boxes), self.net.width(layer)))
            for layer, form in enumerate(rows.at_layers)
        ]

    def _parts(
        self, left: WaitingBoxes, bounded: _Bounded, keep: Tensor, statistics: Statistics
    ) -> WaitingBoxes:
        """What splitting some of the boxes gives; boxes that cannot be split are given up."""
        sensitivity = self._sensitivity(left, bounded.rows)
        lost = losses_by_neuron(self.net, bounded.layers, bounded.relaxations, sensitivity)
        middle = 0.5 * left.lower + 0.5 * left.upper
        divisible = (middle > left.lower) & (middle < left.upper)
        # Ties, as where nothing is relaxed any more, go to the widest side.
        width = left.upper - left.lower
        by_input = bounded.blame.scores(lost)
        by_input = by_input + 1e-9 * (by_input.amax(dim=1, keepdim=True) + 1e-290) * (
            width / width.amax(dim=1, keepdim=True)
        )
        by_neuron = neuron_scores(self.net, bounded.layers, lost)
        scores = torch.cat([by_input.masked_fill(~divisible, -torch.inf), by_neuron], dim=1)
        limit = DEPTH_PER_INPUT * (1 + self.problem.varying) + sum(self.widths)
        ready = (scores.amax(dim=1) > -torch.inf) & (left.depth < limit)
        given_up = keep[~ready[keep]]
        at_zero = (left.cut_lower[given_up] == 0) & (left.cut_upper[given_up] == 0)
        self.stuck += len(given_up)
        self.stuck_at_zero += int(at_zero.any(dim=1).sum())
        statistics.open_leaves += len(given_up)
        chosen = keep[ready[keep]]
        statistics.splits += len(chosen)
        return self._split(left, bounded, chosen, scores[chosen].argmax(dim=1))

    def _split(
        self, left: WaitingBoxes, bounded: _Bounded, index: Tensor, choice: Tensor
    ) -> WaitingBoxes:
        """Parts of some boxes, each split at an input or, counted after them, a neuron."""
        inputs, place = left.lower.shape[1], 0
        halved = choice < inputs
        parts = [left.pick(index[halved]).halves(choice[halved])]
        for layer, count in enumerate(self.widths):
            neuron = choice - inputs - place
            mine = (neuron >= 0) & (neuron < count)
            which = index[mine]
            if len(which):
                low, high = bounded.layers[layer]
                before = [picked(each, which) for each in bounded.relaxations[:layer]]
                parts += cut_neurons(
                    self.net, layer, neuron[mine], left.pick(which),
                    (low[which], high[which]), before, place,
                )  # fmt: skip
            place += count
        return parts[0].followed_by(*parts[1:])
