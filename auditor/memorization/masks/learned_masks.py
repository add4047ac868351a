"""Masks that are learned: which weights may go, so that one loss falls and no more do than allowed.

Every weight has a score; in each row the highest are pruned in the forward pass, and the gradient
goes straight through to the scores (movement pruning: Sanh et al. 2020, arXiv 2005.07683; masks
learned for memorised sequences: Chang et al. 2023, arXiv 2311.09060). Weights do not change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from auditor.errors import ConfigurationError
from auditor.memorization.descent import descend
from auditor.memorization.masks.mask_rules import positive_of_rows
from auditor.memorization.masks.weight_masks import WeightMasks
from auditor.memorization.masks.weight_sites import WeightSite


@dataclass(frozen=True)
class MaskTraining:
    """How masks are learned.

    Attributes:
        share: Of each row that is pruned at most.
        steps: Of Adam.
        rate: Its learning rate; scores begin with unit spread.
        neurons: Whether whole columns have one score; `share` is then of the columns.
    """

    share: float = 0.1
    steps: int = 200
    rate: float = 0.05
    neurons: bool = False


def learn_masks(
    sites: Sequence[WeightSite],
    loss: Callable[[int], Tensor],
    training: MaskTraining,
    start: dict[str, Tensor] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> WeightMasks:
    """Masks under which a loss is low; the network is as before afterwards.

    Args:
        sites: The layers, on one device.
        loss: Runs the network as it is masked at the moment; told the number of the step.
        training: How.
        start: Scores to begin with, [outputs, inputs] for each layer, such as those of a rule;
            only their order and spread in a layer count; of columns the sums. Zeros if not given.
        progress: Called with steps done and in all.

    Raises:
        ConfigurationError: A share, steps or rate out of range.
        UnsupportedModel: The loss is not finite.
    """
    if not 0 < training.share <= 1 or training.steps < 1 or training.rate <= 0:
        raise ConfigurationError(
            f"share {training.share:g}, {training.steps} steps, rate {training.rate:g}; give a "
            "share in (0, 1], at least one step and a positive rate"
        )
    scores = [
        nn.Parameter(_standardised(site, (start or {}).get(site.name), training.neurons))
        for site in sites
    ]
    optimiser = torch.optim.Adam(scores, lr=training.rate)
    with _masked(sites, scores, training.share), torch.enable_grad():
        for step in range(training.steps):
            descend(loss(step), scores, optimiser, step)
            progress(step + 1, training.steps)
    return WeightMasks({
        site.name: positive_of_rows(score.detach(), training.share).cpu().expand(
            site.outputs, site.inputs
        ).clone()
        for site, score in zip(sites, scores, strict=True)
    })  # fmt: skip


def _standardised(site: WeightSite, start: Tensor | None, neurons: bool) -> Tensor:
    """Scores [outputs, inputs], or [1, inputs] of whole columns."""
    if start is None:
        rows = 1 if neurons else site.outputs
        return torch.zeros(rows, site.inputs, device=site.weight.device)
    values = start.float().to(site.weight.device)
    values = values.sum(dim=0, keepdim=True) if neurons else values
    return (values - values.mean()) / values.std().clamp_min(1e-12)


class _Straight(torch.autograd.Function):
    """A weight without what is masked; the gradient reaches every score."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, score: Tensor, share: float) -> Tensor:
        """The weight with its highest scores set to zero."""
        ctx.save_for_backward(weight)
        ctx.scores = score.shape
        return weight.masked_fill(positive_of_rows(score, share), 0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, None]:
        """The effect of a mask that grows: the weight goes, so minus the weight."""
        (weight,) = ctx.saved_tensors
        return None, (-gradients[0] * weight).sum_to_size(ctx.scores), None


class _Masked(nn.Module):
    """A parametrisation that masks by scores."""

    def __init__(self, score: Tensor, share: float, transposed: bool) -> None:
        super().__init__()
        self._score, self._share, self._transposed = [score], share, transposed

    def forward(self, weight: Tensor) -> Tensor:
        """The masked weight, as it is stored."""
        rows = weight.T if self._transposed else weight
        masked: Tensor = _Straight.apply(rows, self._score[0], self._share)  # type: ignore[no-untyped-call]
        return masked.T if self._transposed else masked


@contextmanager
def _masked(sites: Sequence[WeightSite], scores: Sequence[Tensor], share: float) -> Iterator[None]:
    try:
        for site, score in zip(sites, scores, strict=True):
            parametrize.register_parametrization(
                site.module, "weight", _Masked(score, share, site.transposed)
            )
        yield
    finally:
        for site in sites:
            if parametrize.is_parametrized(site.module, "weight"):
                parametrize.remove_parametrizations(site.module, "weight", leave_parametrized=False)
