"""How each family of diffusion models is told of a prompt: encoders, and the call of the denoiser.

The same as the pipelines of diffusers do it, with one embedding tensor for whatever a family reads
of the prompt; see `auditor.memorization.diffusion.text_encoders`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn.functional import pad

from auditor.memorization.diffusion.noise_schedule import (
    NoiseSchedule,
    StraightPath,
    VariancePreserving,
)
from auditor.memorization.diffusion.text_encoders import TextEncoder, pack, unpack
from auditor.models.diffusion_components import Family

_PIXART_TOKENS: Final = 120
_SD3_TOKENS: Final = 256
_FLUX_TOKENS: Final = 512
"""As many tokens as the pipelines fill prompts of T5 up to."""
_FLUX_GUIDANCE: Final = 3.5
"""What a guidance-distilled Flux is told, as by its pipeline."""
_PATCH: Final = 2

Fit = tuple[str, int, str, int]
"""What gives how many numbers, and what reads how many."""


@dataclass(frozen=True, eq=False)
class Conditioning(ABC):
    """What a family does.

    Attributes:
        encoders: In the order of the family.
        config: Of the denoiser.
        noise_shape: Channels, height and width of what is denoised.
    """

    encoders: tuple[TextEncoder, ...]
    config: Any
    noise_shape: tuple[int, int, int]

    @abstractmethod
    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Embeddings of prompts, [prompts, rows, width]."""

    @abstractmethod
    def predict(self, denoiser: Any, noisy: Tensor, times: Tensor, embedding: Tensor) -> Tensor:
        """What the denoiser says of noisy images [images, C, h, w] at timesteps [images]."""

    @abstractmethod
    def fits(self) -> tuple[Fit, ...]:
        """What has to be equal for encoders and denoiser to be of one model."""

    def schedule(self, scheduler: Any) -> NoiseSchedule:
        """The noise of training."""
        return VariancePreserving(scheduler)

    def empty(self) -> Tensor:
        """What stands for no prompt in guidance, [1, rows, width]."""
        return self.encode([""])

    @property
    def masks_padding(self) -> bool:
        """Whether the denoiser is told not to look at the padding of prompts."""
        return False


