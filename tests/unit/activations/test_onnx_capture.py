"""What onnxruntime captures is what the graph computes, sample by sample."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import helper

from auditor.activations.capture import CaptureOptions, Granularity, Point
from auditor.activations.onnx_capture import OnnxCapture, exposed_graph
from auditor.errors import ConfigurationError, DeviceUnavailable, NothingToAudit, UnsupportedModel
from auditor.models.onnx_model import OnnxModel
from auditor.models.session import cuda_works
from auditor.models.torch_graph import TorchGraph
from tests.models.onnx_networks import (
    conv_network,
    dense_network,
    make_model,
    strided_network,
    write_model,
)

Array = NDArray[Any]


def _rows(proto: onnx.ModelProto, samples: int, seed: int = 0) -> Array:
    shape = [axis.dim_value for axis in proto.graph.input[0].type.tensor_type.shape.dim][1:]
    return np.random.default_rng(seed).standard_normal((samples, *shape)).astype(np.float32)


def _captured(capture: OnnxCapture, inputs: Array) -> list[Array]:
    batches = list(capture.batches(inputs))
    assert [batch.start for batch in batches[1:]] == [batch.stop for batch in batches[:-1]]
    return [np.concatenate(parts) for parts in zip(*(b.values for b in batches), strict=True)]


@pytest.mark.parametrize("point", list(Point))
@pytest.mark.parametrize(
    "proto",
    [dense_network([6, 8, 7, 3]), dense_network([6, 8, 3], batch=1), conv_network(),
     conv_network(batch_norm=True), strided_network(), dense_network([6, 8, 3], activation="Tanh")],
    ids=["dense", "fixed-batch", "conv", "batch-norm", "strided", "tanh"],
)  # fmt: skip
def test_values_are_those_of_the_float64_executor(proto: onnx.ModelProto, point: Point) -> None:
    inputs = _rows(proto, 9)
    capture = OnnxCapture(OnnxModel.from_proto(proto), (), CaptureOptions(point, batch_size=4))
    graph = TorchGraph(proto)
    names = [layer.before if point is Point.BEFORE else layer.after for layer in capture.layers]
    with torch.no_grad():
        runs = [graph.run({"x": row[None]}, keep=names) for row in inputs]
    for name, found in zip(names, _captured(capture, inputs), strict=True):
        expected = np.stack([run[name].numpy().reshape(-1) for run in runs])
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
        clear = np.abs(expected) > 1e-4
        assert ((found > 0) == (expected > 0))[clear].all()


def test_outputs_come_with_the_values() -> None:
    model = OnnxModel.from_proto(conv_network())
    inputs = _rows(model.proto, 5)
    outputs = np.concatenate([b.outputs for b in OnnxCapture(model).batches(inputs)])
    np.testing.assert_allclose(outputs, model.session().run({"x": inputs})["y"], rtol=1e-5)


def test_the_model_and_its_file_stay_as_they_are(tmp_path: Path) -> None:
    path = write_model(tmp_path, dense_network([3, 4, 2], batch=1))
    before = path.read_bytes()
    model = OnnxModel.open(path)
    text = model.proto.SerializeToString(deterministic=True)
    list(OnnxCapture(model).batches(np.ones((3, 3), np.float32)))
    assert path.read_bytes() == before
    assert model.proto.SerializeToString(deterministic=True) == text
    assert [output.name for output in model.outputs] == ["y"]


def test_a_fixed_batch_axis_is_opened_where_samples_do_not_mix() -> None:
    model = OnnxModel.from_proto(dense_network([3, 4, 2], batch=1))
    sizes = [len(b.outputs) for b in OnnxCapture(model).batches(np.ones((5, 3), np.float32))]
    assert sizes == [5]


def _mixing_network() -> onnx.ModelProto:
    """Every sample minus the mean of its batch, then a ReLU."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], "mean", axes=[0], keepdims=1),
        helper.make_node("Sub", ["x", "m"], ["z"], "centre"),
        helper.make_node("Add", ["z", "x"], ["s"], "shift"),
        helper.make_node("Relu", ["s"], ["y"], "relu"),
    ]
    return make_model(nodes, {"x": ["n", 2]}, {"y": ["n", 2]})


def test_samples_that_mix_in_a_batch_are_run_alone() -> None:
    inputs = np.array([[1.0, -2], [3, 4], [5, 6]], np.float32)
    capture = OnnxCapture(OnnxModel.from_proto(_mixing_network()))
    assert [len(batch.outputs) for batch in capture.batches(inputs)] == [1, 1, 1]
    assert _captured(capture, inputs)[0].tolist() == inputs.tolist()


def test_a_reshape_that_fixes_the_batch_makes_samples_run_alone() -> None:
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["r"], "reshape"),
        helper.make_node("Relu", ["r"], ["y"], "relu"),
    ]
    shape = {"shape": np.array([1, 4], np.int64)}
    proto = make_model(nodes, {"x": [1, 2, 2]}, {"y": [1, 4]}, shape)
    inputs = _rows(proto, 3)
    capture = OnnxCapture(OnnxModel.from_proto(proto))
    assert _captured(capture, inputs)[0].tolist() == inputs.reshape(3, 4).tolist()


