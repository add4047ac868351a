"""Training after pruning, against the attack: embeddings are found and answered, by turns.

The embeddings that bring an image back are attacked anew every few steps; under each the model
learns to predict what the untouched one does under an ordinary caption. Pruned weights stay zero.
After Hintersdorf et al. 2025 (arXiv 2507.16880), with the teacher's predictions instead of
surrogate images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import torch
from torch import Tensor

from auditor.errors import ConfigurationError
from auditor.memorization.descent import descend, trainable
from auditor.memorization.diffusion.objective import DiffusionObjective
from auditor.memorization.diffusion.recovery_attack import AttackOptions, recover_embeddings
from auditor.memorization.masks.weight_masks import WeightMasks, prune
from auditor.memorization.masks.weight_sites import WeightSite

KEPT_ATTACKS: Final = 6
"""Rounds of attack whose embeddings are still trained on."""


@dataclass(frozen=True)
class HardeningOptions:
    """How a model is trained against the attack.

    Attributes:
        steps: Of Adam.
        rate: Its largest learning rate; it rises and falls over the steps.
        attack_every: Steps between two attacks.
        attack: How each is made; its seed is another one each time.
    """

    steps: int = 300
    rate: float = 3e-4
    attack_every: int = 25
    attack: AttackOptions = field(default_factory=lambda: AttackOptions(steps=25))


def harden(
    objective: DiffusionObjective,
    sites: Sequence[WeightSite],
    masks: WeightMasks | None,
    options: HardeningOptions,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Train the objective's model in place.

    Args:
        objective: Its model is trained; its list of attacked embeddings is filled.
        sites: Layers of the model that the masks are of.
        masks: What stays zero; None where nothing was pruned.
        options: How.
        progress: Called with steps done and in all.

    Raises:
        ConfigurationError: A setting out of range.
        UnsupportedModel: The loss is not finite.
    """
    if options.steps < 1 or options.attack_every < 1 or not options.rate > 0:
        raise ConfigurationError(
            f"{options.steps} steps at rate {options.rate:g}, an attack every "
            f"{options.attack_every}; give at least one of each and a positive rate"
        )
    parameters = list(objective.model.denoiser.parameters())
    optimiser = torch.optim.Adam(parameters, lr=options.rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, options.rate, options.steps)
    with trainable(parameters), torch.enable_grad():
        for step in range(options.steps):
            if step % options.attack_every == 0:
                _attack(objective, options, step // options.attack_every)
            descend(objective.loss(step), parameters, optimiser, step)
            schedule.step()
            if masks is not None:
                prune(sites, masks)
            progress(step + 1, options.steps)
    optimiser.zero_grad()


def _attack(objective: DiffusionObjective, options: HardeningOptions, number: int) -> None:
    """Find embeddings from each kind of start in turn, and forget the oldest."""
    rows = torch.arange(len(objective.latents), device=objective.latents.device)
    start = _starts(objective, number)
    found = recover_embeddings(
        objective.model, objective.latents, start, replace(options.attack, seed=number)
    )
    objective.attacked.append((rows, found))
    del objective.attacked[:-KEPT_ATTACKS]


def _starts(objective: DiffusionObjective, number: int) -> Tensor:
    """The captions themselves, ordinary ones of the same subject, and no caption, by turns."""
    if number % 3 == 0:
        return objective.captions
    if number % 3 == 1:
        return objective.alike[:, number % objective.alike.shape[1]]
    return objective.model.unconditional.expand(len(objective.latents), -1, -1)
