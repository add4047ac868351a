"""The minimum of an output by enumerating ReLU phases: a slow, independent reference."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import highspy
import numpy as np
from numpy.typing import NDArray

from auditor.verify.network import Network
from auditor.verify.network.chain import Float64
from auditor.verify.property import UnsafeCase


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


def least_excess_by_phases(
    network: Network, case: UnsafeCase, asked: Sequence[NDArray[np.int8]] = ()
) -> float | None:
    """Least value over the box of the largest row excess, or None where nothing is left.

    Args:
        network: A chain of at most about eight ReLUs.
        case: The box and rows, over outputs and inputs.
        asked: Phases asked of the neurons per layer, in {-1, 0, 1}.
    """
    wanted = [int(phase) for states in asked for phase in states]
    neurons = sum(layer.num_outputs for layer in network.layers if layer.relu)
    wanted += [0] * (neurons - len(wanted))
    choices = [(-1.0, 1.0) if phase == 0 else (float(phase),) for phase in wanted]
    values = [_least_on_region(network, case, signs) for signs in product(*choices)]
    return min((value for value in values if value is not None), default=None)


def _least_on_region(network: Network, case: UnsafeCase, signs: tuple[float, ...]) -> float | None:
    matrix, offset = np.eye(network.num_inputs), np.zeros(network.num_inputs)
    rest = list(signs)
    conditions: list[tuple[Float64, float, float]] = []  # form, constant, coefficient of t
    for layer in network.layers:
        matrix, offset = layer.weight @ matrix, layer.weight @ offset + layer.bias
        if not layer.relu:
            continue
        sign, rest = np.array(rest[: len(offset)]), rest[len(offset) :]
        for index, each in enumerate(sign):
            conditions.append((-each * matrix[index], -float(each * offset[index]), 0.0))
        active = sign > 0
        matrix, offset = active[:, None] * matrix, active * offset
    for row in case.rows:
        over_outputs = np.array([float(value) for value in row.coefficients])
        over_inputs = np.array([float(value) for value in row.input_coefficients] or [0.0])
        constant = float(over_outputs @ offset) - float(row.bound)
        conditions.append((over_outputs @ matrix + over_inputs, constant, -1.0))
    solver = highspy.Highs()  # type: ignore[no-untyped-call]
    solver.setOptionValue("output_flag", False)
    count = network.num_inputs
    for low, high in zip(case.lower, case.upper, strict=True):
        solver.addVar(float(low), float(high))
    infinite = highspy.kHighsInf
    solver.addVar(-1e6, 1e6)
    solver.changeColCost(count, 1.0)
    columns = np.arange(count + 1, dtype=np.int32)
    for form, constant, factor in conditions:
        solver.addRow(-infinite, -constant, count + 1, columns, np.append(form, factor))
    solver.run()
    if solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        return None
    return float(solver.getObjectiveValue())
