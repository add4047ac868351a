"""Branch and bound over input boxes: prepares the compiled kernel and drives it.

For networks with few varying inputs. The kernel works in slices of boxes; between slices
the clock, the progress and Ctrl-C get their turn. How boxes are sliced does not change
what is done with them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from auditor.verify.box_kernel import (
    CANDIDATE,
    FINISHED,
    LEFT_OVER,
    KernelNetwork,
    KernelStack,
    KernelWork,
    explore,
)
from auditor.verify.magnitudes import interval_magnitudes
from auditor.verify.network import Network
from auditor.verify.network.chain import Float64
from auditor.verify.outcome import Limits, Statistics
from auditor.verify.phases import Int8
from auditor.verify.problem import Problem
from auditor.verify.rounding import error_factor

MAX_VARYING_INPUTS = 20
MAX_CELLS = 20_000_000
POLYAK_STEPS = 5
FIRST_SLICE = 16
SLICE_S = 0.1
STACK_SLOTS = 400
LEAF_UNSTABLE = 10
MAX_OPEN_LEAVES = 256
OFFERS = 2
HALVINGS = 6


@dataclass(frozen=True, eq=False)
class Leaf:
    """A box that branching does not finish, with proved bounds of its neurons.

    Attributes:
        lower: Lower ends of the box, [inputs].
        upper: Upper ends.
        neuron_lower: Pre-activation bounds, one array per layer; -inf where unknown.
        neuron_upper: The same from above.
        open_cases: Indices of the problem's cases that are not refuted here.
        share: Its share of the search space.
    """

    lower: Float64
    upper: Float64
    neuron_lower: tuple[Float64, ...]
    neuron_upper: tuple[Float64, ...]
    open_cases: tuple[int, ...]
    share: float


@dataclass(frozen=True)
class SearchEnd:
    """How a search over boxes ended.

    Attributes:
        finished: Whether every box is refuted or in `leaves`.
        leaves: What branching left over.
        stopped: Why it stopped early, or an empty string.
    """

    finished: bool
    leaves: tuple[Leaf, ...]
    stopped: str = ""


def fits_box_search(problem: Problem) -> bool:
    """Whether input splitting is the way for this problem."""
    if not isinstance(problem.network, Network):
        return False  # the compiled kernel knows chains of dense layers only
    width = _padded_width(problem)
    cells = len(problem.chain.layers) * width * width
    fits = problem.varying <= MAX_VARYING_INPUTS and cells <= MAX_CELLS
    return fits and not _phases_are_cheaper(problem)


def _phases_are_cheaper(problem: Problem) -> bool:
    """Whether a pattern leaves so few ReLUs free that splitting those is the shorter way.

    Splitting free ReLUs needs at most `2**free` sub-problems; halving every input a few
    times over, `2**(HALVINGS * varying)`. In low dimension input splitting stays ahead.
    """
    fixed = int(np.count_nonzero(problem.phases))
    mostly_fixed = fixed > problem.free_relus
    return mostly_fixed and problem.free_relus <= HALVINGS * problem.varying


class BoxSearch:
    """The search over one problem's box; can be stopped and continued."""

    slack = 1.0  # what error terms are multiplied with

    def __init__(self, problem: Problem, share: float = 1.0) -> None:
        self.problem = problem
        self.network = _kernel_network(problem, self.slack)
        self.work = _kernel_work(self.network, problem)
        self.stack = _kernel_stack(self.network, problem)
        self.stack.share[0] = share
        self.top = 1
        self.counters = np.zeros(7)
        self.leaves: list[Leaf] = []

    def prepare(self) -> None:
        """Compile the kernel, or load it from its cache, without searching."""
        self._explore(0, 0.0)

    def _explore(self, top: int, budget: float) -> tuple[int, int]:
        leaf_depth = 12 * max(1, self.problem.varying)
        status, top = explore(
            self.network, self.work, self.stack, top, budget, POLYAK_STEPS,
            leaf_depth, LEAF_UNSTABLE, OFFERS, self.counters,
        )  # fmt: skip
        return status, top

    def run(
        self,
        limits: Limits,
        statistics: Statistics,
        deadline: float,
        max_boxes: int,
        is_witness: Callable[[Float64], bool],
        progress: Callable[[float, str], None],
    ) -> SearchEnd:
        """Search until done, a witness is accepted, or a limit is reached.

        Args:
            limits: Limits of the whole verification.
            statistics: Counted in place.
            deadline: `time.monotonic()` value that stops the search.
            max_boxes: Boxes this search may have bounded in total.
            is_witness: Judges a candidate input, [inputs]; True stops the search.
            progress: Called with (refuted share, text).
        """
        before = self.counters.copy()
        try:
            return self._run(limits, deadline, max_boxes, is_witness, progress)
        finally:
            self._count(statistics, before)

    def _run(
        self,
        limits: Limits,
        deadline: float,
        max_boxes: int,
        is_witness: Callable[[Float64], bool],
        progress: Callable[[float, str], None],
    ) -> SearchEnd:
        slice_boxes = FIRST_SLICE
        while self.top > 0:
            if self.counters[0] >= max_boxes:
                return self._end(f"the limit of {max_boxes} sub-problems is reached")
            started = time.monotonic()
            if started >= deadline:
                return self._end(f"the time limit of {limits.time_s:g} s is reached")
            budget = min(max_boxes, self.counters[0] + slice_boxes)
            status, self.top = self._explore(self.top, float(budget))
            if time.monotonic() - started < SLICE_S:
                slice_boxes *= 2
            else:
                slice_boxes = max(1, slice_boxes // 2)
            if status == CANDIDATE and is_witness(self.work.point.copy()):
                return self._end("a witness was found")
            if status == LEFT_OVER:
                self.leaves.append(self._leaf(self.top))
                if len(self.leaves) > MAX_OPEN_LEAVES:
                    return self._end(f"more than {MAX_OPEN_LEAVES} sub-problems resist")
            if status == FINISHED:
                break
            share = float(self.counters[5] + self.counters[6])
            progress(share, f"{int(self.counters[0])} boxes")
        return SearchEnd(finished=True, leaves=tuple(self.leaves))

    def _end(self, why: str) -> SearchEnd:
        return SearchEnd(finished=False, leaves=tuple(self.leaves), stopped=why)

    def _leaf(self, slot: int) -> Leaf:
        widths = [layer.num_outputs for layer in self.problem.chain.layers]
        return Leaf(
            lower=self.stack.box_lower[slot].copy(),
            upper=self.stack.box_upper[slot].copy(),
            neuron_lower=tuple(self.stack.lower[slot, k, :w].copy() for k, w in enumerate(widths)),
            neuron_upper=tuple(self.stack.upper[slot, k, :w].copy() for k, w in enumerate(widths)),
            open_cases=tuple(int(case) for case in np.flatnonzero(self.stack.open_case[slot])),
            share=float(self.stack.share[slot]),
        )

    def _count(self, statistics: Statistics, before: Float64) -> None:
        gained = self.counters - before
        statistics.boxes += int(gained[0])
        statistics.splits += int(gained[1])
        statistics.max_depth = max(statistics.max_depth, int(self.counters[2]))
        for engine, leaves, share in (("bounds", 3, 5), ("branching", 4, 6)):
            if gained[leaves]:
                count = statistics.leaves.get(engine, 0) + int(gained[leaves])
                statistics.leaves[engine] = count
                total = statistics.decided_share.get(engine, 0.0) + float(gained[share])
                statistics.decided_share[engine] = total


def _padded_width(problem: Problem) -> int:
    layers = problem.chain.layers
    widest = max([problem.chain.num_inputs, *(layer.num_outputs for layer in layers)])
    return -(-widest // 8) * 8


def _kernel_network(problem: Problem, slack: float) -> KernelNetwork:
    layers, width = problem.chain.layers, _padded_width(problem)
    weight = np.zeros((len(layers), width, width))
    bias, sums = np.zeros((len(layers), width)), np.zeros((len(layers), width))
    magnitudes = interval_magnitudes(problem.chain, problem.lower, problem.upper, problem.semantics)
    for k, layer in enumerate(layers):
        weight[k, : layer.num_outputs, : layer.num_inputs] = layer.weight
        bias[k, : layer.num_outputs] = layer.bias
        sums[k, : layer.num_outputs] = magnitudes.sums[k]
    widths = [layers[0].num_inputs, *(layer.num_outputs for layer in layers)]
    rows = np.zeros((len(problem.rows), width))
    rows[:, : problem.rows.shape[1]] = problem.rows
    # Sums and products one term can pass through: twice per layer and neuron, the box,
    # the mixture of rows, and contraction, with room to spare.
    operations = sum(2 * n + 16 for n in widths) + 4 * widths[0] + 2 * len(rows) + 256
    with np.errstate(over="ignore", invalid="ignore"):
        row_magnitude = np.abs(problem.rows) @ magnitudes.hidden[-1] + np.abs(problem.bounds)
    return KernelNetwork(
        weight=weight,
        bias=bias,
        magnitude=sums,
        widths=np.array(widths, dtype=np.int64),
        columns=np.array([-(-n // 8) * 8 for n in widths[:-1]], dtype=np.int64),
        relu=np.array([layer.relu for layer in layers]),
        phase=_kernel_phases(problem, width),
        rows=rows,
        bounds=problem.bounds,
        row_magnitude=row_magnitude * (1.0 + 1e-12),
        starts=problem.starts,
        factor=slack * (error_factor(operations) + magnitudes.noise_factor),
        floor=slack * (magnitudes.underflow + magnitudes.noise_floor),
        recorded=slack > 1.0,
    )


def _kernel_phases(problem: Problem, width: int) -> Int8:
    """The phases asked for, [layers, width]."""
    phases = np.zeros((len(problem.layer_phases), width), dtype=np.int8)
    for row, asked in zip(phases, problem.layer_phases, strict=True):
        row[: len(asked)] = asked
    return phases


def _kernel_work(network: KernelNetwork, problem: Problem) -> KernelWork:
    depth, width = network.bias.shape
    inputs, forms = problem.chain.num_inputs, len(problem.bounds) + len(problem.cases) + 1
    base = problem.upper - problem.lower
    return KernelWork(
        alpha=np.zeros((depth, width)),
        slope=np.zeros((depth, width)),
        intercept=np.zeros((depth, width)),
        trial_alpha=np.zeros((depth, width)),
        best_alpha=np.zeros((depth, width)),
        lam_at=np.zeros((depth, width)),
        post=np.zeros((depth, width)),
        live=np.zeros((depth, width), dtype=np.int64),
        live_count=np.zeros(depth, dtype=np.int64),
        lam=np.zeros(width),
        product=np.zeros(width),
        coefficient=np.zeros(width),
        spread=np.zeros(inputs),
        blame=np.zeros(inputs),
        forms=np.zeros((forms, inputs)),
        constants=np.zeros(forms),
        nu=np.zeros(len(problem.bounds)),
        best_nu=np.zeros(len(problem.bounds)),
        row_values=np.zeros(forms),
        point=np.zeros(inputs),
        box_lower=np.zeros(inputs),
        box_upper=np.zeros(inputs),
        hull_lower=np.zeros(inputs),
        hull_upper=np.zeros(inputs),
        base_width=np.where(base > 0, base, 1.0),
    )


def _kernel_stack(network: KernelNetwork, problem: Problem) -> KernelStack:
    (depth, width), inputs = network.bias.shape, problem.chain.num_inputs
    slots = max(8, min(STACK_SLOTS, 200_000_000 // (16 * depth * width)))
    stack = KernelStack(
        box_lower=np.zeros((slots, inputs)),
        box_upper=np.zeros((slots, inputs)),
        lower=np.full((slots, depth, width), -np.inf),
        upper=np.full((slots, depth, width), np.inf),
        open_case=np.ones((slots, len(problem.cases)), dtype=np.bool_),
        depth=np.zeros(slots, dtype=np.int64),
        share=np.zeros(slots),
        tried=np.zeros(slots, dtype=np.int64),
    )
    stack.box_lower[0], stack.box_upper[0] = problem.lower, problem.upper
    # Only inputs that follow the pattern matter, so its phases are bounds from the start.
    stack.lower[0][network.phase > 0] = 0.0
    stack.upper[0][network.phase < 0] = 0.0
    return stack
