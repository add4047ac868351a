"""Questions to Z3 during a search: within their limits, counted, on the clock."""

from __future__ import annotations

import time
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from auditor.verify.network.chain import Float64
from auditor.verify.outcome import Limits, Statistics
from auditor.verify.problem import Problem
from auditor.verify.semantics import Semantics

ExactBox = tuple[tuple[Fraction, ...], tuple[Fraction, ...]]
Bounds = list[tuple[Float64, Float64]] | None


class Z3Reply(NamedTuple):
    """What Z3 made of a case: refuted if both are empty; an input that meets it, or why not."""

    why_not: str = ""
    point: tuple[Fraction, ...] | None = None


@dataclass
class Z3Queries:
    """Asks Z3 whether anything meets a case of a problem.

    Attributes:
        limits: How many queries, and how much each may use.
        seed: Of Z3.
        semantics: Z3 knows the reals only.
        statistics: What is used is counted there.
        deadline: By `time.monotonic`; no query begins after it.
    """

    limits: Limits
    seed: int
    semantics: Semantics
    statistics: Statistics
    deadline: float

    def refute(self, problem: Problem, case: int, box: ExactBox | None, bounds: Bounds) -> Z3Reply:
        """Ask about one case.

        Args:
            problem: The problem.
            case: Number of its case.
            box: Ends of the inputs; all of the problem's if None.
            bounds: Of neurons that are known, layer by layer.
        """
        from auditor.verify.smt import decide_with_z3, why_not_z3  # loading takes time

        why = self._why_not_now() or why_not_z3(problem.stated)
        if why:
            return Z3Reply(why)
        with self.statistics.timed("z3"):
            answer = decide_with_z3(
                problem.stated,
                problem.cases[case],
                rlimit=self.limits.z3_rlimit,
                seed=self.seed,
                lower=box[0] if box else None,
                upper=box[1] if box else None,
                neuron_bounds=bounds,
                phases=problem.layer_phases,
            )
        self.statistics.z3_queries += 1
        self.statistics.z3_rlimit += answer.rlimit
        if answer.status == "unsat":
            return Z3Reply()
        if answer.point is None:
            return Z3Reply(f"Z3 gave no answer with {answer.unstable} open ReLUs ({answer.reason})")
        return Z3Reply(point=tuple(answer.point))

    def _why_not_now(self) -> str:
        if self.semantics is Semantics.FLOAT32:
            return "Z3 reasons about the reals, not about float32 execution"
        if self.statistics.z3_queries >= self.limits.z3_queries:
            return f"the limit of {self.limits.z3_queries} Z3 queries is reached"
        if time.monotonic() >= self.deadline:
            return f"the time limit of {self.limits.time_s:g} s is reached"
        return ""
