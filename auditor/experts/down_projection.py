"""The last matrix of an expert: without it the expert adds nothing.

Experts are stacked in one tensor with the expert first, [experts, ., .] and a bias [experts, .]
where the family has one, or are modules in a list. The last matrix is told by its name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import torch
from torch import Tensor, nn

from auditor.errors import UnsupportedModel
from auditor.experts.routers import Router

_NAMES: Final = ("down_proj", "w2", "fc2", "output_linear", "wo", "c_proj", "dense_4h_to_h")


def zero_experts(router: Router, experts: Sequence[int]) -> None:
    """Make some experts of a layer add nothing, for good.

    Raises:
        UnsupportedModel: The last matrix of its experts is not known.
    """
    with torch.no_grad():
        for number in experts:
            for weight in down_projection(router, number):
                weight.zero_()


@contextmanager
def zeroed(router: Router, experts: Sequence[int]) -> Iterator[None]:
    """Some experts of a layer add nothing while the block runs; then their numbers are back."""
    views = [weight for number in experts for weight in down_projection(router, number)]
    kept = [view.clone() for view in views]
    zero_experts(router, experts)
    try:
        yield
    finally:
        with torch.no_grad():
            for view, old in zip(views, kept, strict=True):
                view.copy_(old)


def down_projection(router: Router, number: int) -> list[Tensor]:
    """Views of the last matrix of an expert, and of its bias if there is one.

    Raises:
        UnsupportedModel: See `zero_experts`.
    """
    holder = router.experts
    listed = isinstance(holder, nn.ModuleList)
    inside = holder[number] if isinstance(holder, nn.ModuleList) else holder
    found = [
        weight.data if listed else weight.data[number]
        for name, weight in inside.named_parameters() if _is_last(name)
        and (listed or weight.shape[0] == router.expert_count)
    ]  # fmt: skip
    if not found:
        held = ", ".join(name for name, _ in inside.named_parameters())
        raise UnsupportedModel(
            f"the last matrix of its experts is none of {held}", place=router.experts_name,
            way_out="use another method than zero_output",
        )  # fmt: skip
    return found


def _is_last(name: str) -> bool:
    parts = name.removesuffix(".weight").removesuffix(".bias").split(".")
    return any(parts[-1] in (known, f"{known}_bias") for known in _NAMES)
