"""What each supported ONNX operator does to a chain or to a constant.

Every function takes a node with its arguments and returns the node's first output.
A chain is the part that depends on the input, an array a constant. Only exact
arithmetic is done; what would round is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from auditor.errors import UnsupportedModel
from auditor.verify.network.affine_chain import (
    check_matrix_size,
    exact_product,
    exact_sum,
)
from auditor.verify.network.chain import Float64
from auditor.verify.network.symbolic import Symbolic

Constant = NDArray[Any]
Value = Symbolic | Constant


@dataclass(frozen=True)
class NodeView:
    """A node, its name for messages, and its arguments."""

    node: onnx.NodeProto
    name: str
    arguments: Sequence[Value | None]

    @cached_property
    def attributes(self) -> Mapping[str, Any]:
        """The node's attributes as Python values."""
        return {item.name: helper.get_attribute_value(item) for item in self.node.attribute}

    def argument(self, index: int) -> Value:
        """An argument that must be there."""
        value = self.optional(index)
        if value is None:
            raise self.refusal(f"argument {index} is missing")
        return value

    def optional(self, index: int) -> Value | None:
        """An argument that may be left out."""
        return self.arguments[index] if index < len(self.arguments) else None

    def constant(self, index: int) -> Constant:
        """An argument that must be a constant."""
        value = self.argument(index)
        if isinstance(value, Symbolic):
            raise self.refusal(f"argument {index} depends on the input")
        return value

    def integers(self, index: int, attribute: str) -> list[int] | None:
        """A list of integers given as an attribute (old opsets) or as an argument."""
        if attribute in self.attributes:
            return [int(value) for value in self.attributes[attribute]]
        if self.optional(index) is None:
            return None
        return [int(value) for value in self.constant(index).ravel()]

    def refusal(self, problem: str) -> UnsupportedModel:
        """The error for this node."""
        return UnsupportedModel(
            f"{self.node.op_type}: {problem}",
            place=f"node '{self.name}'",
            way_out="this form of the operator is not handled",
        )


def float64_of(view: NodeView, array: Constant) -> Float64:
    """A constant of floats as float64."""
    if not np.issubdtype(array.dtype, np.floating):
        raise view.refusal(f"a constant of type {array.dtype} where floats are expected")
    return array.astype(np.float64)


def _identity(view: NodeView) -> Value:
    return view.argument(0)


def _dropout(view: NodeView) -> Value:
    training = view.optional(2)
    if isinstance(training, Symbolic) or (training is not None and training.any()):
        raise view.refusal("training mode")
    return view.argument(0)


def _relu(view: NodeView) -> Value:
    value = view.argument(0)
    return value.rectified(view.name) if isinstance(value, Symbolic) else np.maximum(value, 0)


def _constant(view: NodeView) -> Value:
    attributes = view.attributes
    if "value" in attributes:
        tensor = attributes["value"]
        if tensor.external_data:
            raise view.refusal("its data lie in another file")
        return numpy_helper.to_array(tensor)
    for name, kind in (
        ("value_float", np.float32),
        ("value_floats", np.float32),
        ("value_int", np.int64),
        ("value_ints", np.int64),
    ):
        if name in attributes:
            return np.asarray(attributes[name], dtype=kind)
    raise view.refusal("a constant that is neither a tensor nor a number")


def _cast(view: NodeView) -> Value:
    value, target = view.argument(0), view.attributes.get("to")
    wide = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE)
    if isinstance(value, Symbolic):
        if target not in wide:
            raise view.refusal("a cast that changes values")
        return value
    cast = value.astype(helper.tensor_dtype_to_np_dtype(int(target or 0)))
    if not np.array_equal(cast.astype(value.dtype), value):
        raise view.refusal("a cast that changes values")
    return cast


def _shape(view: NodeView) -> Value:
    return np.asarray(view.argument(0).shape, dtype=np.int64)


def _reshape(view: NodeView) -> Value:
    value = view.argument(0)
    wanted = view.integers(1, "shape")
    if wanted is None:
        raise view.refusal("no target shape")
    keep_zero = bool(view.attributes.get("allowzero", 0))
    target = [
        value.shape[position]
        if size == 0 and not keep_zero and position < len(value.shape)
        else size
        for position, size in enumerate(wanted)
    ]
    return with_shape(view, value, target)


