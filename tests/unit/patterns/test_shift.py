"""Shifted images, the baselines' scores, and AUROC on samples whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from auditor.auroc import difference_interval, measure_auroc
from auditor.errors import ConfigurationError, NothingToAudit
from auditor.models.onnx_model import OnnxModel
from auditor.patterns.monitor import make_monitor
from auditor.patterns.shift import (
    DISTANCE,
    MAHALANOBIS,
    SOFTMAX,
    Detectors,
    Mahalanobis,
    add_noise,
    blur,
    rotate,
    softmax_score,
)
from tests.models.monitored import (
    MINED_INPUTS,
    MINED_LABELS,
    PROBED_INPUTS,
    magnitude_network,
    magnitude_patterns,
)
from tests.models.tiny import array

RNG = np.random.default_rng(5)
IMAGES = RNG.uniform(0, 1, (3, 20)).astype(np.float32)
SHAPE = (4, 5)


def test_shifts_of_no_strength_change_nothing() -> None:
    assert np.array_equal(add_noise(IMAGES, 0.0), IMAGES)
    assert np.allclose(blur(IMAGES, SHAPE, 0.0), IMAGES, atol=1e-6)
    assert np.allclose(rotate(IMAGES, SHAPE, 0.0), IMAGES, atol=1e-6)


def test_noise_follows_its_seed_and_stays_in_range() -> None:
    first, again, other = (add_noise(IMAGES, 0.5, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.dtype == np.float32
    assert (first >= 0).all()
    assert (first <= 1).all()


def test_blur_mixes_pixels_of_one_image_only() -> None:
    images = np.zeros((2, 25), np.float32)
    images[0, 12] = 1.0
    blurred = blur(images, (5, 5), 1.0)
    assert blurred[0, 12] < 0.5
    assert blurred[0, 7] > 0
    assert blurred[0, 7] == pytest.approx(blurred[0, 11])
    assert not blurred[1].any()


def test_four_quarter_turns_are_none() -> None:
    """A quarter turn of a square moves pixels whole: the first row becomes the first column."""
    image = np.zeros((1, 9), np.float32)
    image[0, :3] = [0.25, 0.5, 0.75]
    turned = rotate(image, (3, 3), 90)
    assert turned.reshape(3, 3)[:, 0].tolist() == pytest.approx([0.75, 0.5, 0.25])
    for _ in range(3):
        turned = rotate(turned, (3, 3), 90)
    assert np.allclose(turned, image, atol=1e-6)


def test_images_of_another_size_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="20 pixels are not 5x5"):
        blur(IMAGES, (5, 5), 1.0)
    with pytest.raises(ConfigurationError, match="20 pixels are not 5x5"):
        rotate(IMAGES, (5, 5), 10.0)


def test_softmax_score_is_the_log_odds_of_the_largest_probability() -> None:
    logits = RNG.normal(0, 2, (50, 4))
    exponentials = np.exp(logits)
    largest = (exponentials / exponentials.sum(axis=1, keepdims=True)).max(axis=1)
    assert np.allclose(softmax_score(logits), np.log((1 - largest) / largest))


def test_softmax_score_tells_apart_what_probabilities_in_float_do_not() -> None:
    sure, surer = softmax_score(np.array([[100.0, 0.0], [200.0, 0.0]]))
    assert sure > surer


def test_mahalanobis_is_the_distance_in_deviations() -> None:
    """Two classes at (0, 0) and (10, 0), deviations 1 and 2, a third feature that is dead."""
    spread = np.array([[1, 0], [-1, 0], [0, 2], [0, -2]]) * np.sqrt(2)
    features = np.zeros((8, 3))
    features[:4, :2] = spread
    features[4:, :2] = spread + np.array([10, 0])
    fitted = Mahalanobis.fit(features, np.repeat([0, 7], 4))
    asked = np.array([[0, 0, 0], [3, 0, 0], [10, 4, 0], [8, 0, 0]], float)
    assert fitted.score(asked).tolist() == pytest.approx([0, 9, 4, 4])


def test_detectors_score_what_was_planted() -> None:
    model = OnnxModel.from_proto(magnitude_network())
    monitor = make_monitor(magnitude_patterns(model), 1)
    detectors = Detectors(monitor, model, MINED_INPUTS, MINED_LABELS)
    found = detectors.scores(PROBED_INPUTS)
    assert found[DISTANCE].tolist() == [0, 0, 1, 1, 1]
    logits = np.array([[1, -1], [4, 5], [4, 5], [1, -1], [0, -3]], float)
    assert found[SOFTMAX].tolist() == pytest.approx(softmax_score(logits).tolist())
    hidden = PROBED_INPUTS.clip(0)
    expected = Mahalanobis.fit(MINED_INPUTS.clip(0), MINED_LABELS).score(hidden)
    assert found[MAHALANOBIS].tolist() == pytest.approx(expected.tolist())


def test_labels_for_other_samples_are_refused() -> None:
    model = OnnxModel.from_proto(magnitude_network())
    monitor = make_monitor(magnitude_patterns(model), 1)
    with pytest.raises(ConfigurationError, match="give one for each"):
        Detectors(monitor, model, MINED_INPUTS, MINED_LABELS[:3])


def test_auroc_counts_pairs_and_halves_ties() -> None:
    ordinary, strange = array([0, 1, 1, 3]).astype(float), array([1, 2, 5]).astype(float)
    pairs = [(s > o) + 0.5 * (s == o) for o in ordinary for s in strange]
    assert measure_auroc(ordinary, strange).value == pytest.approx(np.mean(pairs))


def test_variance_is_that_of_repeated_samples() -> None:
    """DeLong's variance against the spread over many draws of the same two populations."""
    rng = np.random.default_rng(0)
    drawn = [measure_auroc(rng.normal(0, 1, 60), rng.normal(1, 1, 40)) for _ in range(400)]
    values = np.array([each.value for each in drawn])
    mean_variance = np.mean([each.variance for each in drawn])
    assert mean_variance == pytest.approx(values.var(), rel=0.25)
    truth = 0.7602  # of N(0, 1) against N(1, 1): Phi(1 / sqrt 2)
    covered = np.mean([e.interval.lower <= truth <= e.interval.upper for e in drawn])
    assert 0.91 <= covered <= 0.985


def test_a_difference_is_judged_on_pairs() -> None:
    """A score against itself differs by nothing, for certain; an informative one beats noise."""
    rng = np.random.default_rng(1)
    truth = np.repeat([0.0, 1.5], 100)
    good, noise = truth + rng.normal(0, 1, 200), rng.normal(0, 1, 200)
    first, second = (measure_auroc(score[:100], score[100:]) for score in (good, noise))
    same = difference_interval(first, first)
    assert (same.lower, same.upper) == pytest.approx((0.0, 0.0))
    assert difference_interval(first, second).lower > 0


def test_perfect_scores_still_have_an_interval() -> None:
    found = measure_auroc(np.zeros(40), np.ones(20))
    assert found.value == 1.0
    assert found.interval.lower == pytest.approx(20 / (20 + 1.96**2), abs=0.001)
    assert measure_auroc(np.ones(4), np.zeros(5)).interval.upper < 1


def test_an_empty_sample_is_refused() -> None:
    with pytest.raises(NothingToAudit):
        measure_auroc(np.zeros(0), np.ones(3))
    with pytest.raises(NothingToAudit):
        Mahalanobis.fit(np.zeros((0, 2)), np.zeros(0, int))
