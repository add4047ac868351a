"""A network as a graph: each layer reads any earlier layers through linear maps.

A layer is a sum of linear images of earlier layers plus a bias, then a ReLU, a curve
(sigmoid, tanh, sign) or nothing. Everything piecewise linear is written with ReLUs: |x|,
max, clip, max-pooling, leaky ReLUs. Convolutions keep their structure. A chain is the
special case in which every layer reads only the one before it. Entries and biases are the
stored numbers, or at most one rounding away from the number the model defines (quotients,
batch normalisation); the error terms of all bounds cover that rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from auditor.errors import UnsupportedModel
from auditor.verify.network.chain import AffineLayer, Float64, Network, ReluLayer
from auditor.verify.network.curve import Curve
from auditor.verify.network.linear_map import DenseMap, GatherMap, LinearMap

INPUT = -1
MAX_CHAIN_CELLS = 250_000


@dataclass(frozen=True, eq=False)
class Term:
    """One part of a layer's sum.

    Attributes:
        source: The layer that is read, or `INPUT`.
        map: What is applied to its values.
    """

    source: int
    map: LinearMap


@dataclass(frozen=True, eq=False)
class GraphLayer:
    """The sum of its terms plus a bias, then max(., 0) when `relu`, or a curve.

    Attributes:
        terms: What is added up.
        bias: [outputs], float64.
        relu: Whether a ReLU follows.
        name: Name of the node that ends the layer, for people.
        curve: The curve that follows in place of a ReLU, or None.
    """

    terms: tuple[Term, ...]
    bias: Float64
    relu: bool = False
    name: str = ""
    curve: Curve | None = None

    @property
    def num_outputs(self) -> int:
        """Width of the layer."""
        return len(self.bias)

    @property
    def bends(self) -> bool:
        """Whether any activation follows."""
        return self.relu or self.curve is not None

    @property
    def longest_sum(self) -> int:
        """Most products that any one output adds up, or any input on the way back."""
        return sum(term.map.longest_sum for term in self.terms) + 2


@dataclass(frozen=True, eq=False)
class GraphNetwork:
    """A feed-forward network of linear maps and activations; the last layer is its output.

    Attributes:
        layers: In an order in which every layer comes after those it reads.
        num_inputs: Size of the flat input.
        input_name: Name of the model's input tensor.
        input_shape: Its shape with a batch of one.
        only_order: The model ends with a softmax that was left out: outputs here keep the
            order of the model's outputs, and nothing else about them.
        rounded: Some entry or bias is only the nearest float64 of the model's number; the
            error terms of bounds cover that, exact encodings cannot.
    """

    layers: tuple[GraphLayer, ...]
    num_inputs: int
    input_name: str = "input"
    input_shape: tuple[int, ...] = ()
    only_order: bool = False
    rounded: bool = False

    def __post_init__(self) -> None:
        if not self.layers:
            raise UnsupportedModel("the network has no layer", way_out="give at least one")
        for number, layer in enumerate(self.layers):
            place = f"layer {number} {layer.name}".rstrip()
            for term in layer.terms:
                if not INPUT <= term.source < number:
                    raise UnsupportedModel("a layer reads a later one", place=place)
                if term.map.num_inputs != self.width(term.source):
                    raise UnsupportedModel("sizes do not agree", place=place)
                if term.map.num_outputs != layer.num_outputs:
                    raise UnsupportedModel("bias and terms differ in size", place=place)
            if layer.relu and layer.curve is not None:
                raise UnsupportedModel("two activations on one layer", place=place)
            if not np.isfinite(layer.bias).all():
                raise UnsupportedModel("a bias is not finite", place=place)

    def width(self, source: int) -> int:
        """Number of values of a layer, or of the input."""
        return self.num_inputs if source == INPUT else self.layers[source].num_outputs

    @property
    def num_outputs(self) -> int:
        """Size of the flat output."""
        return self.layers[-1].num_outputs

    @property
    def num_relus(self) -> int:
        """Number of ReLU neurons."""
        return sum(layer.num_outputs for layer in self.layers if layer.relu)

    @property
    def relu_layers(self) -> tuple[ReluLayer, ...]:
        """Where ReLUs act, in order; also those that other operations were written with."""
        return tuple(
            ReluLayer(index, layer.name, layer.num_outputs)
            for index, layer in enumerate(self.layers)
            if layer.relu
        )

    @cached_property
    def curved_layers(self) -> tuple[GraphLayer, ...]:
        """The layers with a sigmoid, tanh or sign."""
        return tuple(layer for layer in self.layers if layer.curve is not None)

    @cached_property
    def evaluation_cost(self) -> int:
        """Multiplications of one evaluation, roughly."""
        return sum(
            layer.num_outputs * term.map.longest_sum
            for layer in self.layers
            for term in layer.terms
        )

    @classmethod
    def from_chain(cls, network: Network) -> GraphNetwork:
        """The same network as a graph."""
        layers = tuple(
            GraphLayer(
                (Term(index - 1, DenseMap(layer.weight)),), layer.bias, layer.relu, layer.name
            )
            for index, layer in enumerate(network.layers)
        )
        return cls(layers, network.num_inputs, network.input_name, network.input_shape)

    def followed_by(self, weight: Float64, bias: Float64) -> GraphNetwork:
        """This network with one more layer `weight @ y + bias`, without a ReLU."""
        layer = GraphLayer((Term(len(self.layers) - 1, DenseMap(weight)),), bias)
        return replace(self, layers=(*self.layers, layer))

    def preactivations(self, inputs: Float64) -> tuple[Float64, ...]:
        """Values before each layer's activation, [samples, neurons] per layer, in float64."""
        from auditor.verify.torch_map import forward_values

        return forward_values(self, inputs)

    def gradient(
        self,
        before: Sequence[Float64],
        rows: Float64,
        inner: Sequence[Float64 | None] | None = None,
    ) -> Float64:
        """Gradient over the inputs of `rows . outputs + sum inner . z`: `Network.gradient`."""
        from auditor.verify.torch_map import backward_gradient

        return backward_gradient(self, before, rows, inner)

    def evaluate(self, inputs: Float64) -> Float64:
        """Outputs in float64 with ordinary rounding, [samples, outputs]."""
        return self.outputs(self.preactivations(inputs))

    def outputs(self, before: Sequence[Float64]) -> Float64:
        """Outputs, [samples, outputs], from what `preactivations` gave."""
        from auditor.verify.torch_map import output_values

        return output_values(self, before)


