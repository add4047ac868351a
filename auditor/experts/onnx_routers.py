"""The routers of an exported mixture-of-experts model, found by structure, not by class or name.

A router is the TopK whose indices pick slices of three-dimensional expert tensors: behind it stand
scores (softmax or sigmoid, a correction buffer, a choice of groups) and a product with a tensor
[experts, hidden]; after it stand normalisation, scaling and the experts. Names only give the
number of the layer. The form is that of a dynamo export with `batched_mm` experts, with or
without a cache; experts inside a contrib operator, or computed for all tokens, are refused.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

import onnx
from onnx import NodeProto

from auditor.errors import UnsupportedModel
from auditor.experts.onnx_dataflow import Dataflow, key, place
from auditor.experts.onnx_match import ExpertTensor, Groups, RouterMatch, ScoreRule, picked_by

_CONTRIB: Final = ("MoE", "QMoE")


@dataclass(frozen=True)
class OnnxRouter:
    """Where one router lives in a graph; values are given by name, rows are tokens.

    Attributes:
        layer: Number of the decoder layer.
        experts: How many there are.
        chosen: How many each token is sent to.
        rule: How weights come of logits.
        groups: The choice of groups before that of experts, where there is one.
        logits: Raw logits, [rows, experts].
        scores: What weights are picked from, [rows, experts]; the logits for
            `ScoreRule.SOFTMAX_OF_CHOSEN`.
        choice: What groups and experts are chosen by, [rows, experts]: the scores, with the
            correction buffer where there is one.
        buffer: The stored correction buffer, [experts].
        picked: Scores of the chosen, [rows, chosen].
        indices: Numbers of the chosen, int64 [rows, chosen].
        weights: What the outputs of the chosen are multiplied by, [rows, chosen].
        down: The down projection of all experts.
        down_bias: Its bias.
        logits_type: Element type of the logits.
        choice_type: Element type of scores and choice.
        weights_type: Element type of the weights.
        node: The TopK that chooses, for messages.
    """

    layer: int
    experts: int
    chosen: int
    rule: ScoreRule
    groups: Groups | None
    logits: str
    scores: str
    choice: str
    buffer: str | None
    picked: str
    indices: str
    weights: str
    down: ExpertTensor
    down_bias: ExpertTensor | None
    logits_type: int
    choice_type: int
    weights_type: int
    node: str


def find_routers(
    model: onnx.ModelProto, expected_layers: Collection[int] | None = None
) -> tuple[OnnxRouter, ...]:
    """Every router of a model, by layer; of an edited model those of its base.

    Args:
        model: An export with its external data loaded.
        expected_layers: The decoder layers that have experts, as the configuration says.

    Raises:
        UnsupportedModel: No router; one that cannot be followed from logits to experts, or whose
            layer is not known; layers that differ in experts or choice, occur twice, or are not
            the expected ones.
    """
    flow = Dataflow(model.graph)
    takers = _takers_by_choice(flow)
    routers = [_router(flow, topk, picked) for topk, picked in takers]
    _refuse_unmatched(flow, {router.indices: router.logits for router in routers})
    routers.sort(key=lambda router: router.layer)
    _refuse_inconsistent(routers, expected_layers)
    return tuple(routers)


def _takers_by_choice(flow: Dataflow) -> list[tuple[NodeProto, list[NodeProto]]]:
    """Each TopK that picks from expert tensors, with the nodes that take the slices."""
    found: dict[str, tuple[NodeProto, list[NodeProto]]] = {}
    for node in flow.nodes:
        if node.op_type in _CONTRIB:
            raise UnsupportedModel(
                f"experts lie inside the operator {node.op_type}", place=f"node '{place(node)}'",
                way_out="export the model with batched_mm experts",
            )  # fmt: skip
        chooser = picked_by(flow, node)
        constant = flow.constant(node.input[0]) if chooser is not None else None
        if chooser is None or constant is None:
            continue
        if chooser.op_type == "TopK":
            found.setdefault(key(chooser), (chooser, []))[1].append(node)
        elif len(constant.shape) == 3:
            raise UnsupportedModel(
                f"slices of a tensor {list(constant.shape)} are picked by {chooser.op_type} "
                f"at node '{place(chooser)}', not by TopK", place=f"node '{place(node)}'",
                way_out="export it with optimize=True, or steer it in torch",
            )  # fmt: skip
    return list(found.values())


def _router(flow: Dataflow, topk: NodeProto, takers: list[NodeProto]) -> OnnxRouter:
    match = RouterMatch(flow, topk, takers)
    scores = match.scores()
    weights = match.weights(scores)
    down, down_bias = match.outputs(weights, scores.experts)
    return OnnxRouter(
        layer=match.layer(scores),
        experts=scores.experts,
        chosen=match.chosen,
        rule=scores.rule,
        groups=match.groups(scores),
        logits=scores.logits,
        scores=scores.scores,
        choice=scores.choice,
        buffer=scores.buffer,
        picked=weights.picked,
        indices=topk.output[1],
        weights=weights.mixed,
        down=down,
        down_bias=down_bias,
        logits_type=scores.logits_type,
        choice_type=scores.choice_type,
        weights_type=weights.element_type,
        node=place(topk),
    )


def _refuse_unmatched(flow: Dataflow, logits: Mapping[str, str]) -> None:
    """A TopK that is neither a router nor chooses its groups may be a router nobody knows.

    `logits` are those of the routers that were matched, by the indices they make.
    """
    choices = [node for node in flow.nodes if node.op_type == "TopK"]
    inside = {
        key(part) for node in choices if node.output[1] in logits
        for part in flow.behind(node.input[0], logits[node.output[1]])
    }  # fmt: skip
    for node in choices:
        if node.output[1] not in logits and key(node) not in inside:
            raise RouterMatch(flow, node, ()).refusal("it picks from no tensor of experts")


def _refuse_inconsistent(routers: list[OnnxRouter], expected: Collection[int] | None) -> None:
    if not routers:
        raise UnsupportedModel(
            "no router: no TopK picks from tensors of experts", way_out="give the export of a "
            "mixture-of-experts model, with batched_mm experts",
        )  # fmt: skip
    layers = [router.layer for router in routers]
    wanted = sorted(set(layers) if expected is None else expected)
    if layers != wanted:
        raise UnsupportedModel(
            f"routers of the layers {_listed(layers)} found, {_listed(wanted)} expected",
            way_out="compare the export with its configuration",
        )
    first = routers[0]
    for router in routers:
        if (router.experts, router.chosen) != (first.experts, first.chosen):
            raise UnsupportedModel(
                f"{router.chosen} of {router.experts} experts in layer {router.layer}, "
                f"{first.chosen} of {first.experts} in layer {first.layer}",
                place=f"node '{router.node}'", way_out="steer the model in torch",
            )  # fmt: skip


def _listed(layers: Collection[int]) -> str:
    return " ".join(map(str, layers)) or "none"
