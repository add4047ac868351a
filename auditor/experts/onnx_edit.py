"""Interventions on experts written into an ONNX graph, so that any onnxruntime runs them.

The five methods are those of `auditor.experts.intervention`. What they mean for families that
are not softmax, top-k:

- softmax of the chosen (gpt-oss): the choice is made by logits, so `force_select` adds
  `LOGIT_BIAS` to them for the choice alone; `force_tok`'s log-softmax shifts a row by a constant,
  which the later softmax takes out again.
- sigmoid (DeepSeek-V3): `mask_logit` and `force_select` act on what groups and experts are chosen
  by, buffer included, before the groups are summed: a group of which fewer than two experts are
  left is not chosen, and enough others have to be left. `force_tok` takes the raw logits, because
  the sigmoid of a log-softmax would change every weight; buffer and groups follow, and they may
  still choose an expert that is off or pass over one that is on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from auditor.errors import UnsupportedModel
from auditor.experts.intervention import FORCE_MARGIN, SELECT_BIAS, Intervention, Method
from auditor.experts.onnx_dataflow import BIASED, PREFIX
from auditor.experts.onnx_feasible import experts_of, refuse_impossible
from auditor.experts.onnx_graph_edit import GraphEdit
from auditor.experts.onnx_match import ScoreRule
from auditor.experts.onnx_routers import OnnxRouter, find_routers
from auditor.experts.routing_maps import Expert

METADATA: Final = "auditor.intervention."
"""Before the keys method, off, on and base of an edited model's metadata."""
LOGIT_BIAS: Final = 1e4
"""What `force_select` adds to a choice that is made by logits, which have no bounds."""
MASK: Final[dict[int, float]] = {
    TensorProto.FLOAT16: -1e4,
    TensorProto.FLOAT: -1e9,
    TensorProto.DOUBLE: -1e9,
}
"""What `mask_logit` adds; a number that float16 holds, since a row of infinities has no softmax."""
MIN_OPSET: Final = 18
_STACK_TRACE: Final = "pkg.torch.onnx.stack_trace"
_MAX_BYTES: Final = 2**31 - 1  # what protobuf can write

Array = NDArray[Any]


def edit_onnx(
    model: onnx.ModelProto,
    intervention: Intervention,
    routers: Sequence[OnnxRouter] | None = None,
    *,
    base_digest: str = "",
) -> onnx.ModelProto:
    """A copy of a model in which experts are switched off and on.

    Values keep their names: what stands behind an edit is called as it was before, so `routers`
    hold for the copy as well. The metadata entries `auditor.intervention.method`, `.off`, `.on`
    and `.base` say what was done to which model; stack traces of the export, which hold paths of
    the machine it ran on, are left out.

    Args:
        model: An export with its external data loaded; it is not changed.
        intervention: Which experts, and by which method.
        routers: From `find_routers` of this model; searched for if not given.
        base_digest: The model's digest where it was read from a file; if not given, that of
            `OnnxModel.from_proto`.

    Raises:
        ConfigurationError: The experts do not exist, or cannot all be switched; see
            `refuse_impossible`.
        UnsupportedModel: Edited already, opset below 18, over 2 GiB, a router that is not
            matched, or a correction buffer stronger than `force_select`.
    """
    _refuse_unfit(model)
    routers = find_routers(model) if routers is None else routers
    refuse_impossible(intervention, routers)
    edited = onnx.ModelProto()
    edited.CopyFrom(model)
    edit = GraphEdit(edited.graph)
    for router in routers:
        off = experts_of(intervention.off, router)
        on = experts_of(intervention.on, router)
        if off or on:
            _apply(edit, router, intervention.method, off, on)
    edit.finish()
    _strip_stack_traces(edited.graph)
    _describe(edited, intervention, base_digest or _digest(model))
    _check(edited)
    return edited


def _apply(
    edit: GraphEdit, router: OnnxRouter, method: Method, off: Sequence[int], on: Sequence[int]
) -> None:
    if method is Method.MASK_LOGIT:
        _mask_logit(edit, router, off)
    elif method is Method.ZERO_WEIGHT:
        _zero_weight(edit, router, off)
    elif method is Method.ZERO_OUTPUT:
        for tensor in (router.down, router.down_bias):
            if tensor is not None:
                edit.zero_slices(tensor, off, router.layer)
    elif method is Method.FORCE_TOK:
        _force_tok(edit, router, off, on)
    else:
        _force_select(edit, router, off, on)


