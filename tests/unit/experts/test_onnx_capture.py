"""Routing captured in onnxruntime is what the routers of the torch model put out."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from auditor.errors import ConfigurationError, NothingToAudit, UnsupportedModel
from auditor.experts.capture import Counted, capture_routing, counted_prompts
from auditor.experts.intervention import Intervention, Method
from auditor.experts.onnx_capture import RoutingCapture, capture_onnx, expose_routing
from auditor.experts.onnx_edit import edit_onnx
from auditor.experts.onnx_routers import find_routers
from auditor.experts.routers import find_routers as find_torch_routers
from auditor.experts.routing_maps import Expert, RoutingMaps, TokenSet
from auditor.models.onnx_model import OnnxModel
from tests.models.routed_models import Exported, exported, random_ids

FAST = "qwen3_moe"
ALL_FAMILIES = [
    FAST,
    *(
        pytest.param(each, marks=pytest.mark.slow)
        for each in (
            "mixtral",
            "olmoe",
            "qwen2_moe",
            "qwen3_moe_normalised",
            "gpt_oss",
            "deepseek_v3",
        )
    ),
]
# The longest leaves padding that no token is near enough to in a sliding window of 16.
PROMPTS = [random_ids((length,), length).tolist() for length in (7, 3, 9, 9, 1, 25)]


def _model(family: str = FAST) -> OnnxModel:
    return OnnxModel.from_proto(exported(family).proto)


def _router_outputs(subject: Exported, prompt: list[int]) -> list[Any]:
    """What every router of the torch model returns for one prompt alone."""
    found: list[Any] = []
    hooks = [
        subject.router(layer).register_forward_hook(lambda *call: found.append(call[2]))
        for layer in subject.layers
    ]
    subject.logits(np.array([prompt]))
    for hook in hooks:
        hook.remove()
    return found


def _texts(token_set: TokenSet) -> list[Counted]:
    """The prompts; as answers count all tokens but the first, where there are others."""
    if token_set is TokenSet.ANSWER:
        return [Counted(ids, min(1, len(ids) - 1), len(ids)) for ids in PROMPTS]
    return counted_prompts(PROMPTS, token_set)


def _expected_maps(subject: Exported, token_set: TokenSet) -> RoutingMaps:
    """Counted token by token."""
    experts = subject.router(subject.layers[0]).weight.shape[0]
    counts, mass = np.zeros((2, len(PROMPTS), len(subject.layers), experts), np.float32)
    texts = _texts(token_set)
    for number, text in enumerate(texts):
        for layer, (_, weights, indices) in enumerate(_router_outputs(subject, list(text.ids))):
            for row in range(text.start, text.stop):
                for weight, expert in zip(weights[row], indices[row], strict=True):
                    counts[number, layer, expert] += 1
                    mass[number, layer, expert] += float(weight)
    tokens = np.array([text.stop - text.start for text in texts])
    return RoutingMaps(tuple(subject.layers), token_set, counts, mass, tokens)


@pytest.mark.parametrize("batch_size", [1, 4, 16])
@pytest.mark.parametrize("token_set", TokenSet)
@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_maps_are_those_of_each_prompt_alone(
    family: str, token_set: TokenSet, batch_size: int
) -> None:
    """Padding is neither seen nor counted."""
    expected = _expected_maps(exported(family), token_set)
    found = capture_onnx(_model(family), _texts(token_set), token_set, batch_size=batch_size)
    assert (found.layers, found.token_set) == (expected.layers, expected.token_set)
    assert (found.counts == expected.counts).all()
    assert (found.tokens == expected.tokens).all()
    assert np.abs(found.mass - expected.mass).max() <= 1e-5


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_rows_are_those_of_the_routers(family: str) -> None:
    subject, capture = exported(family), RoutingCapture(_model(family))
    for batch in capture.batches(PROMPTS, 4):
        for row, position in enumerate(batch.prompts):
            outputs = _router_outputs(subject, PROMPTS[position])
            for layer, expected in enumerate(outputs):
                counted = batch.mask[row]
                logits, weights, indices = (
                    each[layer][row][counted]
                    for each in (batch.logits, batch.weights, batch.indices)
                )
                assert np.abs(logits - expected[0].detach().numpy()).max() <= 1e-4
                by_expert = indices.argsort(-1)
                order = expected[2].argsort(-1)
                found = np.take_along_axis(weights, by_expert, -1)
                assert (np.sort(indices) == expected[2].sort(-1).values.numpy()).all()
                assert np.abs(found - expected[1].gather(1, order).detach().numpy()).max() <= 1e-5


def test_an_edited_model_shows_its_edited_routing() -> None:
    off = Intervention(Method.ZERO_WEIGHT, frozenset({Expert(0, 1)}))
    edited = OnnxModel.from_proto(edit_onnx(exported(FAST).proto, off))
    before = capture_onnx(_model(), _texts(TokenSet.PROMPT), TokenSet.PROMPT)
    after = capture_onnx(edited, _texts(TokenSet.PROMPT), TokenSet.PROMPT)
    assert (after.counts[:, 0] == before.counts[:, 0]).all()
    assert before.mass[:, 0, 1].sum() > 0
    assert (after.mass[:, 0, 1] == 0).all()


def test_exposing_leaves_the_models_own_outputs_alone() -> None:
    proto = exported(FAST).proto
    routers = find_routers(proto)
    exposed = expose_routing(proto, routers)
    names = [name for each in routers for name in (each.logits, each.indices, each.weights)]
    assert [value.name for value in exposed.graph.output] == [proto.graph.output[0].name, *names]
    feeds = {"input_ids": np.array([PROMPTS[0]]), "attention_mask": np.ones((1, 7), np.int64)}
    before = OnnxModel.from_proto(proto).session().run(feeds)
    after = OnnxModel.from_proto(exposed).session().run(feeds)
    [name] = before
    assert (after[name] == before[name]).all()
    assert set(after) == {name, *names}


def test_inputs_of_a_cache_are_empty_and_positions_count_from_zero() -> None:
    proto = onnx.ModelProto()
    proto.CopyFrom(exported(FAST).proto)
    for value in (
        helper.make_tensor_value_info("position_ids", TensorProto.INT64, ["batch", "tokens"]),
        helper.make_tensor_value_info("past.0.key", TensorProto.FLOAT, ["batch", 2, "past", 8]),
    ):
        proto.graph.input.append(value)
    found = capture_onnx(OnnxModel.from_proto(proto), _texts(TokenSet.PROMPT), TokenSet.PROMPT)
    assert (
        found.counts == capture_onnx(_model(), _texts(TokenSet.PROMPT), TokenSet.PROMPT).counts
    ).all()


def test_an_input_that_is_not_known_is_an_error() -> None:
    proto = onnx.ModelProto()
    proto.CopyFrom(exported(FAST).proto)
    proto.graph.input.append(helper.make_tensor_value_info("odd", TensorProto.FLOAT, ["batch"]))
    with pytest.raises(UnsupportedModel, match=r"input odd float32.* is not known how to fill"):
        capture_onnx(OnnxModel.from_proto(proto), _texts(TokenSet.PROMPT), TokenSet.PROMPT)


def test_progress_counts_prompts() -> None:
    seen: list[tuple[int, int]] = []
    capture_onnx(
        _model(), _texts(TokenSet.LAST), TokenSet.LAST, batch_size=4,
        progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert seen == [(4, 6), (6, 6)]


def test_no_tokens_to_count_are_refused() -> None:
    for texts in ([], [Counted([5, 6], 2, 2)], [Counted([], 0, 1)]):
        with pytest.raises(NothingToAudit, match="no tokens to count"):
            capture_onnx(_model(), texts, TokenSet.PROMPT)


@pytest.mark.parametrize(
    ("prompts", "batch_size", "message"),
    [
        ([[1], []], 16, "prompt 2 has no tokens; give at least one"),
        ([[1]], 0, "batch size 0; give at least 1"),
    ],
)
def test_what_cannot_be_captured_is_refused(
    prompts: list[list[int]], batch_size: int, message: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        list(RoutingCapture(_model()).batches(prompts, batch_size))
    assert str(caught.value) == message


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_onnxruntime_and_torch_have_the_same_maps(family: str) -> None:
    texts = _texts(TokenSet.PROMPT)
    routed = find_torch_routers(exported(family).model)
    expected = capture_routing(routed, texts, TokenSet.PROMPT)
    found = capture_onnx(_model(family), texts, TokenSet.PROMPT)
    assert (found.layers, found.counts.tolist()) == (expected.layers, expected.counts.tolist())
    assert np.abs(found.mass - expected.mass).max() <= 1e-5
