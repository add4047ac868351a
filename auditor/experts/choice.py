"""The choice of experts as it passes through a layer: read, or put in another's place.

A layer shows its choice in one of the forms of `Form`; hooks here hide which. They run in the order
of their registration, so what reads after what changes reads the change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from auditor.errors import UnsupportedModel
from auditor.experts.routers import Form, Router


class Choice(NamedTuple):
    """The experts of each token: `numbers` [tokens, chosen] int, `weights` of the same shape."""

    numbers: Tensor
    weights: Tensor


def read_choices(router: Router, seen: Callable[[Choice], None]) -> RemovableHandle:
    """Call `seen` with every choice of a layer, until the handle is removed."""

    def look(choice: Choice) -> None:
        seen(choice)

    return _hook(router, look)


def change_weights(router: Router, change: Callable[[Choice], Tensor]) -> RemovableHandle:
    """Put other weights in the place of a layer's, until the handle is removed."""
    return _hook(router, change)


def _hook(router: Router, act: Callable[[Choice], Tensor | None]) -> RemovableHandle:
    if router.form is Form.GIVEN:
        return router.experts.register_forward_pre_hook(_given(router, act), with_kwargs=True)
    return router.module.register_forward_hook(
        _made(router, act) if router.form is Form.MADE else _dense(router, act)
    )


def _given(router: Router, act: Callable[[Choice], Tensor | None]) -> Any:
    def hook(_: Any, inputs: tuple[Any, ...], named: dict[str, Any]) -> Any:
        values = [*inputs, *named.values()]
        choice, at = _find(router, values)
        weights = act(choice)
        if weights is None:
            return None
        values[at] = weights
        return tuple(values[: len(inputs)]), dict(zip(named, values[len(inputs) :], strict=True))

    return hook


def _made(router: Router, act: Callable[[Choice], Tensor | None]) -> Any:
    def hook(_: Any, __: Any, output: Any) -> Any:
        values = list(output)
        choice, at = _find(router, values)
        weights = act(choice)
        if weights is None:
            return None
        values[at] = weights
        return tuple(values)

    return hook


def _dense(router: Router, act: Callable[[Choice], Tensor | None]) -> Any:
    def hook(_: Any, __: Any, output: Any) -> Any:
        scores = output[0] if isinstance(output, tuple) else output
        if scores.shape[-1] != router.expert_count:
            raise _unmatched(router)
        weights, numbers = torch.topk(scores, router.chosen, dim=-1)
        changed = act(Choice(numbers, weights))
        if changed is None:
            return None
        dense = torch.zeros_like(scores).scatter_(-1, numbers, changed)
        return (dense, *output[1:]) if isinstance(output, tuple) else dense

    return hook


def _find(router: Router, values: Sequence[Any]) -> tuple[Choice, int]:
    """Numbers and weights among values, and where the weights stand."""
    tensors = [(at, each) for at, each in enumerate(values) if isinstance(each, Tensor)]
    numbers = next(
        (each for _, each in tensors if each.ndim == 2 and not each.is_floating_point()), None
    )
    if numbers is not None:
        for at, each in tensors:
            if each.is_floating_point() and each.shape == numbers.shape:
                return Choice(numbers, each), at
    raise _unmatched(router)


def _unmatched(router: Router) -> UnsupportedModel:
    return UnsupportedModel(
        f"the choice of {router.name} has no numbers with weights of the same shape",
        place=f"decoder layer {router.layer}", way_out="this family is not supported",
    )  # fmt: skip
