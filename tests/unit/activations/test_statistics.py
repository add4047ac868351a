"""Accumulators fed in batches agree with NumPy on the whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from auditor.activations.capture import Batch, CaptureOptions
from auditor.activations.onnx_capture import OnnxCapture
from auditor.activations.quantile_sketch import QuantileSketch
from auditor.activations.statistics import (
    Maximum,
    Mean,
    SignFrequency,
    Sparsity,
    accumulate,
    active_states,
)
from auditor.errors import ConfigurationError
from auditor.models.onnx_model import OnnxModel
from tests.models.onnx_networks import dense_network

Array = NDArray[Any]
NOBODY = np.zeros(0, np.int64)


def _values(samples: int = 1000, neurons: int = 7) -> Array:
    rng = np.random.default_rng(0)
    return (rng.standard_normal((samples, neurons)) * np.arange(1, neurons + 1)).astype(np.float32)


def _parts(values: Array, size: int) -> list[Array]:
    return [values[start : start + size] for start in range(0, len(values), size)]


def test_signs_are_counted_by_class_and_zero_is_inactive() -> None:
    values = np.array([[0.0, 1, -1], [2, 0, 0], [3, 3, -3], [4, 4, 4]])
    classes = np.array([0, 0, 1, -1])
    found = SignFrequency(3)
    found.update(values[:2], classes[:2])
    found.update(values[2:], classes[2:])
    assert found.counts.tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert found.totals.tolist() == [2, 1, 0]


def test_each_neuron_may_have_a_threshold() -> None:
    values = np.array([[1.0, 5.0], [2.0, 6.0]])
    assert active_states(values, np.array([1.0, 5.5])).tolist() == [[0.0, 0.0], [1.0, 1.0]]


@pytest.mark.parametrize("size", [1, 3, 100, 1000])
def test_means_and_extremes_do_not_depend_on_the_batches(size: int) -> None:
    values = _values()
    mean, extremes, sparsity = Mean(), Maximum(), Sparsity()
    for part in _parts(values, size):
        for each in (mean, extremes, sparsity):
            each.update(part, NOBODY)
    wide = values.astype(np.float64)
    np.testing.assert_allclose(mean.mean, wide.mean(axis=0), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(mean.variance, wide.var(axis=0), rtol=1e-12)
    assert extremes.maximum.tolist() == values.max(axis=0).tolist()
    assert extremes.minimum.tolist() == values.min(axis=0).tolist()
    shares = (values <= 0).mean(axis=1)
    assert sparsity.mean == pytest.approx(shares.mean())
    assert (sparsity.lowest, sparsity.highest) == (shares.min(), shares.max())
    assert mean.samples == sparsity.samples == 1000


@pytest.mark.parametrize("arrange", [lambda v: v, lambda v: np.sort(v, axis=0)])
@pytest.mark.parametrize("size", [16, 64])
def test_quantiles_are_within_the_error_the_sketch_states(
    arrange: Callable[[Array], Array], size: int
) -> None:
    values = arrange(_values(5000))
    sketch = QuantileSketch(size)
    for part in _parts(values, 37):
        sketch.update(part, NOBODY)
    allowed = sketch.rank_error * 5000 + 1
    assert 0 < sketch.rank_error < 0.35
    for share in (0.0, 0.01, 0.25, 0.5, 0.9, 1.0):
        found = sketch.quantile(share)
        ranks = (values <= found).sum(axis=0)
        below = (values < found).sum(axis=0)
        assert (below - allowed <= share * 5000).all()
        assert (ranks + allowed >= share * 5000).all()


def test_quantiles_of_few_samples_are_exact() -> None:
    sketch = QuantileSketch(256)
    values = _values(101)
    sketch.update(values, NOBODY)
    assert sketch.rank_error == 0.0
    assert sketch.quantile(0.5).tolist() == np.sort(values, axis=0)[50].tolist()
    assert sketch.quantile(0.0).tolist() == values.min(axis=0).tolist()
    assert sketch.quantile(1.0).tolist() == values.max(axis=0).tolist()


def test_the_sketch_keeps_few_numbers() -> None:
    sketch = QuantileSketch(64)
    for part in _parts(_values(20_000, 3), 500):
        sketch.update(part, NOBODY)
    kept = sum(len(level) for level in sketch._levels if level is not None)
    assert kept <= 64 * 10


@pytest.mark.parametrize("size", [0, 3, -2])
def test_odd_sketch_sizes_are_refused(size: int) -> None:
    with pytest.raises(ConfigurationError, match=f"sketch of size {size}"):
        QuantileSketch(size)


def test_a_quantile_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"quantile 0\.5 of 0 samples"):
        QuantileSketch().quantile(0.5)


def test_one_run_feeds_several_statistics_of_every_layer() -> None:
    model = OnnxModel.from_proto(dense_network([5, 9, 7, 4]))
    inputs = np.random.default_rng(0).standard_normal((50, 5)).astype(np.float32)
    capture = OnnxCapture(model, (), CaptureOptions(batch_size=8))

    def predicted(batch: Batch) -> NDArray[np.int64]:
        return np.asarray(batch.outputs.argmax(axis=1), dtype=np.int64)

    found = accumulate(
        capture.batches(inputs), [lambda: SignFrequency(4), Mean, QuantileSketch], predicted
    )
    (whole,) = OnnxCapture(model).batches(inputs)
    for (signs, mean, sketch), values in zip(found, whole.values, strict=True):
        assert isinstance(signs, SignFrequency)
        assert isinstance(mean, Mean)
        assert isinstance(sketch, QuantileSketch)
        assert signs.counts.sum(axis=0).tolist() == (values > 0).sum(axis=0).tolist()
        np.testing.assert_allclose(mean.mean, values.mean(axis=0), rtol=1e-4, atol=1e-5)
        assert sketch.samples == 50
