"""The five meanings of "off" and "on" as plain hooks on routers, with gradients.

A second, small statement of what `auditor.experts.intervention` defines, for training fixtures
and for checking planted ones. Softmax routers, and sigmoid routers with a single group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from auditor.experts.intervention import FORCE_MARGIN, SELECT_BIAS, Intervention, Method
from auditor.experts.routing_maps import Expert

Routed = tuple[Tensor, Tensor, Tensor]
"""Logits [rows, experts], weights [rows, chosen] and chosen experts [rows, chosen]."""


def routers_of(model: Any) -> dict[int, Any]:
    """The router of each decoder layer with experts, by the layer's number."""
    found = {}
    for number, layer in enumerate(model.model.layers):
        router = getattr(layer.mlp, "gate", None) or getattr(layer.mlp, "router", None)
        if hasattr(router, "top_k"):
            found[number] = router
    return found


@contextmanager
def switched(model: Any, intervention: Intervention | None) -> Iterator[None]:
    """The model with an intervention inside; without one it is as it was."""
    hooks = [] if intervention is None else [
        router.register_forward_hook(_switch(intervention, layer))
        for layer, router in routers_of(model).items() if layer in intervention.layers
    ]  # fmt: skip
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def recorded(model: Any) -> Iterator[dict[int, Routed]]:
    """What every router returns in the latest forward pass inside, by decoder layer.

    Opened inside `switched` it sees what the intervention made of it.
    """
    seen: dict[int, Routed] = {}

    def keep(layer: int) -> Callable[[Any, Any, Routed], None]:
        def hook(_: Any, __: Any, output: Routed) -> None:
            seen[layer] = output

        return hook

    hooks = [
        router.register_forward_hook(keep(layer)) for layer, router in routers_of(model).items()
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _switch(intervention: Intervention, layer: int) -> Callable[[Any, Any, Routed], Routed]:
    off, on = _in_layer(intervention.off, layer), _in_layer(intervention.on, layer)

    def hook(router: Any, _: Any, output: Routed) -> Routed:
        weights, chosen = reroute(router, output[0], intervention.method, off, on)
        return output[0], weights.to(output[1].dtype), chosen

    return hook


def _in_layer(experts: Iterable[Expert], layer: int) -> list[int]:
    return sorted(each.expert for each in experts if each.layer == layer)


def reroute(
    router: Any, logits: Tensor, method: Method, off: list[int], on: list[int]
) -> tuple[Tensor, Tensor]:
    """Weights and chosen experts, each [rows, chosen], of logits [rows, experts].

    `zero_output` is a weight of 0 here: the expert adds nothing, all else stays.
    """
    logits = logits.clone()
    if method is Method.MASK_LOGIT:
        logits[:, off] = -1e4
    elif method is Method.FORCE_TOK:
        scores = torch.log_softmax(logits, -1)
        logits = scores.clone()
        logits[:, on] = scores.amax(-1, keepdim=True) + FORCE_MARGIN
        logits[:, off] = scores.amin(-1, keepdim=True) - FORCE_MARGIN
    sigmoid = hasattr(router, "e_score_correction_bias")
    scores = torch.sigmoid(logits) if sigmoid else torch.softmax(logits.float(), -1)
    choice = (scores + router.e_score_correction_bias if sigmoid else scores).clone()
    if method is Method.FORCE_SELECT:
        choice[:, on] += SELECT_BIAS
        choice[:, off] -= SELECT_BIAS
    chosen = choice.topk(router.top_k, -1).indices
    weights = scores.gather(-1, chosen)
    # Mixtral and gpt-oss have no such setting: they always renormalise.
    if getattr(router, "norm_topk_prob", True):
        weights = weights / weights.sum(-1, keepdim=True)
    weights = weights * getattr(router, "routed_scaling_factor", 1.0)
    if method in (Method.ZERO_WEIGHT, Method.ZERO_OUTPUT):
        weights = _without(weights, chosen, off, rescale=method is Method.ZERO_WEIGHT)
    return weights, chosen


def _without(weights: Tensor, chosen: Tensor, off: list[int], *, rescale: bool) -> Tensor:
    """The weights with 0 for some experts; rows keep their sum if asked, unless nothing is left."""
    is_off = torch.isin(chosen, torch.tensor(off, device=chosen.device))
    kept = weights.masked_fill(is_off, 0.0)
    if not rescale:
        return kept
    left = kept.sum(-1, keepdim=True)
    scale = torch.where(left > 0, weights.sum(-1, keepdim=True) / left, torch.ones_like(left))
    return kept * scale
