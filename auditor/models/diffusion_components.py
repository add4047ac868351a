"""Whether a diffusion folder is a text-to-image model that is known here, by its configurations.

Classes are chosen from the lists here, never by a name in the folder alone. Nothing is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

from auditor.errors import UnsupportedModel
from auditor.models.diffusion_folder import Component, DiffusionFolder

CLIP: Final = "CLIPTextModel"
PROJECTED_CLIP: Final = "CLIPTextModelWithProjection"
T5: Final = "T5EncoderModel"


class Family(StrEnum):
    """How a denoiser is told of the prompt."""

    CROSS_ATTENTION = "cross_attention"
    """One sequence of vectors: Stable Diffusion 1 and 2, PixArt."""
    SDXL = "sdxl"
    """A sequence of two encoders, a pooled vector and sizes: Stable Diffusion XL."""
    SD3 = "sd3"
    """A sequence of three encoders and a pooled vector: Stable Diffusion 3."""
    FLUX = "flux"
    """A sequence of one encoder and a pooled vector of another: Flux."""

    @property
    def flows(self) -> bool:
        """Whether it predicts the velocity of a straight path from image to noise."""
        return self in (Family.SD3, Family.FLUX)


DENOISERS: Final = {
    "UNet2DConditionModel": Family.CROSS_ATTENTION,
    "PixArtTransformer2DModel": Family.CROSS_ATTENTION,
    "Transformer2DModel": Family.CROSS_ATTENTION,
    "SD3Transformer2DModel": Family.SD3,
    "FluxTransformer2DModel": Family.FLUX,
}
"""A UNet with `addition_embed_type` `text_time` is of `Family.SDXL`."""
_ENCODERS: Final[Mapping[Family, tuple[tuple[str, ...], ...]]] = MappingProxyType({
    Family.CROSS_ATTENTION: ((CLIP, T5),),
    Family.SDXL: ((CLIP,), (PROJECTED_CLIP,)),
    Family.SD3: ((PROJECTED_CLIP,), (PROJECTED_CLIP,), (T5,)),
    Family.FLUX: ((CLIP,), (T5,)),
})  # fmt: skip
_OPTIONAL: Final = (Family.SD3, "text_encoder_3")
DECODER_CLASSES: Final = ("AutoencoderKL",)
SCHEDULER_CLASSES: Final = (
    "DDIMScheduler", "DDPMScheduler", "DEISMultistepScheduler", "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler", "EulerAncestralDiscreteScheduler", "EulerDiscreteScheduler",
    "HeunDiscreteScheduler", "KDPM2AncestralDiscreteScheduler", "KDPM2DiscreteScheduler",
    "LMSDiscreteScheduler", "PNDMScheduler", "UniPCMultistepScheduler",
)  # fmt: skip
"""They differ in how they sample, not in the noise that the model was trained with."""
FLOW_CLASSES: Final = ("FlowMatchEulerDiscreteScheduler",)
LOADED: Final = (
    "unet", "transformer", "text_encoder", "text_encoder_2", "text_encoder_3", "vae",
)  # fmt: skip
"""Components that are opened, where there are any; others are checked and left alone."""
_NUMBERED: Final = ("", "_2", "_3", "_4")
_MORE: Final = ("prior", "controlnet", "image_encoder")
# Conditions besides text that a denoiser of diffusers may ask for.
_CONDITIONS: Final = (
    "addition_embed_type", "class_embed_type", "num_class_embeds", "encoder_hid_dim_type",
    "time_cond_proj_dim", "use_additional_conditions",
)  # fmt: skip
_LEGACY_CONDITIONED_SIZE: Final = 128
_FLUX_SIZE: Final = 128
"""Latents a side of what Flux makes; its configurations do not say it."""
FLUX_PATCH: Final = 4
"""Latent channels that Flux reads as one: of a square of 2x2."""
_LARGEST_SIDE: Final = 4_096
_TIMESTEPS: Final = 1_000
"""What diffusers takes where a scheduler's configuration does not say it."""
_MOST_TIMESTEPS: Final = 100_000


def require_text_to_image(folder: DiffusionFolder) -> None:
    """Refuse what the text of a prompt alone does not steer, and classes that are not known.

    Raises:
        UnsupportedModel: With what it is.
    """
    place = str(folder.path)
    if "text_encoder" not in folder.components:
        raise UnsupportedModel(
            "it has no text_encoder, so prompts do not steer it", place=place,
            way_out="give a text-to-image model; models without text are not audited",
        )  # fmt: skip
    for name in _MORE:
        if name in folder.components:
            raise UnsupportedModel(
                f"it has a component {name}; models of a denoiser and text encoders are supported",
                place=place, way_out="give such a model",
            )  # fmt: skip
    _require_class(folder, folder.denoiser, tuple(DENOISERS))
    family = family_of(folder)
    _require_encoders(folder, family)
    scheduler = FLOW_CLASSES if family.flows else SCHEDULER_CLASSES
    _require_class(folder, folder.component("scheduler"), scheduler)
    if "vae" in folder.components:
        _require_class(folder, folder.component("vae"), DECODER_CLASSES)
    _require_text_alone(folder, family)
    image_shape_of(folder)
    timesteps_of(folder)


def family_of(folder: DiffusionFolder) -> Family:
    """The family of a denoiser whose class is among `DENOISERS`."""
    part = folder.denoiser
    if part.config.get("addition_embed_type") == "text_time":
        return Family.SDXL
    return DENOISERS[part.class_name]


