"""The field table, against the descriptors of the installed onnx package."""

from __future__ import annotations

from typing import Any

import onnx
import pytest
from onnx import TensorProto

from auditor.models.onnx_schema import ELEMENT_BITS, MESSAGES, STRING_TYPE

_DESCRIPTORS: dict[str, Any] = {
    "Model": onnx.ModelProto.DESCRIPTOR,
    "OperatorSet": onnx.OperatorSetIdProto.DESCRIPTOR,
    "Entry": onnx.StringStringEntryProto.DESCRIPTOR,
    "Graph": onnx.GraphProto.DESCRIPTOR,
    "Annotation": onnx.TensorAnnotation.DESCRIPTOR,
    "Node": onnx.NodeProto.DESCRIPTOR,
    "Attribute": onnx.AttributeProto.DESCRIPTOR,
    "Tensor": onnx.TensorProto.DESCRIPTOR,
    "ValueInfo": onnx.ValueInfoProto.DESCRIPTOR,
    "Type": onnx.TypeProto.DESCRIPTOR,
    "TensorType": onnx.TypeProto.Tensor.DESCRIPTOR,
    "ElementType": onnx.TypeProto.Sequence.DESCRIPTOR,
    "MapType": onnx.TypeProto.Map.DESCRIPTOR,
    "Shape": onnx.TensorShapeProto.DESCRIPTOR,
    "Dimension": onnx.TensorShapeProto.Dimension.DESCRIPTOR,
}


@pytest.mark.parametrize("message", sorted(_DESCRIPTORS))
def test_numbers_and_names_agree_with_onnx(message: str) -> None:
    published = {field.number: field.name for field in _DESCRIPTORS[message].fields}
    listed = {number: rule.name for number, rule in MESSAGES[message].items()}
    assert listed.items() <= published.items()


@pytest.mark.parametrize("message", sorted(_DESCRIPTORS))
def test_messages_are_told_from_values(message: str) -> None:
    message_type = 11  # FieldDescriptor.TYPE_MESSAGE
    published = {field.number: field.type == message_type for field in _DESCRIPTORS[message].fields}
    for number, rule in MESSAGES[message].items():
        assert rule.is_message == published[number], rule.name


def test_every_message_that_is_named_is_described() -> None:
    named = {rule.kind for rules in MESSAGES.values() for rule in rules.values() if rule.is_message}
    assert named - {"Forbidden"} <= MESSAGES.keys()


def test_element_sizes_agree_with_numpy() -> None:
    whole = {number: bits for number, bits in ELEMENT_BITS.items() if bits >= 8}
    sizes = {number: 8 * onnx.helper.tensor_dtype_to_np_dtype(number).itemsize for number in whole}
    assert whole == sizes


def test_every_settled_type_of_onnx_has_a_size() -> None:
    unsettled = {TensorProto.UNDEFINED, STRING_TYPE, 27, 28}
    assert {v for v in TensorProto.DataType.values() if v not in unsettled} == ELEMENT_BITS.keys()
