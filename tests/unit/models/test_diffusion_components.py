"""Which diffusion folders are text-to-image models that are known here, by configurations alone."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from auditor.errors import UnsupportedModel
from auditor.models.diffusion_components import image_shape_of, require_text_to_image
from auditor.models.diffusion_folder import Component, DiffusionFolder

UNET = {
    "_class_name": "UNet2DConditionModel", "sample_size": 64, "in_channels": 4, "out_channels": 4,
    "class_embed_type": None, "addition_embed_type": None,
}  # fmt: skip
TRANSFORMER = {
    "_class_name": "PixArtTransformer2DModel", "sample_size": 64, "in_channels": 4,
    "out_channels": 8,
}  # fmt: skip
REST: dict[str, dict[str, Any]] = {
    "text_encoder": {"architectures": ["CLIPTextModel"]},
    "tokenizer": {},
    "scheduler": {"_class_name": "PNDMScheduler"},
    "vae": {"_class_name": "AutoencoderKL", "out_channels": 3, "block_out_channels": [8] * 4},
    "safety_checker": {"architectures": ["StableDiffusionSafetyChecker"]},
}


def described(**parts: dict[str, Any] | None) -> DiffusionFolder:
    """A folder with these configurations besides `REST`; None leaves a component out."""
    whole = {name: config for name, config in {**REST, **parts}.items() if config is not None}
    components = {name: Component(name, config, ()) for name, config in whole.items()}
    return DiffusionFolder(Path("m"), "sha256:0", 0, "x", {}, (), MappingProxyType(components), {})


SDXL = UNET | {"addition_embed_type": "text_time"}
SD3 = {"_class_name": "SD3Transformer2DModel", "sample_size": 64, "in_channels": 4,
       "out_channels": 4}  # fmt: skip
FLUX = {"_class_name": "FluxTransformer2DModel", "sample_size": 64, "in_channels": 16}
TWO: dict[str, Any] = {
    "text_encoder_2": {"architectures": ["CLIPTextModelWithProjection"]}, "tokenizer_2": {},
}  # fmt: skip
T5: dict[str, Any] = {"architectures": ["T5EncoderModel"]}
FLOW: dict[str, Any] = {"scheduler": {"_class_name": "FlowMatchEulerDiscreteScheduler"}}
PROJECTED = {**FLOW, **TWO, "text_encoder": TWO["text_encoder_2"]}


@pytest.mark.parametrize(
    "parts",
    [
        {"unet": SDXL, **TWO},
        {"transformer": SD3, **PROJECTED},
        {"transformer": SD3, **PROJECTED, "text_encoder_3": T5, "tokenizer_3": {}},
        {"transformer": FLUX, **FLOW, **TWO, "text_encoder_2": T5},
        {"unet": UNET},
        {"transformer": TRANSFORMER},
        {"transformer": TRANSFORMER, "text_encoder": {"architectures": ["T5EncoderModel"]}},
        {"transformer": TRANSFORMER | {"_class_name": "Transformer2DModel",
                                       "norm_type": "ada_norm_single"}},
    ],
)  # fmt: skip
def test_text_to_image_models_are_accepted(parts: dict[str, Any]) -> None:
    """A component that is not looked at, such as a safety checker, does not matter."""
    folder = described(**parts)
    require_text_to_image(folder)
    assert image_shape_of(folder) == (3, 512, 512)


def test_without_a_decoder_images_are_what_is_denoised() -> None:
    """Height and width may differ."""
    folder = described(unet=UNET | {"sample_size": [8, 16]}, vae=None)
    assert image_shape_of(folder) == (4, 8, 16)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"unet": UNET, "text_encoder": None}, "no text_encoder, so prompts do not steer it"),
        ({"unet": {"_class_name": "UNet2DModel"}}, "'UNet2DModel' is not among UNet2DCond"),
        ({"unet": UNET, "text_encoder": {"architectures": ["MyText"]}}, "'MyText' is not among"),
        ({"unet": UNET, "scheduler": {"_class_name": "FlowMatchEulerDiscreteScheduler"}},
         "'FlowMatchEulerDiscreteScheduler' is not among"),
        ({"unet": UNET, "vae": {"_class_name": "AutoencoderTiny"}}, "not among AutoencoderKL"),
        ({"unet": UNET, "text_encoder_2": {}}, "a text_encoder_2, and its denoiser reads 1 text"),
        ({"unet": SDXL}, "there is no text_encoder_2 among"),
        ({"unet": SDXL, **TWO, "text_encoder_2": {"architectures": ["CLIPTextModel"]}},
         "'CLIPTextModel' is not among CLIPTextModelWithProjection"),
        ({"unet": SDXL, **TWO, "tokenizer_2": None}, "no tokenizer_2 among"),
        ({"unet": UNET, "controlnet": {}}, "it has a component controlnet"),
        ({"transformer": FLUX, **FLOW}, "there is no text_encoder_2 among"),
        ({"transformer": FLUX, **TWO, "text_encoder_2": T5},
         "'PNDMScheduler' is not among FlowMatchEuler"),
        ({"unet": UNET, "tokenizer": None}, "no tokenizer among"),
        ({"unet": UNET | {"addition_embed_type": "image"}}, r"than text \(addition_embed_type"),
        ({"transformer": TRANSFORMER | {"use_additional_conditions": True}}, "more than text"),
        ({"transformer": TRANSFORMER | {"sample_size": 128}}, "use_additional_conditions"),
        ({"unet": UNET | {"in_channels": 9}}, "maps 9 channels to 4, as models for inpainting"),
        ({"transformer": TRANSFORMER | {"_class_name": "Transformer2DModel"}}, "norm_type 'None'"),
        ({"unet": UNET | {"sample_size": None}}, "sample_size None and 3 channels make no image"),
        ({"unet": UNET | {"sample_size": 10**9}}, "sample_size 1000000000"),
        ({"unet": UNET, "vae": REST["vae"] | {"block_out_channels": [8] * 99}}, "make no image"),
        ({"unet": UNET | {"quantization_config": {}}}, "quantised weights"),
    ],
)  # fmt: skip
def test_what_is_not_supported_is_one_line(parts: dict[str, Any], message: str) -> None:
    """With the place and the way out."""
    with pytest.raises(UnsupportedModel, match=message) as caught:
        require_text_to_image(described(**parts))
    assert len(str(caught.value).splitlines()) == 1
    assert caught.value.place.startswith("m")
    assert caught.value.way_out
