"""Growing a graph of layers operation by operation, and merging what merges exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from auditor.errors import UnsupportedModel
from auditor.verify.network.affine_chain import exact_sum
from auditor.verify.network.chain import Float64
from auditor.verify.network.curve import Curve
from auditor.verify.network.graph import INPUT, GraphLayer, GraphNetwork, Term
from auditor.verify.network.linear_map import DenseMap, GatherMap, LinearMap, identity_map
from auditor.verify.network.symbolic import Symbolic

MAX_LAYER = 4_000_000
MAX_LAYERS = 20_000


@dataclass
class GraphBuilder:
    """The layers of a graph so far.

    Attributes:
        num_inputs: Size of the flat input.
        layers: The layers.
        rounded: Whether some entry or bias is only the nearest float of the model's number.
    """

    num_inputs: int
    layers: list[GraphLayer] = field(default_factory=list)
    rounded: bool = False

    def add(self, layer: GraphLayer) -> int:
        """Append a layer; returns its index."""
        if layer.num_outputs > MAX_LAYER or len(self.layers) >= MAX_LAYERS:
            raise UnsupportedModel(
                f"more than {MAX_LAYER} values in one layer or more than {MAX_LAYERS} layers",
                place=f"node '{layer.name}'",
                way_out="use a smaller model",
            )
        self.layers.append(layer)
        return len(self.layers) - 1


@dataclass(frozen=True, eq=False)
class GraphTensor(Symbolic):
    """A tensor of a graph: the layer that holds its elements, and its shape.

    Attributes:
        builder: The graph that grows.
        layer: Index of the layer, or `INPUT`.
        shape: Shape of the tensor with a batch of one.
        softmax: Whether a softmax was left out on the way here.
    """

    builder: GraphBuilder
    layer: int
    shape: tuple[int, ...]
    softmax: bool = False

    @classmethod
    def of_input(cls, shape: tuple[int, ...]) -> GraphTensor:
        """The input of a new graph."""
        size = int(np.prod(shape, dtype=np.int64))
        return cls(GraphBuilder(size), INPUT, shape)

    def mapped(
        self, linear: LinearMap, bias: Float64 | None, shape: tuple[int, ...], name: str
    ) -> GraphTensor:
        """This tensor after a linear map and, if given, plus a bias."""
        return combined(((self, linear),), bias, shape, name)

    def gathered(
        self,
        index: NDArray[np.int64],
        shape: tuple[int, ...],
        name: str,
        factor: Float64 | None = None,
    ) -> GraphTensor:
        """Elements picked by flat index, -1 for zero, times a factor."""
        linear = GatherMap(index.ravel().astype(np.int64), self.size, factor)
        if linear.is_identity:
            return self.reshaped(shape)
        return self.mapped(linear, None, shape, name)

    def reshaped(self, shape: tuple[int, ...]) -> GraphTensor:
        """See `Symbolic`."""
        return replace(self, shape=shape)

    def affine(
        self, weight: Float64, bias: Float64, shape: tuple[int, ...], name: str
    ) -> GraphTensor:
        """See `Symbolic`."""
        return self.mapped(DenseMap(weight), bias, shape, name)

    def plus(self, bias: Float64, name: str) -> GraphTensor:
        """See `Symbolic`."""
        if not bias.any():
            return self
        return self.mapped(identity_map(self.size), bias, self.shape, name)

    def scaled(self, factors: Float64, name: str) -> GraphTensor:
        """See `Symbolic`."""
        return self.gathered(np.arange(self.size), self.shape, name, factors)

    def permuted(self, order: NDArray[np.int64], shape: tuple[int, ...], name: str) -> GraphTensor:
        """See `Symbolic`."""
        return self.gathered(order, shape, name)

    def divided(self, divisor: Float64, name: str) -> GraphTensor:
        """This tensor over a constant without zeros, element by element.

        Unless the divisors are powers of two, quotients are rounded, and the graph says so.
        """
        mantissa, _ = np.frexp(divisor)
        self.note_rounding(exact=bool((np.abs(mantissa) == 0.5).all()))
        return self.scaled(1.0 / divisor, name)

    def note_rounding(self, *, exact: bool) -> None:
        """Remember whether numbers of the graph had to be rounded."""
        self.builder.rounded |= not exact

    def rectified(self, name: str) -> GraphTensor:
        """See `Symbolic`."""
        plain = self.mapped(identity_map(self.size), None, self.shape, name)
        self.builder.layers[plain.layer] = replace(self.builder.layers[plain.layer], relu=True)
        return plain

    def curved(self, curve: Curve, name: str) -> GraphTensor:
        """This tensor after a sigmoid, tanh or sign."""
        plain = self.mapped(identity_map(self.size), None, self.shape, name)
        self.builder.layers[plain.layer] = replace(self.builder.layers[plain.layer], curve=curve)
        return plain

    def minus(self, other: GraphTensor, name: str) -> GraphTensor:
        """The difference of two tensors of one shape."""
        negated = GatherMap(np.arange(other.size), other.size, np.full(other.size, -1.0))
        return combined(((self, identity_map(self.size)), (other, negated)), None, self.shape, name)

    def maximum(self, other: GraphTensor, name: str) -> GraphTensor:
        """The larger of two tensors of one shape: b + relu(a - b)."""
        return added(other, self.minus(other, name).rectified(name), name)


def combined(
    parts: Sequence[tuple[GraphTensor, LinearMap]],
    bias: Float64 | None,
    shape: tuple[int, ...],
    name: str,
) -> GraphTensor:
    """A new layer: the sum of linear images of tensors plus a bias."""
    if any(tensor.softmax for tensor, _ in parts):
        raise UnsupportedModel("a softmax that is not the last layer", place=f"node '{name}'")
    builder = parts[0][0].builder
    terms = tuple(Term(tensor.layer, linear) for tensor, linear in parts)
    width = parts[0][1].num_outputs
    layer = GraphLayer(terms, np.zeros(width) if bias is None else np.array(bias), False, name)
    return GraphTensor(builder, builder.add(layer), shape)


def added(first: GraphTensor, second: GraphTensor, name: str) -> GraphTensor:
    """The sum of two tensors of one shape."""
    return combined(
        ((first, identity_map(first.size)), (second, identity_map(second.size))),
        None,
        first.shape,
        name,
    )


def finished(tensor: GraphTensor, input_name: str, input_shape: tuple[int, ...]) -> GraphNetwork:
    """The graph that leads to a tensor, merged and without unused layers."""
    layers = list(tensor.builder.layers)
    output = tensor.layer
    if output == INPUT:
        layers.append(GraphLayer((Term(INPUT, identity_map(tensor.size)),), np.zeros(tensor.size)))
        output = len(layers) - 1
    layers = _merged(layers[: output + 1])
    return GraphNetwork(
        _without_unused(layers),
        tensor.builder.num_inputs,
        input_name,
        input_shape,
        only_order=tensor.softmax,
        rounded=tensor.builder.rounded,
    )


def _merged(layers: list[GraphLayer]) -> list[GraphLayer]:
    """Layers with those drawn in that only one later layer reads, as they are.

    Sums of sums become one sum, an activation joins the layer it acts on; biases are added
    only where that needs no rounding.
    """
    readers = [0] * len(layers)
    for layer in layers:
        for term in layer.terms:
            if term.source != INPUT:
                readers[term.source] += 1
    for index, layer in enumerate(layers):
        terms: list[Term] = []
        bias: Float64 = layer.bias
        for term in layer.terms:
            source = None if term.source == INPUT else layers[term.source]
            plain = isinstance(term.map, GatherMap) and term.map.is_identity
            if source is None or source.bends or readers[term.source] != 1 or not plain:
                terms.append(term)
                continue
            total = exact_sum(bias, source.bias)
            if total is None:
                terms.append(term)
                continue
            bias = total
            terms.extend(source.terms)
        layers[index] = replace(layer, terms=tuple(terms), bias=bias)
    return layers


def _without_unused(layers: list[GraphLayer]) -> tuple[GraphLayer, ...]:
    used = {len(layers) - 1}
    for index in range(len(layers) - 1, -1, -1):
        if index in used:
            used.update(term.source for term in layers[index].terms if term.source != INPUT)
    place = {old: new for new, old in enumerate(sorted(used))}
    place[INPUT] = INPUT
    return tuple(
        replace(
            layers[old],
            terms=tuple(replace(term, source=place[term.source]) for term in layers[old].terms),
        )
        for old in sorted(used)
    )
