"""A text-to-image diffusion model: encode prompts, predict noise, sample.

Sampling is deterministic DDIM (Song et al. 2021, arXiv 2010.02502, eta 0) with classifier-free
guidance (Ho, Salimans 2022, arXiv 2207.12598). Five lines from Python:

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
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from auditor.errors import ConfigurationError
from auditor.memorization.diffusion_opening import OpenedDiffusion, open_diffusion
from auditor.memorization.nonfinite import finite_layers, require_finite
from auditor.models.diffusion_components import image_shape_of

Progress = Callable[[int, int], None]


class Step(NamedTuple):
    """What a step of sampling predicted for the images of one batch.

    Attributes:
        rows: Which of the asked images these are.
        number: Of the step, from 0; step 0 has the most noise.
        timestep: Of the training noise.
        noisy: What was looked at, [images, C, h, w].
        unconditional: Noise predicted for the empty prompt, same shape.
        conditional: Noise predicted for the prompt, same shape.
    """

    rows: range
    number: int
    timestep: int
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
        return cls(**vars(open_diffusion(Path(folder), device, expected_digest)))

    @property
    def noise_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of what is denoised."""
        size, channels = self.denoiser.config.sample_size, self.denoiser.config.in_channels
        height, width = size if isinstance(size, list | tuple) else (size, size)
        return int(channels), int(height), int(width)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        return image_shape_of(self.folder)

    @property
    def timesteps(self) -> int:
        """How many the training noise has; the last has the most noise."""
        return int(self.scheduler.config.num_train_timesteps)

    @property
    def dtype(self) -> torch.dtype:
        """Of the denoiser's numbers."""
        found: torch.dtype = next(self.denoiser.parameters()).dtype
        return found

    @cached_property
    def unconditional(self) -> Tensor:
        """The embedding of the empty prompt, [1, tokens, width]."""
        return self.encode([""])

    @property
    def prompt_tokens(self) -> int:
        """Tokens that prompts are filled up to, and cut at."""
        most = getattr(self.text_encoder.config, "max_position_embeddings", None) or _T5_TOKENS
        return min(int(most), int(self.tokenizer.model_max_length))

    @property
    def masks_padding(self) -> bool:
        """Whether the denoiser is told not to look at the padding of prompts."""
        return bool(self.text_encoder.config.model_type == "t5")

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Embeddings [prompts, tokens, width]; prompts are filled up, and longer ones cut.

        Where the denoiser does not look at padding (T5), its rows are zeros.

        Raises:
            ConfigurationError: There is no prompt.
            UnsupportedModel: An embedding is not finite.
        """
        if not prompts:
            raise ConfigurationError("no prompts to encode; give at least one")
        texts = [text.lower().strip() for text in prompts] if self.masks_padding else [*prompts]
        tokens = self.tokenizer(
            texts, padding="max_length", truncation=True, max_length=self.prompt_tokens,
            return_tensors="pt",
        )  # fmt: skip
        known = {"input_ids": tokens["input_ids"].to(self.device)}
        mask = tokens["attention_mask"].to(self.device)
        if self.masks_padding:
            known["attention_mask"] = mask
        with finite_layers(self.text_encoder, "the text encoder"):
            found: Tensor = self.text_encoder(**known).last_hidden_state
        found = found * mask[..., None] if self.masks_padding else found
        return found.to(self.dtype)

    def predict_noise(self, noisy: Tensor, timestep: Tensor | int, embedding: Tensor) -> Tensor:
        """The noise the model sees in noisy images; gradients reach `noisy` and `embedding`.

        Args and Raises: As `predict`.
        """
        return self._as_noise(self.predict(noisy, timestep, embedding), noisy, timestep)

    def predict(self, noisy: Tensor, timestep: Tensor | int, embedding: Tensor) -> Tensor:
        """What the denoiser was trained to predict: noise, or velocity (`v_prediction`).

        Args:
            noisy: [images, C, h, w].
            timestep: Of each image, [images], or one for all.
            embedding: [images, tokens, width].

        Raises:
            UnsupportedModel: A prediction is not finite.
        """
        known: dict[str, Any] = {
            "encoder_hidden_states": embedding,
            "timestep": torch.as_tensor(timestep, device=noisy.device).expand(len(noisy)),
        }
        if self.folder.denoiser.name == "transformer":
            known["added_cond_kwargs"] = {"resolution": None, "aspect_ratio": None}
        if self.masks_padding:
            known["encoder_attention_mask"] = (embedding.detach() != 0).any(-1).to(noisy.dtype)
        predicted: Tensor = self.denoiser(noisy, return_dict=False, **known)[0]
        require_finite(predicted, "the denoiser")
        # Some models predict a variance behind the noise; deterministic sampling has no use for it.
        return predicted[:, : noisy.shape[1]]

    def _as_noise(self, predicted: Tensor, noisy: Tensor, timestep: Tensor | int) -> Tensor:
        """The noise in a prediction; of velocity after Salimans, Ho 2022, arXiv 2202.00512."""
        if self.scheduler.config.prediction_type != "v_prediction":
            return predicted
        kept = self.scheduler.alphas_cumprod.to(noisy)[torch.as_tensor(timestep).cpu()]
        kept = kept.reshape(-1, 1, 1, 1)
        noise: Tensor = kept.sqrt() * predicted + (1 - kept).sqrt() * noisy
        return noise

    def add_noise(self, clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """Clean images (latents, of a latent model) with noise of a timestep each, [images]."""
        noisy: Tensor = self.scheduler.add_noise(clean, noise, timestep)
        return noisy

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
            embeddings: [images, tokens, width].
            seeds: One for each, see `noise_seeds`.
            steps: Of DDIM.
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
        scheduler = type(self.scheduler).from_config(self.scheduler.config)
        scheduler.set_timesteps(steps)
        null = self.unconditional.to(embeddings.dtype).expand(len(rows), -1, -1)
        together = torch.cat([null, embeddings])
        for number, timestep in enumerate(scheduler.timesteps.tolist()):
            # Layers are looked at where most could go wrong, in pure noise; it takes time.
            with finite_layers(self.denoiser, "the denoiser") if number == 0 else nullcontext():
                predicted = self.predict(torch.cat([noisy, noisy]), timestep, together)
            unconditional, conditional = predicted.chunk(2)
            if on_step is not None:
                halves = (self._as_noise(half, noisy, timestep) for half in predicted.chunk(2))
                on_step(Step(rows, number, timestep, noisy, *halves))
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


_T5_TOKENS: Final = 120
"""As many as the pipeline of PixArt fills prompts up to."""


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
