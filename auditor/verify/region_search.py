"""Falsification by linear programs, region by region.

Where the phase of every neuron is fixed the network is linear, and a linear program finds
the input of that region that violates a case most. Its optimum often lies on the border
to a region where more is to be had; so the search goes on from there. A pattern leaves few
regions and thin ones, which descents along gradients miss.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from auditor.verify.leaf_program import least_violation
from auditor.verify.network import GraphNetwork, Network
from auditor.verify.network.chain import Float64
from auditor.verify.network.graph import INPUT
from auditor.verify.phases import Int8
from auditor.verify.problem import Problem
from auditor.verify.torch_map import torch_terms

ROUNDS = 8
MAX_PRODUCTS = 2_000_000_000
MAX_CELLS = 4_000_000


class RegionSearch:
    """Descends from an input through neighbouring linear regions of the pattern."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        network = problem.network
        chain = isinstance(network, Network)
        self.graph = GraphNetwork.from_chain(network) if isinstance(network, Network) else network
        inputs, neurons = self.graph.num_inputs, len(problem.phases)
        products = inputs * (neurons * inputs if chain else self.graph.evaluation_cost)
        curved = any(layer.curve is not None for layer in self.graph.layers)
        self.is_affordable = (
            not curved and products <= MAX_PRODUCTS and neurons * inputs <= MAX_CELLS
        )

    def descend(self, case: int, start: Float64, deadline: float) -> Iterator[tuple[int, Float64]]:
        """Candidates (case, input) that violate the case in plain floats.

        Args:
            case: The case to violate.
            start: An input, [inputs]; its free neurons say where to begin.
            deadline: `time.monotonic()` value after which no program is begun.
        """
        seen: set[bytes] = set()
        point = start
        for _ in range(ROUNDS):
            phases = self._phases(point)
            key = phases.tobytes()
            if key in seen or time.monotonic() >= deadline:
                return
            seen.add(key)
            coefficients, constants = self._conditions(case, phases)
            answer = least_violation(
                coefficients, constants, self.problem.lower, self.problem.upper
            )
            if answer is None:
                return
            point = answer.point
            if self.problem.violation(point[None])[0, case] <= 0:
                yield case, point
                return

    def _phases(self, point: Float64) -> Int8:
        """The pattern's phases, and elsewhere those of the input, [hidden neurons]."""
        before = self.problem.network.preactivations(point[None])
        own = [
            np.where(value[0] >= 0, 1, -1).astype(np.int8)
            for value, layer in zip(before, self.graph.layers, strict=True)
            if layer.relu
        ]
        shown = np.concatenate([np.zeros(0, dtype=np.int8), *own])
        phases: Int8 = np.where(self.problem.phases != 0, self.problem.phases, shown)
        return phases

    def _conditions(self, case: int, phases: Int8) -> tuple[Float64, Float64]:
        """Linear forms that are all <= 0 at a violation in a region: rows, then phases."""
        problem, graph = self.problem, self.graph
        eye = torch.eye(graph.num_inputs, dtype=torch.float64)
        slopes: dict[int, Tensor] = {INPUT: eye}
        offsets: dict[int, Tensor] = {INPUT: eye.new_zeros(graph.num_inputs)}
        forms: list[Tensor] = []
        constants: list[Tensor] = []
        slope, offset, used = eye, eye.new_zeros(graph.num_inputs), 0
        for k, (layer, terms) in enumerate(zip(graph.layers, torch_terms(graph), strict=True)):
            slope = torch.stack([term.map.apply(slopes[term.source]) for term in terms]).sum(dim=0)
            parts = [term.map.apply(offsets[term.source]) for term in terms]
            offset = torch.stack([*parts, torch.from_numpy(layer.bias)]).sum(dim=0)
            if layer.relu:
                sign = torch.from_numpy(phases[used : used + layer.num_outputs].astype(np.float64))
                used += layer.num_outputs
                forms.append((-sign * slope).T)
                constants.append(-sign * offset)
                slope, offset = slope * (sign > 0), offset * (sign > 0)
            slopes[k], offsets[k] = slope, offset
        first, last = int(problem.starts[case]), int(problem.starts[case + 1])
        rows = torch.from_numpy(problem.rows[first:last])
        forms.insert(0, rows @ slope.T)
        constants.insert(0, rows @ offset - torch.from_numpy(problem.bounds[first:last]))
        return torch.cat(forms).numpy(), torch.cat(constants).numpy()
