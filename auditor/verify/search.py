"""Deciding a property: vacuity, falsifier, bounds, branching, Z3, in this order.

    network = network_from_onnx(onnx.load("model.onnx"))
    prop = load_property("safe.vnnlib", num_inputs=5, num_outputs=5)
    outcome = verify(network, prop, limits=Limits(time_s=60), replay=replayer)

The verdict is about the real function of the stored weights, for every real input of
the set (or, with float32 semantics, about its executions), and rigorous: rounding is on
the safe side. Counts limit the work, so a verdict
is reproducible; the clock only ever turns an answer into `unknown`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from auditor.verify.endings import holding, unknown, witnessed
from auditor.verify.engine_choice import Engine, has_curves, refuse_curves, suits_input_search
from auditor.verify.executions import why_not_executed
from auditor.verify.falsify import Falsifier
from auditor.verify.followers import has_known_follower
from auditor.verify.judge import WitnessJudge
from auditor.verify.network import GraphNetwork, Network
from auditor.verify.network.chain import Float64
from auditor.verify.outcome import Limits, Outcome, Statistics
from auditor.verify.problem import Problem, problems_of
from auditor.verify.proof import Proof
from auditor.verify.property import Property, nobody_follows
from auditor.verify.semantics import Semantics
from auditor.verify.vacuity import Vacuity, examine_vacuity
from auditor.verify.witness import Replayer
from auditor.verify.z3_queries import Bounds, ExactBox, Z3Queries

if TYPE_CHECKING:
    from auditor.verify.box_search import BoxSearch, Leaf, SearchEnd
    from auditor.verify.relu_search import ReluSearch

__all__ = ["Limits", "Outcome", "Statistics", "verify"]

Progress = Callable[[float, str], None]

FIRST_EVALUATIONS = 6_000
FIRST_BOXES = 1_000
FIRST_NODES = 64
REGION_SHARE = 0.4  # of the time that is left, for linear programs in a pattern's regions
# Networks so small that Z3 is asked about the whole of what ReLU splitting left open.
WHOLE_Z3_RELUS = 24
WHOLE_Z3_INPUTS = 64


def verify(
    network: Network | GraphNetwork,
    prop: Property,
    *,
    limits: Limits | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    replay: Replayer | Sequence[Replayer] | None = None,
    engine: Engine = "auto",
    device: str = "cpu",
    semantics: Semantics = Semantics.REAL,
    proofs: list[Proof] | None = None,
) -> Outcome:
    """Decide whether a property holds for every input of its set.

    Args:
        network: The network, exactly as stored.
        prop: The property; see `load_property` and `robustness_property`.
        limits: What may be used.
        seed: Seed of the falsifier and of Z3.
        progress: Called with (share of the search space refuted, text).
        replay: Runtime or runtimes in which a witness must violate too. Without one a
            counterexample gives `unknown`, with the witness attached.
        engine: `auto`; or only one: `boxes` (input splitting of chains, compiled), `relus`
            (ReLU splitting), `inputs` (input splitting of any graph), `z3`.
        device: Torch device of the ReLU-splitting engine and of `inputs`.
        semantics: Whether the verdict speaks of the real function of the stored weights, or
            of the network as float32 runtimes execute it, in any order of summation.
        proofs: Where to put what was done to refute each of the property's problems, for a
            certificate; Z3 then takes no part.

    Returns:
        `holds`, `violated` with its witness, or `unknown` with how far it got.

    Raises:
        PropertyMismatch: The property is for a network of another size.
        UnsupportedModel: The engine asked for does not know the network's activations.
    """
    limits = limits or Limits()
    replayers = () if replay is None else (replay,) if callable(replay) else tuple(replay)
    told = progress or (lambda share, text: None)
    return _Run(
        network, prop, limits, seed, told, replayers, engine, device, semantics, proofs
    ).decide()


@dataclass
class _Run:
    """One verification: the stages, and what they share; see `verify`."""

    network: Network | GraphNetwork
    prop: Property
    limits: Limits
    seed: int
    progress: Progress
    replayers: Sequence[Replayer]
    engine: Engine
    device: str
    semantics: Semantics
    proofs: list[Proof] | None = None
    statistics: Statistics = field(default_factory=Statistics)
    met_by_real_input: bool = False

    def __post_init__(self) -> None:
        self.judge = WitnessJudge(self.replayers, self.limits.witness_attempts, self.statistics)
        self.deadline = time.monotonic() + self.limits.time_s
        self.z3 = Z3Queries(self.limits, self.seed, self.semantics, self.statistics, self.deadline)

    def decide(self) -> Outcome:
        """Run the stages until one of them decides."""
        refuse_curves(self.network, self.engine)
        problems = problems_of(self.network, self.prop, self.semantics)
        if self.semantics is Semantics.FLOAT32:
            why = why_not_executed(self.network, self.prop, problems)
            if why:
                return unknown(self.judge, self.statistics, why)
        with self.statistics.timed("vacuity"):
            vacuity = examine_vacuity(self.prop)
        if vacuity.empty:
            return unknown(self.judge, self.statistics, vacuity.text)
        kept: Sequence[Problem] = problems
        if self.proofs is None:
            kept = self._without_trivial_cases(problems, vacuity)
        open_problems = self._refute(kept)
        if self.judge.confirmed or self._is_false_exactly():
            return witnessed(self.judge, self.semantics, self.statistics)
        if open_problems:
            return unknown(self.judge, self.statistics, open_problems[0])
        why = vacuity.unresolved or self._why_nobody_follows()
        if why:
            return unknown(self.judge, self.statistics, why)
        return holding(self.judge, self.prop, self.semantics, vacuity, self.statistics)

    def _refute(self, problems: Sequence[Problem]) -> list[str]:
        """Refute the problems or find a witness; why some of them stayed open."""
        falsifiers = [Falsifier(problem, self.seed) for problem in problems]
        if self._falsify(problems, falsifiers, FIRST_EVALUATIONS):
            return []
        open_problems: list[str] = []
        for problem, falsifier in zip(problems, falsifiers, strict=True):
            stopped = self._prove(problem, falsifier, 1.0 / len(problems))
            if self.judge.confirmed or self._is_disproved():
                return []
            if stopped:
                open_problems.append(stopped)
        if not self._is_false_exactly():
            self._replay_closest(problems, falsifiers)
        return open_problems

    # Stages

    def _why_nobody_follows(self) -> str:
        """Why a proof may say nothing: no input is known to follow the pattern."""
        if self.prop.pattern is None or self.prop.says_nobody_follows:
            return ""
        if has_known_follower(self.network, self.prop):
            return ""
        left = replace(self.limits, time_s=max(0.0, self.deadline - time.monotonic()))
        inner = _Run(
            self.network, nobody_follows(self.prop), left, self.seed, self.progress, (),
            self.engine, self.device, Semantics.REAL,
        )  # fmt: skip
        with self.statistics.timed("pattern"):
            open_problems = inner._refute(problems_of(inner.network, inner.prop))
        if inner.met_by_real_input or inner._is_false_exactly():
            return ""
        if not open_problems:
            return "no input of the set follows the pattern: the property says nothing"
        return (
            "every input that follows the pattern satisfies the property, but whether there is "
            "one was not settled; give the pattern an example that follows it"
        )

    def _falsify(
        self, problems: Sequence[Problem], falsifiers: Sequence[Falsifier], budget: int
    ) -> bool:
        """Try to find a witness with a total budget of evaluations; True when one counts."""
        budget = min(budget, self.limits.falsifier_evaluations) // max(1, len(problems))
        with self.statistics.timed("falsifier"):
            for problem, falsifier in zip(problems, falsifiers, strict=True):
                before = falsifier.evaluations
                allowed = problem.affordable_evaluations(budget)
                try:
                    if budget and (
                        (before == 0 and self._accept(problem, falsifier.try_obvious_points()))
                        or self._accept(problem, falsifier.descend(allowed, self.deadline))
                    ):
                        return True
                finally:
                    self.statistics.falsifier_evaluations += falsifier.evaluations - before
                if self._is_disproved():
                    return True
        return False

    def _falsify_regions(
        self, problem: Problem, falsifier: Falsifier, cases: Collection[int]
    ) -> bool:
        """Look in the linear regions of a pattern for a witness of cases; True when one counts."""
        pattern = self.prop.pattern
        start = falsifier.closest[1] if falsifier.closest is not None else None
        if pattern is not None and pattern.example is not None:
            start = np.array([float(value) for value in pattern.example])
        if pattern is None or start is None or not self.limits.falsifier_evaluations:
            return False
        # Loads torch, which the compiled search of small chains does not need.
        from auditor.verify.region_search import RegionSearch

        search = RegionSearch(problem)
        if not search.is_affordable or len(start) != len(problem.lower):
            return False
        now = time.monotonic()
        deadline = now + REGION_SHARE * (self.deadline - now)
        with self.statistics.timed("regions"):
            nearest = np.argsort(problem.violation(start[None])[0], kind="stable").tolist()
            for case in filter(cases.__contains__, nearest):
                if self._accept(problem, search.descend(case, start, deadline)):
                    return True
                if self._is_disproved():
                    return True
        return False

    def _replay_closest(self, problems: Sequence[Problem], falsifiers: Sequence[Falsifier]) -> None:
        """Run the inputs nearest to a violation, since a runtime rounds and a proof does not."""
        for problem, falsifier in zip(problems, falsifiers, strict=True):
            if falsifier.closest is not None and self.judge.replayers:
                self.judge.replay(problem, *falsifier.closest)

    def _accept(self, problem: Problem, candidates: Iterator[tuple[int, Float64]]) -> bool:
        return self.judge.accepts_any(problem, candidates, self.seed)

    def _prove(self, problem: Problem, falsifier: Falsifier, share: float) -> str:
        """Refute every case of a problem; an empty text when done, else why it stopped."""
        proof = None
        if self.proofs is not None:
            proof = Proof()
            self.proofs.append(proof)
        if self.engine == "z3":
            return self._decide_whole_with_z3(problem, share)
        # Only splits of signs and of a chain's inputs can be certified.
        free = proof is None or has_curves(problem)
        suited = self.engine == "auto" and free and suits_input_search(problem)
        if not (self.engine == "inputs" or suited):
            # The compiler of its kernel is heavy to load, and many witnesses are found before.
            from auditor.verify.box_search import fits_box_search

            if self.engine == "relus" or (self.engine == "auto" and not fits_box_search(problem)):
                return self._search_relus(problem, falsifier, share, proof)
        if self._falsify_regions(problem, falsifier, range(len(problem.cases))):
            return "a witness was found"
        if self.engine == "inputs" or suited:
            return self._search_inputs(problem, falsifier, share)
        # The first box search on a machine compiles its kernel, which takes a while.
        self.progress(0.0, "preparing the search")
        search = self._box_search(problem, share, proof)
        started = time.monotonic()
        with self.statistics.timed("preparation"):
            search.prepare()
        # Compiling once per machine is not part of anybody's time limit.
        self.deadline += time.monotonic() - started
        end = self._search_boxes(problem, search, FIRST_BOXES)
        if not end.finished and not (self.judge.confirmed or self._is_disproved()):
            # A long search is ahead: many cheap starts first, they are worth seconds.
            if self._falsify([problem], [falsifier], self.limits.falsifier_evaluations):
                return "a witness was found"
            end = self._search_boxes(problem, search, self.limits.max_boxes)
        stopped = self._close_leaves(problem, end.leaves, proof)
        return end.stopped or stopped

    def _box_search(self, problem: Problem, share: float, proof: Proof | None) -> BoxSearch:
        if proof is None:
            from auditor.verify.box_search import BoxSearch

            return BoxSearch(problem, share)
        from auditor.verify.box_record import RecordedBoxSearch  # only for certificates

        return RecordedBoxSearch(problem, proof, share)

    def _search_boxes(self, problem: Problem, search: BoxSearch, boxes: int) -> SearchEnd:
        with self.statistics.timed("branching"):
            return search.run(
                self.limits,
                self.statistics,
                self.deadline,
                min(boxes, self.limits.max_boxes),
                lambda point: (
                    self.judge.accepts_point(problem, point, self.seed) or self._is_disproved()
                ),
                self.progress,
            )

    def _search_relus(
        self, problem: Problem, falsifier: Falsifier, share: float, proof: Proof | None
    ) -> str:
        # Torch is heavy to load and only this engine needs it.
        from auditor.verify.relu_search import ReluSearch

        with self.statistics.timed("bounds"):
            search = ReluSearch(problem, share, self.device, proof)
            if search.bound_roots(self.statistics, self.deadline):
                return ""
        stopped, first = "nothing was split", 0
        if search.shares_tree:
            # Few nodes of such a tree often suffice and cost less than the falsifier.
            first = min(self.statistics.boxes + FIRST_NODES, self.limits.max_boxes)
            stopped = self._branch_on_relus(problem, search, first)
        if stopped and first < self.limits.max_boxes and not self.judge.is_over:
            # Linear programs cost more than the bounds of many nodes, so these come first.
            if self._falsify_regions(problem, falsifier, search.open_cases):
                return "a witness was found"
            # A point of a wide network costs far more than one of a small network.
            if self._falsify([problem], [falsifier], self.limits.falsifier_evaluations // 2):
                return "a witness was found"
            stopped = self._branch_on_relus(problem, search, self.limits.max_boxes)
        return stopped if proof is not None else self._decide_small_exactly(problem, stopped)

    def _branch_on_relus(self, problem: Problem, search: ReluSearch, nodes: int) -> str:
        with self.statistics.timed("branching"):
            return search.run(
                replace(self.limits, max_boxes=nodes),
                self.deadline,
                lambda point: (
                    self.judge.accepts_point(problem, point, self.seed) or self._is_disproved()
                ),
                self.progress,
            )

    def _decide_small_exactly(self, problem: Problem, stopped: str) -> str:
        """Ask Z3 about what a search left open of a small network; why it stays open."""
        small = (
            problem.free_relus <= WHOLE_Z3_RELUS and problem.stated.num_inputs <= WHOLE_Z3_INPUTS
        )
        if not (stopped and small and self.engine == "auto") or self.judge.confirmed:
            return stopped
        if has_curves(problem):
            return stopped
        # Ties and unlucky roundings of a small network are for exact arithmetic.
        answer = self._decide_whole_with_z3(problem, 0.0)
        return answer if self.met_by_real_input else answer and stopped

    def _search_inputs(self, problem: Problem, falsifier: Falsifier, share: float) -> str:
        # Torch is heavy to load and few engines need it.
        from auditor.verify.input_search import InputSearch

        with self.statistics.timed("bounds"):
            search = InputSearch(problem, share, self.device)
            if search.bound_root(self.statistics, self.deadline):
                return ""
        if self._falsify([problem], [falsifier], self.limits.falsifier_evaluations // 2):
            return "a witness was found"
        with self.statistics.timed("branching"):
            stopped = search.run(
                self.limits,
                self.statistics,
                self.deadline,
                lambda point: (
                    self.judge.accepts_point(problem, point, self.seed) or self._is_disproved()
                ),
                self.progress,
            )
        return self._decide_small_exactly(problem, stopped)

    def _close_leaves(self, problem: Problem, leaves: Sequence[Leaf], proof: Proof | None) -> str:
        """Hand left-over boxes to Z3; an empty text when all of them are refuted."""
        if leaves and proof is not None:
            return "sub-problems that only exact arithmetic decides have no certificate"
        why = ""
        for leaf in leaves:
            bounds = list(zip(leaf.neuron_lower, leaf.neuron_upper, strict=True))
            box = tuple(map(_exact, leaf.lower)), tuple(map(_exact, leaf.upper))
            answers = [self._ask_z3(problem, case, box, bounds) for case in leaf.open_cases]
            if self.judge.confirmed or self._is_disproved():
                return "a witness was found"
            if not any(answers):
                self.statistics.closed("z3", leaf.share)
                continue
            self.statistics.open_leaves += 1
            why = why or next(filter(None, answers))
        return why

    def _decide_whole_with_z3(self, problem: Problem, share: float) -> str:
        why = ""
        for case in range(len(problem.cases)):
            answer = self._ask_z3(problem, case, None, None)
            why = why or answer
        if not why:
            self.statistics.closed("z3", share)
        return why

    def _ask_z3(self, problem: Problem, case: int, box: ExactBox | None, bounds: Bounds) -> str:
        """Whether Z3 refutes a case on a box: an empty text, or why not."""
        answer = self.z3.refute(problem, case, box, bounds)
        if answer.point is None:
            return answer.why_not
        self.met_by_real_input = True
        point = np.array([float(value) for value in answer.point])
        self.judge.accepts(problem, case, point, self.seed)
        return (
            "a real input violates the property in exact arithmetic, but no float32 input "
            "near it does"
        )

    def _without_trivial_cases(
        self, problems: Sequence[Problem], vacuity: Vacuity
    ) -> Sequence[Problem]:
        """Problems without the cases that nothing can satisfy."""
        if not vacuity.trivial:
            return problems
        cases = tuple(case for case in self.prop.cases if case not in vacuity.trivial)
        return problems_of(self.network, replace(self.prop, cases=cases), self.semantics)

    # Endings

    def _is_disproved(self) -> bool:
        """Whether the property is known to be false over the reals and attempts are used up."""
        return self.judge.is_over and self._is_false_exactly()

    def _is_false_exactly(self) -> bool:
        """Whether an input violates the property in exact arithmetic, and that decides."""
        disputed = self.judge.disputed
        exactly = disputed is not None and disputed.exact_violates
        return exactly and self.semantics is Semantics.REAL


def _exact(value: float) -> Fraction:
    return Fraction(float(value))
