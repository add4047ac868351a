"""Limits and statistics."""

from __future__ import annotations

import pytest

from auditor.errors import ConfigurationError
from auditor.verify.outcome import Limits, Statistics


@pytest.mark.parametrize("name", ["time_s", "max_boxes", "z3_rlimit", "witness_attempts"])
def test_negative_limits_are_refused_by_name(name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        Limits(**{name: -1})


def test_a_limit_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="time_s"):
        Limits(time_s=float("nan"))


def test_shares_and_leaves_add_up_by_engine() -> None:
    statistics = Statistics(boxes=3)
    for engine, share in (("bounds", 0.5), ("z3", 0.125), ("z3", 0.125)):
        statistics.closed(engine, share)
    assert statistics.leaves == {"bounds": 1, "z3": 2}
    assert statistics.decided_share == {"bounds": 0.5, "z3": 0.25}
    assert "75 % of the search space refuted" in statistics.how_far
