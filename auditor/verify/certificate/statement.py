"""What a certificate has to prove, read from the model and the property themselves.

The network is read from the ONNX graph by a reader of its own, node by node and without
folding: every tensor is a sum of matrices times earlier tensors plus a constant, or a ReLU
of one. The unsafe rows of a property become a last tensor, `C y - d`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from scipy import sparse

from auditor.errors import UnsupportedModel, UnsupportedOperator, UnsupportedProperty
from auditor.models.onnx_model import OnnxModel
from auditor.verify.property import Property, UnsafeCase

Float64 = NDArray[np.float64]
OPERATORS = (
    "Add", "BatchNormalization", "Constant", "Conv", "Dropout", "Flatten", "Gemm", "Identity",
    "MatMul", "Mul", "Relu", "Reshape", "Sub",
)  # fmt: skip
MAX_CELLS = 40_000_000


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor that depends on the input, flat; number 0 is the input itself.

    Attributes:
        sources: Numbers of the tensors it reads.
        maps: A matrix [own size, source size] each, dense or sparse, or a number for that
            multiple of the identity; empty for a ReLU.
        bias: What is added, [own size]; for a ReLU zeros.
        shape: The shape in the model, with a batch of one.
        relu: Its number among the ReLUs, or -1.
        plain: Whether runtimes compute it by sums of products, in whatever order.
    """

    sources: tuple[int, ...]
    maps: tuple[Any, ...]
    bias: Float64
    shape: tuple[int, ...]
    relu: int = -1
    plain: bool = True

    @property
    def longest_sum(self) -> int:
        """Most products in any one sum, forwards or backwards."""
        counts = [1 if isinstance(m, float) else
                  max(np.max(np.asarray((m != 0).sum(axis=a)), initial=0) for a in (0, 1))
                  for m in self.maps]  # fmt: skip
        return int(sum(counts)) + len(self.maps) + 2


@dataclass(frozen=True, eq=False)
class Region:
    """One input box with the unsafe cases that share it.

    Attributes:
        tensors: The network, and last the rows `C y - d` of all cases.
        lower: Lower ends of the box, [inputs], rounded down.
        upper: Upper ends, rounded up.
        starts: First row of each case, and the number of rows.
    """

    tensors: tuple[Tensor, ...]
    lower: Float64
    upper: Float64
    starts: tuple[int, ...]


def regions(tensors: Sequence[Tensor], prop: Property) -> list[Region]:
    """The regions of a property in the order of its cases; empty boxes are left out.

    Raises:
        UnsupportedProperty: The property has a pattern, or conditions on inputs.
    """
    if prop.pattern is not None or prop.mixes_inputs:
        what = "an activation pattern" if prop.pattern is not None else "conditions over inputs"
        raise UnsupportedProperty(
            f"property {prop.name}: certificates are not written for {what} yet; verify it "
            "without a certificate"
        )
    groups: dict[tuple[tuple[Fraction, ...], tuple[Fraction, ...]], list[UnsafeCase]] = {}
    for case in prop.cases:
        if not case.is_empty:
            groups.setdefault((case.lower, case.upper), []).append(case)
    return [_region(tensors, cases) for cases in groups.values()]


def _region(tensors: Sequence[Tensor], cases: Sequence[UnsafeCase]) -> Region:
    rows = [row for case in cases for row in case.rows]
    # Entries within one rounding of the exact ones, which the error terms cover; the bound up.
    matrix = np.array([[float(c) for c in row.coefficients] for row in rows], dtype=np.float64)
    bounds = np.array([-_above(row.bound) for row in rows], dtype=np.float64)
    outputs = len(tensors[-1].bias)
    last = Tensor((len(tensors) - 1,), (matrix.reshape(-1, outputs),), bounds, bounds.shape)
    starts = np.cumsum([0, *(len(case.rows) for case in cases)]).tolist()
    lower = np.array([-_above(-value) for value in cases[0].lower])
    upper = np.array([_above(value) for value in cases[0].upper])
    return Region((*tensors, last), lower, upper, tuple(starts))


def _above(value: Fraction) -> float:
    """The smallest float64 that is at least a fraction."""
    try:
        nearest = float(value)
    except OverflowError:
        raise UnsupportedModel("a number beyond the range of float64") from None
    return nearest if Fraction(nearest) >= value else math.nextafter(nearest, math.inf)


def property_digest(path: Path | str) -> str:
    """`sha256:<hex>` of a property's file as it is on disk."""
    with Path(path).open("rb") as stream:
        return f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"


