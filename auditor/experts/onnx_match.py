"""One router of an ONNX graph, walked from its TopK: back to the logits, on to the experts.

Every step is an operator that is expected at its place. Anything else ends the walk with an
error that names node and layer, because an edit beside the router would change nothing, silently.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from onnx import NodeProto, TensorProto

from auditor.errors import UnsupportedModel
from auditor.experts.onnx_dataflow import Constant, Dataflow, attribute, place

_NAMES: Final = "pkg.torch.onnx.name_scopes"
_LAYER: Final = re.compile(r"(?:^|\.)(?:layers?|blocks?|h)\.(\d+)\b")
_RESHAPES: Final = frozenset({"Identity", "Cast", "Reshape", "Unsqueeze", "Squeeze", "Flatten"})
_INDEX_STEPS: Final = _RESHAPES | {"Clip", "Expand"}
_TENSOR_STEPS: Final = _RESHAPES | {"Transpose"}
_PRODUCTS: Final = frozenset({"MatMul", "Gemm"})
_SUM_STEPS: Final = frozenset({"Add", "Max", "Clip", "Cast", "Identity"})
_FLOATS: Final = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE})


class ScoreRule(StrEnum):
    """How a family of models makes weights of logits."""

    SOFTMAX = "softmax"
    SIGMOID = "sigmoid"
    SOFTMAX_OF_CHOSEN = "softmax of chosen"


class Scores(NamedTuple):
    """What lies between the product with the router's tensor and the choice; see `OnnxRouter`."""

    rule: ScoreRule
    weight: Constant
    experts: int
    logits: str
    scores: str
    choice: str
    buffer: str | None
    group_mask: str | None
    logits_type: int
    choice_type: int


@dataclass(frozen=True)
class Groups:
    """Experts lie in `count` groups, of which the `kept` best by their two best stay eligible."""

    count: int
    kept: int


class Weights(NamedTuple):
    """Names of the weights as picked from the scores, and as the experts are mixed with."""

    picked: str
    mixed: str
    element_type: int


class ExpertTensor(NamedTuple):
    """A tensor of all experts: the stored tensor, its axis of experts, and who takes it.

    Attributes:
        name: Of the initialiser.
        axis: Of the stored tensor.
        taker: First output of the Gather or GatherND that picks from it.
        direct: Whether that node takes the initialiser itself.
    """

    name: str
    axis: int
    taker: str
    direct: bool


