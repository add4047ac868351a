"""Structure and tensor rules of the walk, one broken model each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from auditor.errors import RefusedModel
from auditor.models.limits import Limits
from auditor.models.onnx_walk import walk_model
from tests.models.onnx_networks import dense_network, model_with_tensor

PATH = Path("model.onnx")


def _rule(model: onnx.ModelProto | bytes, limits: Limits | None = None) -> str:
    content = model if isinstance(model, bytes) else model.SerializeToString()
    with pytest.raises(RefusedModel) as caught:
        walk_model(PATH, content, limits or Limits())
    return caught.value.rule


def _tensor(**changes: Any) -> onnx.TensorProto:
    fields: dict[str, Any] = {"name": "t", "data_type": TensorProto.FLOAT, "dims": [1, 2]}
    return onnx.TensorProto(**(fields | changes))


def _with_location(value: int) -> bytes:
    """A tensor whose data location is a number that 32 bits would cut down to EXTERNAL."""
    tensor = _tensor(raw_data=bytes(8)).SerializeToString() + b"\x70" + _varint(value)
    model = model_with_tensor(_tensor(raw_data=bytes(8)))
    del model.graph.initializer[:]
    graph = model.graph.SerializeToString() + _field(5, tensor)
    model.ClearField("graph")
    head: bytes = model.SerializeToString()
    return head + _field(7, graph)


def _varint(value: int) -> bytes:
    parts = b""
    while value >= 0x80:
        parts, value = parts + bytes([value & 0x7F | 0x80]), value >> 7
    return parts + bytes([value])


def _field(number: int, data: bytes) -> bytes:
    """A length-delimited field."""
    return bytes([number << 3 | 2]) + _varint(len(data)) + data


def test_counts_are_those_of_the_model() -> None:
    summary = walk_model(PATH, dense_network([3, 4, 2]).SerializeToString(), Limits())
    assert (summary.nodes, summary.initialisers, summary.ir_version) == (3, 4, 8)


WHOLE_TYPES = ["float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8",
               "uint16", "uint32", "uint64", "bool", "complex64", "complex128"]  # fmt: skip


@pytest.mark.parametrize("dtype", WHOLE_TYPES)
def test_raw_data_of_every_type_pass(dtype: str) -> None:
    tensor = numpy_helper.from_array(np.ones((3, 5), dtype), "t")
    walk_model(PATH, model_with_tensor(tensor).SerializeToString(), Limits())


@pytest.mark.parametrize(
    "data_type",
    [
        TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64, TensorProto.UINT64,
        TensorProto.INT32, TensorProto.INT8, TensorProto.BOOL, TensorProto.FLOAT16,
        TensorProto.UINT32, TensorProto.COMPLEX64, TensorProto.INT4, TensorProto.UINT4,
    ],
)  # fmt: skip
def test_typed_data_written_by_onnx_pass(data_type: int) -> None:
    tensor = helper.make_tensor("t", data_type, [5], [1, 0, 1, 1, 0])
    walk_model(PATH, model_with_tensor(tensor).SerializeToString(), Limits())


def test_strings_pass() -> None:
    tensor = _tensor(data_type=TensorProto.STRING, dims=[2], string_data=[b"a", b"b"])
    walk_model(PATH, model_with_tensor(tensor).SerializeToString(), Limits())


@pytest.mark.parametrize(
    ("tensor", "rule"),
    [
        (_tensor(dims=[2**62, 4], raw_data=b""), "dims-overflow"),
        (_tensor(dims=[2**33], raw_data=b""), "dims-overflow"),
        (_tensor(dims=[-1, 2], raw_data=bytes(8)), "dims-range"),
        (_tensor(dims=[1] * 40, raw_data=bytes(4)), "dims-range"),
        (_tensor(raw_data=bytes(4)), "data-length"),
        (_tensor(raw_data=bytes(12)), "data-length"),
        (_tensor(float_data=[1.0]), "data-length"),
        (_tensor(int64_data=[1, 2]), "data-length"),
        (_tensor(raw_data=bytes(8), float_data=[1.0, 2.0]), "data-length"),
        (_tensor(), "data-length"),
        (_with_location(2**32 + 1), "malformed"),
        (_tensor(data_type=99, raw_data=bytes(8)), "unknown-dtype"),
        (_tensor(data_type=0, raw_data=bytes(8)), "unknown-dtype"),
    ],
)
def test_data_must_fit_dimensions(tensor: onnx.TensorProto | bytes, rule: str) -> None:
    assert _rule(tensor if isinstance(tensor, bytes) else model_with_tensor(tensor)) == rule


def test_the_place_names_the_tensor() -> None:
    with pytest.raises(RefusedModel) as caught:
        walk_model(PATH, model_with_tensor(_tensor()).SerializeToString(), Limits())
    assert "tensor 't'" in caught.value.place


def test_a_custom_domain_of_a_node_is_refused() -> None:
    model = dense_network([2, 2])
    model.graph.node[0].domain = "evil.ops"
    assert _rule(model) == "custom-domain"


def test_a_custom_opset_import_is_refused() -> None:
    model = dense_network([2, 2])
    model.opset_import.add(domain="evil.ops", version=1)
    assert _rule(model) == "custom-domain"


def test_a_domain_that_may_be_imported_may_still_have_no_node() -> None:
    model = dense_network([2, 2])
    model.opset_import.add(domain="com.microsoft.nchwc", version=1)
    walk_model(PATH, model.SerializeToString(), Limits())
    model.graph.node[0].domain = "com.microsoft.nchwc"
    assert _rule(model) == "custom-domain"


@pytest.mark.parametrize("domain", ["", "ai.onnx", "ai.onnx.ml", "com.microsoft"])
def test_known_domains_pass(domain: str) -> None:
    model = dense_network([2, 2])
    model.opset_import.add(domain=domain, version=1)
    walk_model(PATH, model.SerializeToString(), Limits())


def test_local_functions_are_refused() -> None:
    model = dense_network([2, 2])
    model.functions.add(name="Relu", domain="")
    assert _rule(model) == "local-function"


def test_sparse_initialisers_are_refused() -> None:
    model = dense_network([2, 2])
    model.graph.sparse_initializer.add(dims=[2**40, 2**20])
    assert _rule(model) == "sparse-tensor"


def _nested(depth: int) -> onnx.ModelProto:
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "inner", [], [])
    for level in range(depth):
        node = helper.make_node("If", ["x"], ["y"], name=f"if{level}", then_branch=graph)
        graph = helper.make_graph([node], f"level{level}", [], [])
    return helper.make_model(graph)


def test_graphs_up_to_the_limit_pass() -> None:
    assert walk_model(PATH, _nested(3).SerializeToString(), Limits(graph_depth=3)).nodes == 4


def test_deeper_graphs_are_refused() -> None:
    assert _rule(_nested(4), Limits(graph_depth=3)) == "nesting-limit"


def test_deeply_nested_types_are_refused_and_not_a_recursion_error() -> None:
    kind = b""
    for _ in range(5000):
        kind = _field(4, _field(1, kind))  # a sequence whose elements are of the type so far
    value = _field(1, b"x") + _field(2, kind)
    model = b"\x08\x08" + _field(7, _field(2, b"g") + _field(11, value))
    assert _rule(model) == "nesting-limit"


@pytest.mark.parametrize(
    ("limits", "rule"),
    [
        (Limits(nodes=2), "node-limit"),
        (Limits(initialisers=3), "initialiser-limit"),
        (Limits(fields=20), "field-limit"),
        (Limits(tensor_bytes=16), "dims-overflow"),
        (Limits(name_bytes=3), "text-limit"),
    ],
)
def test_each_limit_is_kept(limits: Limits, rule: str) -> None:
    assert _rule(dense_network([3, 4, 2]), limits) == rule


def test_an_unknown_field_is_refused() -> None:
    assert _rule(dense_network([2, 2]).SerializeToString() + b"\xf8\x07\x01") == "unknown-field"


def test_a_second_graph_is_refused() -> None:
    content = dense_network([2, 2]).SerializeToString()
    assert _rule(content + content) == "duplicate-field"


def test_a_wrong_wire_type_is_malformed() -> None:
    assert _rule(b"\x0a\x01a" + dense_network([2, 2]).SerializeToString()) == "malformed"


def test_a_control_character_in_a_name_is_refused() -> None:
    model = dense_network([2, 2])
    model.graph.node[0].name = "evil\x1b[2J"
    assert _rule(model) == "control-character"


def test_a_newline_in_documentation_passes() -> None:
    model = dense_network([2, 2])
    model.doc_string = "two\nlines"
    walk_model(PATH, model.SerializeToString(), Limits())


def test_a_name_that_is_not_utf8_is_refused() -> None:
    content = dense_network([2, 2]).SerializeToString().replace(b"gemm0", b"gem\xff0")
    assert _rule(content) == "invalid-text"


def test_a_file_without_a_graph_is_no_model() -> None:
    assert _rule(b"\x08\x08") == "not-a-model"