def with_shape(view: NodeView, value: Value, target: Sequence[int]) -> Value:
    """The same elements under another shape, in which one size may be -1."""
    size = value.size
    known = int(np.prod([part for part in target if part != -1], dtype=object))
    if list(target).count(-1) == 1 and known > 0 and size % known == 0:
        target = [size // known if part == -1 else part for part in target]
        known = size
    if known != size or min(target, default=1) < 0:
        raise view.refusal(f"shape {list(value.shape)} cannot become {list(target)}")
    shape = tuple(target)
    return value.reshaped(shape) if isinstance(value, Symbolic) else value.reshape(shape)


def _flatten(view: NodeView) -> Value:
    value = view.argument(0)
    axis = int(view.attributes.get("axis", 1))
    axis = axis + len(value.shape) if axis < 0 else axis
    rows = int(np.prod(value.shape[:axis], dtype=object))
    columns = int(np.prod(value.shape[axis:], dtype=object))
    return with_shape(view, value, [rows, columns])


def _squeeze(view: NodeView) -> Value:
    value = view.argument(0)
    rank = len(value.shape)
    axes = view.integers(1, "axes")
    dropped = {axis % rank for axis in axes} if axes is not None else set(range(rank))
    kept = [n for i, n in enumerate(value.shape) if not (i in dropped and n == 1)]
    return with_shape(view, value, kept)


def _unsqueeze(view: NodeView) -> Value:
    value = view.argument(0)
    axes = view.integers(1, "axes") or []
    rank = len(value.shape) + len(axes)
    added = {axis % rank for axis in axes}
    rest = iter(value.shape)
    return with_shape(view, value, [1 if i in added else next(rest) for i in range(rank)])


def _transpose(view: NodeView) -> Value:
    value = view.argument(0)
    rank = len(value.shape)
    order = tuple(view.attributes.get("perm", range(rank - 1, -1, -1)))
    if sorted(order) != list(range(rank)):
        raise view.refusal(f"permutation {list(order)} of {rank} dimensions")
    if not isinstance(value, Symbolic):
        return np.transpose(value, order)
    positions = np.arange(value.size).reshape(value.shape).transpose(order)
    return value.permuted(positions.ravel(), positions.shape, view.name)


def _concat(view: NodeView) -> Value:
    parts = [view.constant(index) for index in range(len(view.arguments))]
    return np.concatenate(parts, axis=int(view.attributes.get("axis", 0)))


def _gather(view: NodeView) -> Value:
    data, indices = view.constant(0), view.constant(1)
    axis = int(view.attributes.get("axis", 0))
    if indices.size and not -data.shape[axis] <= indices.min() <= indices.max() < data.shape[axis]:
        raise view.refusal("an index outside of the constant")
    return np.asarray(np.take(data, indices, axis=axis))


def spread(view: NodeView, chain: Symbolic, constant: Constant) -> Float64:
    """A constant broadcast to the chain's shape, flat."""
    if constant.ndim > len(chain.shape) and constant.size == 1:
        constant = constant.reshape(())
    try:
        return np.broadcast_to(float64_of(view, constant), chain.shape).ravel()
    except ValueError:
        raise view.refusal(
            f"constant of shape {list(constant.shape)} does not fit {list(chain.shape)}"
        ) from None


def exact_or_refused(view: NodeView, result: Float64 | None) -> Float64:
    """The result of arithmetic on constants; None says that it would have rounded."""
    if result is None:
        raise view.refusal("arithmetic on constants that would round")
    return result


def _constants_sum(view: NodeView, first: Constant, second: Constant, sign: int) -> Value:
    if np.issubdtype(first.dtype, np.integer):
        return np.asarray(first + sign * second)
    one, two = np.broadcast_arrays(float64_of(view, first), sign * float64_of(view, second))
    return exact_or_refused(view, exact_sum(one, two))


def _add(view: NodeView) -> Value:
    first, second = view.argument(0), view.argument(1)
    if isinstance(first, Symbolic) and isinstance(second, Symbolic):
        raise view.refusal("two branches of the graph meet")
    if isinstance(first, Symbolic) and not isinstance(second, Symbolic):
        return first.plus(spread(view, first, second), view.name)
    if isinstance(second, Symbolic) and not isinstance(first, Symbolic):
        return second.plus(spread(view, second, first), view.name)
    return _constants_sum(view, view.constant(0), view.constant(1), 1)


def _sub(view: NodeView) -> Value:
    first, second = view.argument(0), view.argument(1)
    if isinstance(first, Symbolic) and isinstance(second, Symbolic):
        raise view.refusal("two branches of the graph meet")
    if isinstance(first, Symbolic) and not isinstance(second, Symbolic):
        return first.plus(-spread(view, first, second), view.name)
    if isinstance(second, Symbolic) and not isinstance(first, Symbolic):
        negated = second.scaled(np.full(second.size, -1.0), view.name)
        return negated.plus(spread(view, second, first), view.name)
    return _constants_sum(view, view.constant(0), view.constant(1), -1)


def _mul(view: NodeView) -> Value:
    first, second = view.argument(0), view.argument(1)
    if isinstance(first, Symbolic) and isinstance(second, Symbolic):
        raise view.refusal("two parts that depend on the input are multiplied")
    if isinstance(first, Symbolic) and not isinstance(second, Symbolic):
        return first.scaled(spread(view, first, second), view.name)
    if isinstance(second, Symbolic) and not isinstance(first, Symbolic):
        return second.scaled(spread(view, second, first), view.name)
    one, two = view.constant(0), view.constant(1)
    if np.issubdtype(one.dtype, np.integer):
        return np.asarray(one * two)
    return exact_or_refused(view, exact_product(float64_of(view, one), float64_of(view, two)))


def _div(view: NodeView) -> Value:
    value, divisor = view.argument(0), float64_of(view, view.constant(1))
    if not isinstance(value, Symbolic):
        raise view.refusal("constants divided by each other")
    mantissa, _ = np.frexp(divisor)
    if not (np.abs(mantissa) == 0.5).all():
        # 1/255 is no float: the quotient could not be kept exactly.
        raise view.refusal("a divisor that is not a power of two")
    return value.scaled(spread(view, value, 1.0 / divisor), view.name)


def _neg(view: NodeView) -> Value:
    value = view.argument(0)
    if not isinstance(value, Symbolic):
        return np.negative(value)
    return value.scaled(np.full(value.size, -1.0), view.name)


def _matmul(view: NodeView) -> Value:
    first, second = view.argument(0), view.argument(1)
    if isinstance(first, Symbolic) and not isinstance(second, Symbolic):
        matrix = float64_of(view, second)
        if matrix.ndim != 2 or not first.shape or first.shape[-1] != first.size:
            raise view.refusal(f"shapes {list(first.shape)} and {list(matrix.shape)}")
        shape = (*first.shape[:-1], matrix.shape[1])
        return _times(view, first, matrix.T, np.zeros(matrix.shape[1]), shape)
    if isinstance(second, Symbolic) and not isinstance(first, Symbolic):
        matrix = float64_of(view, first)
        column = second.shape in ((second.size,), (second.size, 1))
        if matrix.ndim != 2 or not column:
            raise view.refusal(f"shapes {list(matrix.shape)} and {list(second.shape)}")
        shape = (matrix.shape[0], *second.shape[1:])
        return _times(view, second, matrix, np.zeros(matrix.shape[0]), shape)
    raise view.refusal("two constants or two parts that depend on the input")


def _gemm(view: NodeView) -> Value:
    value, matrix = view.argument(0), float64_of(view, view.constant(1))
    attributes = view.attributes
    if not isinstance(value, Symbolic) or len(value.shape) != 2 or matrix.ndim != 2:
        raise view.refusal("expected the input part times a constant matrix")
    rows, columns = value.shape[::-1] if attributes.get("transA", 0) else value.shape
    if rows != 1:
        raise view.refusal(f"{rows} rows at once")
    weight = matrix if attributes.get("transB", 0) else matrix.T
    alpha, beta = (
        np.array(attributes.get(key, 1.0), dtype=np.float64) for key in ("alpha", "beta")
    )
    weight = exact_or_refused(view, exact_product(weight, alpha)) if alpha != 1 else weight
    bias = np.zeros(weight.shape[0])
    if view.optional(2) is not None:
        given = float64_of(view, view.constant(2))
        if given.size not in (1, len(bias)) or given.shape[:-1] not in ((), (1,)):
            raise view.refusal(f"bias of shape {list(given.shape)}")
        given = np.broadcast_to(given.ravel(), bias.shape)
        bias = exact_or_refused(view, exact_product(given, beta)) if beta != 1 else given.copy()
    if columns != weight.shape[1]:
        raise view.refusal(f"shapes {list(value.shape)} and {list(matrix.shape)}")
    return _times(view, value, weight, bias, (1, len(bias)))


def _times(
    view: NodeView, value: Symbolic, weight: Float64, bias: Float64, shape: tuple[int, ...]
) -> Symbolic:
    if weight.shape[1] != value.size:
        raise view.refusal(f"{value.size} elements meet a matrix for {weight.shape[1]}")
    check_matrix_size(weight.shape[0], weight.shape[1], view.name)
    return value.affine(np.ascontiguousarray(weight), bias, shape, view.name)


OPERATORS: Mapping[str, Callable[[NodeView], Value]] = {
    "Add": _add,
    "Cast": _cast,
    "Concat": _concat,
    "Constant": _constant,
    "Div": _div,
    "Dropout": _dropout,
    "Flatten": _flatten,
    "Gather": _gather,
    "Gemm": _gemm,
    "Identity": _identity,
    "MatMul": _matmul,
    "Mul": _mul,
    "Neg": _neg,
    "Relu": _relu,
    "Reshape": _reshape,
    "Shape": _shape,
    "Squeeze": _squeeze,
    "Sub": _sub,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
