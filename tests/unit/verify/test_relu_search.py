"""ReLU splitting on planted problems that bounds alone do not decide."""

from __future__ import annotations

import math

from auditor.verify.outcome import Limits, Statistics
from auditor.verify.problem import problems_of
from auditor.verify.relu_search import ReluSearch
from tests.models.phase_enumeration import minimum_by_phases
from tests.models.relu_chains import output_at_least, random_chain


def test_splitting_refutes_what_the_root_bound_does_not() -> None:
    network = random_chain(11, (4, 5, 3, 1))
    lower, upper = [-1.0] * 4, [1.0] * 4
    (problem,) = problems_of(network, output_at_least(network, lower, upper, 0))
    minimum = minimum_by_phases(network, problem.lower, problem.upper)
    prop = output_at_least(network, lower, upper, minimum - 1e-3)
    (problem,) = problems_of(network, prop)
    search, statistics = ReluSearch(problem, 1.0), Statistics()
    assert not search.bound_roots(statistics, math.inf)
    stopped = search.run(Limits(), math.inf, lambda point: False, lambda share, text: None)
    assert stopped == ""
    assert statistics.splits > 0
    assert abs(sum(statistics.decided_share.values()) - 1.0) < 1e-12
