"""The input-splitting search with a proof of what it does.

The same steps as `box_kernel.explore`, one box at a time and called from here, so that
bounds, multipliers and splits can be noted between them.
"""

from __future__ import annotations

import numpy as np

from auditor.verify.box_kernel import (
    CANDIDATE,
    FINISHED,
    LEFT_OVER,
    PAUSED,
    bound_neurons,
    choose_split,
    contract,
    copy_box,
    examine_case,
)
from auditor.verify.box_search import LEAF_UNSTABLE, OFFERS, POLYAK_STEPS, BoxSearch
from auditor.verify.network.chain import Float64
from auditor.verify.problem import Problem
from auditor.verify.proof import AGAIN, SLACK, SLOPE_UNITS, Bytes, Choice, Lemma, Proof

REPEATS = 4
SHRUNK_ENOUGH = 0.5
LEAST_SHRINKING = 0.01
REFUTED, OFFERED, BY_MIXTURE = 1, 2, 4
Boxes = tuple[Float64, Float64]


class RecordedBoxSearch(BoxSearch):
    """A `BoxSearch` that writes a proof."""

    slack = SLACK

    def __init__(self, problem: Problem, proof: Proof, share: float = 1.0) -> None:
        super().__init__(problem, share)
        self.proof = proof
        self.number = np.zeros(len(self.stack.depth), dtype=np.int64)
        self.layers = np.flatnonzero(self.network.relu)
        self.widths = self.network.widths[1:]

    def _explore(self, top: int, budget: float) -> tuple[int, int]:
        stack, counters = self.stack, self.counters
        while top > 0:
            if counters[0] >= budget:
                return PAUSED, top
            slot, depth = top - 1, int(stack.depth[top - 1])
            state, unstable = self._examine_box(slot)
            counters[2] = max(counters[2], depth)
            if state == OFFERED:
                stack.tried[slot] += 1
                return CANDIDATE, top
            if state == REFUTED:
                which = 3 if depth == 0 else 4
                counters[which] += 1
                counters[which + 2] += stack.share[slot]
                top -= 1
                continue
            split = choose_split(self.work, stack.box_lower[slot], stack.box_upper[slot])
            small = depth >= 12 * max(1, self.problem.varying) and unstable <= LEAF_UNSTABLE
            if split < 0 or small or slot + 2 > len(stack.depth):
                return LEFT_OVER, top - 1
            self._divide(slot, split)
            top += 1
        return FINISHED, 0

    def _divide(self, slot: int, split: int) -> None:
        stack = self.stack
        middle = 0.5 * stack.box_lower[slot, split] + 0.5 * stack.box_upper[slot, split]
        copy_box(stack, slot, slot + 1)
        stack.box_upper[slot, split] = stack.box_lower[slot + 1, split] = middle
        stack.depth[slot : slot + 2] = stack.depth[slot] + 1
        stack.share[slot : slot + 2] = 0.5 * stack.share[slot]
        numbers = self.proof.divide(int(self.number[slot]), split, 2, float(middle))
        self.number[slot : slot + 2] = numbers
        self.counters[1] += 1

    def _examine_box(self, slot: int) -> tuple[int, int]:
        """Bound, refute and shrink a box until it stops shrinking; state and unstable neurons."""
        stack, lower, upper = self.stack, self.stack.lower[slot], self.stack.upper[slot]
        box = stack.box_lower[slot], stack.box_upper[slot]
        unstable = 0
        for repeat in range(REPEATS):
            before = lower.copy(), upper.copy()
            self.counters[0] += 1
            unstable = bound_neurons(self.network, self.work, lower, upper, *box)
            self._note_bounds(slot, before)
            if unstable < 0:
                return REFUTED, 0
            hull, offered = self._examine_cases(slot, box)
            if offered:
                # The box is looked at again afterwards, with what is known by then.
                self._go_on(slot)
                return OFFERED, unstable
            if hull is None:
                return REFUTED, unstable
            width = np.where(box[1] > box[0], box[1] - box[0], 1.0)
            ratio = float(np.prod(np.where(box[1] > box[0], (hull[1] - hull[0]) / width, 1.0)))
            self._note_ends(slot, box, hull)
            if ratio >= SHRUNK_ENOUGH or repeat == REPEATS - 1:
                break
            self._go_on(slot)
        return 0, unstable

    def _go_on(self, slot: int) -> None:
        (number,) = self.proof.divide(int(self.number[slot]), AGAIN, 1)
        self.number[slot] = number

    def _examine_cases(self, slot: int, box: Boxes) -> tuple[Boxes | None, bool]:
        """The hull of what open cases leave, None for nothing; and whether a point is offered."""
        node, is_open = self.proof.nodes[self.number[slot]], self.stack.open_case[slot]
        lower, upper = self.stack.lower[slot], self.stack.upper[slot]
        hull: Boxes | None = None
        for case in np.flatnonzero(is_open).tolist():
            state = examine_case(self.network, self.work, case, lower, upper, *box, POLYAK_STEPS)
            if state == OFFERED and self.stack.tried[slot] < OFFERS:
                return None, True
            if state in (REFUTED, BY_MIXTURE):
                node.refuted.append(self._choice(case, mixed=state == BY_MIXTURE))
                is_open[case] = False
                continue
            shrunk = self._shrink(case, slot, box)
            if shrunk is None:
                node.gone.append(int(case))
                is_open[case] = False
            elif hull is None:
                hull = shrunk
            else:
                hull = np.minimum(hull[0], shrunk[0]), np.maximum(hull[1], shrunk[1])
        return hull, False

    def _choice(self, case: int, *, mixed: bool, row: int | None = None) -> Choice:
        first, last = self.network.starts[case], self.network.starts[case + 1]
        weights = np.zeros(last - first)
        if mixed:
            weights[:] = self.work.best_nu[first:last]
        else:
            weights[int(np.argmax(self.work.nu[first:last] == 1.0)) if row is None else row] = 1.0
        slopes = self._flat(self.work.best_alpha if mixed else self.work.alpha)
        units: Bytes = np.rint(SLOPE_UNITS * np.clip(slopes, 0.0, 1.0)).astype(np.uint8)
        return Choice(int(case), weights, units)

    def _shrink(self, case: int, slot: int, box: Boxes) -> Boxes | None:
        """What the forms of a case that move something leave of a box; None for nothing."""
        node = self.proof.nodes[self.number[slot]]
        first, last = int(self.network.starts[case]), int(self.network.starts[case + 1])
        low, high = box[0].copy(), box[1].copy()
        mixture = len(self.network.bounds) + int(case)
        used = []
        for form in (mixture, *range(first, last)):
            trial = low.copy(), high.copy()
            left = contract(self.work, form, *trial)
            least = LEAST_SHRINKING * (high - low)
            if left and not ((trial[0] - low > least) | (high - trial[1] > least)).any():
                continue
            used.append(form)
            node.shrinking.append(self._choice(case, mixed=form == mixture, row=form - first))
            if not left:
                return None
            low, high = trial
        for form in used:
            if not contract(self.work, form, low, high):
                return None
        return low, high

    def _note_bounds(self, slot: int, before: Boxes) -> None:
        node = self.proof.nodes[self.number[slot]]
        for number, k in enumerate(self.layers):
            width = self.widths[k]
            low, high = self.stack.lower[slot, k, :width], self.stack.upper[slot, k, :width]
            below = np.flatnonzero(low > before[0][k, :width])
            above = np.flatnonzero(high < before[1][k, :width])
            if len(below) + len(above):
                values = np.concatenate([low[below], -high[above]]).astype(np.float32)
                sides = np.concatenate([2 * below, 2 * above + 1])
                node.lemmas.append(Lemma(number, sides, values))

    def _note_ends(self, slot: int, box: Boxes, hull: Boxes) -> None:
        node = self.proof.nodes[self.number[slot]]
        below, above = np.flatnonzero(hull[0] > box[0]), np.flatnonzero(hull[1] < box[1])
        node.ends = np.concatenate([2 * below, 2 * above + 1])
        node.values = np.concatenate([hull[0][below], hull[1][above]])
        box[0][:], box[1][:] = hull

    def _flat(self, layers: Float64) -> Float64:
        """Values of all hidden neurons in one row."""
        parts = [layers[k, : self.widths[k]] for k in self.layers]
        return np.concatenate([np.zeros(0), *parts])
