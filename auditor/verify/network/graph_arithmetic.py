"""Sums, differences, products and larger/smaller of two, where branches may meet."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from auditor.verify.network.affine_chain import exact_product
from auditor.verify.network.chain import Float64
from auditor.verify.network.graph_tensor import GraphTensor, added
from auditor.verify.network.linear_map import DenseMap
from auditor.verify.network.operators import (
    OPERATORS,
    Constant,
    NodeView,
    Value,
    exact_or_refused,
    float64_of,
    spread,
)


def both_tensors(view: NodeView) -> tuple[GraphTensor, GraphTensor] | None:
    """Both arguments broadcast to one shape, or None if one of them is a constant."""
    first, second = view.argument(0), view.argument(1)
    if not (isinstance(first, GraphTensor) and isinstance(second, GraphTensor)):
        return None
    try:
        shape = np.broadcast_shapes(first.shape, second.shape)
    except ValueError:
        raise view.refusal(
            f"shapes {list(first.shape)} and {list(second.shape)} do not fit"
        ) from None
    return _broadcast(first, shape, view.name), _broadcast(second, shape, view.name)


def _broadcast(tensor: GraphTensor, shape: tuple[int, ...], name: str) -> GraphTensor:
    places = np.broadcast_to(np.arange(tensor.size).reshape(tensor.shape), shape)
    return tensor.gathered(places, shape, name)


def _widened(view: NodeView) -> NodeView:
    """The node with its tensor broadcast to the shape of its constant."""
    first, second = view.argument(0), view.argument(1)
    tensor, constant = (first, second) if isinstance(first, GraphTensor) else (second, first)
    if not isinstance(tensor, GraphTensor) or isinstance(constant, GraphTensor):
        return view
    try:
        shape = np.broadcast_shapes(tensor.shape, constant.shape)
    except ValueError:
        return view  # the operator itself says what does not fit
    wide = _broadcast(tensor, shape, view.name)
    arguments = [wide, constant] if tensor is first else [constant, wide]
    return NodeView(view.node, view.name, arguments)


def _add(view: NodeView) -> Value:
    pair = both_tensors(view)
    return added(*pair, view.name) if pair else OPERATORS["Add"](_widened(view))


def _sub(view: NodeView) -> Value:
    pair = both_tensors(view)
    return pair[0].minus(pair[1], view.name) if pair else OPERATORS["Sub"](_widened(view))


def _mul(view: NodeView) -> Value:
    return OPERATORS["Mul"](_widened(view))


def _div(view: NodeView) -> Value:
    value = view.argument(0)
    divisor = view.constant(1)
    if not isinstance(value, GraphTensor):
        dividend = view.constant(0)
        if np.issubdtype(dividend.dtype, np.integer) and (divisor != 0).all():
            # ONNX divides integers towards zero.
            return np.asarray(np.trunc(dividend / divisor), dtype=dividend.dtype)
        raise view.refusal("constants divided by each other")
    if not divisor.all():
        raise view.refusal("division by zero")
    wide = _widened(view).argument(0)
    if not isinstance(wide, GraphTensor):
        return OPERATORS["Div"](view)
    # A quotient is rounded once, which the error terms of graphs cover.
    return wide.divided(spread(view, wide, divisor), view.name)


def _extreme(sign: float) -> Callable[[NodeView], Value]:
    """Max (sign 1) or Min (sign -1) of any number of arguments."""

    def operator(view: NodeView) -> Value:
        tensors = [value for value in view.arguments if isinstance(value, GraphTensor)]
        constants = [value for value in view.arguments if isinstance(value, np.ndarray)]
        if not tensors:
            return np.asarray((np.maximum if sign > 0 else np.minimum).reduce(constants))
        shapes = [*(each.shape for each in tensors), *(each.shape for each in constants)]
        try:
            shape = np.broadcast_shapes(*shapes)
        except ValueError:
            raise view.refusal(f"shapes {[list(each) for each in shapes]} do not fit") from None
        result = _broadcast(tensors[0], shape, view.name)
        for tensor in tensors[1:]:
            result = _larger(result, _broadcast(tensor, shape, view.name), sign, view.name)
        for constant in constants:
            result = against_constant(result, spread(view, result, constant), sign, view.name)
        return result

    return operator


def _larger(first: GraphTensor, second: GraphTensor, sign: float, name: str) -> GraphTensor:
    if sign > 0:
        return first.maximum(second, name)
    # min(a, b) = a - relu(a - b)
    return first.minus(first.minus(second, name).rectified(name), name)


def against_constant(tensor: GraphTensor, constant: Float64, sign: float, name: str) -> GraphTensor:
    """max(x, c) = c + relu(x - c), or min(x, c) = c - relu(c - x), element by element."""
    if sign > 0:
        if not constant.any():
            return tensor.rectified(name)
        return tensor.plus(-constant, name).rectified(name).plus(constant, name)
    negated = tensor.scaled(np.full(tensor.size, -1.0), name).plus(constant, name)
    return negated.rectified(name).scaled(np.full(tensor.size, -1.0), name).plus(constant, name)


def _matmul(view: NodeView) -> Value:
    first, second = view.argument(0), view.argument(1)
    if isinstance(first, GraphTensor) and not isinstance(second, GraphTensor):
        matrix = float64_of(view, view.constant(1))
        if matrix.ndim != 2 or not first.shape or first.shape[-1] != matrix.shape[0]:
            raise view.refusal(f"shapes {list(first.shape)} and {list(matrix.shape)}")
        return _rows_times(first, matrix.T, None, view.name)
    if isinstance(second, GraphTensor) and not isinstance(first, GraphTensor):
        matrix = float64_of(view, view.constant(0))
        rank = len(second.shape)
        if matrix.ndim != 2 or rank < 1 or second.shape[max(rank - 2, 0)] != matrix.shape[1]:
            raise view.refusal(f"shapes {list(matrix.shape)} and {list(second.shape)}")
        if rank == 1:
            return _rows_times(second, matrix, None, view.name)
        turned = _swapped(second, view.name)
        return _swapped(_rows_times(turned, matrix, None, view.name), view.name)
    raise view.refusal("two constants or two parts that depend on the input")


def _swapped(tensor: GraphTensor, name: str) -> GraphTensor:
    """The last two axes exchanged."""
    places = np.arange(tensor.size).reshape(tensor.shape).swapaxes(-1, -2)
    return tensor.gathered(places, places.shape, name)


def _rows_times(
    tensor: GraphTensor, weight: Float64, bias: Float64 | None, name: str
) -> GraphTensor:
    """Every vector along the last axis times a matrix [outputs, inputs]."""
    blocks = tensor.size // weight.shape[1]
    shape = (*tensor.shape[:-1], weight.shape[0])
    return tensor.mapped(DenseMap(np.ascontiguousarray(weight), blocks), bias, shape, name)


def _gemm(view: NodeView) -> Value:
    value, matrix = view.argument(0), float64_of(view, view.constant(1))
    attributes = view.attributes
    if not isinstance(value, GraphTensor) or len(value.shape) != 2 or matrix.ndim != 2:
        raise view.refusal("expected the input part times a constant matrix")
    if attributes.get("transA", 0):
        value = _swapped(value, view.name)
    weight = _times(view, matrix if attributes.get("transB", 0) else matrix.T, "alpha")
    if value.shape[1] != weight.shape[1]:
        raise view.refusal(f"shapes {list(value.shape)} and {list(matrix.shape)}")
    bias = None
    if view.optional(2) is not None:
        given = float64_of(view, view.constant(2))
        try:
            wide = np.broadcast_to(given, (value.shape[0], weight.shape[0]))
        except ValueError:
            raise view.refusal(f"bias of shape {list(given.shape)}") from None
        bias = _times(view, wide.ravel(), "beta")
    return _rows_times(value, weight, bias, view.name)


def _times(view: NodeView, array: Constant, attribute: str) -> Float64:
    factor = np.array(view.attributes.get(attribute, 1.0), dtype=np.float64)
    return array if factor == 1 else exact_or_refused(view, exact_product(array, factor))


ARITHMETIC: Mapping[str, Callable[[NodeView], Value]] = {
    "Add": _add,
    "Div": _div,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Max": _extreme(1.0),
    "Min": _extreme(-1.0),
    "Mul": _mul,
    "Sub": _sub,
}
