"""Every router of a graph is found whatever it is called, or there is an error that names it."""

from __future__ import annotations

import re
from collections.abc import Callable

import onnx
import pytest
from onnx import helper

from auditor.errors import UnsupportedModel
from auditor.experts.onnx_match import Groups, ScoreRule
from auditor.experts.onnx_routers import OnnxRouter, find_routers
from tests.models.routed_models import exported

FAST = "qwen3_moe"
SOFTMAX = (ScoreRule.SOFTMAX, None, False, False)
RULES = {
    "mixtral": SOFTMAX,
    "olmoe": SOFTMAX,
    "qwen2_moe": SOFTMAX,
    "qwen3_moe": SOFTMAX,
    "qwen3_moe_normalised": SOFTMAX,
    "gpt_oss": (ScoreRule.SOFTMAX_OF_CHOSEN, None, False, True),
    "deepseek_v3": (ScoreRule.SIGMOID, Groups(4, 2), True, False),
}


def _changed(change: Callable[[onnx.GraphProto], None]) -> onnx.ModelProto:
    proto = onnx.ModelProto()
    proto.CopyFrom(exported(FAST).proto)
    change(proto.graph)
    return proto


def _without_metadata(graph: onnx.GraphProto) -> None:
    for node in graph.node:
        del node.metadata_props[:]


def _renamed(proto: onnx.ModelProto, old: str, new: str) -> onnx.ModelProto:
    """Every tensor, scope and class that holds a word gets another; all lengths stay."""
    assert len(old) == len(new)
    other: onnx.ModelProto = onnx.ModelProto.FromString(
        proto.SerializeToString().replace(old.encode(), new.encode())
    )
    return other


def _topk(graph: onnx.GraphProto, router: OnnxRouter) -> onnx.NodeProto:
    found: list[onnx.NodeProto] = [node for node in graph.node if router.indices in node.output]
    return found[0]


@pytest.mark.parametrize(
    "family",
    [FAST, *(pytest.param(each, marks=pytest.mark.slow) for each in RULES if each != FAST)],
)
def test_every_router_of_a_family_is_found(family: str) -> None:
    subject = exported(family)
    routers = find_routers(subject.proto, expected_layers=subject.layers)
    rule, groups, buffer, bias = RULES[family]
    for router, layer in zip(routers, subject.layers, strict=True):
        torch_router = subject.router(layer)
        assert (router.layer, router.experts, router.chosen, router.rule, router.groups) == (
            layer, torch_router.weight.shape[0], torch_router.top_k, rule, groups,
        )  # fmt: skip
        assert (router.buffer is not None, router.down_bias is not None) == (buffer, bias)


@pytest.mark.slow
@pytest.mark.parametrize("family", RULES)
def test_the_down_projections_are_those_of_the_layer(family: str) -> None:
    subject = exported(family)
    stored = {each.name: each for each in subject.proto.graph.initializer}
    for router in find_routers(subject.proto):
        experts = subject.model.model.layers[router.layer].mlp.experts
        values = onnx.numpy_helper.to_array(stored[router.down.name])
        assert (values == experts.down_proj.detach().numpy()).all()
        assert router.down.axis == 0
        if router.down_bias is not None:
            values = onnx.numpy_helper.to_array(stored[router.down_bias.name])
            assert (values == experts.down_proj_bias.detach().numpy()).all()


def test_routers_of_other_names_and_classes_are_found() -> None:
    """Names give the number of the layer and nothing else."""
    proto = exported(FAST).proto
    other = _renamed(
        _renamed(proto, "mlp.gate", "ffn.pick"), "Qwen3MoeTopKRouter", "NobodyKnowsThisOne"
    )
    assert b"mlp.gate" not in other.SerializeToString()
    assert find_routers(other) == find_routers(proto)


def test_the_layer_is_known_by_the_tensor_where_nodes_say_nothing() -> None:
    assert find_routers(_changed(_without_metadata)) == find_routers(exported(FAST).proto)


def test_a_router_whose_layer_nobody_names_is_an_error() -> None:
    nameless = _renamed(_changed(_without_metadata), "layers.", "levels.")
    with pytest.raises(UnsupportedModel) as caught:
        find_routers(nameless)
    assert str(caught.value) == (
        "router at node 'node_topk__1' of unknown layer: its decoder layer is not known: names say "
        "nothing; export the model with batched_mm experts and torch.onnx.export(dynamo=True), or "
        "steer it in torch"
    )


