"""Witnesses found by linear programs in the regions of a pattern."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from auditor.findings import Verdict
from auditor.verify.network import GraphNetwork, Network
from auditor.verify.network.from_onnx import graph_from_onnx
from auditor.verify.outcome import Limits
from auditor.verify.problem import Problem, problems_of
from auditor.verify.property import Pattern, Property, UnsafeRow
from auditor.verify.region_search import RegionSearch
from auditor.verify.search import verify
from tests.models.curved_networks import difference_model
from tests.models.relu_chains import chain, output_at_least, property_of

# y = 1 + relu(x1) - relu(-x1) = 1 + x1, beside a neuron that only the pattern looks at.
NETWORK = chain(
    ([[1.0, 0.0], [0.0, 1.0], [0.0, -1.0]], [0.0, 0.0, 0.0], True),
    ([[0.0, 1.0, -1.0]], [1.0], False),
)
POSITIVE = Pattern.of({0: ([0], [])}, example=[1.0, 1.0])


def below_zero(network: Network) -> Property:
    row = UnsafeRow((Fraction(1),), Fraction(0))
    return replace(property_of(network, [-2.0] * 2, [2.0] * 2, [(row,)]), pattern=POSITIVE)


def the_problem(network: Network | GraphNetwork, prop: Property) -> Problem:
    (problem,) = problems_of(network, prop)
    return problem


@pytest.mark.parametrize("as_graph", [False, True])
def test_the_search_crosses_into_the_region_that_violates(as_graph: bool) -> None:
    network = GraphNetwork.from_chain(NETWORK) if as_graph else NETWORK
    search = RegionSearch(the_problem(network, below_zero(NETWORK)))
    ((case, point),) = search.descend(0, np.array([1.0, 1.0]), math.inf)
    assert case == 0
    assert point[0] >= 0
    assert point[1] <= -1


def test_where_nothing_violates_nothing_is_offered() -> None:
    prop = output_at_least(NETWORK, [-0.5] * 2, [0.5] * 2, 0.0)
    search = RegionSearch(the_problem(NETWORK, replace(prop, pattern=POSITIVE)))
    assert list(search.descend(0, np.array([0.25, 0.25]), math.inf)) == []


def test_curves_have_no_linear_regions() -> None:
    network = graph_from_onnx(difference_model("Sigmoid"))
    count = network.num_inputs
    prop = output_at_least(network, [-1.0] * count, [1.0] * count, 0.0)
    assert not RegionSearch(the_problem(network, prop)).is_affordable


def test_verification_asks_the_regions_before_it_splits() -> None:
    """One evaluation finds nothing; the linear programs do."""
    outcome = verify(
        NETWORK, below_zero(NETWORK), limits=Limits(falsifier_evaluations=1),
        replay=lambda inputs: NETWORK.evaluate(inputs[None].astype(np.float64))[0],
    )  # fmt: skip
    assert outcome.verdict is Verdict.VIOLATED
    assert outcome.witness is not None
    assert outcome.witness.inputs[0] >= 0