def read_tensors(path: Path | str) -> tuple[tuple[Tensor, ...], str]:
    """The tensors of a model in the order of its nodes, and its digest; the last is the output.

    Raises:
        UnsupportedOperator, UnsupportedModel: The checker cannot read such a network.
    """
    model = OnnxModel.open(path)
    graph = model.proto.graph
    unknown = [(node.op_type, node.name) for node in graph.node if node.op_type not in OPERATORS]
    if unknown:
        raise UnsupportedOperator(unknown, OPERATORS)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise UnsupportedModel("a certificate needs one input and one output")
    shape = tuple(axis.dim_value or 1 for axis in inputs[0].type.tensor_type.shape.dim)
    reader = _Reader(constants, {inputs[0].name: 0}, shape)
    for node in graph.node:
        reader.take(node)
    if reader.numbers.get(graph.output[0].name) != len(reader.tensors) - 1:
        raise UnsupportedModel("the output is not the last of the tensors")
    return tuple(reader.tensors), model.digest


def runs_in_float32(tensors: Sequence[Tensor]) -> bool:
    """Whether the error terms of float32 execution speak of such a network.

    Runtimes may compute convolutions by other algebra, and numbers have to be float32.
    """
    return all(
        tensor.plain and all(map(_is_float32, (*tensor.maps, tensor.bias))) for tensor in tensors
    )


def _is_float32(values: Any) -> bool:
    numbers = np.asarray(values.data if sparse.issparse(values) else values)
    with np.errstate(over="ignore"):
        return bool((numbers.astype(np.float32) == numbers).all())


class _Reader:
    """What was read so far: constants and tensors by name."""

    def __init__(
        self, constants: dict[str, Any], numbers: dict[str, int], shape: tuple[int, ...]
    ) -> None:
        self.constants, self.numbers = constants, numbers
        self.tensors = [Tensor((), (), np.zeros(math.prod(shape)), shape)]
        self.relus = 0

    def take(self, node: onnx.NodeProto) -> None:
        """Append a node."""
        attributes = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
        if node.op_type == "Constant":
            self.constants[node.output[0]] = numpy_helper.to_array(attributes["value"])
            return
        names = [name for name in node.input if name in self.numbers]
        others = [self.constants.get(name) for name in node.input if name not in self.numbers]
        sources = [self.tensors[self.numbers[name]] for name in names]
        read = tuple(self.numbers[name] for name in names)
        if any(each is None for each in others) or not 1 <= len(names) <= 2:
            raise UnsupportedModel("not sums of constants and tensors", place=f"'{node.name}'")
        if not all(np.isfinite(np.asarray(each)).all() for each in others):
            raise UnsupportedModel("a weight is not finite", place=f"'{node.name}'")
        tensor = self._tensor(node, attributes, sources, read, others)
        if tensor is None:
            raise UnsupportedModel(f"a form of {node.op_type}", place=f"'{node.name}'")
        self.numbers[node.output[0]] = len(self.tensors)
        self.tensors.append(tensor)

    def _tensor(
        self, node: onnx.NodeProto, attributes: dict[str, Any], sources: list[Tensor],
        read: tuple[int, ...], others: list[Any],
    ) -> Tensor | None:  # fmt: skip
        kind, source = node.op_type, sources[0]
        size, first = len(source.bias), node.input[0] in self.numbers
        zeros = np.zeros(size)
        if len(sources) == 2:
            if kind not in ("Add", "Sub") or source.shape != sources[1].shape:
                return None
            return Tensor(read, (1.0, 1.0 if kind == "Add" else -1.0), zeros, source.shape)
        if kind == "Relu":
            self.relus += 1
            return Tensor(read, (), zeros, source.shape, self.relus - 1)
        values = [np.asarray(each, dtype=np.float64) for each in others]
        if kind in ("Flatten", "Reshape", "Identity", "Dropout"):
            return Tensor(read, (1.0,), zeros, _moved(kind, source.shape, attributes, others))
        if kind in ("Add", "Sub", "Mul"):
            if np.broadcast_shapes(source.shape, values[0].shape) != source.shape:
                return None
            flat = np.broadcast_to(values[0], source.shape).ravel()
            if kind == "Mul":
                return Tensor(read, (sparse.diags(flat, format="csr"),), zeros, source.shape)
            signs = (1.0, 1.0) if kind == "Add" else (1.0, -1.0) if first else (-1.0, 1.0)
            return Tensor(read, (signs[0],), signs[1] * flat, source.shape)
        if kind in ("MatMul", "Gemm"):
            return _dense(kind, source, read, values, attributes, first)
        if not first:
            return None
        if kind == "Conv":
            return _convolution(source, read, values, attributes)
        return self._normalisation(source, read, values, attributes)

    def _normalisation(
        self, source: Tensor, read: tuple[int, ...], values: list[Float64],
        attributes: dict[str, Any],
    ) -> Tensor | None:  # fmt: skip
        """`(x - mean) * (gain / sqrt(variance + epsilon)) + shift`, in two tensors."""
        if attributes.get("training_mode") or len(source.shape) < 2 or source.shape[0] != 1:
            return None
        repeat = math.prod(source.shape[2:])
        gain, shift, mean, variance = (np.repeat(each, repeat) for each in values)
        self.tensors.append(Tensor(read, (1.0,), -mean, source.shape))
        factor = gain / np.sqrt(variance + np.float64(np.float32(attributes.get("epsilon", 1e-5))))
        diagonal = sparse.diags(factor, format="csr")
        before = (len(self.tensors) - 1,)
        return Tensor(before, (diagonal,), shift, source.shape, plain=False)


