"""Where a diffusion model carries memorised images: inputs of its layers, prompt by prompt.

Only the half of a guided step that sees the prompt counts. Rows of feed-forward layers are scaled
to length 1, those of attention are taken as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from auditor.errors import ConfigurationError
from auditor.memorization.diffusion.model import DiffusionModel, Step, noise_seeds
from auditor.memorization.diffusion.prompt_measures import Progress, Sampling
from auditor.memorization.masks.input_norms import InputNorms, NormRecorder, recording
from auditor.memorization.masks.weight_sites import SiteKind, WeightSite

UNIT_ROWS: Final = frozenset({SiteKind.FEED_FORWARD, SiteKind.FEED_FORWARD_IN})
NOISES: Final = 8
"""Timesteps and noises over which the error of one image is taken."""


def diffusion_norms(
    model: DiffusionModel,
    sites: Sequence[WeightSite],
    prompts: Sequence[str],
    sampling: Sampling,
    *,
    first_steps: int | None = None,
    progress: Progress | None = None,
) -> InputNorms:
    """How strongly each prompt drives the inputs of layers while images are sampled.

    Args:
        model: The model.
        sites: Layers of its denoiser.
        prompts: In order; each counts once, however many images are drawn.
        sampling: How.
        first_steps: So many steps, from the most noise on, are kept apart as groups and the others
            do not count; all steps are pooled in one group if None.
        progress: Called with prompts done and in all.

    Raises:
        ConfigurationError: More steps are wanted apart than there are.
        UnsupportedModel: An activation is not finite.
    """
    if first_steps is not None and not 1 <= first_steps <= sampling.steps:
        raise ConfigurationError(
            f"the first {first_steps} of {sampling.steps} steps; give 1 to {sampling.steps}"
        )
    at_once = max(1, sampling.batch_size // sampling.samples)
    with recording(sites, len(prompts), first_steps or 1, unit_rows=UNIT_ROWS) as recorder:
        for first in range(0, len(prompts), at_once):
            batch = prompts[first : first + at_once]
            rows = [first + at for at in range(len(batch)) for _ in range(sampling.samples)]
            follow = _Following(recorder, [-1] * len(rows) + rows, first_steps)
            embeddings = model.encode(batch).repeat_interleave(sampling.samples, 0)
            recorder.expect(follow.rows)
            model.sample(
                embeddings, noise_seeds(batch, sampling.samples, sampling.seed),
                steps=sampling.steps, guidance=sampling.guidance, batch_size=len(rows),
                on_step=follow,
            )  # fmt: skip
            if progress is not None:
                progress(first + len(batch), len(prompts))
    return recorder.finished()


@dataclass(frozen=True, eq=False)
class _Following:
    """Tells a recorder what the step after this one holds."""

    recorder: NormRecorder
    rows: list[int]
    first_steps: int | None

    def __call__(self, step: Step) -> None:
        """Count it for its own group, or not at all."""
        if self.first_steps is None:
            return
        if step.number + 1 < self.first_steps:
            self.recorder.expect(self.rows, group=step.number + 1)
        else:
            self.recorder.ignore()


def denoising_loss(
    model: DiffusionModel, latents: Tensor, embedding: Tensor, seed: int = 0
) -> Callable[[], Tensor]:
    """The error of denoising one image under one caption, over fixed timesteps and noises.

    Args:
        model: The model.
        latents: Of the image, [C, h, w].
        embedding: Of the caption, [tokens, width].
        seed: Of timesteps and noises.
    """
    source = torch.Generator().manual_seed(seed)
    noise = torch.randn((NOISES, *latents.shape), generator=source).to(latents)
    times = model.schedule.spread(NOISES).to(latents.device)
    clean = latents.expand(NOISES, *latents.shape)
    noisy = model.add_noise(clean, noise, times)

    def loss() -> Tensor:
        predicted = model.predict_noise(noisy, times, embedding.expand(NOISES, *embedding.shape))
        return (predicted - noise).square().mean()

    return loss