def _mask_logit(edit: GraphEdit, router: OnnxRouter, off: Sequence[int]) -> None:
    """Logits of experts far below all others; for sigmoids the choice, weights being picked else.

    A sigmoid of a masked logit is 0, and the correction buffer may still choose it.
    """
    if router.rule is ScoreRule.SIGMOID:
        _bias_choice(edit, router, _table(router, {MASK[router.choice_type]: off}))
        return
    mask = edit.constant(
        _named(router, "mask"), _table(router, {MASK[router.logits_type]: off}), router.logits_type
    )
    edit.add("Add", [edit.take_over(router.logits), mask], router.logits)


def _zero_weight(edit: GraphEdit, router: OnnxRouter, off: Sequence[int]) -> None:
    """Weights of experts to 0, the others scaled to the row's old sum; in float32 at least."""
    raw = edit.take_over(router.weights)
    half = router.weights_type == TensorProto.FLOAT16
    kind = TensorProto.FLOAT if half else router.weights_type

    def add(operator: str, inputs: Sequence[str], what: str, **attributes: int) -> str:
        return edit.add(operator, inputs, _named(router, what), **attributes)

    weights = add("Cast", [raw], "weights", to=kind) if half else raw
    zero, one = (
        edit.constant(_named(router, what), np.array(number), kind)
        for number, what in enumerate(("zero", "one"))
    )
    kept_table = ~np.isin(np.arange(router.experts), off)
    table = edit.constant(_named(router, "kept"), kept_table, TensorProto.BOOL)
    axis = edit.constant(_named(router, "axis"), np.array([-1]), TensorProto.INT64)
    kept = add("Gather", [table, router.indices], "kept_of_chosen", axis=0)
    zeroed = add("Where", [kept, weights, zero], "zeroed")
    old = add("ReduceSum", [weights, axis], "old_sum", keepdims=1)
    new = add("ReduceSum", [zeroed, axis], "new_sum", keepdims=1)
    # The rows that lose nothing stay as they are, to the bit; empty rows are not divided.
    same = add("Equal", [old, new], "same")
    divisor = add("Where", [add("Equal", [new, zero], "empty"), one, new], "divisor")
    shares = add("Div", [zeroed, divisor], "shares")
    scaled = add("Mul", [shares, old], "scaled")
    if half:
        scaled = add("Where", [same, zeroed, scaled], "new_weights")
        edit.add("Cast", [scaled], router.weights, to=router.weights_type)
    else:
        edit.add("Where", [same, zeroed, scaled], router.weights)


def _force_tok(edit: GraphEdit, router: OnnxRouter, off: Sequence[int], on: Sequence[int]) -> None:
    """Logits just above the largest or below the smallest of their row."""
    current = raw = edit.take_over(router.logits)
    if router.rule is not ScoreRule.SIGMOID:
        current = raw = edit.add("LogSoftmax", [raw], _named(router, "log_softmax"), axis=-1)
    axis = edit.constant(_named(router, "axis"), np.array([-1]), TensorProto.INT64)
    for experts, what, largest, margin in (
        (off, "off", "ReduceMin", -FORCE_MARGIN), (on, "on", "ReduceMax", FORCE_MARGIN),
    ):  # fmt: skip
        if not experts:
            continue
        beyond = edit.constant(_named(router, f"{what}_margin"), np.array(margin),
                               router.logits_type)  # fmt: skip
        chosen = edit.constant(
            _named(router, what), np.isin(np.arange(router.experts), experts), TensorProto.BOOL
        )
        edge = edit.add(largest, [raw, axis], _named(router, f"{what}_edge"), keepdims=1)
        forced = edit.add("Add", [edge, beyond], _named(router, f"{what}_value"))
        current = edit.add("Where", [chosen, forced, current], _named(router, f"{what}_logits"))
    edit.add("Identity", [current], router.logits)