def test_names_that_contradict_each_other_are_an_error() -> None:
    def swap(graph: onnx.GraphProto) -> None:
        topk = _topk(graph, find_routers(exported(FAST).proto)[0])
        for entry in topk.metadata_props:
            entry.value = entry.value.replace("layers.0", "layers.5")

    with pytest.raises(UnsupportedModel, match=re.escape("names say [0, 5]")):
        find_routers(_changed(swap))


def test_an_unknown_step_before_the_choice_is_an_error_that_names_node_and_layer() -> None:
    def disturb(graph: onnx.GraphProto) -> None:
        topk = _topk(graph, find_routers(exported(FAST).proto)[1])
        position = list(graph.node).index(topk)
        graph.node.insert(position, helper.make_node("Abs", [topk.input[0]], ["odd"], "odd_step"))
        topk.input[0] = "odd"

    with pytest.raises(UnsupportedModel) as caught:
        find_routers(_changed(disturb))
    assert caught.value.place == "router at node 'node_topk_1__1' of layer 1"
    assert caught.value.problem == "Abs at node 'odd_step' is not known before a choice"


def test_an_unknown_step_between_choice_and_experts_is_an_error() -> None:
    def disturb(graph: onnx.GraphProto) -> None:
        router = find_routers(exported(FAST).proto)[1]
        topk = _topk(graph, router)
        position = list(graph.node).index(topk) + 1
        for node in graph.node:
            node.input[:] = ["odd" if name == router.indices else name for name in node.input]
        graph.node.insert(position, helper.make_node("Abs", [router.indices], ["odd"], "odd_step"))

    with pytest.raises(UnsupportedModel, match="picked by Abs at node 'odd_step', not by TopK"):
        find_routers(_changed(disturb))


def test_a_choice_that_picks_no_experts_is_an_error() -> None:
    """It may be a router of a form that is not known."""

    def add(graph: onnx.GraphProto) -> None:
        router = find_routers(exported(FAST).proto)[0]
        inputs = [router.logits, _topk(graph, router).input[1]]
        graph.node.append(helper.make_node("TopK", inputs, ["v", "i"], "lonely"))

    with pytest.raises(UnsupportedModel, match=r"node 'lonely' .*: it picks from no tensor of"):
        find_routers(_changed(add))


def test_experts_inside_a_contrib_operator_are_an_error() -> None:
    def add(graph: onnx.GraphProto) -> None:
        node = helper.make_node("QMoE", ["a", "b"], ["c"], "packed", domain="com.microsoft")
        graph.node.append(node)

    with pytest.raises(UnsupportedModel, match="node 'packed': experts lie inside the operator"):
        find_routers(_changed(add))


def test_other_layers_than_the_configuration_has_are_an_error() -> None:
    with pytest.raises(UnsupportedModel) as caught:
        find_routers(exported(FAST).proto, expected_layers=[0, 1, 2])
    assert str(caught.value) == (
        "routers of the layers 0 1 found, 0 1 2 expected; compare the export with its configuration"
    )


def test_layers_that_choose_differently_are_an_error() -> None:
    def widen(graph: onnx.GraphProto) -> None:
        topk = _topk(graph, find_routers(exported(FAST).proto)[1])
        graph.initializer.append(helper.make_tensor("three", onnx.TensorProto.INT64, [1], [3]))
        topk.input[1] = "three"

    with pytest.raises(UnsupportedModel, match="3 of 6 experts in layer 1, 2 of 6 in layer 0"):
        find_routers(_changed(widen))


def test_two_routers_of_one_layer_are_an_error() -> None:
    doubled = _renamed(exported(FAST).proto, "layers.1", "layers.0")
    with pytest.raises(UnsupportedModel, match="routers of the layers 0 0 found, 0 expected"):
        find_routers(doubled)


def test_a_model_without_experts_is_an_error() -> None:
    value = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["x2"])], "none", [value], [])
    with pytest.raises(UnsupportedModel, match="no router"):
        find_routers(helper.make_model(graph))