def _moved(
    kind: str, shape: tuple[int, ...], attributes: dict[str, Any], others: list[Any]
) -> tuple[int, ...]:
    if kind == "Flatten":
        axis = attributes.get("axis", 1)
        return math.prod(shape[:axis]), math.prod(shape[axis:])
    if kind == "Reshape":
        wanted = [int(n) or shape[i] for i, n in enumerate(np.asarray(others[0]).tolist())]
        return np.empty(shape, dtype=np.int8).reshape(wanted).shape
    return shape


def _dense(
    kind: str, source: Tensor, read: tuple[int, ...], values: list[Float64],
    attributes: dict[str, Any], first: bool,
) -> Tensor | None:  # fmt: skip
    plain = all(attributes.get(key, 1) == 1 for key in ("alpha", "beta"))
    bad = attributes.get("transA") or (kind == "Gemm" and not first) or values[0].ndim != 2
    weight = values[0] if attributes.get("transB") or not first else values[0].T
    if not plain or bad or weight.shape[1] != len(source.bias):
        return None
    bias = np.zeros(len(weight)) if len(values) < 2 else values[1].ravel()
    shape = (1, len(weight)) if first else (len(weight), *source.shape[1:])
    bias = np.broadcast_to(bias, (len(weight),))
    return Tensor(read, (np.ascontiguousarray(weight),), np.array(bias), shape)


def _convolution(
    source: Tensor, read: tuple[int, ...], values: list[Float64], attributes: dict[str, Any]
) -> Tensor | None:
    kernel, shape = values[0], source.shape
    automatic = attributes.get("auto_pad", b"NOTSET")
    if kernel.ndim != 4 or len(shape) != 4 or shape[0] != 1 or automatic != b"NOTSET":
        return None
    filters, channels, tall, wide = kernel.shape
    (down, right), (over, under) = attributes.get("strides", [1, 1]), (
        attributes.get("dilations", [1, 1]))  # fmt: skip
    top, left, bottom, end = attributes.get("pads", [0, 0, 0, 0])
    groups, rows, columns = attributes.get("group", 1), shape[2], shape[3]
    high = (rows + top + bottom - over * (tall - 1) - 1) // down + 1
    broad = (columns + left + end - under * (wide - 1) - 1) // right + 1
    if kernel.size * high * broad > MAX_CELLS or channels * groups != shape[1]:
        return None
    f, y, x, c, a, b = np.meshgrid(
        *(np.arange(n) for n in (filters, high, broad, channels, tall, wide)), indexing="ij"
    )
    row, column = y * down + a * over - top, x * right + b * under - left
    inside = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
    channel = f // (filters // groups) * channels + c
    outputs, inputs = (f * high + y) * broad + x, (channel * rows + row) * columns + column
    matrix = sparse.csr_matrix(
        (kernel[f, c, a, b][inside], (outputs[inside], inputs[inside])),
        shape=(filters * high * broad, len(source.bias)),
    )
    bias = values[1] if len(values) > 1 else np.zeros(filters)
    shape = (1, filters, high, broad)
    return Tensor(read, (matrix,), np.repeat(bias, high * broad), shape, plain=False)
