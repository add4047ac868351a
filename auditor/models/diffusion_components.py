"""Whether a diffusion folder is a text-to-image model that is known here, by its configurations.

Classes are chosen from the lists here, never by a name in the folder alone. Nothing is loaded.
"""

from __future__ import annotations

from typing import Any, Final

from auditor.errors import UnsupportedModel
from auditor.models.diffusion_folder import Component, DiffusionFolder

DENOISER_CLASSES: Final = (
    "UNet2DConditionModel", "PixArtTransformer2DModel", "Transformer2DModel",
)  # fmt: skip
TEXT_CLASSES: Final = ("CLIPTextModel", "T5EncoderModel")
DECODER_CLASSES: Final = ("AutoencoderKL",)
SCHEDULER_CLASSES: Final = (
    "DDIMScheduler", "DDPMScheduler", "DEISMultistepScheduler", "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler", "EulerAncestralDiscreteScheduler", "EulerDiscreteScheduler",
    "HeunDiscreteScheduler", "KDPM2AncestralDiscreteScheduler", "KDPM2DiscreteScheduler",
    "LMSDiscreteScheduler", "PNDMScheduler", "UniPCMultistepScheduler",
)  # fmt: skip
"""They differ in how they sample, not in the noise that the model was trained with."""
LOADED: Final = ("unet", "transformer", "text_encoder", "vae")
"""Components that are opened, where there are any; others are checked and left alone."""
_MORE: Final = ("text_encoder_2", "tokenizer_2", "text_encoder_3", "prior", "controlnet")
# Conditions besides text that a denoiser of diffusers may ask for.
_CONDITIONS: Final = (
    "addition_embed_type", "class_embed_type", "num_class_embeds", "encoder_hid_dim_type",
    "time_cond_proj_dim", "use_additional_conditions",
)  # fmt: skip
_LEGACY_CONDITIONED_SIZE: Final = 128
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
                f"it has a {name}; models with one text encoder and one denoiser are supported",
                place=place, way_out="give such a model",
            )  # fmt: skip
    _require_class(folder, folder.denoiser, DENOISER_CLASSES)
    _require_class(folder, folder.component("text_encoder"), TEXT_CLASSES)
    _require_class(folder, folder.component("scheduler"), SCHEDULER_CLASSES)
    if "vae" in folder.components:
        _require_class(folder, folder.component("vae"), DECODER_CLASSES)
    folder.component("tokenizer")
    _require_text_alone(folder)
    image_shape_of(folder)
    timesteps_of(folder)


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


def _require_text_alone(folder: DiffusionFolder) -> None:
    """The denoiser looks at noise, a timestep and text, and at nothing else."""
    part, place = folder.denoiser, f"{folder.path}/{folder.denoiser.name}"
    config = part.config
    asked = [name for name in _CONDITIONS if config.get(name)]
    # PixArt asks for the resolution at this size unless its configuration says otherwise.
    if part.name == "transformer" and config.get("use_additional_conditions") is None:
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


def image_shape_of(folder: DiffusionFolder) -> tuple[int, int, int]:
    """Channels, height and width of the images that a text-to-image model makes.

    Raises:
        UnsupportedModel: The configurations do not say it.
    """
    part = folder.denoiser
    size = part.config.get("sample_size")
    height, width = size if isinstance(size, list) and len(size) == 2 else (size, size)
    channels, factor = part.config.get("in_channels"), 1
    if "vae" in folder.components:
        decoder = folder.components["vae"].config
        blocks = decoder.get("block_out_channels")
        factor = 2 ** (len(blocks) - 1) if isinstance(blocks, list) and len(blocks) < 8 else 0
        channels = decoder.get("out_channels")
    found = (_whole(channels), _whole(height) * factor, _whole(width) * factor)
    if not all(1 <= each <= _LARGEST_SIDE for each in found):
        raise UnsupportedModel(
            f"sample_size {str(size)[:40]} and {str(channels)[:40]} channels make no image",
            place=f"{folder.path}/{part.name}",
            way_out=f"images of 1 to {_LARGEST_SIDE} pixels a side are supported",
        )
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
