"""Looking for a counterexample first: centre, corners, then many seeded descents.

Half of the batches take Polyak steps in coordinates scaled by the box (step
`1.5 v g_i q_i^2 / sum((g_k q_k)^2)`, radii q cycled over restarts), half take decaying
sign steps (Madry et al. 2018, 1706.06083). The effort is budgeted by network
evaluations, so that the result depends on the seed and not on the machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import product

import numpy as np
from numpy.typing import NDArray

from auditor.verify.network.chain import Float64
from auditor.verify.problem import Problem

STEPS = 12
SIGN_STEPS = 30
BATCH = 256
MAX_CORNER_INPUTS = 10
DEEPENING_SCALES = (0.3, 0.1, 1e-2, 1e-3, 1e-4)

Indices = NDArray[np.int64]


class Falsifier:
    """A seeded search for inputs that violate a case of a problem.

    Attributes:
        evaluations: Network evaluations spent so far, one per input tried.
        closest: The case and input nearest to a violation so far, None before any try.
    """

    def __init__(self, problem: Problem, seed: int) -> None:
        self.problem = problem
        self.random = np.random.default_rng(seed)
        self.evaluations = 0
        self.closest: tuple[int, Float64] | None = None
        self._closest_value = np.inf
        self._batches = 0

    def try_obvious_points(self) -> Iterator[tuple[int, Float64]]:
        """Candidates (case, input) among centre, corners and the corners that slope down."""
        problem = self.problem
        center = 0.5 * problem.lower + 0.5 * problem.upper
        points = [center]
        varying = np.flatnonzero(problem.upper > problem.lower)
        if len(varying) <= MAX_CORNER_INPUTS:
            for choice in product((False, True), repeat=len(varying)):
                corner = center.copy()
                corner[varying] = np.where(choice, problem.upper[varying], problem.lower[varying])
                points.append(corner)
        for case in range(len(problem.cases)):
            _, gradient = self._value_and_gradient(center[None], np.array([case]))
            points.append(np.where(gradient[0] > 0, problem.lower, problem.upper))
        yield from self._hits(np.array(points))

    def descend(self, budget: int, deadline: float) -> Iterator[tuple[int, Float64]]:
        """Candidates (case, input) of seeded descents, until `evaluations` reaches budget.

        Args:
            budget: Total evaluations after which to stop.
            deadline: `time.monotonic()` value after which to stop.
        """
        while self.evaluations < budget and time.monotonic() < deadline:
            cases = (self._batches * BATCH + np.arange(BATCH)) % len(self.problem.cases)
            # Few inputs: Polyak descent is far better; many inputs: both take turns.
            polyak = self._batches % 2 == 0 or self.problem.varying <= 20
            self._batches += 1
            best = self._polyak(cases) if polyak else self._sign_steps(cases)
            yield from self._hits(best)

    def deepen(self, case: int, point: Float64) -> Float64:
        """The point after descending further on a case; never shallower in floats.

        A deeper witness survives the rounding of the deployed runtime.
        """
        radius, cases = self.problem.radius, np.array([case])
        best = point[None].copy()
        for scale in DEEPENING_SCALES:

            def step(
                _: Float64, gradient: Float64, number: int, which: Indices, scale: float = scale
            ) -> Float64:
                del which
                move: Float64 = scale * 0.8**number * radius * np.sign(gradient)
                return move

            best = self._walk(best, cases, step, 2 * STEPS)
        deepest: Float64 = best[0]
        return deepest

    def _hits(self, points: Float64) -> Iterator[tuple[int, Float64]]:
        """The deepest point of each case it violates, in plain floats."""
        values = self.problem.violation(points)
        self.evaluations += len(points)
        for case in range(values.shape[1]):
            index = int(np.argmin(values[:, case]))
            if values[index, case] < self._closest_value:
                self._closest_value = float(values[index, case])
                self.closest = case, points[index].copy()
            if values[index, case] <= 0:
                yield case, points[index]

    def _polyak(self, cases: Indices) -> Float64:
        problem, count = self.problem, len(cases)
        points = self._starts(count)
        scales = problem.radius * 0.5 ** (np.arange(count) % 6)[:, None]

        def step(value: Float64, gradient: Float64, _: int, which: Indices) -> Float64:
            scale = scales[which]
            length = ((gradient * scale) ** 2).sum(axis=1, keepdims=True)
            # Past the border the aim stays a little deeper, so that a hit gains margin.
            aim = np.maximum(np.abs(value), 1e-6)[:, None]
            with np.errstate(divide="ignore", invalid="ignore"):
                move = 1.5 * aim * gradient * scale**2 / length
            limited: Float64 = np.clip(np.where(length > 0, move, 0.0), -2 * scale, 2 * scale)
            return limited

        return self._walk(points, cases, step, STEPS)

    def _sign_steps(self, cases: Indices) -> Float64:
        radius = self.problem.radius

        def step(_: Float64, gradient: Float64, number: int, which: Indices) -> Float64:
            del which
            move: Float64 = 0.3 * 0.9**number * radius * np.sign(gradient)
            return move

        return self._walk(self._starts(len(cases)), cases, step, SIGN_STEPS)

    def _walk(
        self,
        points: Float64,
        cases: Indices,
        step: Callable[[Float64, Float64, int, Indices], Float64],
        steps: int,
    ) -> Float64:
        """Descend each point on its case; returns the deepest point each one saw."""
        best, best_value = points.copy(), np.full(len(points), np.inf)
        moving = np.arange(len(points))
        for number in range(steps):
            value, gradient = self._value_and_gradient(points[moving], cases[moving])
            better = value < best_value[moving]
            best[moving[better]] = points[moving[better]]
            best_value[moving[better]] = value[better]
            # A zero gradient never moves again: such a start costs one evaluation.
            alive = gradient.any(axis=1)
            moving, value, gradient = moving[alive], value[alive], gradient[alive]
            if not len(moving):
                break
            move = step(value, gradient, number, moving)
            points[moving] = np.clip(points[moving] - move, self.problem.lower, self.problem.upper)
        return best

    def _starts(self, count: int) -> Float64:
        """Half uniform points, half corners, [count, inputs]."""
        problem = self.problem
        uniform = self.random.random((count, len(problem.lower)))
        corners = count // 4
        uniform[:corners] = np.round(uniform[:corners])
        points: Float64 = problem.lower + uniform * (problem.upper - problem.lower)
        return np.clip(points, problem.lower, problem.upper)

    def _value_and_gradient(self, points: Float64, cases: Indices) -> tuple[Float64, Float64]:
        """Largest row excess of each point's case and its gradient.

        Outside the pattern the value is what the pattern is missed by, plus a positive
        excess: descending leads back into it.

        Args:
            points: [samples, inputs].
            cases: Case of each sample, [samples].

        Returns:
            Values [samples] and gradients [samples, inputs].
        """
        problem, network = self.problem, self.problem.network
        self.evaluations += len(points)
        before = network.preactivations(points)
        outputs = network.outputs(before)
        row_case = np.repeat(np.arange(len(problem.cases)), np.diff(problem.starts))
        masked = np.where(row_case[None, :] == cases[:, None], problem.excess(outputs), -np.inf)
        values, over = np.full(len(points), -np.inf), np.zeros_like(outputs)
        if masked.shape[1]:
            worst = masked.argmax(axis=1)
            values, over = masked[np.arange(len(points)), worst], problem.rows[worst]
        if not problem.has_pattern:
            return values, network.gradient(before, over)
        missed = problem.missed(before)
        outside = missed > 0
        over = np.where((outside & (values <= 0))[:, None], 0.0, over)
        gradient = network.gradient(before, over, problem.missed_gradients(before))
        return np.where(outside, np.maximum(values, 0.0) + missed, values), gradient
