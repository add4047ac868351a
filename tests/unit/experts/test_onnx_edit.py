"""Edited graphs say what the torch model says when its routers are changed by the formulas."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import numpy_helper

from auditor.errors import ConfigurationError, UnsupportedModel
from auditor.experts.intervention import Intervention, Method
from auditor.experts.onnx_capture import RoutedBatch, RoutingCapture
from auditor.experts.onnx_dataflow import PREFIX
from auditor.experts.onnx_edit import edit_onnx
from auditor.experts.onnx_feasible import refuse_impossible
from auditor.experts.onnx_match import Groups
from auditor.experts.onnx_routers import find_routers
from auditor.experts.routers import find_routers as find_torch_routers
from auditor.experts.routing_maps import Expert
from auditor.experts.steering import steered
from auditor.models.onnx_model import OnnxModel
from tests.models.routed_models import Exported, exported, random_ids
from tests.models.routed_reference import steered_logits

FAST = "qwen3_moe"
SLOW = ("mixtral", "olmoe", "qwen2_moe", "qwen3_moe_normalised", "gpt_oss", "deepseek_v3")
ALL_FAMILIES = [FAST, *(pytest.param(each, marks=pytest.mark.slow) for each in SLOW)]
OFF, ON, BOTH = ("off",), ("on",), ("off", "on")
CASES = [
    (Method.MASK_LOGIT, OFF), (Method.ZERO_WEIGHT, OFF), (Method.ZERO_OUTPUT, OFF),
    (Method.FORCE_TOK, OFF), (Method.FORCE_TOK, ON), (Method.FORCE_TOK, BOTH),
    (Method.FORCE_SELECT, OFF), (Method.FORCE_SELECT, ON), (Method.FORCE_SELECT, BOTH),
]  # fmt: skip
IDS = random_ids((3, 9))


def _at(layer: int, *numbers: int) -> frozenset[Expert]:
    return frozenset(Expert(layer, number) for number in numbers)


def _intervene(subject: Exported, method: Method, sides: tuple[str, ...]) -> Intervention:
    """Two experts off in the first layer and one in the last, and one on in each."""
    first, last = subject.layers[0], subject.layers[-1]
    return Intervention(
        method,
        _at(first, 1, 4) | _at(last, 0) if "off" in sides else frozenset(),
        _at(first, 2) | _at(last, 3) if "on" in sides else frozenset(),
    )


def _run(proto: onnx.ModelProto, ids: NDArray[np.int64]) -> NDArray[np.float32]:
    model = OnnxModel.from_proto(proto)
    found = model.session().run({"input_ids": ids, "attention_mask": np.ones_like(ids)})
    return found[model.outputs[0].name]


def _routed(proto: onnx.ModelProto, ids: NDArray[np.int64] = IDS) -> RoutedBatch:
    [batch] = RoutingCapture(OnnxModel.from_proto(proto)).batches(ids.tolist())
    return batch


def _agrees(subject: Exported, intervention: Intervention, ids: NDArray[np.int64]) -> None:
    found = _run(edit_onnx(subject.proto, intervention), ids)
    assert np.abs(found - steered_logits(subject, intervention, ids)).max() <= 1e-5


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_the_export_itself_agrees(family: str) -> None:
    subject = exported(family)
    assert np.abs(_run(subject.proto, IDS) - subject.logits(IDS)).max() <= 1e-5


@pytest.mark.parametrize(("method", "sides"), CASES)
@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_an_edited_graph_agrees_with_steered_routers(
    family: str, method: Method, sides: tuple[str, ...]
) -> None:
    subject = exported(family)
    _agrees(subject, _intervene(subject, method, sides), IDS)


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_an_edited_graph_agrees_with_the_steered_model(family: str) -> None:
    subject = exported(family)
    routed = find_torch_routers(subject.model)
    for method, sides in CASES:
        intervention = _intervene(subject, method, sides)
        with steered(routed, intervention):
            expected = subject.logits(IDS)
        found = _run(edit_onnx(subject.proto, intervention), IDS)
        assert np.abs(found - expected).max() <= 1e-5


@pytest.mark.parametrize(("method", "sides"), CASES)
@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_an_edit_changes_what_the_model_says(
    family: str, method: Method, sides: tuple[str, ...]
) -> None:
    """Else agreement with the reference would say nothing."""
    subject = exported(family)
    edited = edit_onnx(subject.proto, _intervene(subject, method, sides))
    assert np.abs(_run(edited, IDS) - _run(subject.proto, IDS)).max() > 1e-3


@pytest.mark.parametrize("family", ALL_FAMILIES)
@settings(max_examples=6, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_experts_of_any_layers_agree(family: str, data: st.DataObject) -> None:
    subject = exported(family)
    method, sides = data.draw(st.sampled_from(CASES))
    off: set[Expert] = set()
    on: set[Expert] = set()
    for router in find_routers(subject.proto):
        numbers = data.draw(st.permutations(range(router.experts)))
        if "off" in sides:
            most = 1 if "on" in sides else 2  # more could leave a group to nobody
            off |= _at(router.layer, *numbers[: data.draw(st.integers(1, most))])
        if "on" in sides:
            on |= _at(router.layer, numbers[-1])
    ids = random_ids((data.draw(st.integers(1, 3)), data.draw(st.integers(1, 11))))
    intervention = Intervention(method, frozenset(off), frozenset(on))
    _agrees(subject, intervention, ids)


@pytest.mark.parametrize("method", [Method.MASK_LOGIT, Method.FORCE_SELECT, Method.FORCE_TOK])
@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_experts_off_are_never_chosen(family: str, method: Method) -> None:
    if (family, method) == ("deepseek_v3", Method.FORCE_TOK):
        pytest.skip("the correction buffer may choose an expert whose logit is the smallest")
    subject = exported(family)
    layer = subject.layers[0]
    assert np.isin(_routed(subject.proto).indices[0], [1, 4]).any()
    edited = edit_onnx(subject.proto, Intervention(method, _at(layer, 1, 4)))
    assert not np.isin(_routed(edited).indices[0], [1, 4]).any()


@pytest.mark.parametrize("method", [Method.FORCE_SELECT, Method.FORCE_TOK])
@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_experts_on_are_always_chosen(family: str, method: Method) -> None:
    if (family, method) == ("deepseek_v3", Method.FORCE_TOK):
        pytest.skip("the choice of groups may pass over an expert whose logit is the largest")
    subject = exported(family)
    edited = edit_onnx(subject.proto, Intervention(method, on=_at(subject.layers[0], 2, 3)))
    indices = _routed(edited).indices[0]
    assert (indices == 2).any(-1).all()
    assert (indices == 3).any(-1).all()


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_zero_weight_keeps_choices_and_row_sums(family: str) -> None:
    subject = exported(family)
    off = _at(subject.layers[0], 1, 4)
    edited = edit_onnx(subject.proto, Intervention(Method.ZERO_WEIGHT, off))
    before, after = _routed(subject.proto), _routed(edited)
    assert (after.indices[0] == before.indices[0]).all()
    is_off = np.isin(before.indices[0], [1, 4])
    assert is_off.any()
    assert (after.weights[0][is_off] == 0).all()
    left = ~is_off.all(-1)
    sums = before.weights[0].sum(-1)[left]
    assert np.abs(after.weights[0].sum(-1)[left] - sums).max() <= 1e-6
    untouched = ~is_off.any(-1)
    assert untouched.any()
    assert (after.weights[0][untouched] == before.weights[0][untouched]).all()


def test_zero_weight_leaves_zeros_where_all_chosen_are_off() -> None:
    subject = exported(FAST)
    off = _at(0, 0, 1, 2, 3, 4)
    weights = _routed(edit_onnx(subject.proto, Intervention(Method.ZERO_WEIGHT, off))).weights[0]
    emptied = ~(_routed(subject.proto).indices[0] == 5).any(-1)
    assert emptied.any()
    assert (weights[emptied] == 0).all()


def test_weights_that_force_select_switches_on_are_the_unbiased_scores() -> None:
    subject = exported(FAST)
    edited = _routed(edit_onnx(subject.proto, Intervention(Method.FORCE_SELECT, on=_at(0, 2))))
    scores = torch.from_numpy(edited.logits[0]).softmax(-1).numpy()
    expected = np.take_along_axis(scores, edited.indices[0], axis=-1)
    assert np.abs(edited.weights[0] - expected).max() <= 1e-6


@pytest.mark.parametrize(("method", "sides"), CASES)
def test_the_edited_graph_has_the_routers_of_its_base(
    method: Method, sides: tuple[str, ...]
) -> None:
    subject = exported(FAST)
    edited = edit_onnx(subject.proto, _intervene(subject, method, sides))
    assert find_routers(edited) == find_routers(subject.proto)


def test_the_base_stays_as_it_was() -> None:
    subject = exported(FAST)
    before = subject.proto.SerializeToString(deterministic=True)
    for method, sides in CASES:
        edit_onnx(subject.proto, _intervene(subject, method, sides))
    assert subject.proto.SerializeToString(deterministic=True) == before


def test_metadata_says_what_was_done_to_which_model() -> None:
    subject = exported(FAST)
    edited = edit_onnx(
        subject.proto, Intervention(Method.FORCE_TOK, _at(1, 4) | _at(0, 3), _at(0, 2))
    )
    assert {entry.key: entry.value for entry in edited.metadata_props} == {
        "auditor.intervention.method": "force_tok",
        "auditor.intervention.off": "0:3 1:4",
        "auditor.intervention.on": "0:2",
        "auditor.intervention.base": OnnxModel.from_proto(subject.proto).digest,
    }


def test_no_path_of_the_exporting_machine_is_left() -> None:
    subject = exported(FAST)
    assert b"site-packages" in subject.proto.SerializeToString()
    edited = edit_onnx(subject.proto, Intervention(Method.MASK_LOGIT, _at(0, 1)))
    assert b"site-packages" not in edited.SerializeToString()


def test_names_stay_unique() -> None:
    subject = exported(FAST)
    for method, sides in CASES:
        graph = edit_onnx(subject.proto, _intervene(subject, method, sides)).graph
        names = [name for node in graph.node for name in node.output]
        names += [tensor.name for tensor in graph.initializer]
        assert len(names) == len(set(names))


def test_nodes_of_an_edit_can_be_told_by_their_names() -> None:
    subject = exported(FAST)
    known = {node.name for node in subject.proto.graph.node}
    edited = edit_onnx(subject.proto, Intervention(Method.ZERO_WEIGHT, _at(0, 1)))
    added = [node.name for node in edited.graph.node if node.name not in known]
    assert added
    assert all(name.startswith(PREFIX) for name in added)


def test_nodes_without_names_are_edited_all_the_same() -> None:
    subject = exported(FAST)
    nameless = onnx.ModelProto()
    nameless.CopyFrom(subject.proto)
    for node in nameless.graph.node:
        node.name = ""
    for method, sides in CASES:
        intervention = _intervene(subject, method, sides)
        edited = edit_onnx(nameless, intervention)
        assert (_run(edited, IDS) == _run(edit_onnx(subject.proto, intervention), IDS)).all()


def test_a_tensor_that_layers_share_is_zeroed_for_one_only() -> None:
    """Exporters store equal tensors once."""
    shared = onnx.ModelProto()
    shared.CopyFrom(exported(FAST).proto)
    first, last = find_routers(shared)
    [taker] = [node for node in shared.graph.node if last.down.taker in node.output]
    taker.input[0] = first.down.name
    before = {tensor.name: tensor.SerializeToString() for tensor in shared.graph.initializer}
    edited = edit_onnx(shared, Intervention(Method.ZERO_OUTPUT, _at(0, 2)))
    after = {tensor.name: tensor for tensor in edited.graph.initializer}
    assert {name: after[name].SerializeToString() for name in before} == before
    [name] = set(after) - set(before)
    expected = numpy_helper.to_array(after[first.down.name]).copy()
    expected[2] = 0
    assert (numpy_helper.to_array(after[name]) == expected).all()
    takers = {router.layer: router.down.name for router in find_routers(edited)}
    assert takers == {0: name, 1: first.down.name}


@pytest.mark.slow
def test_a_graph_that_was_not_optimised_is_edited_all_the_same() -> None:
    """Expert tensors stand behind a Transpose there, and indices behind Expand and Concat."""
    subject = exported(FAST, optimize=False)
    assert not any(router.down.direct for router in find_routers(subject.proto))
    for method, sides in CASES:
        _agrees(subject, _intervene(subject, method, sides), IDS)


@pytest.mark.slow
def test_float16_neither_overflows_nor_loses_the_expert() -> None:
    subject = exported(FAST, torch.float16)
    for method, sides in CASES:
        edited = edit_onnx(subject.proto, _intervene(subject, method, sides))
        assert np.isfinite(_run(edited, IDS)).all()
    for method in (Method.MASK_LOGIT, Method.FORCE_SELECT, Method.FORCE_TOK):
        edited = edit_onnx(subject.proto, Intervention(method, _at(0, 1, 4)))
        assert not np.isin(_routed(edited).indices[0], [1, 4]).any()


@pytest.mark.parametrize(
    ("intervention", "message"),
    [
        (
            Intervention(Method.MASK_LOGIT, _at(7, 0) | _at(0, 6) | _at(1, 2)),
            "there is no expert 0:6 7:0: layers 0, 1 have experts, numbered 0 to 5",
        ),
        (
            Intervention(Method.FORCE_TOK, on=_at(1, 0, 1, 2)),
            "3 experts of layer 1 are forced on, and a token gets 2; switch fewer on",
        ),
        (
            Intervention(Method.FORCE_SELECT, _at(0, 0, 1, 2, 3, 4)),
            "5 of 6 experts of layer 0 are off, and a token needs 2; switch fewer off, or use "
            "zero_weight or zero_output",
        ),
    ],
)
def test_what_cannot_be_switched_is_refused(intervention: Intervention, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        edit_onnx(exported(FAST).proto, intervention)
    assert str(caught.value) == message


@pytest.mark.slow
@pytest.mark.parametrize(
    "intervention",
    [
        Intervention(Method.MASK_LOGIT, _at(1, 0, 3)),
        Intervention(Method.MASK_LOGIT, _at(1, 0, 1, 3, 4)),
        Intervention(Method.FORCE_SELECT, on=_at(1, 0, 3)),
        Intervention(Method.FORCE_SELECT, _at(1, 1), _at(1, 0, 3)),
    ],
)
def test_groups_of_experts_are_steered_as_far_as_they_can_be(intervention: Intervention) -> None:
    """Of 4 groups of 3 experts 2 are kept, and 3 experts chosen."""
    subject = exported("deepseek_v3")
    _agrees(subject, intervention, IDS)
    indices = _routed(edit_onnx(subject.proto, intervention)).indices[0]
    assert not np.isin(indices, [each.expert for each in intervention.off]).any()
    for each in intervention.on:
        assert (indices == each.expert).any(-1).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("intervention", "message"),
    [
        (Intervention(Method.MASK_LOGIT, _at(1, 0, 1, 3, 4, 6, 7)), "left in 1 groups"),
        (Intervention(Method.FORCE_SELECT, on=_at(1, 0, 3, 6)), "experts on in 3 groups of"),
        (Intervention(Method.FORCE_SELECT, _at(1, 1, 2), _at(1, 0)), "a group of layer 1 has"),
    ],
)
def test_what_groups_would_decide_against_is_refused(
    intervention: Intervention, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        edit_onnx(exported("deepseek_v3").proto, intervention)


def test_groups_can_leave_too_few_to_choose_from() -> None:
    """Two groups of two experts, of which five are to be chosen."""
    [router] = [each for each in find_routers(exported(FAST).proto) if each.layer == 0]
    grouped = replace(router, experts=12, chosen=5, groups=Groups(count=4, kept=2))
    refuse_impossible(Intervention(Method.MASK_LOGIT, _at(0, 0)), [grouped])
    with pytest.raises(ConfigurationError, match="4 may be all that is left to choose 5 from"):
        refuse_impossible(Intervention(Method.MASK_LOGIT, _at(0, 0, 3)), [grouped])


@pytest.mark.slow
def test_a_correction_buffer_stronger_than_the_bias_is_refused() -> None:
    strong = onnx.ModelProto()
    strong.CopyFrom(exported("deepseek_v3").proto)
    [name] = [router.buffer for router in find_routers(strong) if router.layer == 2]
    [stored] = [tensor for tensor in strong.graph.initializer if tensor.name == name]
    stored.CopyFrom(numpy_helper.from_array(np.linspace(0, 5, 12, dtype=np.float32), name))
    with pytest.raises(UnsupportedModel, match="buffer spans 5, force_select decides up to 4"):
        edit_onnx(strong, Intervention(Method.FORCE_SELECT, _at(2, 1)))


def test_a_model_is_edited_once() -> None:
    edited = edit_onnx(exported(FAST).proto, Intervention(Method.MASK_LOGIT, _at(0, 1)))
    with pytest.raises(UnsupportedModel, match="edited already"):
        edit_onnx(edited, Intervention(Method.MASK_LOGIT, _at(0, 2)))
