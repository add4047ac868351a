"""Recall, precision and overlap of patterns whose followers are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from auditor.activations.capture import CaptureOptions, Granularity, Point
from auditor.activations.onnx_capture import OnnxCapture
from auditor.errors import ConfigurationError, NothingToAudit, PatternMismatch
from auditor.intervals import Share, wilson_interval
from auditor.models.onnx_model import OnnxModel
from auditor.patterns.dominant import States
from auditor.patterns.evaluate import (
    ContradictionCounter,
    Stray,
    evaluate_patterns,
)
from auditor.patterns.mine import mine_patterns
from auditor.patterns.pattern_set import Members, PatternSet, conflicting_pairs
from tests.models.onnx_networks import dense_network
from tests.models.planted_patterns import planted_network, planted_samples

PLANTED = OnnxModel.from_proto(planted_network())


def _mined() -> PatternSet:
    """At 0.9 the coin is active for class 0, inactive for class 1, free for class 2."""
    return mine_patterns(PLANTED, *planted_samples([10, 10, 10], [9, 1, 5]), [1, 0.9])


def test_recall_and_precision_are_those_planted() -> None:
    inputs, labels = planted_samples([8, 4, 2], [6, 3, 1])
    labels[0] = 1  # an input of class 0 that is called 1
    at_one, at_nine = evaluate_patterns(_mined(), PLANTED, inputs, labels)
    assert [at_one.recall(label) for label in range(3)] == [Share(7, 7), Share(4, 5), Share(2, 2)]
    assert at_one.precision(0) == Share(7, 8)
    assert at_one.wrong == Share(1, 14)
    assert at_one.strays == (Stray(sample=0, label=1, predicted=0, follows=0),)
    assert at_one.predicted_followers.tolist() == [[8, 0, 0], [0, 4, 0], [0, 0, 2]]
    assert [at_nine.recall(label) for label in range(3)] == [Share(5, 7), Share(1, 5), Share(2, 2)]
    assert at_nine.total_recall == Share(8, 14)
    assert (at_nine.conflicts, at_nine.pairs, at_nine.ambiguous) == (3, 3, 0)


def test_agreement_is_the_mean_over_fixed_states() -> None:
    inputs, labels = planted_samples([4, 0, 0], [3, 0, 0])
    _, at_nine = evaluate_patterns(_mined(), PLANTED, inputs, labels)
    assert at_nine.agreement[0] == pytest.approx(1 - 1 / (4 * 6))
    assert np.isnan(at_nine.agreement[1:]).all()


def test_an_input_in_two_patterns_is_ambiguous() -> None:
    """With nothing fixed every input follows every class's pattern."""
    mined = _mined()
    nothing = np.zeros_like(mined.states.active)
    (layer,) = mined.layers
    empty = replace(mined, layers=(replace(layer, states=States(nothing, nothing)),))
    first, _ = evaluate_patterns(empty, PLANTED, *planted_samples([1, 1, 1], [0, 0, 0]))
    assert (first.ambiguous, first.in_wrong, first.conflicts) == (3, 3, 0)
    assert first.total_precision == Share(3, 9)


def test_a_class_without_pattern_is_followed_by_nobody() -> None:
    mined = mine_patterns(PLANTED, *planted_samples([3, 0, 3], [3, 0, 3]), [1])
    (found,) = evaluate_patterns(mined, PLANTED, *planted_samples([2, 2, 2], [2, 2, 2]))
    assert found.recall(1) == Share(0, 2)
    assert found.precision(1) == Share(0, 0)
    assert found.pairs == 1


def test_contradictions_are_counted_neuron_by_neuron() -> None:
    mined = mine_patterns(
        OnnxModel.from_proto(dense_network([5, 9, 7, 4])),
        np.random.default_rng(1).standard_normal((60, 5)).astype(np.float32),
        np.arange(60) % 4, [0.9, 0.6],
        members=Members.LABEL,
    )  # fmt: skip
    rng = np.random.default_rng(2)
    values = [rng.standard_normal((11, layer.neurons)) for layer in mined.layers]
    states = np.concatenate(values, axis=1) > 0
    active, inactive = mined.states
    expected = (
        (active[None] & ~states[:, None, None]) | (inactive[None] & states[:, None, None])
    ).sum(axis=3)
    assert (ContradictionCounter(mined).count(values) == expected).all()


