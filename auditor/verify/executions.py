"""Which questions about float32 executions are not answered, asked before any search."""

from __future__ import annotations

from collections.abc import Sequence

from auditor.verify.magnitudes import interval_magnitudes
from auditor.verify.network import GraphNetwork, Network
from auditor.verify.problem import Problem
from auditor.verify.property import Property
from auditor.verify.semantics import LARGEST_32, Semantics, why_not_float32


def why_not_executed(
    network: Network | GraphNetwork, prop: Property, problems: Sequence[Problem]
) -> str:
    """Why nothing can be said of float32 executions; empty if something can.

    Carried inputs are no part of the execution. The family that bounds speak of lets them
    be as noisy as other neurons, so the executed network with exact inputs is a member.
    """
    if prop.pattern is not None:
        return "a pattern speaks of exact values before ReLUs; use semantics real"
    return why_not_float32(network) or _why_overflow(problems)


def _why_overflow(problems: Sequence[Problem]) -> str:
    """Why a float32 execution might overflow somewhere in the boxes; empty if it cannot."""
    for problem in problems:
        sizes = interval_magnitudes(problem.chain, problem.lower, problem.upper, Semantics.FLOAT32)
        largest = max(float(layer.max(initial=0.0)) for layer in sizes.sums)
        if not largest < LARGEST_32:
            return "a float32 execution might overflow, as far as interval bounds tell"
    return ""
