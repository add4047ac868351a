"""Routers of torch whose answers are made anew from their logits, formula by formula.

Written without the code under test: one function for each family's own rule, one for the methods.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auditor.experts.intervention import Intervention, Method
from tests.models.routed_models import Exported


def steered_logits(
    subject: Exported, intervention: Intervention, ids: NDArray[np.int64]
) -> NDArray[np.float32]:
    """What the torch model says under an intervention; the model itself is not changed."""
    changed = Exported(copy.deepcopy(subject.model), subject.proto)
    for layer in intervention.layers:
        off = sorted(each.expert for each in intervention.off if each.layer == layer)
        on = sorted(each.expert for each in intervention.on if each.layer == layer)
        if intervention.method is Method.ZERO_OUTPUT:
            experts = changed.model.model.layers[layer].mlp.experts
            with torch.no_grad():
                experts.down_proj[off] = 0.0
                if hasattr(experts, "down_proj_bias"):
                    experts.down_proj_bias[off] = 0.0
        else:
            changed.router(layer).register_forward_hook(_hook(intervention.method, off, on))
    return changed.logits(ids)


def _hook(method: Method, off: list[int], on: list[int]) -> Any:
    def steer(router: Any, _: Any, output: Any) -> Any:
        return (output[0], *_steer(router, output[0], method, off, on))

    return steer


def _steer(
    router: Any, logits: Tensor, method: Method, off: list[int], on: list[int]
) -> tuple[Tensor, Tensor]:
    """Weights and indices under one of the methods that act on routing."""
    sigmoid, by_logits = hasattr(router, "e_score_correction_bias"), hasattr(router, "bias")
    bias = torch.zeros(logits.shape[1])
    if method is Method.MASK_LOGIT and sigmoid:
        bias[off] = -1e9
    elif method is Method.MASK_LOGIT:
        logits = logits.index_fill(1, torch.tensor(off), -1e9)
    elif method is Method.FORCE_SELECT:
        size = 1e4 if by_logits else 10.0
        bias[off], bias[on] = -size, size
    elif method is Method.FORCE_TOK:
        logits = logits if sigmoid else logits.log_softmax(-1)
        above, below = logits.amax(-1) + 0.01, logits.amin(-1) - 0.01
        logits = logits.clone()
        logits[:, on], logits[:, off] = above[:, None], below[:, None]
    weights, indices = _choose(router, logits, lambda choice: choice + bias)
    if method is Method.ZERO_WEIGHT:
        left = weights * ~torch.isin(indices, torch.tensor(off))
        rest = left.sum(-1, keepdim=True)
        weights = torch.where(rest > 0, left / rest * weights.sum(-1, keepdim=True), 0.0)
    return weights, indices


def _choose(
    router: Any, logits: Tensor, biased: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Weights and indices by the family's own rule; `biased` changes what is chosen by."""
    if hasattr(router, "e_score_correction_bias"):
        return _choose_by_groups(router, logits.sigmoid(), biased)
    if hasattr(router, "bias"):
        indices = biased(logits).topk(router.top_k).indices
        return logits.gather(1, indices).softmax(-1), indices
    scores = logits.softmax(-1)
    indices = biased(scores).topk(router.top_k).indices
    weights = scores.gather(1, indices)
    if getattr(router, "norm_topk_prob", True):  # Mixtral always does
        weights = weights / weights.sum(-1, keepdim=True)
    return weights, indices


def _choose_by_groups(
    router: Any, scores: Tensor, biased: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    choice = biased(scores + router.e_score_correction_bias)
    grouped = choice.view(len(choice), router.num_group, -1)
    best = grouped.sort(dim=-1).values[..., -2:].sum(-1)
    kept = torch.zeros_like(best).scatter(1, best.topk(router.topk_group).indices, 1.0)
    eligible = kept.repeat_interleave(grouped.shape[2], dim=1) > 0
    indices = choice.masked_fill(~eligible, -torch.inf).topk(router.top_k).indices
    weights = scores.gather(1, indices)
    return weights / weights.sum(-1, keepdim=True) * router.routed_scaling_factor, indices