def test_classes_conflict_where_a_neuron_is_in_both_states() -> None:
    active = np.array([[[1, 0], [0, 0], [0, 0]]], dtype=bool)
    inactive = np.array([[[0, 0], [1, 0], [0, 1]]], dtype=bool)
    found = conflicting_pairs(States(active, inactive))
    assert found.astype(int).tolist() == [[[0, 1, 0], [1, 0, 0], [0, 0, 0]]]


def test_shares_have_wilson_intervals_or_none() -> None:
    assert Share(3, 10).interval == wilson_interval(3, 10)
    assert Share(0, 0).interval is None
    assert Share(0, 0).value is None


def test_patterns_of_another_model_are_refused() -> None:
    other = OnnxModel.from_proto(dense_network([4, 6, 3]))
    with pytest.raises(PatternMismatch, match="was mined from the model sha256"):
        evaluate_patterns(_mined(), other, *planted_samples([1, 1, 1], [0, 0, 0]))


def test_patterns_that_speak_of_other_layers_are_refused() -> None:
    """Only a file made by hand could: its digest names this model."""
    mined = _mined()
    (layer,) = mined.layers
    data = planted_samples([1, 1, 1], [0, 0, 0])
    wider = States(*(np.pad(part, ((0, 0), (0, 0), (0, 1))) for part in layer.states))
    counts = np.pad(layer.counts, ((0, 0), (0, 1)))
    wide = replace(mined, layers=(replace(layer, states=wider, counts=counts),))
    with pytest.raises(ConfigurationError, match="has 6 neurons, the patterns speak of 7"):
        evaluate_patterns(wide, PLANTED, *data)
    renamed = replace(mined, layers=(replace(layer, operator="LeakyRelu"),))
    with pytest.raises(ConfigurationError, match="are captured, the patterns speak of"):
        evaluate_patterns(renamed, PLANTED, *data)


def test_patterns_that_speak_of_other_classes_are_refused() -> None:
    mined = _mined()
    (layer,) = mined.layers
    states = States(*(np.pad(part, ((0, 0), (0, 1), (0, 0))) for part in layer.states))
    more = replace(
        mined,
        totals=np.append(mined.totals, 0),
        layers=(replace(layer, states=states, counts=np.pad(layer.counts, ((0, 1), (0, 0)))),),
    )
    with pytest.raises(ConfigurationError, match="has 3 classes, the patterns speak of 4"):
        evaluate_patterns(more, PLANTED, *planted_samples([1, 1, 1], [0, 0, 0]))


def test_a_capture_of_other_values_is_refused() -> None:
    data = planted_samples([1, 1, 1], [0, 0, 0])
    after = OnnxCapture(PLANTED, (), CaptureOptions(point=Point.AFTER))
    with pytest.raises(ConfigurationError, match="states before an activation"):
        evaluate_patterns(_mined(), after, *data)
    channels = OnnxCapture(PLANTED, (), CaptureOptions(granularity=Granularity.CHANNEL))
    with pytest.raises(ConfigurationError, match="by channel are captured"):
        evaluate_patterns(_mined(), channels, *data)


def test_data_are_checked_as_when_mining() -> None:
    inputs, labels = planted_samples([1, 1, 1], [0, 0, 0])
    with pytest.raises(ConfigurationError, match="label 5 of sample 1"):
        evaluate_patterns(_mined(), PLANTED, inputs, [0, 5, 2])
    with pytest.raises(ConfigurationError, match="4 labels for 3 samples"):
        evaluate_patterns(_mined(), PLANTED, inputs, [*labels, 0])
    with pytest.raises(NothingToAudit):
        evaluate_patterns(_mined(), PLANTED, inputs[:0], labels[:0])


def test_batches_add_up() -> None:
    inputs, labels = planted_samples([8, 4, 2], [6, 3, 1])
    whole = evaluate_patterns(_mined(), PLANTED, inputs, labels)
    capture = OnnxCapture(PLANTED, (), CaptureOptions(batch_size=3))
    parts = evaluate_patterns(_mined(), capture, inputs, labels)
    for one, other in zip(whole, parts, strict=True):
        assert one.followers.tolist() == other.followers.tolist()
        assert one.strays == other.strays
