"""Probe inputs: fixed for ever, exact in float32, of the right kinds."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from auditor.errors import UnsupportedModel
from auditor.models.onnx_model import TensorSpec
from auditor.models.probes import probe_inputs, probe_rows

SPEC = TensorSpec("x", (None, 40), "float32")


def test_the_first_probes_are_zeros_and_ones() -> None:
    zeros, ones = probe_inputs([SPEC], random_probes=0)
    assert zeros["x"].tolist() == [[0.0] * 40]
    assert ones["x"].tolist() == [[1.0] * 40]


def test_uniform_probes_are_the_documented_bytes() -> None:
    stream = hashlib.shake_256(b"auditor probe 1/0/0/random 1").digest(80)
    expected = [int.from_bytes(stream[i : i + 2], "little") / 65536 for i in range(0, 80, 2)]
    assert probe_inputs([SPEC], random_probes=2)[3]["x"].tolist() == [expected]


def test_every_kind_has_its_spread() -> None:
    bell, uniform, small, wide = probe_inputs(
        [TensorSpec("x", (4000,), "float32")], random_probes=4
    )[2:]
    assert float(bell["x"].std()) == pytest.approx(1.0, abs=0.05)
    assert float(bell["x"].mean()) == pytest.approx(0.0, abs=0.05)
    assert 0.0 <= uniform["x"].min() <= uniform["x"].max() < 1.0
    assert float(small["x"].std()) == pytest.approx(1 / 8, abs=0.01)
    assert -8.0 <= wide["x"].min() < -7.9
    assert 7.9 < wide["x"].max() < 8.0


def test_another_seed_gives_other_random_probes() -> None:
    first, second = (probe_inputs([SPEC], random_probes=1, seed=seed)[2]["x"] for seed in (0, 1))
    assert not np.array_equal(first, second)


def test_two_inputs_get_different_numbers() -> None:
    probes = probe_inputs([SPEC, TensorSpec("z", (None, 40), "float32")], random_probes=1)[2]
    assert not np.array_equal(probes["x"], probes["z"])


def test_the_name_of_an_input_does_not_matter() -> None:
    renamed = TensorSpec("other", SPEC.shape, SPEC.dtype)
    first, second = probe_inputs([SPEC]), probe_inputs([renamed])
    assert [p["x"].tolist() for p in first] == [p["other"].tolist() for p in second]


def test_symbolic_axes_get_sizes() -> None:
    probe = probe_inputs([TensorSpec("x", (None, None, 3), "float32")], random_probes=0)[0]
    assert probe["x"].shape == (1, 4, 3)


@pytest.mark.parametrize(("dtype", "largest"), [("int64", 15), ("uint8", 15), ("bool", 1)])
def test_other_types_get_small_values(dtype: str, largest: int) -> None:
    probes = probe_inputs([TensorSpec("x", (500,), dtype)], random_probes=1)
    assert probes[2]["x"].dtype == np.dtype(dtype)
    assert (int(probes[2]["x"].min()), int(probes[2]["x"].max())) == (0, largest)


def test_strings_have_no_probes() -> None:
    with pytest.raises(UnsupportedModel, match="'x'"):
        probe_inputs([TensorSpec("x", (2,), "object")])


def test_rows_come_in_the_shape_asked_for() -> None:
    rows = probe_rows(7, 5)
    assert rows.shape == (5, 7)
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, probe_rows(7, 5))
