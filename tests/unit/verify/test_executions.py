"""What is refused of float32 executions, in one line each."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from auditor.verify.executions import why_not_executed
from auditor.verify.network import GraphNetwork, Network
from auditor.verify.problem import problems_of
from auditor.verify.property import Pattern, Property, UnsafeRow
from auditor.verify.semantics import Semantics
from tests.models.relu_chains import property_of, random_chain

NETWORK = random_chain(0, (2, 3, 1))
ROW = UnsafeRow((Fraction(1),), Fraction(0), False, (Fraction(1), Fraction(-1)))
PROP = property_of(NETWORK, [-1.0] * 2, [1.0] * 2, [(ROW,)])


def why(network: Network | GraphNetwork, prop: Property) -> str:
    return why_not_executed(network, prop, problems_of(network, prop, Semantics.FLOAT32))


def test_a_chain_with_rows_over_inputs_is_answered() -> None:
    """The carried neurons' shifts need not be float32: they are no part of the execution."""
    assert why(NETWORK, PROP) == ""


def test_patterns_graphs_and_overflow_are_not() -> None:
    assert "use semantics real" in why(NETWORK, replace(PROP, pattern=Pattern.of({0: ([0], [])})))
    assert "chains of dense layers" in why(GraphNetwork.from_chain(NETWORK), PROP)
    wide = property_of(NETWORK, [-1e39] * 2, [1e39] * 2, [(ROW,)])
    assert "might overflow" in why(NETWORK, wide)
