"""What a repaired diffusion model should do: answer memorised captions as it does ordinary ones.

The untouched model is the teacher. Under a memorised caption, and under embeddings that an attack
found, the repaired model should predict what the teacher predicts under an ordinary caption of the
same subject; under ordinary captions and none it should predict what the teacher does. No training
data is needed but the memorised images: ordinary images are the teacher's own.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from auditor.errors import ConfigurationError
from auditor.memorization.diffusion.model import DiffusionModel, noise_seeds
from auditor.memorization.diffusion.prompt_measures import Sampling


@dataclass(frozen=True, eq=False)
class MemorisedImages:
    """Images that a model gives back, with captions.

    Attributes:
        prompts: The caption of each.
        images: [images, C, H, W], in [-1, 1].
        ordinary: For each, captions of the same subject that give nothing back.
    """

    prompts: tuple[str, ...]
    images: Tensor
    ordinary: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        """Refuse sets that do not fit."""
        sizes = {len(self.prompts), len(self.images), len(self.ordinary)}
        if len(sizes) > 1 or not self.prompts or not all(self.ordinary):
            raise ConfigurationError(
                f"{len(self.prompts)} captions, {len(self.images)} images and ordinary captions of "
                f"{sum(map(bool, self.ordinary))}; give one image and an ordinary caption for each"
            )

    def only(self, which: Sequence[int]) -> MemorisedImages:
        """Some of them, by number."""
        return MemorisedImages(
            tuple(self.prompts[at] for at in which), self.images[list(which)],
            tuple(self.ordinary[at] for at in which),
        )  # fmt: skip


@dataclass(frozen=True)
class ObjectiveWeights:
    """What counts how much.

    Attributes:
        memorised: Memorised captions.
        attacked: Embeddings that an attack found.
        ordinary: Ordinary captions, and none.
    """

    memorised: float = 1.0
    attacked: float = 1.0
    ordinary: float = 1.0


def untouched_copy(model: DiffusionModel) -> DiffusionModel:
    """The model with a denoiser of its own, which later changes do not reach."""
    return replace(model, denoiser=copy.deepcopy(model.denoiser))


@dataclass(eq=False)
class DiffusionObjective:
    """A loss to train masks or weights by; draws anew at every step.

    Attributes:
        model: What is trained.
        teacher: The untouched model.
        latents: Of the memorised images, [images, C, h, w].
        captions: Embeddings of their captions, [images, tokens, width].
        alike: Embeddings of ordinary captions of the same subject, [images, captions, tokens,
            width].
        ordinary: Embeddings of ordinary captions, [ordinary, tokens, width].
        ordinary_latents: The teacher's own images of them, same first axis.
        weights: See there.
        batch: Draws of each kind at each step.
        attacked: Numbers of images, and embeddings found for them, as they are known so far.
    """

    model: DiffusionModel
    teacher: DiffusionModel
    latents: Tensor
    captions: Tensor
    alike: Tensor
    ordinary: Tensor
    ordinary_latents: Tensor
    weights: ObjectiveWeights
    batch: int
    source: torch.Generator
    attacked: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    @classmethod
    def of(
        cls, model: DiffusionModel, teacher: DiffusionModel, items: MemorisedImages,
        ordinary: Sequence[str], sampling: Sampling,
        weights: ObjectiveWeights | None = None, batch: int = 16, seed: int = 0,
    ) -> DiffusionObjective:  # fmt: skip
        """The objective for a model that may be pruned already.

        Args:
            model: What will be trained.
            teacher: The untouched model, see `untouched_copy`.
            items: What it should no longer give back.
            ordinary: Captions whose images should stay as they are.
            sampling: How the teacher's images of these are drawn.
            weights: What counts how much.
            batch: Draws of each kind at each step.
            seed: Of all draws.

        Raises:
            ConfigurationError: There is no ordinary caption.
        """
        if not ordinary:
            raise ConfigurationError("no ordinary captions; give at least one")
        embeddings = model.encode(ordinary).repeat_interleave(sampling.samples, 0)
        images = teacher.sample(
            embeddings, noise_seeds(ordinary, sampling.samples, sampling.seed),
            steps=sampling.steps, guidance=sampling.guidance, batch_size=sampling.batch_size,
        )  # fmt: skip
        count = min(map(len, items.ordinary))
        alike = model.encode([text for texts in items.ordinary for text in texts[:count]])
        return cls(
            model, teacher, model.to_latents(items.images), model.encode(items.prompts),
            alike.reshape(len(items.prompts), count, *alike.shape[1:]), embeddings,
            model.to_latents(images),
            weights or ObjectiveWeights(), batch, torch.Generator().manual_seed(seed),
        )  # fmt: skip

    def loss(self, step: int) -> Tensor:
        """The loss of one draw; `step` is not used, for every draw is another."""
        images = self._draw(len(self.latents))
        which = self._draw(self.alike.shape[1])
        aim = self.alike[images, which]
        noisy, times = self._noisy(self._near(images))
        total = self.weights.memorised * self._apart(noisy, times, self.captions[images], aim)
        if self.attacked:
            rows, embeddings = (torch.cat(part) for part in zip(*self.attacked, strict=True))
            drawn = self._draw(len(rows))
            noisy, times = self._noisy(self._near(rows[drawn]))
            aim = self.alike[rows[drawn], which]
            total = total + self.weights.attacked * self._apart(
                noisy, times, embeddings[drawn], aim
            )
        return total + self.weights.ordinary * self._kept()

    def _kept(self) -> Tensor:
        """How far ordinary captions, and none in a quarter of the draws, are from the teacher's."""
        rows = self._draw(len(self.ordinary))
        captions = self.ordinary[rows].clone()
        captions[: max(1, self.batch // 4)] = self.model.unconditional
        noisy, times = self._noisy(self.ordinary_latents[rows])
        return self._apart(noisy, times, captions, captions)

    def _near(self, images: Tensor) -> Tensor:
        """Memorised images, ordinary ones in half of the draws: sampling starts from neither."""
        clean = self.latents[images].clone()
        half = len(images) // 2
        clean[:half] = self.ordinary_latents[self._draw(len(self.ordinary_latents))[:half]]
        return clean

    def _apart(self, noisy: Tensor, times: Tensor, given: Tensor, aim: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = self.teacher.predict_noise(noisy, times, aim)
        return (self.model.predict_noise(noisy, times, given) - wanted).square().mean()

    def _noisy(self, clean: Tensor) -> tuple[Tensor, Tensor]:
        times = self.model.schedule.draw(len(clean), self.source)
        noise = torch.randn(clean.shape, generator=self.source).to(clean)
        times = times.to(clean.device)
        return self.model.add_noise(clean, noise, times), times

    def _draw(self, count: int) -> Tensor:
        drawn = torch.randint(count, (self.batch,), generator=self.source)
        return drawn.to(self.latents.device)
