"""How much a loss depends on each weight: first order, item by item.

abs(W * dL/dW) is the first term of what setting a weight to zero does to the loss. Items are run
one by one, for gradients of a batch cancel each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from auditor.errors import NothingToAudit, UnsupportedModel
from auditor.memorization.descent import trainable
from auditor.memorization.masks.score_masks import masks_by_scores
from auditor.memorization.masks.weight_masks import WeightMasks
from auditor.memorization.masks.weight_sites import WeightSite

Loss = Callable[[], Tensor]


def mean_gradients(sites: Sequence[WeightSite], losses: Iterable[Loss]) -> dict[str, Tensor]:
    """Mean size of the gradient of each weight, [outputs, inputs] for each layer, on the CPU.

    Args:
        sites: The layers.
        losses: Each runs the network on one item and gives its loss; gradients are left as they
            were.

    Raises:
        NothingToAudit: There is no loss.
        UnsupportedModel: A gradient is not finite, or a layer has none.
    """
    parameters = [site.module.weight for site in sites]
    totals = [torch.zeros_like(each) for each in parameters]
    count = 0
    with trainable(parameters), torch.enable_grad():
        for loss in losses:
            found = torch.autograd.grad(loss(), parameters, allow_unused=True)
            _require_gradients(sites, found)
            for total, gradient in zip(totals, found, strict=True):
                total += gradient.abs()
            count += 1
    if not count:
        raise NothingToAudit("gradients of no item; give at least one")
    return {
        site.name: ((total.T if site.transposed else total) / count).cpu()
        for site, total in zip(sites, totals, strict=True)
    }


def gradient_masks(
    sites: Sequence[WeightSite], share: float, memorised: Iterable[Loss], ordinary: Iterable[Loss]
) -> WeightMasks:
    """In each row the weights on which memorised items depend more than ordinary ones do.

    Args:
        sites: The layers.
        share: Of each row.
        memorised: The loss of each memorised item.
        ordinary: That of each ordinary one.
    """
    high, low = mean_gradients(sites, memorised), mean_gradients(sites, ordinary)
    scores = {
        site.name: site.weight.detach().float().cpu().abs() * (high[site.name] - low[site.name])
        for site in sites
    }
    return masks_by_scores(scores, share)


def _require_gradients(sites: Sequence[WeightSite], gradients: Sequence[Tensor | None]) -> None:
    for site, gradient in zip(sites, gradients, strict=True):
        if gradient is None:
            raise UnsupportedModel("the loss does not depend on it", place=site.parameter)
        if not bool(torch.isfinite(gradient).all()):
            raise UnsupportedModel(
                "a gradient is NaN or infinite", place=site.parameter, way_out="look at the weights"
            )
