"""Judging candidate inputs: which of them counts as a witness."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from auditor.verify.falsify import Falsifier
from auditor.verify.network.chain import Float64
from auditor.verify.outcome import Statistics
from auditor.verify.problem import Problem
from auditor.verify.semantics import Semantics
from auditor.verify.witness import Replayer, Witness, examine, replay_in, snap_to_float32


class WitnessJudge:
    """Examines candidates until one is confirmed or the attempts are used up.

    Attributes:
        confirmed: The witness that counts, once there is one.
        disputed: The best witness on which exact arithmetic and replays disagree.
        without_float32: Index of an input whose interval holds no float32, or None.
    """

    def __init__(
        self, replayers: Sequence[Replayer], attempts: int, statistics: Statistics
    ) -> None:
        self.replayers = replayers
        self.attempts = attempts
        self.statistics = statistics
        self.confirmed: Witness | None = None
        self.disputed: Witness | None = None
        self.without_float32: int | None = None

    @property
    def is_over(self) -> bool:
        """Whether further candidates are pointless: confirmed, or tried too often."""
        return self.confirmed is not None or self.statistics.witness_attempts >= self.attempts

    def accepts_any(
        self, problem: Problem, candidates: Iterable[tuple[int, Float64]], seed: int
    ) -> bool:
        """Examine candidates (case, input) in turn; True once one is confirmed."""
        for case, point in candidates:
            if self.is_over:
                break
            if self.accepts(problem, case, point, seed):
                return True
        return self.confirmed is not None

    def accepts(self, problem: Problem, case: int, point: Float64, seed: int) -> bool:
        """Examine a candidate, first moved deeper into the unsafe set, then as it is."""
        deeper = Falsifier(problem, seed).deepen(case, point)
        return any(self._examine(problem, case, each) for each in (deeper, point))

    def replay(self, problem: Problem, case: int, point: Float64) -> None:
        """Run an input that violates nothing in floats, to see whether runtimes agree."""
        unsafe = problem.cases[case]
        inputs = snap_to_float32(point, unsafe).inputs
        # Exact arithmetic takes longer than all runtimes: only where one of them differs.
        if any(replay_in(runtime, unsafe, inputs).violates for runtime in self.replayers):
            self._examine(problem, case, point)

    def accepts_point(self, problem: Problem, point: Float64, seed: int) -> bool:
        """Examine an input for every case it violates in plain floats."""
        if self.is_over:
            return self.confirmed is not None
        values = problem.violation(point[None])[0]
        return any(
            self.accepts(problem, int(case), point, seed)
            for case in np.argsort(values, kind="stable")
            if values[case] <= 0
        )

    def _examine(self, problem: Problem, case: int, point: Float64) -> bool:
        self.statistics.witness_attempts += 1
        unsafe = problem.cases[case]
        snapped = snap_to_float32(point, unsafe)
        if snapped.outside:
            self.without_float32 = snapped.outside[0]
            if problem.semantics is Semantics.FLOAT32:
                return False  # nothing a float32 runtime is given lies in the box
        witness = examine(
            problem.stated,
            unsafe,
            snapped.inputs,
            self.replayers,
            exact=snapped.exact,
            semantics=problem.semantics,
            phases=problem.layer_phases,
        )
        if not witness.follows:
            return False  # the property does not speak of this input
        if witness.confirmed:
            self.confirmed = witness
            return True
        violates = witness.exact_violates or any(r.violates for r in witness.replays)
        if violates and (self.disputed is None or witness.margin > self.disputed.margin):
            self.disputed = witness
        return False