def test_channels_hold_the_largest_of_their_units() -> None:
    model = OnnxModel.from_proto(conv_network())
    inputs = _rows(model.proto, 4)
    (units,) = _captured(OnnxCapture(model), inputs)
    options = CaptureOptions(granularity=Granularity.CHANNEL)
    (channels,) = _captured(OnnxCapture(model, (), options), inputs)
    assert channels.tolist() == units.reshape(4, 4, 64).max(axis=2).tolist()


def test_flat_rows_and_other_types_are_given_the_inputs_form() -> None:
    capture = OnnxCapture(OnnxModel.from_proto(conv_network()))
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64), np.uint8)
    (found,) = _captured(capture, pixels)
    (expected,) = _captured(capture, pixels.reshape(3, 1, 8, 8).astype(np.float32))
    assert found.tolist() == expected.tolist()


def test_io_binding_gives_what_a_plain_run_gives() -> None:
    model = OnnxModel.from_proto(conv_network())
    proto = exposed_graph(model.proto, ["z"], free_batch=False)
    session = OnnxModel(model.path, model.digest, model.size, "onnx", proto).session()
    feeds = {"x": _rows(model.proto, 3)}
    bound, plain = session.run_bound(feeds), session.run(feeds)
    assert list(bound) == ["y", "z"]
    assert all((bound[name] == plain[name]).all() for name in plain)


def test_a_relu_on_the_input_itself_is_captured() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["r"], "relu"), helper.make_node("Neg", ["r"], ["y"])]
    capture = OnnxCapture(OnnxModel.from_proto(make_model(nodes, {"x": [1, 2]}, {"y": [1, 2]})))
    inputs = np.array([[1.0, -2], [3, 4]], np.float32)
    assert _captured(capture, inputs)[0].tolist() == inputs.tolist()


def test_wrong_inputs_are_named() -> None:
    capture = OnnxCapture(OnnxModel.from_proto(dense_network([3, 4, 2])))
    with pytest.raises(NothingToAudit):
        list(capture.batches(np.zeros((0, 3), np.float32)))
    with pytest.raises(UnsupportedModel, match=r"shape \[1, 5\] for input x float32"):
        list(capture.batches(np.zeros((2, 5), np.float32)))
    with pytest.raises(ConfigurationError, match=r"inputs \['q'\]; the model's are \['x'\]"):
        list(capture.batches({"q": np.zeros((2, 3), np.float32)}))
    with pytest.raises(ConfigurationError, match="sample 1 of input 'x' holds inf"):
        list(capture.batches(np.array([[0, 0, 0], [0, 0, np.inf]], np.float32)))
    with pytest.raises(ConfigurationError, match="batch size 0"):
        CaptureOptions(batch_size=0)


def test_a_model_without_a_batch_axis_is_refused() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"], "relu")]
    capture = OnnxCapture(OnnxModel.from_proto(make_model(nodes, {"x": [4]}, {"y": [4]})))
    with pytest.raises(UnsupportedModel, match=r"shape \[1, 4\] for input x float32\[4\]"):
        list(capture.batches(np.zeros((3, 4), np.float32)))


def test_a_batch_axis_fixed_at_another_size_is_refused() -> None:
    model = OnnxModel.from_proto(dense_network([4, 5, 3], batch=2))
    with pytest.raises(UnsupportedModel, match=r"shape \[1, 4\] for input 'x' of shape \[2, 4\]"):
        list(OnnxCapture(model).batches(np.zeros((6, 4), np.float32)))


def test_several_inputs_are_given_by_name() -> None:
    nodes = [
        helper.make_node("Sub", ["a", "b"], ["z"], "minus"),
        helper.make_node("Relu", ["z"], ["y"], "relu"),
    ]
    proto = make_model(nodes, {"a": ["n", 2], "b": ["n", 2]}, {"y": ["n", 2]})
    capture = OnnxCapture(OnnxModel.from_proto(proto))
    one, two = np.ones((3, 2), np.float32), np.full((3, 2), 5, np.float32)
    (batch,) = capture.batches({"a": one, "b": two})
    assert batch.values[0].tolist() == (one - two).tolist()
    with pytest.raises(ConfigurationError, match="one array for the inputs a, b"):
        list(capture.batches(one))
    with pytest.raises(ConfigurationError, match="different numbers of samples"):
        list(capture.batches({"a": one, "b": two[:1]}))


def test_the_provider_in_use_is_read_back() -> None:
    capture = OnnxCapture(OnnxModel.from_proto(dense_network([3, 4, 2])))
    assert capture.providers_in_use == ("CPUExecutionProvider",)


def test_cuda_that_is_not_there_is_refused() -> None:
    if cuda_works():
        pytest.skip("CUDA works here")
    with pytest.raises(DeviceUnavailable):
        OnnxCapture(OnnxModel.from_proto(conv_network()), (), CaptureOptions(device="cuda"))


@pytest.mark.gpu
def test_cuda_captures_the_same_values() -> None:
    if not cuda_works():
        pytest.skip("onnxruntime finds no CUDA device")
    model = OnnxModel.from_proto(conv_network())
    inputs = _rows(model.proto, 20)
    (expected,) = _captured(OnnxCapture(model), inputs)
    capture = OnnxCapture(model, (), CaptureOptions(device="cuda"))
    assert capture.providers_in_use[0] == "CUDAExecutionProvider"
    np.testing.assert_allclose(_captured(capture, inputs)[0], expected, rtol=1e-3, atol=1e-4)
