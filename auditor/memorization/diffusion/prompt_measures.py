"""What a diffusion model does with each prompt: gaps of noise, agreement over seeds, copies.

Prompts are sampled in batches, a few seeds each, and only numbers are kept of them: memory does
not grow with images. The noise of a prompt and a seed does not depend on the other prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auditor.memorization.diffusion.copy_similarity import ImageVectors, PixelVectors
from auditor.memorization.diffusion.model import DiffusionModel, noise_seeds
from auditor.memorization.diffusion.noise_gap import NoiseGaps
from auditor.memorization.diffusion.seed_agreement import seed_agreement

Float32 = NDArray[np.float32]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Sampling:
    """How images are drawn.

    Attributes:
        samples: Of each prompt, from noise of its own.
        steps: Of DDIM.
        guidance: Scale of classifier-free guidance.
        seed: Another one gives other noise.
        batch_size: Images at once.
    """

    samples: int = 6
    steps: int = 20
    guidance: float = 2.0
    seed: int = 0
    batch_size: int = 64


@dataclass(frozen=True, eq=False)
class TrainingImages:
    """Images that samples are compared with.

    Attributes:
        vectors: Of each, [images, d], of length 1.
        of: What made them.
    """

    vectors: Tensor
    of: ImageVectors

    @classmethod
    def compare_by(cls, images: Tensor, vectors: ImageVectors) -> TrainingImages:
        """Images [images, C, H, W] in [-1, 1], by these vectors."""
        return cls(vectors(images), vectors)


@dataclass(frozen=True, eq=False)
class PromptMeasures:
    """What was found for one prompt.

    Attributes:
        prompt: Its text.
        gaps: Of noise, [samples, steps].
        agreement: Over seeds, in [-1, 1].
        similarity: Of each sample to the prompt's image, or to the nearest of all where the prompt
            has none, [samples]; None without training images.
        nearest: Row of the image that the most similar sample is nearest to, or None.
        shown: What `keep` made of the sample most like that image, or of the first one.
    """

    prompt: str
    gaps: Float32
    agreement: float
    similarity: Float32 | None
    nearest: int | None
    shown: Tensor | None

    @property
    def first_gap(self) -> float:
        """Mean over samples, at the step with most noise."""
        return float(self.gaps[:, 0].mean())

    @property
    def mean_gap(self) -> float:
        """Mean over samples and steps."""
        return float(self.gaps.mean())


def measure_prompts(
    model: DiffusionModel,
    prompts: Sequence[str],
    sampling: Sampling,
    *,
    training: TrainingImages | None = None,
    own: Sequence[int | None] = (),
    keep: Callable[[Tensor], Tensor] | None = None,
    stop: Callable[[], bool] = lambda: False,
    progress: Progress | None = None,
) -> list[PromptMeasures]:
    """Sample every prompt and measure it; fewer are returned if stopped.

    Args:
        model: The model.
        prompts: In order.
        sampling: How.
        training: What samples are compared with.
        own: Row of the training image of each prompt, or None for the nearest of all; by default
            none has one.
        keep: What is kept of one sample of each prompt, [C, H, W]; nothing by default.
        stop: Asked before each batch.
        progress: Called with prompts done and in all.

    Raises:
        ConfigurationError: Fewer than 2 samples, or more steps than the model has timesteps.
        UnsupportedModel: A prediction is not finite.
    """
    rows = list(own) or [None] * len(prompts)
    at_once = max(1, sampling.batch_size // sampling.samples)
    found: list[PromptMeasures] = []
    for first in range(0, len(prompts), at_once):
        if stop():
            break
        batch = prompts[first : first + at_once]
        gaps = NoiseGaps()
        images = model.sample(
            model.encode(batch).repeat_interleave(sampling.samples, 0),
            noise_seeds(batch, sampling.samples, sampling.seed),
            steps=sampling.steps, guidance=sampling.guidance, batch_size=sampling.batch_size,
            on_step=gaps,
        )  # fmt: skip
        of = PixelVectors() if training is None else training.of
        vectors = torch.split(of(images), sampling.samples)
        drawn = torch.split(images, sampling.samples)
        by_prompt = gaps.gaps.reshape(len(batch), sampling.samples, -1)
        for number, prompt in enumerate(batch):
            similarity, nearest = _compared(vectors[number], training, rows[first + number])
            found.append(PromptMeasures(
                prompt=prompt, gaps=by_prompt[number], agreement=seed_agreement(vectors[number]),
                similarity=similarity, nearest=nearest,
                shown=None if keep is None
                else keep(drawn[number][0 if similarity is None else int(similarity.argmax())]),
            ))  # fmt: skip
        if progress is not None:
            progress(len(found), len(prompts))
    return found


def _compared(
    vectors: Tensor, training: TrainingImages | None, own: int | None
) -> tuple[Float32 | None, int | None]:
    """Similarity of each sample, and the row of the image nearest to the closest of them."""
    if training is None:
        return None, None
    every = vectors @ training.vectors.T
    similarity = every.amax(1) if own is None else every[:, own]
    closest = int(torch.argmax(similarity))
    return similarity.numpy(), int(torch.argmax(every[closest]))
