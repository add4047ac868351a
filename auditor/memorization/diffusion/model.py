"""A text-to-image diffusion model: encode prompts, predict noise, sample.

Sampling is deterministic, DDIM (Song et al. 2021, arXiv 2010.02502, eta 0) or of a flow Euler
steps, with classifier-free guidance (Ho, Salimans 2022, arXiv 2207.12598). From Python:

    model = DiffusionModel.open(Path("folder"))
    embeddings = model.encode(["digit three thin ada"] * 4)
    images = model.sample(embeddings, seeds=[0, 1, 2, 3], steps=20, guidance=2.0)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, NamedTuple

import torch
from torch import Tensor

from auditor.errors import ConfigurationError, UnsupportedModel
from auditor.memorization.diffusion.families import Conditioning, conditioning_of
from auditor.memorization.diffusion.noise_schedule import NoiseSchedule
from auditor.memorization.diffusion.opening import OpenedDiffusion, open_diffusion
from auditor.memorization.nonfinite import finite_layers, require_finite
from auditor.models.diffusion_components import family_of, image_shape_of, noise_shape_of

Progress = Callable[[int, int], None]


class Step(NamedTuple):
    """What a step of sampling predicted for the images of one batch.

    Attributes:
        rows: Which of the asked images these are.
        number: Of the step, from 0; step 0 has the most noise.
        timestep: Of the training noise.
        noisy: What was looked at, [images, C, h, w].
        unconditional: Noise predicted for no prompt, same shape; of models that predict velocity,
            that: at a timestep the one is the other times a number, but for what both share.
        conditional: Predicted for the prompt, same shape.
    """

    rows: range
    number: int
    timestep: float
    noisy: Tensor
    unconditional: Tensor
    conditional: Tensor


StepHook = Callable[[Step], None]


@dataclass(frozen=True, eq=False)
class DiffusionModel(OpenedDiffusion):
    """A model that torch runs; h and w are sizes of what is denoised: of images, or of latents."""

    @classmethod
    def open(
        cls, folder: Path, device: str = "cpu", expected_digest: str | None = None
    ) -> DiffusionModel:
        """The model of a folder in diffusers' layout; see `open_diffusion` for what it raises."""
        found = cls(**vars(open_diffusion(Path(folder), device, expected_digest)))
        found._require_fit()
        return found

    def _require_fit(self) -> None:
        """Refuse components that are not of one model, before their shapes clash in the middle."""
        made = (self.noise_shape[0] if self.decoder is None
                else int(self.decoder.config.latent_channels))  # fmt: skip
        fits = [
            *self.conditioning.fits(),
            ("the denoiser", self.noise_shape[0], "the decoder", made),
        ]
        for what, given, reader, read in fits:
            if given != read:
                raise self._misfit(f"{what} gives {given} numbers a vector, {reader} reads {read}")
        for encoder in self.encoders:
            known, held = len(encoder.tokenizer), encoder.model.config.vocab_size
            if known > held:
                raise self._misfit(
                    f"the tokenizer has {known} tokens, and the {encoder.spoken} {held}"
                )

    def _misfit(self, problem: str) -> UnsupportedModel:
        return UnsupportedModel(
            problem, place=str(self.folder.path), way_out="give the components of one model"
        )

    @cached_property
    def noise_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of what is denoised."""
        return noise_shape_of(self.folder)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        return image_shape_of(self.folder)

    @property
    def dtype(self) -> torch.dtype:
        """Of the denoiser's numbers."""
        found: torch.dtype = next(self.denoiser.parameters()).dtype
        return found

    @cached_property
    def conditioning(self) -> Conditioning:
        """How its family is told of a prompt."""
        _, height, width = self.image_shape
        return conditioning_of(
            family_of(self.folder), self.encoders, self.denoiser.config, self.noise_shape,
            (height, width), zeros=self.folder.pipeline.get(_ZEROS, True) is True,
        )  # fmt: skip

    @cached_property
    def schedule(self) -> NoiseSchedule:
        """The noise of its training."""
        return self.conditioning.schedule(self.scheduler)

    @property
    def timesteps(self) -> int:
        """How many the training noise has; the last has the most noise."""
        return self.schedule.timesteps

    @cached_property
    def unconditional(self) -> Tensor:
        """The embedding that stands for no prompt, [1, rows, width]."""
        return self._embedding(self.conditioning.empty)

    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Embeddings [prompts, rows, width]; prompts are filled up, and longer ones cut.

        Rows are tokens of the encoders; of families that read a pooled vector, those of it too.
        Where the denoiser does not look at padding (T5 of PixArt), its rows are zeros.

        Raises:
            ConfigurationError: There is no prompt.
            UnsupportedModel: An embedding is not finite.
        """
        if not prompts:
            raise ConfigurationError("no prompts to encode; give at least one")
        return self._embedding(lambda: self.conditioning.encode(prompts))

    @torch.no_grad()
    def _embedding(self, make: Callable[[], Tensor]) -> Tensor:
        return make().to(self.dtype)

    def predict_noise(self, noisy: Tensor, timestep: Tensor | float, embedding: Tensor) -> Tensor:
        """The noise the model sees in noisy images; gradients reach `noisy` and `embedding`.

        Args and Raises: As `predict`.
        """
        return self.schedule.noise_of(self.predict(noisy, timestep, embedding), noisy, timestep)

    def predict(self, noisy: Tensor, timestep: Tensor | float, embedding: Tensor) -> Tensor:
        """What the denoiser was trained to predict: noise, or velocity.

        Args:
            noisy: [images, C, h, w].
            timestep: Of each image, [images], or one for all.
            embedding: [images, rows, width].

        Raises:
            UnsupportedModel: A prediction is not finite.
        """
        times = torch.as_tensor(timestep, device=noisy.device).expand(len(noisy))
        predicted = self.conditioning.predict(self.denoiser, noisy, times, embedding)
        require_finite(predicted, "the denoiser")
        return predicted

    def add_noise(self, clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """Clean images (latents, of a latent model) with noise of a timestep each, [images]."""
        return self.schedule.add_noise(clean, noise, timestep)

    def draw_noise(self, seeds: Sequence[int]) -> Tensor:
        """Standard normal noise, one [C, h, w] for each seed, whatever batch and device."""
        drawn = [
            torch.randn(self.noise_shape, generator=torch.Generator().manual_seed(seed))
            for seed in seeds
        ]
        return torch.stack(drawn).to(self.device, self.dtype)

    @torch.no_grad()
    def sample(
        self, embeddings: Tensor, seeds: Sequence[int], *, steps: int = 20, guidance: float = 2.0,
        batch_size: int = 64, on_step: StepHook | None = None, progress: Progress | None = None,
    ) -> Tensor:  # fmt: skip
        """One image for each embedding, from the noise of its seed.

        The denoiser is called once for each step of a batch: rows of the empty prompt first, as
        many rows of the prompts behind them.

        Args:
            embeddings: [images, rows, width].
            seeds: One for each, see `noise_seeds`.
            steps: Of sampling.
            guidance: Scale of classifier-free guidance; 1 is none.
            batch_size: Images at once.
            on_step: Called at each step of each batch.
            progress: Called with images done and in all.

        Returns:
            Images [images, C, H, W], float32 in [-1, 1], on the CPU.

        Raises:
            ConfigurationError: Seeds do not fit, or there are more steps than timesteps.
            UnsupportedModel: A prediction, an image, or at the first step what a layer returns is
                not finite; the layer is named.
        """
        if len(embeddings) != len(seeds) or not seeds:
            raise ConfigurationError(
                f"{len(seeds)} seeds for {len(embeddings)} images; give one for each"
            )
        require_steps(steps, self.timesteps)
        made = []
        for first in range(0, len(seeds), batch_size):
            rows = range(first, min(first + batch_size, len(seeds)))
            noise = self.draw_noise([seeds[row] for row in rows])
            batch = embeddings[rows.start : rows.stop].to(self.device, self.dtype)
            made.append(self.to_images(self._denoise(noise, batch, rows, steps, guidance, on_step)))
            if progress is not None:
                progress(rows.stop, len(seeds))
        return torch.cat(made)

    def _denoise(
        self, noisy: Tensor, embeddings: Tensor, rows: range, steps: int, guidance: float,
        on_step: StepHook | None,
    ) -> Tensor:  # fmt: skip
        scheduler = self.schedule.sampler(steps)
        null = self.unconditional.to(embeddings.dtype).expand(len(rows), -1, -1)
        together = torch.cat([null, embeddings])
        for number, timestep in enumerate(scheduler.timesteps.tolist()):
            # Layers are looked at where most could go wrong, in pure noise; it takes time.
            with finite_layers(self.denoiser, "the denoiser") if number == 0 else nullcontext():
                predicted = self.predict(torch.cat([noisy, noisy]), timestep, together)
            unconditional, conditional = predicted.chunk(2)
            if on_step is not None:
                on_step(Step(rows, number, timestep, noisy, unconditional, conditional))
            guided = unconditional + guidance * (conditional - unconditional)
            noisy = scheduler.step(guided, timestep, noisy).prev_sample
        return noisy

    @torch.no_grad()
    def to_images(self, denoised: Tensor) -> Tensor:
        """Images [images, C, H, W] of latents, float32 in [-1, 1], on the CPU.

        Raises:
            UnsupportedModel: An image is not finite.
        """
        if self.decoder is not None:
            config = self.decoder.config
            shifted = denoised / config.scaling_factor + (config.shift_factor or 0.0)
            with finite_layers(self.decoder, "the decoder"):
                denoised = self.decoder.decode(shifted, return_dict=False)[0]
        return denoised.float().clamp(-1, 1).cpu()

    @torch.no_grad()
    def to_latents(self, images: Tensor) -> Tensor:
        """What is denoised for images [images, C, H, W]: latents, or the images themselves."""
        images = images.to(self.device, self.dtype)
        if self.decoder is None:
            return images
        config = self.decoder.config
        latents: Tensor = self.decoder.encode(images).latent_dist.mode()
        shift, scale = float(config.shift_factor or 0.0), float(config.scaling_factor)
        return (latents - shift) * scale


_ZEROS: Final = "force_zeros_for_empty_prompt"


def require_steps(steps: int, timesteps: int) -> None:
    """Refuse more steps of sampling than the training noise has timesteps.

    Raises:
        ConfigurationError: With both numbers.
    """
    if not 1 <= steps <= timesteps:
        raise ConfigurationError(
            f"{steps} steps of a model with {timesteps} timesteps; give 1 to {timesteps}"
        )


def noise_seeds(prompts: Sequence[str], samples: int, seed: int) -> list[int]:
    """Seeds of noise, `samples` for each prompt in turn, the same wherever a prompt stands.

    Args:
        prompts: In order; a prompt that stands twice gets the same seeds twice.
        samples: Images of each.
        seed: Another one gives other noise.
    """
    return [
        int.from_bytes(hashlib.sha256(f"{seed}\0{number}\0{prompt}".encode()).digest()[:8]) >> 1
        for prompt in prompts for number in range(samples)
    ]  # fmt: skip
