"""The attack on a repaired diffusion model: embeddings that bring a known image back.

The text embedding is optimised so that the model denoises the image (Hintersdorf et al. 2025,
"Finding DoRI", arXiv 2507.16880: Adam, rate 0.1, batches of 8, 50 steps). It needs the image: a
test of a repair on items that the owner holds, no way to extract. Images that were never memorised
come back too, more of them the longer one tries: the same attack on these is the control.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from auditor.errors import ConfigurationError
from auditor.memorization.descent import descend
from auditor.memorization.diffusion.model import DiffusionModel


@dataclass(frozen=True)
class AttackOptions:
    """How embeddings are optimised.

    Attributes:
        steps: Of Adam; fixed in advance, for every model and every image.
        rate: Its learning rate.
        batch: Timesteps and noises for each image at each step.
        seed: Of these.
    """

    steps: int = 50
    rate: float = 0.1
    batch: int = 8
    seed: int = 0


def recover_embeddings(
    model: DiffusionModel,
    latents: Tensor,
    start: Tensor,
    options: AttackOptions | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Tensor:
    """Embeddings under which the model denoises images best, one for each image.

    Images are attacked side by side; none knows of the others.

    Args:
        model: The model under attack; it stays as it is.
        latents: Of the images, [images, C, h, w].
        start: Where each begins, [images, tokens, width].
        options: How.
        progress: Called with steps done and in all.

    Returns:
        [images, tokens, width], without gradients.

    Raises:
        ConfigurationError: Not one embedding for each image, or a setting out of range.
        UnsupportedModel: A prediction or the loss is not finite.
    """
    options = options or AttackOptions()
    if len(latents) != len(start) or not len(latents):
        raise ConfigurationError(f"{len(start)} embeddings for {len(latents)} images; give as many")
    if options.steps < 1 or options.batch < 1 or not options.rate > 0:
        raise ConfigurationError(
            f"{options.steps} steps of {options.batch} at rate {options.rate:g}; give at least "
            "one of each and a positive rate"
        )
    source = torch.Generator().manual_seed(options.seed)
    attacked = start.detach().clone().requires_grad_(True)
    optimiser = torch.optim.Adam([attacked], lr=options.rate)
    clean = latents.repeat_interleave(options.batch, 0)
    for step in range(options.steps):
        times = model.schedule.draw(len(clean), source).to(clean.device)
        noise = torch.randn(clean.shape, generator=source).to(clean)
        with torch.enable_grad():
            predicted = model.predict_noise(
                model.add_noise(clean, noise, times), times,
                attacked.repeat_interleave(options.batch, 0),
            )  # fmt: skip
            errors = (predicted - noise).square().flatten(1).mean(dim=1)
            # A sum over images: each gets the gradient it would get alone.
            loss = errors.reshape(len(latents), options.batch).mean(dim=1).sum()
            descend(loss, [attacked], optimiser, step)
        progress(step + 1, options.steps)
    return attacked.detach()
