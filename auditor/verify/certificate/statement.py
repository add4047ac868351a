"""What a certificate has to prove, read from the model and the property themselves.

The network is read from the ONNX graph by a reader of its own for dense affine maps and
ReLUs; affine maps between two ReLUs are joined in exact rationals. The unsafe rows of the
property become the last layer, `C y - d`, and the input box a grid of integers with dyadic
ends around the exact box.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import flint
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from auditor.errors import UnsupportedModel, UnsupportedOperator, UnsupportedProperty
from auditor.models.onnx_model import OnnxModel
from auditor.verify.certificate.forms import (
    BOX_BITS,
    HEADROOM,
    INPUT_BITS,
    FixedLayer,
    Float64,
    Forms,
    fixed_layer,
    form_bits,
    rows_of,
)
from auditor.verify.property import Property, UnsafeCase

OPERATORS = (
    "Add", "Constant", "Flatten", "Gemm", "Identity", "MatMul", "Mul", "Relu", "Reshape", "Sub",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class AffineMap:
    """An exact affine map: weight is None (identity), float64, or an fmpq_mat."""

    weight: Any
    bias: list[Any]

    def after(self, weight: Any, bias: Sequence[Any]) -> AffineMap:
        """`weight @ (this) + bias`; weight is float64 or an fmpq_mat."""
        moved = list(bias)
        if any(self.bias):
            image = _rational(weight) * flint.fmpq_mat(len(self.bias), 1, self.bias)
            moved = [image[row, 0] + value for row, value in enumerate(bias)]
        if self.weight is None:
            return AffineMap(weight, moved)
        return AffineMap(_rational(weight) * _rational(self.weight), moved)

    def fixed(self, scale: Float64 | float, input_bits: int) -> FixedLayer:
        """The map as digits, its inputs multiplied by powers of two."""
        weight = np.eye(len(self.bias)) if self.weight is None else self.weight
        bias, exact = _rounded(self.bias)
        if not isinstance(weight, np.ndarray):
            flat, whole = _rounded(weight.entries())
            weight, exact = flat.reshape(weight.nrows(), weight.ncols()), exact and whole
        scaled = weight * scale
        exact = exact and np.array_equal(scaled / scale, weight)
        return fixed_layer(scaled, bias, input_bits, exact=exact)


@dataclass(frozen=True, eq=False)
class Region:
    """One input box with the cases that share it, ready for bounds.

    Attributes:
        layers: Hidden layers (a ReLU follows each), then the unsafe rows of all cases.
        rows: Both signs of every row of each layer as forms, see `rows_of`.
        ends: Integer upper end of each input on the box grid; the lower ends are 0.
        starts: First row of each case, and the number of rows.
        strict: Whether each row's unsafe side leaves out the tie.
        origin: The grid's zero, and `step` its unit, per input.
    """

    layers: list[FixedLayer]
    rows: list[Forms]
    ends: Float64
    starts: list[int]
    strict: NDArray[np.bool_]
    origin: list[Fraction]
    step: list[Fraction]

    @property
    def widths(self) -> list[int]:
        """Neurons of each hidden layer."""
        return [len(layer.digits) for layer in self.layers[:-1]]


def regions(maps: Sequence[AffineMap], prop: Property) -> list[Region]:
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
    return [_region(maps, cases) for cases in groups.values()]


def _region(maps: Sequence[AffineMap], cases: Sequence[UnsafeCase]) -> Region:
    origin, step, ends = _grid(cases[0])
    rows = [row for case in cases for row in case.rows]
    coefficients = [_fmpq(value) for row in rows for value in row.coefficients]
    outputs = len(maps[-1].bias)
    matrix = flint.fmpq_mat(len(rows), outputs, coefficients)
    exact = [*maps[:-1], maps[-1].after(matrix, [-_fmpq(row.bound) for row in rows])]
    # The input is `origin + 2**BOX_BITS step * h` with h in [0, 1].
    start = AffineMap(None, [_fmpq(value) for value in origin])
    first = start.after(exact[0].weight, exact[0].bias) if exact[0].weight is not None else (
        AffineMap(np.eye(len(origin)), [a + b for a, b in zip(start.bias, exact[0].bias,
                                                              strict=True)])
    )  # fmt: skip
    chain = [first, *exact[1:]]
    widths = np.array([float(value * 2**BOX_BITS) for value in step])
    bits = [INPUT_BITS, *(form_bits(len(each.bias)) - HEADROOM for each in chain[:-1])]
    layers = [each.fixed(1.0 if k else widths, bits[k]) for k, each in enumerate(chain)]
    counts = np.cumsum([0, *(len(case.rows) for case in cases)])
    strict = np.array([row.strict for row in rows], dtype=bool)
    forms = [rows_of(layer) for layer in layers]
    return Region(layers, forms, ends, counts.tolist(), strict, origin, step)


def _grid(case: UnsafeCase) -> tuple[list[Fraction], list[Fraction], Float64]:
    """Origin, unit and upper end of a dyadic grid around the box, input by input."""
    origin, step, ends = [], [], []
    for low, high in zip(case.lower, case.upper, strict=True):
        width = high - low or max(abs(low), Fraction(1, 2**20)) / 2**30
        exponent = width.numerator.bit_length() - width.denominator.bit_length() + 1
        if abs(exponent) > 500:
            raise UnsupportedModel(f"an input interval of width {float(width):.3g}")
        unit = Fraction(2) ** (exponent - BOX_BITS + 1)
        start = math.floor(low / unit) * unit
        origin.append(start)
        step.append(unit)
        ends.append(math.ceil((high - start) / unit))
    return origin, step, np.array(ends, dtype=np.float64)


def property_digest(path: Path | str) -> str:
    """`sha256:<hex>` of a property's file as it is on disk."""
    with Path(path).open("rb") as stream:
        return f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"