def _force_select(
    edit: GraphEdit, router: OnnxRouter, off: Sequence[int], on: Sequence[int]
) -> None:
    """A bias on the choice alone; weights are picked from the unbiased scores."""
    bias = LOGIT_BIAS if router.rule is ScoreRule.SOFTMAX_OF_CHOSEN else SELECT_BIAS
    _refuse_strong_buffer(edit, router)
    _bias_choice(edit, router, _table(router, {-bias: off, bias: on}))
    if edit.same_node(router.picked, router.indices):
        edit.take_over(router.picked)
        edit.add("GatherElements", [router.scores, router.indices], router.picked, axis=-1)


def _bias_choice(edit: GraphEdit, router: OnnxRouter, bias: Array) -> None:
    """Add numbers [experts] to what groups and experts are chosen by, and to nothing else."""
    name = edit.constant(_named(router, "bias"), bias, router.choice_type)
    edit.divert(router)
    edit.add("Add", [router.choice, name], f"{BIASED}{router.choice}")


def _refuse_strong_buffer(edit: GraphEdit, router: OnnxRouter) -> None:
    """Refuse a correction buffer next to which the bias on the choice may not decide."""
    if router.buffer is None:
        return
    spread = float(np.ptp(edit.stored(router.buffer).astype(np.float64)))
    # One score and its correction against another's, or two against two where groups are summed.
    largest = SELECT_BIAS - 1 if router.groups is None else (SELECT_BIAS - 2) / 2
    if not spread < largest:
        raise UnsupportedModel(
            f"its correction buffer spans {spread:.3g}, force_select decides up to {largest:.3g}",
            place=f"router at node '{router.node}' of layer {router.layer}",
            way_out="use mask_logit or zero_weight",
        )


def _table(router: OnnxRouter, numbers: dict[float, Sequence[int]]) -> Array:
    table = np.zeros(router.experts)
    for number, experts in numbers.items():
        table[list(experts)] = number
    return table


def _named(router: OnnxRouter, what: str) -> str:
    return f"{PREFIX}layer{router.layer}/{what}"


def _refuse_unfit(model: onnx.ModelProto) -> None:
    _refuse_large(model)
    opset = max((each.version for each in model.opset_import if not each.domain), default=0)
    if opset < MIN_OPSET:
        raise UnsupportedModel(
            f"opset {opset}; the edits need {MIN_OPSET}",
            way_out="export the model for a newer opset",
        )
    if any(entry.key.startswith(METADATA) for entry in model.metadata_props):
        raise UnsupportedModel(
            "the model was edited already", way_out="edit its base, with all experts at once"
        )


def _strip_stack_traces(graph: onnx.GraphProto) -> None:
    """Drop the export's stack traces."""
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info,
                 *graph.initializer):  # fmt: skip
        kept = [entry for entry in part.metadata_props if entry.key != _STACK_TRACE]
        if len(kept) < len(part.metadata_props):
            entries = [onnx.StringStringEntryProto(key=e.key, value=e.value) for e in kept]
            del part.metadata_props[:]
            part.metadata_props.extend(entries)


def _describe(model: onnx.ModelProto, intervention: Intervention, digest: str) -> None:
    def listed(experts: Collection[Expert]) -> str:
        return " ".join(str(each) for each in sorted(experts))

    for key, value in {
        "method": str(intervention.method), "off": listed(intervention.off),
        "on": listed(intervention.on), "base": digest,
    }.items():  # fmt: skip
        model.metadata_props.add(key=f"{METADATA}{key}", value=value)


def _digest(model: onnx.ModelProto) -> str:
    return f"sha256:{hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()}"


def _refuse_large(model: onnx.ModelProto) -> None:
    if model.ByteSize() > _MAX_BYTES:
        raise UnsupportedModel(
            f"{model.ByteSize()} bytes; one file holds 2 GiB",
            way_out="steer the model in torch",
        )


def _check(model: onnx.ModelProto) -> None:
    _refuse_large(model)
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise UnsupportedModel(
            f"the edited graph is not valid: {' '.join(str(error).split())[:300]}",
            way_out="check the model itself with onnx.checker",
        ) from error