def encoders_of(folder: DiffusionFolder) -> list[tuple[str, str]]:
    """Text encoders and their tokenizers, by name, in the order of the family.

    Of Stable Diffusion 3 the third may be missing, and the others stand alone.
    """
    family = family_of(folder)
    asked = [(f"text_encoder{end}", f"tokenizer{end}")
             for end, _ in zip(_NUMBERED, _ENCODERS[family], strict=False)]  # fmt: skip
    return [pair for pair in asked
            if pair[0] in folder.components or (family, pair[0]) != _OPTIONAL]  # fmt: skip


def _require_encoders(folder: DiffusionFolder, family: Family) -> None:
    """As many text encoders as the family has, of its classes, each with a tokenizer."""
    known = _ENCODERS[family]
    for end in _NUMBERED[len(known) :]:
        if f"text_encoder{end}" in folder.components:
            raise UnsupportedModel(
                f"it has a text_encoder{end}, and its denoiser reads {len(known)} text encoders",
                place=str(folder.path), way_out="give the components of one model",
            )  # fmt: skip
    for (encoder, tokenizer), classes in zip(encoders_of(folder), known, strict=False):
        _require_class(folder, folder.component(encoder), classes)
        folder.component(tokenizer)


def _require_class(folder: DiffusionFolder, part: Component, known: tuple[str, ...]) -> None:
    if "quantization_config" in part.config:
        raise UnsupportedModel(
            "quantised weights", place=f"{folder.path}/{part.name}",
            way_out="save the model in float32",
        )  # fmt: skip
    if part.class_name not in known:
        raise UnsupportedModel(
            f"the class {part.class_name[:60]!r} is not among {', '.join(known)}",
            place=f"{folder.path}/{part.name}", way_out="give a model of a class that is supported",
        )  # fmt: skip


def _require_text_alone(folder: DiffusionFolder, family: Family) -> None:
    """The denoiser looks at noise, a timestep and text, and at nothing else."""
    part, place = folder.denoiser, f"{folder.path}/{folder.denoiser.name}"
    config = part.config
    own = ("addition_embed_type",) if family is Family.SDXL else ()
    asked = [name for name in _CONDITIONS if config.get(name) and name not in own]
    # PixArt asks for the resolution at this size unless its configuration says otherwise.
    pixart = part.name == "transformer" and family is Family.CROSS_ATTENTION
    if pixart and config.get("use_additional_conditions") is None:
        asked += ["use_additional_conditions"] * (
            config.get("sample_size") == _LEGACY_CONDITIONED_SIZE
        )
    if asked:
        raise UnsupportedModel(
            f"it is conditioned on more than text ({', '.join(asked)})", place=place,
            way_out="give a model that is conditioned on text alone",
        )  # fmt: skip
    if part.class_name == "Transformer2DModel" and config.get("norm_type") != "ada_norm_single":
        raise UnsupportedModel(
            f"a Transformer2DModel with norm_type {str(config.get('norm_type'))[:40]!r} does not "
            "read a timestep", place=place, way_out="ada_norm_single is supported",
        )  # fmt: skip
    channels, outputs = config.get("in_channels"), config.get("out_channels")
    # A transformer may predict a variance beside the noise.
    known = (channels,) if part.name == "unet" else (channels, 2 * _whole(channels), None)
    if outputs not in known:
        raise UnsupportedModel(
            f"it maps {channels} channels to {outputs}, as models for inpainting do", place=place,
            way_out="give a model that turns noise alone into an image",
        )  # fmt: skip


def noise_shape_of(folder: DiffusionFolder) -> tuple[int, int, int]:
    """Channels, height and width of what is denoised; 0 for what is no whole number."""
    config = folder.denoiser.config
    flux = family_of(folder) is Family.FLUX
    size = config.get("sample_size", _FLUX_SIZE if flux else None)
    height, width = size if isinstance(size, list) and len(size) == 2 else (size, size)
    channels = _whole(config.get("in_channels"))
    return channels // FLUX_PATCH if flux else channels, _whole(height), _whole(width)


def image_shape_of(folder: DiffusionFolder) -> tuple[int, int, int]:
    """Channels, height and width of the images that a text-to-image model makes.

    Raises:
        UnsupportedModel: The configurations do not say it.
    """
    part = folder.denoiser
    channels, height, width = noise_shape_of(folder)
    factor = 1
    if "vae" in folder.components:
        decoder = folder.components["vae"].config
        blocks = decoder.get("block_out_channels")
        factor = 2 ** (len(blocks) - 1) if isinstance(blocks, list) and len(blocks) < 8 else 0
        channels = _whole(decoder.get("out_channels"))
    found = (channels, height * factor, width * factor)
    if not all(1 <= each <= _LARGEST_SIDE for each in found):
        raise UnsupportedModel(
            f"sample_size {str(part.config.get('sample_size'))[:40]} and {channels} channels make "
            "no image", place=f"{folder.path}/{part.name}",
            way_out=f"images of 1 to {_LARGEST_SIDE} pixels a side are supported",
        )  # fmt: skip
    return found


def timesteps_of(folder: DiffusionFolder) -> int:
    """How many timesteps the training noise has.

    Raises:
        UnsupportedModel: The configuration names no number, or one that no model has.
    """
    found = folder.component("scheduler").config.get("num_train_timesteps", _TIMESTEPS)
    if not 1 <= _whole(found) <= _MOST_TIMESTEPS:
        raise UnsupportedModel(
            f"num_train_timesteps is {str(found)[:40]}", place=f"{folder.path}/scheduler",
            way_out=f"1 to {_MOST_TIMESTEPS} is supported",
        )  # fmt: skip
    return _whole(found)


def _whole(value: Any) -> int:
    return value if type(value) is int else 0