def as_chain(graph: GraphNetwork) -> Network | None:
    """The graph as a chain of small dense layers, or None where it is none.

    Gathers and dense blocks become matrices entry by entry, which rounds nothing.
    """
    layers: list[AffineLayer] = []
    cells = 0
    for number, layer in enumerate(graph.layers):
        if len(layer.terms) != 1 or layer.terms[0].source != number - 1 or layer.curve is not None:
            return None
        (term,) = layer.terms
        cells += term.map.num_inputs * term.map.num_outputs
        if cells > MAX_CHAIN_CELLS or not isinstance(term.map, DenseMap | GatherMap):
            return None
        if (
            graph.only_order
            or graph.rounded
            or (isinstance(term.map, GatherMap) and term.map.factor is not None)
        ):
            return None
        dense = _dense(term.map)
        layers.append(AffineLayer(dense, layer.bias, layer.relu, layer.name, joined=True))
    return Network(tuple(layers), graph.input_name, graph.input_shape)


def _dense(linear: DenseMap | GatherMap) -> Float64:
    if isinstance(linear, DenseMap):
        return np.asarray(np.kron(np.eye(linear.blocks), linear.weight), dtype=np.float64)
    weight = np.zeros((linear.num_outputs, linear.num_inputs))
    rows = np.flatnonzero(linear.index >= 0)
    weight[rows, linear.index[rows]] = 1.0
    return weight
