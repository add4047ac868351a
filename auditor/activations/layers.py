"""Where a model's hidden activations are: the layers that can be captured.

Names are those of the nodes, as messages and the verifier use them, so that what is
said about a layer here can be handed on by name. Nodes inside subgraphs (If, Loop,
Scan) are not listed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import onnx

from auditor.errors import UnknownName, UnsupportedModel

# Their two pieces meet at 0: the sign of the value before them says which one is in use.
SIGN_OPERATORS: Final = frozenset({"LeakyRelu", "PRelu", "Relu"})
# Smooth, or with a kink elsewhere: 0 separates nothing.
OTHER_OPERATORS: Final = frozenset(
    {
        "Celu", "Clip", "Elu", "Erf", "Gelu", "HardSigmoid", "HardSwish", "Mish", "Selu",
        "Sigmoid", "Softplus", "Softsign", "Swish", "Tanh", "ThresholdedRelu",
    }
)  # fmt: skip


@dataclass(frozen=True)
class ActivationLayer:
    """One activation function of a model.

    Attributes:
        name: Name of its node or module.
        operator: What it computes, in ONNX's words, for example `Relu`.
        before: What goes in: a tensor's name, or the module's for torch.
        after: What comes out.
    """

    name: str
    operator: str
    before: str
    after: str

    @property
    def has_sign(self) -> bool:
        """Whether 0 separates its two linear pieces."""
        return self.operator in SIGN_OPERATORS


def activation_layers(graph: onnx.GraphProto) -> tuple[ActivationLayer, ...]:
    """The activation functions between a graph's inputs and its outputs, in graph order.

    Those that only see constants, or that no output depends on, are left out.

    Raises:
        UnsupportedModel: Two of them bear the same name.
    """
    useful = _useful_nodes(graph)
    found = []
    for number, node in enumerate(graph.node):
        if number not in useful or node.op_type not in SIGN_OPERATORS | OTHER_OPERATORS:
            continue
        name = node.name or f"#{number} -> {node.output[0]}"
        found.append(ActivationLayer(name, node.op_type, node.input[0], node.output[0]))
    twice = [name for name, count in Counter(layer.name for layer in found).items() if count > 1]
    if twice:
        raise UnsupportedModel(
            f"{len(found)} activation nodes, and '{twice[0]}' is the name of more than one",
            way_out="give every node a name of its own on export",
        )
    return tuple(found)


def choose_layers(
    layers: Sequence[ActivationLayer], wanted: Sequence[int | str] = ()
) -> tuple[ActivationLayer, ...]:
    """The layers asked for, by name or by position counted from 0; all where none is named.

    Digits that are no layer's name are a position, too.

    Raises:
        UnknownName: A name or position that does not occur.
        UnsupportedModel: There is no layer at all.
    """
    if not layers:
        raise UnsupportedModel(
            "the model has no hidden activation layer, so there is nothing to capture",
            way_out=f"use one with any of {', '.join(sorted(SIGN_OPERATORS | OTHER_OPERATORS))}",
        )
    if not wanted:
        return tuple(layers)
    by_name: dict[int | str, ActivationLayer] = {layer.name: layer for layer in layers}
    known = by_name | dict(enumerate(layers))
    chosen = set()
    for name in wanted:
        key = int(name) if name not in known and str(name).isdecimal() else name
        if key not in known:
            raise UnknownName("layer", str(name), [layer.name for layer in layers])
        chosen.add(known[key].name)
    return tuple(layer for layer in layers if layer.name in chosen)


def _useful_nodes(graph: onnx.GraphProto) -> set[int]:
    """Numbers of the nodes that depend on an input and that an output depends on."""
    fixed = {tensor.name for tensor in graph.initializer}
    varying = {value.name for value in graph.input} - fixed
    for node in graph.node:
        if varying.intersection(node.input):
            varying.update(node.output)
    needed = {value.name for value in graph.output}
    useful = set()
    for number in range(len(graph.node) - 1, -1, -1):
        node = graph.node[number]
        if needed.intersection(node.output):
            needed.update(name for name in node.input if name)
            if varying.intersection(node.input):
                useful.add(number)
    return useful