class RouterMatch:
    """The walk around one TopK.

    Attributes:
        where: The router in words, for messages.
        layer: Number of its decoder layer.
        chosen: Experts per token.
    """

    def __init__(self, flow: Dataflow, topk: NodeProto, takers: Sequence[NodeProto]) -> None:
        """`takers` pick slices of the experts' tensors by the indices of this TopK."""
        self._flow, self._topk, self._takers = flow, topk, takers
        numbers = _layer_numbers(scopes for node in (topk, *takers) for scopes in _scopes(node))
        layer = "unknown layer" if len(numbers) != 1 else f"layer {min(numbers)}"
        self.where = f"router at node '{place(topk)}' of {layer}"
        count = flow.integers(topk.input[1])
        if len(count) != 1 or attribute(topk, "axis", -1) not in (-1, 1):
            raise self.refusal("the number of chosen experts is not fixed, or not along the rows")
        self.chosen = count[0]

    def refusal(self, problem: str) -> UnsupportedModel:
        """The error that names this router."""
        return UnsupportedModel(
            problem, place=self.where, way_out="export the model with batched_mm experts and "
            "torch.onnx.export(dynamo=True), or steer it in torch",
        )  # fmt: skip

    def layer(self, scores: Scores) -> int:
        """The number of the decoder layer, by the scopes of the nodes and the tensor's name."""
        texts = [scopes for node in (self._topk, *self._takers) for scopes in _scopes(node)]
        producer, _ = self._flow.trace(scores.logits, frozenset({"Add", "Cast", "Reshape"}))
        texts += [] if producer is None else _scopes(producer)
        numbers = _layer_numbers([*texts, scores.weight.name])
        if len(numbers) != 1:
            raise self.refusal(
                f"its decoder layer is not known: names say {sorted(numbers) or 'nothing'}"
            )
        return min(numbers)

    def scores(self) -> Scores:
        """Walk back to the product of logits, then read the way to the choice forwards."""
        steps, value = [], self._topk.input[0]
        while True:
            node = self._flow.producer(value)
            if node is None:
                raise self.refusal(f"'{value}', which it depends on, is not made by any node")
            steps.append((node, value))
            if node.op_type in _PRODUCTS:
                break
            value = self._step_back(node)
        product, logits = steps.pop()
        weight = self._flow.constant(product.input[1])
        if weight is None or len(weight.shape) != 2:
            raise self.refusal(f"node '{place(product)}' multiplies by no stored matrix")
        experts = weight.shape[0 if attribute(product, "transB", 0) else 1]
        return self._read(weight, experts, logits, steps[::-1])

    def _step_back(self, node: NodeProto) -> str:
        """The input through which a node passes logits or scores on."""
        if node.op_type in ("Identity", "Cast", "Reshape"):
            return str(node.input[0])
        if node.op_type in ("Softmax", "Sigmoid") and attribute(node, "axis", -1) in (-1, 1):
            return str(node.input[0])
        if node.op_type in ("Add", "Where"):
            passed: list[str] = [
                name for name in node.input[-2:] if self._flow.constant(name) is None
            ]
            if len(passed) == 1:
                return passed[0]
        raise self.refusal(f"{node.op_type} at node '{place(node)}' is not known before a choice")

    def _read(
        self, weight: Constant, experts: int, logits: str, steps: list[tuple[NodeProto, str]]
    ) -> Scores:
        rule, scores, choice, buffer, mask = ScoreRule.SOFTMAX_OF_CHOSEN, "", "", None, None
        logits_type = choice_type = weight.element_type
        for node, value in steps:
            kind = node.op_type
            if mask is not None or (kind == "Where" and not scores):
                raise self.refusal(f"node '{place(node)}' is not known at its place")
            if kind in ("Softmax", "Sigmoid"):
                if scores:
                    raise self.refusal(f"node '{place(node)}' makes scores of scores")
                rule, scores, choice = ScoreRule(kind.lower()), value, value
            elif kind == "Where":
                mask = node.input[0]
            elif kind == "Add" and scores:
                if buffer is not None:
                    raise self.refusal(f"node '{place(node)}' is a second correction of scores")
                buffer = next(name for name in node.input if self._flow.constant(name))
                choice = value
            elif scores:
                choice = value
                scores = value if buffer is None else scores
            else:
                logits = value
            if kind == "Cast":
                choice_type = attribute(node, "to")
            logits_type = logits_type if scores else choice_type
        if {logits_type, choice_type} - _FLOATS:
            raise self.refusal("its logits are of a type that is not float16, 32 or 64")
        return Scores(
            rule, weight, experts, logits, scores or logits, choice or logits, buffer, mask,
            logits_type, choice_type,
        )  # fmt: skip

    def groups(self, scores: Scores) -> Groups | None:
        """The choice of groups between scores and choice, as DeepSeek-V3 makes it."""
        if scores.group_mask is None:
            return None
        inner, outer = None, None
        for node in self._flow.behind(scores.group_mask, scores.choice):
            if node.op_type == "TopK":
                before, _ = self._flow.trace(node.input[0], frozenset({"Identity", "Cast"}))
                kind = "" if before is None else before.op_type
                inner = before if kind == "Reshape" else inner
                outer = node if kind == "ReduceSum" else outer
        shape = () if inner is None else self._flow.integers(inner.input[1])
        kept = () if outer is None else self._flow.integers(outer.input[1])
        if len(shape) != 3 or shape[1] * shape[2] != scores.experts or len(kept) != 1:
            raise self.refusal("scores are masked in a way that is not a choice of groups")
        return Groups(shape[1], kept[0])

    def weights(self, scores: Scores) -> Weights:
        """Where the weights of the chosen are picked, and what becomes of them."""
        values, indices = self._topk.output[0], self._topk.output[1]
        picks = [
            node.output[0] for node in self._flow.consumers(indices)
            if node.op_type == "GatherElements" and node.input[0] == scores.scores
        ]  # fmt: skip
        if self._flow.consumers(values):
            picks.append(values)
        if len(picks) != 1 or (picks[0] == values and scores.buffer is not None):
            raise self.refusal(f"weights are picked in {len(picks)} ways from scores; one is known")
        current, kind, kinds = picks[0], scores.choice_type, set()
        while True:
            steps = [
                node for node in self._flow.consumers(current) if self._keeps_weights(node, current)
            ]
            if len(steps) != 1:
                break
            kinds.add(steps[0].op_type)
            kind = attribute(steps[0], "to", kind) if steps[0].op_type == "Cast" else kind
            current = steps[0].output[0]
        if scores.rule is ScoreRule.SOFTMAX_OF_CHOSEN and "Softmax" not in kinds:
            raise self.refusal("no softmax or sigmoid makes scores of its logits")
        if kind not in _FLOATS:
            raise self.refusal("its weights are of a type that is not float16, 32 or 64")
        return Weights(picks[0], current, kind)

    def _keeps_weights(self, node: NodeProto, value: str) -> bool:
        """Whether a node makes weights of weights: normalises, scales, or changes their type."""
        if node.op_type == "Div" and node.input[0] == value:
            total, _ = self._flow.trace(node.input[1], _SUM_STEPS)
            return total is not None and total.op_type == "ReduceSum" and total.input[0] == value
        if node.op_type == "Mul":
            factors = [self._flow.constant(name) for name in node.input if name != value]
            return len(factors) == 1 and factors[0] is not None and set(factors[0].shape) <= {1}
        return node.op_type in ("Softmax", "Cast", "Identity")

    def outputs(self, weights: Weights, experts: int) -> tuple[ExpertTensor, ExpertTensor | None]:
        """The down projection, which stands before the product with the weights, and its bias."""
        product = self._mixing_product(weights.mixed)
        if product is None:
            raise self.refusal("its weights are not multiplied with what the experts put out")
        value, bias = product, None
        while True:
            node, value = self._flow.trace(value, _TENSOR_STEPS)
            if node is None or node.op_type != "Add":
                break
            takers = [self._taker(name) for name in node.input]
            value = node.input[0 if takers[0] is None else 1]
            bias = takers[0] or takers[1]
        found = [] if node is None or node.op_type != "MatMul" else [
            taker for taker in map(self._taker, node.input) if taker is not None
        ]  # fmt: skip
        if len(found) != 1:
            raise self.refusal("the down projection of its experts is not found")
        return self._tensor(found[0], experts), bias and self._tensor(bias, experts)

    def _mixing_product(self, mixed: str) -> str | None:
        """The other factor where the weights meet the experts' outputs."""
        pending = [mixed]
        while pending:
            value = pending.pop()
            for node in self._flow.consumers(value):
                if node.op_type == "Mul":
                    return next((name for name in node.input if name != value), None)
                if node.op_type in _RESHAPES:
                    pending.append(node.output[0])
        return None

    def _taker(self, value: str) -> NodeProto | None:
        """The node behind a value that picks from a tensor of this router's experts."""
        node, _ = self._flow.trace(value, _TENSOR_STEPS)
        known = {taker.output[0] for taker in self._takers}
        return node if node is not None and node.output[0] in known else None

    def _tensor(self, taker: NodeProto, experts: int) -> ExpertTensor:
        constant = self._flow.constant(taker.input[0])
        if constant is None or constant.shape[0] != experts:
            raise self.refusal(f"node '{place(taker)}' does not pick from {experts} experts")
        return ExpertTensor(constant.name, constant.axes[0], taker.output[0], constant.direct)


def picked_by(flow: Dataflow, node: NodeProto) -> NodeProto | None:
    """The node whose output says which slices of a stored tensor are taken; None if not dynamic.

    Expert tensors have at least two axes, biases two, and are picked along the first.
    """
    if node.op_type not in ("Gather", "GatherND"):
        return None
    constant = flow.constant(node.input[0])
    along_first = attribute(node, "axis", 0) == 0 and attribute(node, "batch_dims", 0) == 0
    if constant is None or len(constant.shape) not in (2, 3) or not along_first:
        return None
    return flow.trace(node.input[1], _INDEX_STEPS)[0]


def _scopes(node: NodeProto) -> list[str]:
    return [each.value for each in node.metadata_props if each.key == _NAMES]


def _layer_numbers(texts: Iterable[str]) -> set[int]:
    """Numbers of decoder layers in texts; scopes are lists of names, in Python's notation."""
    return {
        int(found) for text in texts for name in text.split("'") for found in _LAYER.findall(name)
    }
