"""Opening models: attributes of networks whose content is known."""

from __future__ import annotations

import gzip
import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from auditor.errors import FileChanged, FileMissing, RefusedModel
from auditor.models.digest import file_digest
from auditor.models.onnx_model import NonFinite, OnnxModel, TensorSpec
from tests.models.onnx_networks import dense_network, make_model, model_with_tensor, write_model


def test_the_attributes_are_those_of_the_network(tmp_path: Path) -> None:
    model = OnnxModel.open(write_model(tmp_path, dense_network([3, 4, 2])))
    assert model.inputs == (TensorSpec("x", (None, 3), "float32"),)
    assert model.outputs == (TensorSpec("y", (None, 2), "float32"),)
    assert model.operators == Counter({"Gemm": 2, "Relu": 1})
    assert (model.opset, model.producer, model.format) == (17, "test", "onnx")
    assert model.parameter_count == 3 * 4 + 4 + 4 * 2 + 2
    assert model.nonfinite == ()


def test_digest_and_size_are_those_of_the_file(tmp_path: Path) -> None:
    path = write_model(tmp_path, dense_network([3, 2]))
    model = OnnxModel.open(path)
    content = path.read_bytes()
    assert model.digest == f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert model.size == len(content)


def test_a_compressed_model_has_the_digest_of_its_compressed_bytes(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx.gz"
    path.write_bytes(gzip.compress(dense_network([3, 2]).SerializeToString()))
    model = OnnxModel.open(path)
    assert model.digest == f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    assert model.format == "onnx.gz"


def test_initialisers_listed_as_inputs_are_not_inputs() -> None:
    proto = dense_network([3, 2])
    proto.graph.input.append(helper.make_tensor_value_info("w0", TensorProto.FLOAT, [3, 2]))
    assert [spec.name for spec in OnnxModel.from_proto(proto).inputs] == ["x"]


def test_nan_and_infinity_are_found_with_their_places() -> None:
    values = np.zeros((1, 2), np.float32)
    values[0, 1] = np.nan
    first = OnnxModel.from_proto(model_with_tensor(numpy_helper.from_array(values, "t")))
    assert first.nonfinite == (NonFinite("t", (1,), 1, ("nan",)),)
    values[:] = [[np.inf, -np.inf]]
    second = OnnxModel.from_proto(model_with_tensor(numpy_helper.from_array(values, "t")))
    assert second.nonfinite == (NonFinite("t", (0, 1), 2, ("inf", "-inf")),)


def test_nan_in_a_constant_node_is_found() -> None:
    constant = numpy_helper.from_array(np.array([[np.nan, 0.0]], np.float32), "c")
    nodes = [
        helper.make_node("Constant", [], ["t"], "const", value=constant),
        helper.make_node("Add", ["x", "t"], ["y"], "add"),
    ]
    model = OnnxModel.from_proto(make_model(nodes, {"x": [1, 2]}, {"y": [1, 2]}))
    assert model.nonfinite == (NonFinite("c", (0,), 1, ("nan",)),)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_nan_is_found_in_other_float_types(dtype: str) -> None:
    tensor = numpy_helper.from_array(np.array([[0.0, np.nan]], dtype), "t")
    model = OnnxModel(Path("m"), "", 0, "onnx", model_with_tensor(tensor))
    assert model.nonfinite == (NonFinite("t", (1,), 1, ("nan",)),)


def test_a_graph_the_checker_rejects_is_refused(tmp_path: Path) -> None:
    proto = dense_network([3, 2])
    proto.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(RefusedModel) as caught:
        OnnxModel.open(write_model(tmp_path, proto))
    assert caught.value.rule == "invalid-graph"


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileMissing):
        OnnxModel.open(tmp_path / "absent.onnx")


def test_a_file_that_was_replaced_since_it_was_digested_is_an_error(tmp_path: Path) -> None:
    path = write_model(tmp_path, dense_network([3, 2], seed=1))
    digest = file_digest(path)
    assert OnnxModel.open(path, expected_digest=digest).digest == digest
    write_model(tmp_path, dense_network([3, 2], seed=2))
    with pytest.raises(FileChanged, match="changed during the run"):
        OnnxModel.open(path, expected_digest=digest)


def test_data_files_are_part_of_size_and_digest(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(
        dense_network([30, 40]), path, save_as_external_data=True, location="w", size_threshold=0
    )
    before = OnnxModel.open(path)
    assert before.size == path.stat().st_size + (tmp_path / "w").stat().st_size
    content = bytearray((tmp_path / "w").read_bytes())
    content[0] ^= 1
    (tmp_path / "w").write_bytes(content)
    assert OnnxModel.open(path).digest != before.digest


def test_external_data_and_inline_data_give_the_same_weights(tmp_path: Path) -> None:
    proto = dense_network([30, 40])
    inline = OnnxModel.open(write_model(tmp_path, proto, "inline.onnx"))
    onnx.save(
        proto, tmp_path / "m.onnx", save_as_external_data=True, location="w", size_threshold=0
    )
    outside = OnnxModel.open(tmp_path / "m.onnx")
    assert outside.external_files == ("w",)
    for name, values in inline.initialisers.items():
        np.testing.assert_array_equal(outside.initialisers[name], values)


def test_specifications_print_as_one_line() -> None:
    assert str(TensorSpec("x", (None, 3), "float32")) == "x float32[?, 3]"
    assert str(NonFinite("w", (4,), 9, ("nan",))) == "w[4, ...] is nan"
