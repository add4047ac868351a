"""Laws of mined patterns, on random networks and samples."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from auditor.activations.capture import CaptureOptions
from auditor.activations.onnx_capture import OnnxCapture
from auditor.models.onnx_model import OnnxModel
from auditor.patterns.compare import Relation, compare_patterns
from auditor.patterns.evaluate import evaluate_patterns
from auditor.patterns.mine import mine_patterns
from auditor.patterns.pattern_set import Members
from tests.models.onnx_networks import dense_network

Array = NDArray[Any]
CLASSES = 3
NETWORKS = [OnnxModel.from_proto(dense_network([4, 9, 7, CLASSES], seed)) for seed in range(4)]
DELTAS = st.integers(51, 100).map(lambda hundredths: hundredths / 100)


def _data(seed: int, samples: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((samples, 4)).astype(np.float32), rng.integers(0, CLASSES, samples)


@settings(deadline=None, max_examples=40)
@given(network=st.sampled_from(NETWORKS), seed=st.integers(0, 999), samples=st.integers(1, 60),
       batch_size=st.integers(1, 70))  # fmt: skip
def test_at_delta_one_every_mined_sample_follows_its_pattern(
    network: OnnxModel, seed: int, samples: int, batch_size: int
) -> None:
    inputs, labels = _data(seed, samples)
    capture = OnnxCapture(network, (), CaptureOptions(batch_size=batch_size))
    mined = mine_patterns(capture, inputs, labels, [1], members=Members.LABEL)
    (found,) = evaluate_patterns(mined, capture, inputs, labels)
    assert found.followers.diagonal().tolist() == found.samples.tolist()


@settings(deadline=None, max_examples=40)
@given(network=st.sampled_from(NETWORKS), seed=st.integers(0, 999), samples=st.integers(1, 60),
       deltas=st.tuples(DELTAS, DELTAS))  # fmt: skip
def test_a_higher_delta_is_more_general_and_is_followed_by_more(
    network: OnnxModel, seed: int, samples: int, deltas: tuple[float, float]
) -> None:
    inputs, labels = _data(seed, samples)
    low, high = (
        mine_patterns(network, inputs, labels, [delta], members=Members.LABEL)
        for delta in sorted(deltas)
    )
    for state in ("active", "inactive"):
        assert not (getattr(high.states, state) & ~getattr(low.states, state)).any()
    others, their_labels = _data(seed + 1, 50)
    (of_low,) = evaluate_patterns(low, network, others, their_labels)
    (of_high,) = evaluate_patterns(high, network, others, their_labels)
    assert (of_high.followers >= of_low.followers).all()
    assert of_high.conflicts <= of_low.conflicts


@settings(deadline=None, max_examples=40)
@given(network=st.sampled_from(NETWORKS), seeds=st.tuples(st.integers(0, 99), st.integers(0, 99)))
def test_comparing_the_other_way_round_says_the_converse(
    network: OnnxModel, seeds: tuple[int, int]
) -> None:
    one, other = (
        mine_patterns(network, *_data(seed, 30), [0.9], members=Members.LABEL) for seed in seeds
    )
    converse = {
        Relation.MORE_GENERAL: Relation.MORE_SPECIFIC,
        Relation.MORE_SPECIFIC: Relation.MORE_GENERAL,
    }
    forth, back = compare_patterns(one, other), compare_patterns(other, one)
    assert [converse.get(each.relation, each.relation) for each in forth] == [
        each.relation for each in back
    ]
    if seeds[0] == seeds[1]:
        assert {each.relation for each in forth} == {Relation.SAME}
