"""Maps as torch operations, on examples worked out by hand."""

from __future__ import annotations

import numpy as np
import torch

from auditor.verify.network.linear_map import (
    BlockSumMap,
    ConvolutionMap,
    DenseMap,
    GatherMap,
    LinearMap,
    identity_map,
)
from auditor.verify.torch_map import torch_map


def applied(linear: LinearMap, *values: float) -> list[float]:
    tensor = torch.tensor([values], dtype=torch.float64)
    return [float(value) for value in torch_map(linear).apply(tensor)[0]]


def pulled(linear: LinearMap, *forms: float) -> list[float]:
    tensor = torch.tensor([forms], dtype=torch.float64)
    return [float(value) for value in torch_map(linear).pull_back(tensor)[0]]


def test_a_dense_map_acts_on_each_block() -> None:
    linear = DenseMap(np.array([[1.0, 2.0]]), blocks=2)
    assert applied(linear, 1, 10, 100, 1000) == [21, 2100]
    assert pulled(linear, 1, 3) == [1, 2, 3, 6]


def test_a_gather_reads_repeats_and_zeros() -> None:
    linear = GatherMap(np.array([2, -1, 0, 2]), 3, np.array([1.0, 5.0, -1.0, 2.0]))
    assert applied(linear, 7, 8, 9) == [9, 0, -7, 18]
    assert pulled(linear, 1, 1, 1, 1) == [-1, 0, 3]
    assert linear.longest_sum == 2


def test_a_permutation_is_pulled_back_without_sums() -> None:
    linear = GatherMap(np.array([1, -1, 0]), 3)
    assert applied(linear, 7, 8, 9) == [8, 0, 7]
    assert pulled(linear, 1, 2, 3) == [3, 1, 0]


def test_the_identity_changes_nothing() -> None:
    assert identity_map(2).is_identity
    assert applied(identity_map(2), 3, 4) == pulled(identity_map(2), 3, 4) == [3, 4]


def test_block_sums_add_neighbours() -> None:
    assert applied(BlockSumMap(2, 3), 1, 2, 3, 4, 5, 6) == [6, 15]
    assert pulled(BlockSumMap(2, 3), 1, 2) == [1, 1, 1, 2, 2, 2]


def test_a_strided_convolution_reaches_places_that_no_window_uses() -> None:
    """Five inputs, windows of two every two: the last input belongs to none."""
    linear = ConvolutionMap(np.array([[[[1.0, 10.0]]]]), (1, 1, 5), strides=(1, 2))
    assert linear.output_shape == (1, 1, 2)
    assert applied(linear, 1, 2, 3, 4, 5) == [21, 43]
    assert pulled(linear, 1, 2) == [1, 10, 2, 20, 0]


def test_padding_on_one_side_shifts_the_windows() -> None:
    linear = ConvolutionMap(np.array([[[[1.0, 10.0]]]]), (1, 1, 2), pads=(0, 1, 0, 0))
    assert applied(linear, 1, 2) == [10, 21]
    assert pulled(linear, 1, 1) == [11, 10]


def test_absolute_maps_have_absolute_entries() -> None:
    linear = ConvolutionMap(np.array([[[[-1.0, 2.0]]]]), (1, 1, 2))
    absolute = torch_map(linear).absolute()
    values = torch.tensor([[1.0, 1.0]], dtype=torch.float64)
    assert absolute.apply(values).tolist() == [[3.0]]