def read_network(path: Path | str) -> tuple[list[AffineMap], str]:
    """The affine maps of a model, a ReLU after each but the last, and its digest.

    Raises:
        UnsupportedOperator, UnsupportedModel: Not such a network.
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
    state = _State(constants, inputs[0].name, shape)
    for node in graph.node:
        state.take(node)
    if state.current != graph.output[0].name:
        raise UnsupportedModel("the output is not at the end of one chain of layers")
    return [*state.finished, state.open], model.digest


class _State:
    """The chain as read so far: finished layers, the open affine map, names and shape."""

    def __init__(self, constants: dict[str, Any], name: str, shape: tuple[int, ...]) -> None:
        self.constants, self.current, self.shape = constants, name, shape
        self.finished: list[AffineMap] = []
        self.open = AffineMap(None, [flint.fmpq(0)] * math.prod(shape))

    def take(self, node: onnx.NodeProto) -> None:
        """Append a node to the chain."""
        attributes = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
        if node.op_type == "Constant":
            self.constants[node.output[0]] = numpy_helper.to_array(attributes["value"])
            return
        if list(node.input).count(self.current) != 1:
            raise UnsupportedModel("not a chain of layers", place=f"node '{node.name}'")
        place = list(node.input).index(self.current)
        others = [self.constants.get(name) for name in node.input if name != self.current]
        if any(each is None for each in others):
            raise UnsupportedModel("two parts that depend on the input", place=f"'{node.name}'")
        self.current = node.output[0]
        size = len(self.open.bias)
        if node.op_type == "Relu":
            self.finished.append(self.open)
            self.open = AffineMap(None, [flint.fmpq(0)] * size)
        elif node.op_type == "Flatten":
            axis = attributes.get("axis", 1)
            self.shape = (math.prod(self.shape[:axis]), math.prod(self.shape[axis:]))
        elif node.op_type == "Reshape":
            wanted = [int(n) or self.shape[i] for i, n in enumerate(np.asarray(others[0]).tolist())]
            self.shape = np.empty(self.shape, dtype=np.int8).reshape(wanted).shape
        elif node.op_type != "Identity":
            self._affine(node, attributes, place, [np.asarray(each) for each in others])

    def _affine(
        self, node: onnx.NodeProto, attributes: dict[str, Any], place: int, others: list[Any]
    ) -> None:
        size, value = len(self.open.bias), others[0].astype(np.float64)
        if not all(np.isfinite(each).all() for each in others):
            raise UnsupportedModel("a weight is not finite", place=f"node '{node.name}'")
        if node.op_type in ("MatMul", "Gemm"):
            plain = all(attributes.get(key, 1) == 1 for key in ("alpha", "beta"))
            weight = value if attributes.get("transB") or place else value.T
            bias = np.broadcast_to(others[1].astype(np.float64).ravel(), (len(weight),)) if (
                len(others) > 1) else np.zeros(len(weight))  # fmt: skip
            bad = attributes.get("transA") or (node.op_type == "Gemm" and place)
            if value.ndim != 2 or weight.shape[1] != size or bad or not plain:
                raise UnsupportedModel("not a plain dense layer", place=f"node '{node.name}'")
            self.shape = (1, len(weight)) if not place else (len(weight), *self.shape[1:])
        else:
            if np.broadcast_shapes(self.shape, value.shape) != self.shape or (
                node.op_type == "Sub" and place
            ):
                raise UnsupportedModel("not a plain shift or scale", place=f"node '{node.name}'")
            flat = np.broadcast_to(value, self.shape).ravel()
            if node.op_type == "Mul":
                weight, bias = np.diag(flat), np.zeros(size)
            else:
                shift = [_fmpq(Fraction(v)) for v in (flat if node.op_type == "Add" else -flat)]
                self.open = AffineMap(
                    self.open.weight, [a + b for a, b in zip(self.open.bias, shift, strict=True)]
                )
                return
        self.open = self.open.after(
            np.ascontiguousarray(weight), [_fmpq(Fraction(v)) for v in bias.tolist()]
        )


def _fmpq(value: Fraction) -> Any:
    return flint.fmpq(value.numerator, value.denominator)


def _rounded(values: Sequence[Any]) -> tuple[Float64, bool]:
    """Rationals as the nearest floats, and whether all of them are floats exactly."""
    ratios = [(int(value.p), int(value.q)) for value in values]
    try:
        floats = [above / below for above, below in ratios]
    except OverflowError:
        raise UnsupportedModel("a number beyond the range of float64") from None
    exact = all(f.as_integer_ratio() == r for f, r in zip(floats, ratios, strict=True))
    return np.array(floats, dtype=np.float64), exact


def _rational(matrix: Any) -> Any:
    """A float64 matrix, or an fmpq_mat, as an fmpq_mat of the same numbers."""
    if not isinstance(matrix, np.ndarray):
        return matrix
    entries = [flint.fmpq(*value.as_integer_ratio()) for value in matrix.ravel().tolist()]
    return flint.fmpq_mat(matrix.shape[0], matrix.shape[1], entries)
