"""The minimum of an output by enumerating ReLU phases: a slow, independent reference."""

from __future__ import annotations

from itertools import product

import highspy
import numpy as np

from auditor.verify.network import Network
from auditor.verify.network.chain import Float64


def minimum_by_phases(network: Network, lower: Float64, upper: Float64) -> float:
    """Least value of output 0 over a box, one linear program per phase pattern.

    Exact up to the linear solver's tolerance; meant for at most about eight ReLUs.
    """
    neurons = sum(layer.num_outputs for layer in network.layers if layer.relu)
    values = [
        _minimum_on_region(network, lower, upper, phases)
        for phases in product((0.0, 1.0), repeat=neurons)
    ]
    return min(value for value in values if value is not None)


def _minimum_on_region(
    network: Network, lower: Float64, upper: Float64, phases: tuple[float, ...]
) -> float | None:
    matrix, offset = np.eye(network.num_inputs), np.zeros(network.num_inputs)
    rest = list(phases)
    rows, ends = [], []
    for layer in network.layers:
        matrix, offset = layer.weight @ matrix, layer.weight @ offset + layer.bias
        if not layer.relu:
            continue
        phase, rest = np.array(rest[: len(offset)]), rest[len(offset) :]
        signs = 2 * phase - 1
        rows.append(signs[:, None] * matrix)
        ends.append(-signs * offset)
        matrix, offset = phase[:, None] * matrix, phase * offset
    solver = highspy.Highs()  # type: ignore[no-untyped-call]
    solver.setOptionValue("output_flag", False)
    infinite = highspy.kHighsInf
    for low, high, cost in zip(lower, upper, matrix[0], strict=True):
        solver.addVar(float(low), float(high))
        solver.changeColCost(solver.getNumCol() - 1, float(cost))
    columns = np.arange(network.num_inputs, dtype=np.int32)
    for row, end in zip(np.concatenate(rows), np.concatenate(ends), strict=True):
        solver.addRow(float(end), infinite, len(columns), columns, row)
    solver.run()
    if solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        return None
    return float(solver.getObjectiveValue() + offset[0])