class CrossAttention(Conditioning):
    """One encoder, one sequence: Stable Diffusion 1 and 2, PixArt."""

    @property
    def masks_padding(self) -> bool:
        """With T5, where rows of padding are zeros."""
        return bool(self.encoders[0].model.config.model_type == "t5")

    @property
    def _tokens(self) -> int:
        [encoder] = self.encoders
        most = getattr(encoder.model.config, "max_position_embeddings", None) or _PIXART_TOKENS
        return min(int(most), int(encoder.tokenizer.model_max_length))

    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Embeddings of prompts, [prompts, tokens, width]."""
        masks = self.masks_padding
        texts = [text.lower().strip() for text in prompts] if masks else prompts
        said, mask = self.encoders[0].read(texts, self._tokens, masked=masks)
        found: Tensor = said.last_hidden_state
        return found * mask[..., None] if masks else found

    def predict(self, denoiser: Any, noisy: Tensor, times: Tensor, embedding: Tensor) -> Tensor:
        """What the denoiser says of noisy images [images, C, h, w] at timesteps [images]."""
        known: dict[str, Any] = {"encoder_hidden_states": embedding, "timestep": times}
        if "Transformer" in type(denoiser).__name__:
            known["added_cond_kwargs"] = {"resolution": None, "aspect_ratio": None}
        if self.masks_padding:
            known["encoder_attention_mask"] = (embedding.detach() != 0).any(-1).to(noisy.dtype)
        predicted: Tensor = denoiser(noisy, return_dict=False, **known)[0]
        # Some models predict a variance behind the noise; deterministic sampling has no use for it.
        return predicted[:, : noisy.shape[1]]

    def fits(self) -> tuple[Fit, ...]:
        """The width of the sequence."""
        read = self.config.get("caption_channels") or self.config.cross_attention_dim
        widths = read if isinstance(read, list | tuple) else [read]
        given = self.encoders[0].model.config.hidden_size  # of T5 by another name, which it knows
        return tuple(("the text encoder", given, "the denoiser", each) for each in widths)


@dataclass(frozen=True, eq=False)
class SdxlConditioning(Conditioning):
    """Two encoders side by side, a pooled vector of the second, and the sizes of the image.

    Attributes:
        image_size: Height and width of images.
        zeros: Whether zeros stand for no prompt, instead of the empty one.
    """

    image_size: tuple[int, int]
    zeros: bool

    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Embeddings of prompts, [prompts, tokens + rows of the pooled vector, width]."""
        said = [each.read(prompts, each.tokenizer.model_max_length)[0] for each in self.encoders]
        return pack(torch.cat([each.hidden_states[-2] for each in said], -1), said[1].text_embeds)

    def empty(self) -> Tensor:
        """Zeros, unless the pipeline says otherwise."""
        found = super().empty()
        return torch.zeros_like(found) if self.zeros else found

    def predict(self, denoiser: Any, noisy: Tensor, times: Tensor, embedding: Tensor) -> Tensor:
        """What the denoiser says of noisy images [images, C, h, w] at timesteps [images]."""
        sequence, pooled = unpack(embedding, self._pooled)
        # Size of the original, corner of the crop, size wanted: as of a whole image.
        sizes = torch.tensor([*self.image_size, 0, 0, *self.image_size]).to(noisy)
        predicted: Tensor = denoiser(
            noisy, times, encoder_hidden_states=sequence, return_dict=False,
            added_cond_kwargs={"text_embeds": pooled, "time_ids": sizes.expand(noisy.shape[0], -1)},
        )[0]  # fmt: skip
        return predicted

    @property
    def _pooled(self) -> int:
        return int(self.encoders[1].model.config.projection_dim)

    def fits(self) -> tuple[Fit, ...]:
        """The width of the sequence, and that of the pooled vector with sizes."""
        widths = sum(each.model.config.hidden_size for each in self.encoders)
        config = self.config
        return (
            ("the text encoders", widths, "the denoiser", config.cross_attention_dim),
            ("the pooled text and six sizes", self._pooled + 6 * config.addition_time_embed_dim,
             "the denoiser", config.projection_class_embeddings_input_dim),
        )  # fmt: skip


