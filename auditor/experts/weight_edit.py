"""An intervention written into a model's own numbers, where the family has numbers for it.

`zero_output` is the last matrix of each expert set to 0. `mask_logit` needs a bias on the router's
logits (gpt-oss) or on the choice (the correction buffer of DeepSeek-V3 and its like), and
`force_select` the latter. The other methods are steps of computation that no weights file can say:
they need the graph of an ONNX file (`auditor.experts.onnx_edit`).
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from auditor.errors import UnsupportedModel
from auditor.experts.down_projection import zero_experts
from auditor.experts.intervention import SELECT_BIAS, Intervention, Method
from auditor.experts.routers import RoutedModel, Router
from auditor.experts.steering import check_experts

_CORRECTIONS: Final = ("e_score_correction_bias", "expert_bias", "correction_bias")
_MASK: Final = -1e4  # below all logits and scores, and still a number in float16


def can_edit(routed: RoutedModel, intervention: Intervention) -> bool:
    """Whether the model's own numbers can say an intervention."""
    if intervention.method is Method.ZERO_OUTPUT:
        return True
    touched = [each for each in routed.routers if each.layer in intervention.layers]
    return all(_slot(router, intervention.method) is not None for router in touched)


def edit_weights(routed: RoutedModel, intervention: Intervention) -> None:
    """Write an intervention into the model, for good; the model then acts as when steered.

    Raises:
        ConfigurationError: See `auditor.experts.steering.steered`.
        UnsupportedModel: The family has no numbers for this method.
    """
    check_experts(routed, intervention)
    if not can_edit(routed, intervention):
        raise UnsupportedModel(
            f"the weights of this family cannot say {intervention.method}",
            place=type(routed.model).__name__,
            way_out="use zero_output, or export the model to ONNX and edit its graph",
        )
    for router in routed.routers:
        off = [each.expert for each in intervention.off if each.layer == router.layer]
        on = [each.expert for each in intervention.on if each.layer == router.layer]
        if intervention.method is Method.ZERO_OUTPUT:
            zero_experts(router, off)
            continue
        slot = _slot(router, intervention.method)
        if slot is not None and (off or on):
            with torch.no_grad():
                if intervention.method is Method.MASK_LOGIT:
                    slot[off] = _MASK
                else:
                    slot[off] -= SELECT_BIAS
                    slot[on] += SELECT_BIAS


def _slot(router: Router, method: Method) -> Tensor | None:
    """The numbers [experts] on which a method can be written."""
    tensors = dict(router.module.named_parameters()) | dict(router.module.named_buffers())
    correction = next(
        (value.data for name, value in tensors.items() if name.rpartition(".")[2] in _CORRECTIONS),
        None,
    )
    if method is Method.FORCE_SELECT:
        return correction
    if method is Method.MASK_LOGIT:
        bias = tensors.get("bias")
        return correction if bias is None else bias.data
    return None
