"""ONNX files whose structure, names or numbers are hostile; their data files are elsewhere."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from tests.models.hostile_files.case import Content, HostileCase, accepted, file, refused
from tests.models.hostile_files.payload import calling, touching
from tests.models.onnx_networks import (
    dense_network,
    external_tensor,
    make_model,
    model_with_tensor,
)

_DEEPER_THAN_ALLOWED = 12
_DOC_BYTES = 256


def changed(change: Callable[[onnx.ModelProto], object]) -> Content:
    """A small sound network with one thing done to it."""

    def content(marker: Path) -> bytes:
        model = dense_network([3, 4, 2])
        change(model)
        return bytes(model.SerializeToString())

    return content


def with_tensor(tensor: onnx.TensorProto) -> Content:
    """A network that adds a tensor, whatever the tensor says of itself."""
    return lambda marker: bytes(model_with_tensor(tensor).SerializeToString())


def _named(name: str) -> Content:
    def change(model: onnx.ModelProto) -> None:
        model.graph.node[0].name = name

    return changed(change)


def _foreign_operator(model: onnx.ModelProto) -> None:
    model.graph.node[0].domain = "com.example.native"
    model.opset_import.append(helper.make_opsetid("com.example.native", 1))


def _local_function(model: onnx.ModelProto) -> None:
    body = [helper.make_node("Relu", ["a"], ["b"])]
    made = helper.make_function("local", "F", ["a"], ["b"], body, list(model.opset_import))
    model.functions.append(made)


def _training(model: onnx.ModelProto) -> None:
    model.training_info.add()


def _sparse(model: onnx.ModelProto) -> None:
    values = helper.make_tensor("s", TensorProto.FLOAT, [1], [1.0])
    places = helper.make_tensor("p", TensorProto.INT64, [1], [0])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [2**40]))


def _nested(operator: str) -> Content:
    """Graphs in graphs: each level is the branch or the body of the one around it."""

    def content(marker: Path) -> bytes:
        inner = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "innermost", [], [])
        for level in range(_DEEPER_THAN_ALLOWED):
            names = ("then_branch", "else_branch") if operator == "If" else ("body",)
            node = helper.make_node(
                operator, ["c"], [f"y{level}"], **dict.fromkeys(names[:1], inner)
            )
            inner = helper.make_graph([node], f"level{level}", [], [])
        return bytes(helper.make_model(inner).SerializeToString())

    return content


def _doubled_graph(marker: Path) -> bytes:
    """A second graph behind the first: readers merge them, or take the last."""
    content = bytes(dense_network([3, 2]).SerializeToString())
    graph = dense_network([3, 5, 2]).graph.SerializeToString()
    assert len(graph) > 127
    return content + b"\x3a" + _varint(len(graph)) + bytes(graph)


def _varint(value: int) -> bytes:
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def _unknown_field(marker: Path) -> bytes:
    """Field 99 of the model holds a pickle."""
    inner = touching(marker)
    return (
        bytes(dense_network([3, 2]).SerializeToString()) + b"\x9a\x06" + _varint(len(inner)) + inner
    )


def _model_then_pickle(marker: Path) -> bytes:
    return bytes(dense_network([3, 2]).SerializeToString()) + touching(marker)


def _model_and_pickle(marker: Path) -> bytes:
    """A valid model whose bytes, read as a pickle, call a function.

    `model_version` 85 is `(U` to a pickle: a mark, and a string as long as the tag of
    `ir_version` says; what follows is jumped over, and the text of `doc_string` is run.
    """
    call = b"0" + calling("posix", "system", "")[2:].partition(b"(")[0]
    call += b"(S'touch " + str(marker).encode() + b"'\ntR."
    document = call.ljust(_DOC_BYTES, b" ")
    assert len(document) == _DOC_BYTES
    head = b"\x28\x55" + b"\x08\x08" + b"\x12\x05model" + b"\x32\x80\x02" + document
    model = dense_network([3, 2])
    for name in ("ir_version", "producer_name"):
        model.ClearField(name)
    return bytes(head + model.SerializeToString())


def _gzipped_pickle(marker: Path) -> bytes:
    return gzip.compress(touching(marker))


def _cut(marker: Path) -> bytes:
    content = bytes(dense_network([3, 4, 2]).SerializeToString())
    return content[: len(content) // 2]


def _bad_shapes(marker: Path) -> bytes:
    """Shape inference of Gemm read beyond the dimensions of its first input."""
    node = helper.make_node("Gemm", ["x", "x", "x"], ["y"], "gemm", transB=823, broadcast=-436)
    return bytes(make_model([node], {"x": [2]}, {"y": [1, 2]}, opset=6).SerializeToString())


def _bad_transposes(marker: Path) -> bytes:
    """A chain that the optimiser for transposes had to move through other nodes."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["a"], "first", perm=[1, 0]),
        helper.make_node("Unsqueeze", ["a", "x"], ["b"], "second"),
        helper.make_node("Transpose", ["b"], ["y"], "third", perm=[7, -9, 3]),
    ]
    return bytes(make_model(nodes, {"x": [2, 3]}, {"y": [3, 2]}).SerializeToString())


