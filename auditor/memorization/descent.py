"""Steps of an optimiser on some numbers of a network, and on no others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from auditor.errors import UnsupportedModel


def descend(
    loss: Tensor, parameters: Sequence[Tensor], optimiser: torch.optim.Optimizer, step: int
) -> None:
    """One step of the optimiser; gradients of anything else stay as they were.

    Args:
        loss: One number, with its graph.
        parameters: What the optimiser holds.
        optimiser: Of torch.
        step: Its number, for the message.

    Raises:
        UnsupportedModel: The loss is not finite; nothing was changed.
    """
    if not bool(torch.isfinite(loss)):
        raise UnsupportedModel(
            f"the loss of step {step} is {loss.item()}", way_out="give a lower rate"
        )
    gradients = torch.autograd.grad(loss, list(parameters), allow_unused=True)
    for each, gradient in zip(parameters, gradients, strict=True):
        each.grad = gradient
    optimiser.step()


@contextmanager
def trainable(parameters: Sequence[Tensor]) -> Iterator[None]:
    """Parameters that have gradients inside the block; afterwards they are as before."""
    wanted = [each.requires_grad for each in parameters]
    try:
        for each in parameters:
            each.requires_grad_(True)
        yield
    finally:
        for each, was in zip(parameters, wanted, strict=True):
            each.requires_grad_(was)
