"""One node of an ONNX graph as the torch operators see it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

Values = Sequence[Tensor | None]
Operator = Callable[["TorchNode", Values], Tensor | Sequence[Tensor]]


@dataclass(frozen=True)
class TorchNode:
    """A node with its attributes read.

    Attributes:
        name: The node's name, or its first output where it has none.
        op: Operator type.
        opset: Version of the standard operator set in force.
        inputs: Tensor names, empty for an input that is left out.
        outputs: Tensor names.
        attributes: Values as onnx reads them: int, float, bytes, lists, tensors.
        dtype: The floating-point type everything is computed in.
        device: Where it is computed.
    """

    name: str
    op: str
    opset: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    dtype: torch.dtype
    device: torch.device

    def integer(self, name: str, default: int) -> int:
        """An integer attribute."""
        return int(self.attributes.get(name, default))

    def number(self, name: str, default: float) -> float:
        """A floating-point attribute."""
        # Attributes are float32, their defaults too: 0.01 is not the double of that name.
        return float(np.float32(self.attributes.get(name, default)))

    def integers(self, name: str) -> list[int] | None:
        """A list of integers, or None where the attribute is absent."""
        values = self.attributes.get(name)
        return None if values is None else [int(value) for value in values]

    def text(self, name: str, default: str) -> str:
        """A text attribute."""
        value = self.attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else str(value)

    def tensor_of(self, array: Any) -> Tensor:
        """A NumPy array as a tensor; every floating-point type becomes `dtype`."""
        return as_tensor(array, self.dtype, self.device)


def as_tensor(array: Any, dtype: torch.dtype, device: torch.device) -> Tensor:
    """An array or tensor on the device; every floating-point type becomes `dtype`."""
    if isinstance(array, Tensor):
        return array.to(device, dtype) if array.is_floating_point() else array.to(device)
    array = np.asarray(array)
    if array.dtype.kind == "V" or array.dtype.name in ("bfloat16", "float16"):
        array = array.astype(np.float32)
    if array.dtype.kind in "ui" and array.dtype not in (np.int32, np.int64, np.uint8, np.int8):
        array = array.astype(np.int64)
    # torch.tensor copies: the model's own arrays are read-only.
    tensor = torch.tensor(array, device=device)
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def read_attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Attribute values by name; tensors as arrays."""
    values: dict[str, Any] = {}
    for attribute in node.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        is_tensor = isinstance(value, onnx.TensorProto)
        values[attribute.name] = numpy_helper.to_array(value) if is_tensor else value
    return values


def require(values: Values, index: int) -> Tensor:
    """An input that the operator cannot do without."""
    value = values[index]
    if value is None:
        raise IndexError(f"input {index} is left out")
    return value


def optional(values: Values, index: int) -> Tensor | None:
    """An input that may be left out."""
    return values[index] if index < len(values) else None


def integers_of(tensor: Tensor | None) -> list[int] | None:
    """The values of an integer tensor such as a shape or a list of axes."""
    return None if tensor is None else [int(value) for value in tensor.reshape(-1).tolist()]