def _raw(dims: list[int], content: bytes) -> onnx.TensorProto:
    return onnx.TensorProto(name="w", dims=dims, data_type=TensorProto.FLOAT, raw_data=content)


CASES: tuple[HostileCase, ...] = (
    refused("onnx-custom-domain", "custom-operator libraries", file(
        "m.onnx", changed(_foreign_operator)), "custom-domain", "com.example.native"),
    refused("onnx-local-function", "functions", file("m.onnx", changed(_local_function)),
            "local-function", "functions"),
    refused("onnx-training", "parts that are not read", file("m.onnx", changed(_training)),
            "training-info", "byte"),
    refused("onnx-sparse-tensor", "huge allocation, CVE-2026-34445", file(
        "m.onnx", changed(_sparse)), "sparse-tensor", "byte"),
    refused("onnx-nested-if", "subgraphs deeper than the limit", file("m.onnx", _nested("If")),
            "nesting-limit", "byte"),
    refused("onnx-nested-loop", "subgraphs deeper than the limit", file(
        "m.onnx", _nested("Loop")), "nesting-limit", "byte"),
    refused("onnx-two-graphs", "valid prefix", file("m.onnx", _doubled_graph),
            "duplicate-field", "byte"),
    refused("onnx-unknown-field", "any pickle", file("m.onnx", _unknown_field),
            "unknown-field pickle-content", "byte"),
    refused("onnx-then-pickle", "containers: valid prefix then pickle", file(
        "m.onnx", _model_then_pickle),
        "trailing-data unknown-field malformed truncated duplicate-field pickle-content"),
    refused("onnx-that-is-a-pickle-too", "any pickle, valid prefix", file(
        "m.onnx", _model_and_pickle), "pickle-content pickle-import polyglot"),
    refused("onnx-gzip-of-a-pickle", "any pickle", file("m.onnx.gz", _gzipped_pickle),
            "pickle-content pickle-import"),
    refused("onnx-cut", "CVE-2024-27319", file("m.onnx", _cut), "truncated malformed"),
    refused("onnx-dims-overflow", "huge allocation, CVE-2026-34445", file("m.onnx", with_tensor(
        _raw([2**62, 4], b""))), "dims-overflow", "'w'"),
    refused("onnx-dims-negative", "huge allocation", file("m.onnx", with_tensor(
        _raw([-1, 4], bytes(16)))), "dims-range", "'w'"),
    refused("onnx-too-little-data", "CVE-2024-27319", file("m.onnx", with_tensor(
        _raw([1000, 1000], bytes(8)))), "data-length", "'w'"),
    refused("onnx-name-with-escape", "text: ESC", file("m.onnx", _named("\x1b[2Jgemm")),
            "control-character", "\\x1b"),
    refused("onnx-name-with-newline", "text: newline", file("m.onnx", _named(
        "gemm\n::error::x")), "control-character", "\\n"),
    refused("onnx-name-with-nul", "text: NUL", file("m.onnx", _named("gemm\0")),
            "control-character", "\\x00"),
    refused("onnx-markup-in-a-refused-name", "text: </script>", file("m.onnx", with_tensor(
        onnx.TensorProto(name="</script><b>", dims=[5], data_type=1, raw_data=b""))),
        "data-length", "</script>"),
    refused("onnx-formula-in-a-refused-name", "text: =CMD()", file("m.onnx", with_tensor(
        onnx.TensorProto(name="=CMD()", dims=[5], data_type=1, raw_data=b""))),
        "data-length", "=CMD()"),
    refused("onnx-annotation-in-a-refused-name", "text: ::error", file("m.onnx", with_tensor(
        onnx.TensorProto(name="::error file=x::", dims=[5], data_type=1, raw_data=b""))),
        "data-length", "::error"),
    refused("onnx-memory-marker", "onnxruntime#26776, onnxruntime#28709", file(
        "m.onnx", with_tensor(external_tensor("w", [2], {
            "location": "*/_ORT_MEM_ADDR_/*", "offset": "140000000000000", "length": "8"}))),
        "external-data-escape", "_ORT_MEM_ADDR_"),
    # What crashed a library has a sound structure: a scan lets it through, and the first load
    # in a child process has to survive it.
    accepted("onnx-crashes-shape-inference", "CVE-2024-5187, CVE-2024-27319, onnxruntime#21507",
             file("m.onnx", _bad_shapes)),
    accepted("onnx-crashes-the-optimiser", "onnxruntime#23258", file("m.onnx", _bad_transposes)),
    accepted("onnx-markup-in-a-name", "text: </script>", file("m.onnx", _named(
        "</script>=CMD()::error::"))),
)  # fmt: skip
