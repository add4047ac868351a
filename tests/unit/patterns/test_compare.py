"""How patterns relate is said in the paper's order: more general means fewer states."""

from __future__ import annotations

import numpy as np
import pytest

from auditor.errors import ConfigurationError
from auditor.models.onnx_model import OnnxModel
from auditor.patterns.compare import PatternComparison, Relation, compare_patterns
from auditor.patterns.mine import mine_patterns
from auditor.patterns.pattern_set import Members, PatternSet
from tests.models.onnx_networks import dense_network
from tests.models.planted_patterns import planted_network, planted_samples

PLANTED = OnnxModel.from_proto(planted_network())


def _mined(coins: list[int], deltas: list[float]) -> PatternSet:
    return mine_patterns(PLANTED, *planted_samples([10, 10, 10], coins), deltas)


def test_a_coin_that_is_always_active_is_one_more_state() -> None:
    """The coin is free in the first; active, inactive and free in the second."""
    found = compare_patterns(_mined([5, 5, 5], [1]), _mined([10, 0, 5], [1]))
    assert [each.relation for each in found] == [
        Relation.MORE_GENERAL, Relation.MORE_GENERAL, Relation.SAME,
    ]  # fmt: skip
    assert found[0] == PatternComparison(found[0].delta, 0, 5, 0, 1, 0)
    back = compare_patterns(_mined([10, 0, 5], [1]), _mined([5, 5, 5], [1]))
    assert back[0].relation is Relation.MORE_SPECIFIC


def test_opposite_states_are_a_contradiction() -> None:
    found = compare_patterns(_mined([10, 0, 5], [1]), _mined([0, 0, 5], [1]))
    assert (found[0].relation, found[0].opposite) == (Relation.CONTRADICTORY, 1)
    assert found[1].relation is Relation.SAME


def test_only_common_deltas_are_compared() -> None:
    found = compare_patterns(_mined([5, 5, 5], [1, 0.9]), _mined([5, 5, 5], [0.9, 0.8]))
    assert {float(each.delta) for each in found} == {0.9}
    with pytest.raises(ConfigurationError, match="no delta in common"):
        compare_patterns(_mined([5, 5, 5], [1]), _mined([5, 5, 5], [0.9]))


def test_other_architectures_are_refused() -> None:
    model = OnnxModel.from_proto(dense_network([4, 7, 3]))
    other = mine_patterns(
        model, np.eye(4, dtype=np.float32), [0, 1, 2, 0], [1], members=Members.LABEL
    )
    with pytest.raises(ConfigurationError, match="other layers or classes"):
        compare_patterns(_mined([5, 5, 5], [1]), other)
