"""The monitor's three labels and its thresholds on networks whose answers are planted."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from auditor.activations.capture import CaptureOptions
from auditor.activations.onnx_capture import OnnxCapture
from auditor.errors import ConfigurationError, NothingToAudit, PatternMismatch
from auditor.models.onnx_model import OnnxModel
from auditor.patterns.mine import mine_patterns
from auditor.patterns.monitor import (
    NEVER,
    InputLabel,
    Monitor,
    fit_thresholds,
    make_monitor,
)
from tests.models.monitored import (
    MINED_INPUTS,
    MINED_LABELS,
    PROBED_DISTANCES,
    PROBED_INPUTS,
    PROBED_LABELS,
    magnitude_network,
    magnitude_patterns,
)
from tests.models.onnx_networks import dense_network
from tests.models.planted_patterns import planted_network, planted_samples
from tests.models.tiny import array

MAGNITUDE = OnnxModel.from_proto(magnitude_network())
PLANTED = OnnxModel.from_proto(planted_network())
FULL = Fraction(1)


def _planted(counts: tuple[int, int, int] = (4, 4, 4)) -> Monitor:
    return make_monitor(
        mine_patterns(PLANTED, *planted_samples(counts, [n // 2 for n in counts]), [1]), 1
    )


def test_each_label_is_given_where_it_was_planted() -> None:
    found = make_monitor(magnitude_patterns(MAGNITUDE), 1).label_inputs(MAGNITUDE, PROBED_INPUTS)
    assert found.labels.tolist() == PROBED_LABELS
    assert found.distances.tolist() == PROBED_DISTANCES
    assert found.predicted.tolist() == [0, 1, 1, 0, 0]
    assert found.own_distances.tolist() == [0, 0, 1, 1, 1]
    assert found.counts() == {
        InputLabel.EXPLAINED: 2, InputLabel.CONTRADICTED: 2, InputLabel.UNEXPLAINED: 1,
    }  # fmt: skip


def test_a_threshold_lets_that_many_contradictions_pass() -> None:
    patterns = magnitude_patterns(MAGNITUDE)
    for thresholds, labels in {
        (1, 0): [0, 0, 1, 0, 0],  # whatever is read as 0 is within 1 of its pattern
        (0, 1): [0, 0, 0, 1, 2],
        (0, 2): [0, 0, 0, 1, 1],
    }.items():
        found = make_monitor(patterns, 1, thresholds).label_inputs(MAGNITUDE, PROBED_INPUTS)
        assert found.labels.tolist() == labels, thresholds


def test_following_the_own_pattern_counts_when_others_are_followed_too() -> None:
    """(1, 0.9, 0) is read as 0 and lies one neuron from the patterns of 0 and of 1."""
    inputs = array([[1, 0.9, 0, 0]])
    patterns = _planted().patterns
    for thresholds, label in {
        (1, 1, 0): InputLabel.EXPLAINED,
        (0, 1, 0): InputLabel.CONTRADICTED,
        (0, 0, 0): InputLabel.UNEXPLAINED,
    }.items():
        found = make_monitor(patterns, 1, thresholds).label_inputs(PLANTED, inputs)
        assert found.distances.tolist() == [[1, 1, 3]]
        assert found.labels.tolist() == [label], thresholds


def test_equal_scores_are_read_as_the_first_class() -> None:
    """With a = 3 both scores are 3."""
    found = make_monitor(magnitude_patterns(MAGNITUDE), 1).label_inputs(
        MAGNITUDE, array([[3, -1], [3, 1]])
    )
    assert found.predicted.tolist() == [0, 0]
    assert found.labels.tolist() == [InputLabel.EXPLAINED, InputLabel.CONTRADICTED]


def test_nobody_follows_a_class_without_samples() -> None:
    """An input read as class 1 is far from its missing pattern, whatever the threshold."""
    monitor = make_monitor(_planted((4, 0, 4)).patterns, 1, [0, 5, 0])
    assert monitor.thresholds.tolist() == [0, NEVER, 0]
    found = monitor.label_inputs(PLANTED, planted_samples([0, 1, 0], [0, 0, 0])[0])
    assert found.labels.tolist() == [InputLabel.UNEXPLAINED]
    assert found.distances.tolist() == [[2, 7, 2]]


def test_a_nan_score_is_unexplained() -> None:
    """Where a is 1 the second score is the logarithm of -1."""
    model = OnnxModel.from_proto(magnitude_network(last="Log"))
    patterns = mine_patterns(model, array([[1.5, -1], [4, 1]]), [0, 1], [1])
    found = make_monitor(patterns, 1, [2, 2]).label_inputs(model, array([[4, 1], [1, -1]]))
    assert found.predicted.tolist() == [1, -1]
    assert found.labels.tolist() == [InputLabel.EXPLAINED, InputLabel.UNEXPLAINED]
    assert found.own_distances.tolist() == [0, -1]


def test_batches_add_up() -> None:
    monitor = make_monitor(magnitude_patterns(MAGNITUDE), 1)
    capture = OnnxCapture(MAGNITUDE, (), CaptureOptions(batch_size=2))
    assert [len(part.labels) for part in monitor.label(capture.batches(PROBED_INPUTS))] == [2, 2, 1]
    assert monitor.label_inputs(capture, PROBED_INPUTS).labels.tolist() == PROBED_LABELS


def test_thresholds_are_exact_quantiles_of_held_out_distances() -> None:
    """Of class 0 three of four are at distance 0 and one at 1; of class 1 all are at 0."""
    monitor = make_monitor(magnitude_patterns(MAGNITUDE), 1)
    inputs = array([[1, -1], [2, -1], [2.5, -3], [1, 1], [4, 1], [5, 2]])
    labels = [0, 0, 0, 0, 1, 1]
    for quantile, thresholds in {"3/4": [0, 0], "76/100": [1, 0], "1": [1, 0]}.items():
        found = fit_thresholds(monitor, MAGNITUDE, inputs, labels, Fraction(quantile))
        assert found.thresholds.tolist() == thresholds, quantile
        assert found.quantile == Fraction(quantile)
        assert found.heldout is not None
        assert found.heldout.tolist() == [4, 2]


def test_misread_samples_do_not_widen_thresholds() -> None:
    """Patterns of correct samples: (-1, -1) labelled 1 is read as 0 and counts for nobody."""
    monitor = make_monitor(magnitude_patterns(MAGNITUDE), 1)
    found = fit_thresholds(monitor, MAGNITUDE, array([[-1, -1], [4, 1]]), [1, 1], FULL)
    assert found.thresholds.tolist() == [0, 0]
    assert found.heldout is not None
    assert found.heldout.tolist() == [0, 1]


def test_a_class_without_pattern_keeps_no_threshold() -> None:
    monitor = _planted((4, 0, 4))
    found = fit_thresholds(monitor, PLANTED, *planted_samples([1, 1, 1], [0, 0, 0]), FULL)
    assert found.thresholds.tolist() == [0, NEVER, 0]


@pytest.mark.parametrize("quantile", ["0", "-1/2", "3/2"])
def test_quantiles_out_of_range_are_refused(quantile: str) -> None:
    monitor = make_monitor(magnitude_patterns(MAGNITUDE), 1)
    with pytest.raises(ConfigurationError, match="give a share above 0 and at most 1"):
        fit_thresholds(monitor, MAGNITUDE, MINED_INPUTS, MINED_LABELS, Fraction(quantile))


def test_what_does_not_fit_is_refused() -> None:
    patterns = magnitude_patterns(MAGNITUDE)
    with pytest.raises(ConfigurationError, match=r"no pattern for delta 0\.7; there are"):
        make_monitor(patterns, 0.7)
    for thresholds in ([0], [0, -1]):
        with pytest.raises(ConfigurationError, match="give 2 whole numbers of 0 or more"):
            make_monitor(patterns, 1, thresholds)
    with pytest.raises(ConfigurationError, match="give one delta"):
        Monitor(patterns, np.zeros(2, np.int64))
    monitor = make_monitor(patterns, 1)
    with pytest.raises(PatternMismatch):
        monitor.label_inputs(OnnxModel.from_proto(dense_network([2, 2, 2])), PROBED_INPUTS)
    with pytest.raises(NothingToAudit):
        monitor.label_inputs(MAGNITUDE, PROBED_INPUTS[:0])
    with pytest.raises(ConfigurationError, match="5 labels for 4 samples"):
        fit_thresholds(monitor, MAGNITUDE, MINED_INPUTS, [0, 0, 1, 1, 1], FULL)


def test_a_capture_with_other_classes_is_refused() -> None:
    """Only a file made by hand could lead here: its digest names this model."""
    monitor = make_monitor(magnitude_patterns(MAGNITUDE), 1)
    other = OnnxModel.from_proto(dense_network([2, 2, 3]))
    capture = OnnxCapture(other)
    with pytest.raises(ConfigurationError, match="has 3 classes, the patterns speak of 2"):
        list(monitor.label(capture.batches(PROBED_INPUTS)))
    assert replace(monitor, heldout=None).far == 3
