"""Leaves of a ReLU tree as linear programs, whose duals are certified afterwards.

Where every phase is fixed the network is linear. The program asks for the point that
violates least: `min t` with every row and every negated phase condition at most t. Its
optimum is positive exactly if the leaf holds no violation, and then its duals are the
row weights and phase multipliers of a linear bound that is positive on the whole box.
The solver's floats are never trusted: the duals go through a rigorous backward pass.
"""

from __future__ import annotations

import ctypes
import functools
import os
from dataclasses import dataclass
from pathlib import Path

import highspy
import numpy as np

from auditor.verify.network.chain import Float64

TIME_LIMIT_S = 10.0


@dataclass(frozen=True, eq=False)
class LeafAnswer:
    """What the solver found.

    Attributes:
        point: The input that violates least, [inputs].
        multipliers: One non-negative number per condition, [conditions].
    """

    point: Float64
    multipliers: Float64


@functools.cache
def _swallow_banner() -> None:
    """Make HiGHS say its name where nobody reads it: the first solver of a process prints it.

    It does so before any option can be set, into the C library's buffer of standard output,
    where it would end up in the middle of what a command prints for another program.
    """
    library = ctypes.CDLL(None) if os.name == "posix" else ctypes.cdll.msvcrt
    library.fflush(None)
    try:
        standard = os.dup(1)
    except OSError:
        return  # closed: nobody reads it anyway
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            highspy.Highs()  # type: ignore[no-untyped-call]
            library.fflush(None)
    finally:
        os.dup2(standard, 1)
        os.close(standard)


def least_violation(
    coefficients: Float64, constants: Float64, lower: Float64, upper: Float64
) -> LeafAnswer | None:
    """Minimise the largest `coefficients @ x + constants` over a box.

    Args:
        coefficients: One row per condition, [conditions, inputs].
        constants: [conditions].
        lower: Lower ends of the box, [inputs].
        upper: Upper ends.

    Returns:
        Point and duals, or None when the solver gave up.
    """
    conditions, inputs = coefficients.shape
    program = highspy.HighsLp()
    program.num_col_, program.num_row_ = inputs + 1, conditions
    program.col_cost_ = np.concatenate([np.zeros(inputs), [1.0]])
    reach = 1.0 + float(np.abs(constants).max(initial=0.0))
    reach += float((np.abs(coefficients) @ np.maximum(np.abs(lower), np.abs(upper))).max(initial=0))
    program.col_lower_ = np.concatenate([lower, [-reach]])
    program.col_upper_ = np.concatenate([upper, [reach]])
    program.row_lower_ = np.full(conditions, -highspy.kHighsInf)
    program.row_upper_ = -constants
    table = np.concatenate([coefficients, -np.ones((conditions, 1))], axis=1)
    program.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    program.a_matrix_.start_ = np.arange(conditions + 1) * (inputs + 1)
    program.a_matrix_.index_ = np.tile(np.arange(inputs + 1), conditions)
    program.a_matrix_.value_ = table.ravel()
    _swallow_banner()
    solver = highspy.Highs()  # type: ignore[no-untyped-call]
    for option, value in (
        ("output_flag", False), ("threads", 1), ("time_limit", TIME_LIMIT_S), ("random_seed", 0),
    ):  # fmt: skip
        solver.setOptionValue(option, value)
    solver.passModel(program)
    solver.run()
    if solver.getModelStatus() == highspy.HighsModelStatus.kNotset:
        # Another user of HiGHS in this process had started its threads in another number.
        solver.resetGlobalScheduler(True)
        solver.run()
    if solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        return None
    solution = solver.getSolution()
    duals = np.array(solution.row_dual[:conditions], dtype=np.float64)
    point = np.array(solution.col_value[:inputs], dtype=np.float64)
    return LeafAnswer(np.clip(point, lower, upper), np.maximum(-duals, 0.0))
