"""Sessions: batching, shapes, and the providers that are really in use."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from auditor.errors import DeviceUnavailable, UnsupportedModel
from auditor.models.onnx_model import OnnxModel
from auditor.models.session import cuda_works, resolve_device
from tests.models.onnx_networks import conv_network, dense_network, make_model


def _double(batch: int | str, *axes: int) -> OnnxModel:
    """`y = x + x`, so every answer is known."""
    shape = [batch, *axes]
    node = helper.make_node("Add", ["x", "x"], ["y"], "add")
    return OnnxModel.from_proto(make_model([node], {"x": shape}, {"y": shape}))


@pytest.mark.parametrize("batch", [1, "batch", 4])
def test_rows_are_answered_one_by_one_whatever_the_batch_axis(batch: int | str) -> None:
    model = _double(batch, 3) if batch != 4 else _double(4, 3)
    width = model.inputs[0].size
    rows = np.arange(5 * width, dtype=np.float32).reshape(5, width)
    np.testing.assert_array_equal(model.session().run_rows(rows), 2 * rows)


def test_rows_are_shaped_like_the_input() -> None:
    rows = np.random.default_rng(0).random((3, 64), dtype=np.float32)
    session = OnnxModel.from_proto(conv_network()).session()
    together = session.run_rows(rows)
    assert together.shape == (3, 10)
    np.testing.assert_allclose(together[1], session.run_flat(rows[1]), rtol=1e-5)


def test_a_fixed_batch_of_one_is_run_once_per_sample() -> None:
    session = _double(1, 3).session()
    values = np.arange(12, dtype=np.float32).reshape(4, 3)
    np.testing.assert_array_equal(session.run({"x": values})["y"], 2 * values)


def test_float64_is_taken_for_a_float32_input() -> None:
    assert _double(1, 2).session().run_flat(np.array([1.0, 2.0])).tolist() == [2.0, 4.0]


@pytest.mark.parametrize(
    ("inputs", "problem"),
    [
        ({}, "no value for input 'x'"),
        ({"x": np.zeros((1, 3), np.float32), "z": np.zeros(1)}, "no input 'z'"),
        ({"x": np.zeros((1, 4), np.float32)}, "shape"),
        ({"x": np.zeros(3, np.float32)}, "shape"),
        ({"x": np.zeros((1, 3), np.complex64)}, "complex64"),
        ({"x": np.zeros((0, 3), np.float32)}, "no samples"),
    ],
)
def test_wrong_inputs_are_named(inputs: dict[str, np.ndarray], problem: str) -> None:
    with pytest.raises(UnsupportedModel, match=problem):
        _double(1, 3).session().run(inputs)


def test_rows_of_another_size_are_named() -> None:
    with pytest.raises(UnsupportedModel, match="of 3 values"):
        _double("batch", 3).session().run_rows(np.zeros((2, 4)))


def test_the_provider_is_read_back() -> None:
    session = _double(1, 3).session("cpu", optimised=False)
    assert session.providers_in_use == ("CPUExecutionProvider",)
    assert (session.device, session.optimised) == ("cpu", False)


def test_auto_is_cuda_exactly_where_it_works() -> None:
    assert resolve_device("auto") == ("cuda" if cuda_works() else "cpu")


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(DeviceUnavailable, match="'tpu'"):
        resolve_device("tpu")


def test_cuda_that_is_not_there_is_an_error() -> None:
    if cuda_works():
        pytest.skip("CUDA works here")
    with pytest.raises(DeviceUnavailable):
        _double(1, 3).session("cuda")


@pytest.mark.gpu
def test_cuda_is_in_use_when_asked_for() -> None:
    if not cuda_works():
        pytest.skip("onnxruntime cannot use CUDA here")
    session = OnnxModel.from_proto(dense_network([8, 8, 4])).session("cuda")
    assert session.providers_in_use[0] == "CUDAExecutionProvider"
    assert session.run_rows(np.ones((2, 8), np.float32)).shape == (2, 4)


def test_a_model_onnxruntime_cannot_load_is_unsupported() -> None:
    proto = make_model([helper.make_node("Add", ["x", "w"], ["y"])], {"x": [1, 2]}, {"y": [1, 2]},
                       {"w": np.zeros((1, 3), np.float32)})  # fmt: skip
    with pytest.raises(UnsupportedModel, match="onnxruntime"):
        OnnxModel.from_proto(proto).session().run({"x": np.zeros((1, 2), np.float32)})