class Sd3Conditioning(Conditioning):
    """Two encoders side by side, T5 behind them, and their pooled vectors."""

    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Embeddings of prompts, [prompts, tokens + rows of the pooled vector, width]."""
        first, second, *third = self.encoders
        tokens = first.tokenizer.model_max_length
        said = [each.read(prompts, tokens)[0] for each in (first, second)]
        side = torch.cat([each.hidden_states[-2] for each in said], -1)
        width = self.config.joint_attention_dim
        if third:
            behind = third[0].read(prompts, _SD3_TOKENS)[0].last_hidden_state
        else:
            behind = side.new_zeros((len(side), _SD3_TOKENS, width))
        sequence = torch.cat([pad(side, (0, width - side.shape[-1])), behind], dim=1)
        return pack(sequence, torch.cat([each.text_embeds for each in said], -1))

    def predict(self, denoiser: Any, noisy: Tensor, times: Tensor, embedding: Tensor) -> Tensor:
        """What the denoiser says of noisy images [images, C, h, w] at timesteps [images]."""
        sequence, pooled = unpack(embedding, self.config.pooled_projection_dim)
        predicted: Tensor = denoiser(
            noisy, encoder_hidden_states=sequence, pooled_projections=pooled, timestep=times,
            return_dict=False,
        )[0]  # fmt: skip
        return predicted

    def fits(self) -> tuple[Fit, ...]:
        """The widths of T5 and of the pooled vectors."""
        first, second, *third = (each.model.config for each in self.encoders)
        given = third[0].hidden_size if third else self.config.joint_attention_dim
        return (
            ("the third text encoder", given, "the denoiser", self.config.joint_attention_dim),
            ("the pooled text", first.projection_dim + second.projection_dim, "the denoiser",
             self.config.pooled_projection_dim),
        )  # fmt: skip

    def schedule(self, scheduler: Any) -> NoiseSchedule:
        """A flow."""
        _, height, width = self.noise_shape
        patch = self.config.patch_size
        return StraightPath(scheduler, (height // patch) * (width // patch), even=False)


class FluxConditioning(Conditioning):
    """The sequence of T5 and the pooled vector of CLIP; images as a sequence of squares."""

    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Embeddings of prompts, [prompts, tokens + rows of the pooled vector, width]."""
        clip, t5 = self.encoders
        pooled = clip.read(prompts, clip.tokenizer.model_max_length)[0].pooler_output
        return pack(t5.read(prompts, _FLUX_TOKENS)[0].last_hidden_state, pooled)

    @cached_property
    def _places(self) -> Tensor:
        """Row and column of each square, [squares, 3]."""
        _, height, width = self.noise_shape
        rows, columns = torch.meshgrid(
            torch.arange(height // _PATCH), torch.arange(width // _PATCH), indexing="ij"
        )
        return torch.stack([torch.zeros_like(rows), rows, columns], -1).reshape(-1, 3).float()

    def predict(self, denoiser: Any, noisy: Tensor, times: Tensor, embedding: Tensor) -> Tensor:
        """What the denoiser says of noisy images [images, C, h, w] at timesteps [images]."""
        sequence, pooled = unpack(embedding, self.config.pooled_projection_dim)
        guidance = None
        if self.config.guidance_embeds:
            guidance = torch.full((noisy.shape[0],), _FLUX_GUIDANCE, device=noisy.device)
        predicted: Tensor = denoiser(
            hidden_states=_squares(noisy), encoder_hidden_states=sequence,
            pooled_projections=pooled, timestep=times / 1_000, guidance=guidance,
            img_ids=self._places.to(noisy), txt_ids=noisy.new_zeros((sequence.shape[1], 3)),
            return_dict=False,
        )[0]  # fmt: skip
        return _unsquared(predicted, *noisy.shape[1:])

    def fits(self) -> tuple[Fit, ...]:
        """The widths of the sequence and of the pooled vector."""
        clip, t5 = (each.model.config for each in self.encoders)
        return (
            ("the second text encoder", t5.hidden_size, "the denoiser",
             self.config.joint_attention_dim),
            ("the text encoder", clip.hidden_size, "the denoiser",
             self.config.pooled_projection_dim),
        )  # fmt: skip

    def schedule(self, scheduler: Any) -> NoiseSchedule:
        """A flow."""
        return StraightPath(scheduler, len(self._places), even=True)


def _squares(images: Tensor) -> Tensor:
    """Images [images, C, h, w] as squares of 2x2, [images, squares, 4 C]."""
    count, channels, height, width = images.shape
    split = images.reshape(count, channels, height // _PATCH, _PATCH, width // _PATCH, _PATCH)
    return split.permute(0, 2, 4, 1, 3, 5).reshape(count, -1, channels * _PATCH**2)


def _unsquared(squares: Tensor, channels: int, height: int, width: int) -> Tensor:
    """The images of squares; see `_squares`."""
    split = squares.reshape(
        squares.shape[0], height // _PATCH, width // _PATCH, channels, _PATCH, _PATCH
    )
    return split.permute(0, 3, 1, 4, 2, 5).reshape(squares.shape[0], channels, height, width)


def conditioning_of(
    family: Family, encoders: tuple[TextEncoder, ...], config: Any,
    noise_shape: tuple[int, int, int], image_size: tuple[int, int], *, zeros: bool,
) -> Conditioning:  # fmt: skip
    """What a family does, with the parts of one model; see the classes for what each is."""
    if family is Family.SDXL:
        return SdxlConditioning(encoders, config, noise_shape, image_size, zeros)
    known: dict[Family, type[Conditioning]] = {
        Family.CROSS_ATTENTION: CrossAttention,
        Family.SD3: Sd3Conditioning,
        Family.FLUX: FluxConditioning,
    }
    return known[family](encoders, config, noise_shape)
