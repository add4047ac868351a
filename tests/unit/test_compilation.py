"""Compiled kernels work with and without a place for their cache."""

from __future__ import annotations

import math

import pytest
from numba.core import caching

from auditor.compilation import compiled


def halve(value: float) -> float:
    return value / 2.0


def reciprocal(value: float) -> float:
    return 1.0 / value


def test_a_function_compiles_where_no_cache_can_be_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    assert compiled()(halve)(3.0) == 1.5


def test_division_by_zero_is_infinite() -> None:
    assert compiled(fastmath=("nsz",))(reciprocal)(0.0) == math.inf
