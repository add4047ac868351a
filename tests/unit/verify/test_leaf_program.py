"""Linear programs of leaves, on conditions whose optimum is known."""

from __future__ import annotations

import subprocess
import sys

import highspy
import numpy as np

from auditor.verify.leaf_program import least_violation

LOWER, UPPER = np.array([-1.0, -1.0]), np.array([1.0, 1.0])


def test_duals_of_a_refuted_leaf_give_a_positive_bound() -> None:
    """x + 1/2 <= 0 and -x + 1/2 <= 0 contradict each other: half of each sums to 1/2."""
    coefficients, constants = np.array([[1.0, 0.0], [-1.0, 0.0]]), np.array([0.5, 0.5])
    answer = least_violation(coefficients, constants, LOWER, UPPER)
    assert answer is not None
    assert np.allclose(answer.multipliers, [0.5, 0.5])
    form, offset = answer.multipliers @ coefficients, answer.multipliers @ constants
    assert offset - np.abs(form).sum() > 0.49


def test_the_point_of_an_open_leaf_satisfies_every_condition() -> None:
    coefficients, constants = np.array([[1.0, 1.0], [-1.0, 0.0]]), np.array([0.5, -0.25])
    answer = least_violation(coefficients, constants, LOWER, UPPER)
    assert answer is not None
    assert (coefficients @ answer.point + constants <= 0).all()
    assert (answer.point >= LOWER).all()
    assert (answer.point <= UPPER).all()


def test_conditions_that_no_program_can_hold_are_given_up() -> None:
    assert least_violation(np.array([[np.nan, 0.0]]), np.array([0.0]), LOWER, UPPER) is None


def test_another_number_of_threads_in_the_process_does_not_stop_the_solver() -> None:
    """HiGHS starts its threads once a process; here somebody else did, with two."""
    other = highspy.Highs()  # type: ignore[no-untyped-call]
    other.setOptionValue("output_flag", False)
    other.setOptionValue("threads", 2)
    other.resetGlobalScheduler(True)
    other.addVar(0.0, 1.0)
    other.run()
    form = np.array([[1.0]])
    assert least_violation(form, np.array([2.0]), np.array([-1.0]), np.array([1.0])) is not None


def test_the_solver_prints_nothing() -> None:
    """What a command prints may be read by a program."""
    code = (
        "import numpy as np; from auditor.verify.leaf_program import least_violation; "
        "least_violation(np.eye(2), np.ones(2), np.zeros(2), np.ones(2)); print('mine')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "mine\n"
