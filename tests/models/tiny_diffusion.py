"""Tiny diffusion models with random weights, as folders in diffusers' layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import safetensors.torch
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxTransformer2DModel,
    PixArtTransformer2DModel,
    SD3Transformer2DModel,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    T5Config,
    T5EncoderModel,
)

from tests.models.language_models import VOCABULARY, word_tokenizer

PROMPTS: Final = ("the red cat sees a bird", "a small fish", "the old house and the tree")
WIDTH: Final = 16
TOKENS: Final = 8
POOLED: Final = 12
NOISE: Final[dict[str, Any]] = {
    "num_train_timesteps": 50, "beta_schedule": "scaled_linear", "clip_sample": False,
    "set_alpha_to_one": False, "steps_offset": 1,
}  # fmt: skip


def transformer_folder(folder: Path, *, text: str = "clip", **changes: Any) -> Path:
    """A transformer on images of 8x8, with CLIP's text encoder or with T5's."""
    settings = {
        "sample_size": 8, "patch_size": 2, "in_channels": 1, "out_channels": 1, "num_layers": 1,
        "num_attention_heads": 2, "attention_head_dim": 8, "cross_attention_dim": WIDTH,
        "activation_fn": "geglu", "interpolation_scale": 1, **changes,
    }  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        make: Any = PixArtTransformer2DModel
        make(**settings).save_pretrained(folder / "transformer")
        (_clip() if text == "clip" else _t5()).save_pretrained(folder / "text_encoder")
    _save_rest(folder, clip=text == "clip")
    return folder


def latent_folder(folder: Path) -> Path:
    """A UNet on latents of 8x8 with an autoencoder to images of 16x16 in colour."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        _save_unet(folder, cross_attention_dim=WIDTH)
        _save_decoder(folder)
        _clip().save_pretrained(folder / "text_encoder")
    _save_rest(folder, clip=True)
    return folder


def sdxl_folder(folder: Path, *, zeros: bool = True) -> Path:
    """Stable Diffusion XL on latents of 8x8: two encoders, a pooled vector, and sizes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        _save_unet(
            folder, cross_attention_dim=2 * WIDTH, addition_embed_type="text_time",
            addition_time_embed_dim=4, projection_class_embeddings_input_dim=6 * 4 + POOLED,
        )  # fmt: skip
        _save_decoder(folder)
        _clip().save_pretrained(folder / "text_encoder")
        _projected_clip().save_pretrained(folder / "text_encoder_2")
    _save_rest(folder, clip=True)
    _save_tokenizer(folder / "tokenizer_2")
    _name(folder, "StableDiffusionXLPipeline", force_zeros_for_empty_prompt=zeros)
    return folder


def sd3_folder(folder: Path, *, t5: bool = True) -> Path:
    """Stable Diffusion 3 on latents of 8x8, with or without its third encoder."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        make: Any = SD3Transformer2DModel
        make(
            sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_layers=2,
            attention_head_dim=8, num_attention_heads=2, joint_attention_dim=3 * WIDTH,
            caption_projection_dim=16, pooled_projection_dim=2 * POOLED, pos_embed_max_size=8,
            dual_attention_layers=(0,),
        ).save_pretrained(folder / "transformer")  # fmt: skip
        _save_decoder(folder, shift=0.1)
        for end in ("", "_2"):
            _projected_clip().save_pretrained(folder / f"text_encoder{end}")
            _save_tokenizer(folder / f"tokenizer{end}")
        if t5:
            _t5(3 * WIDTH).save_pretrained(folder / "text_encoder_3")
            _save_tokenizer(folder / "tokenizer_3")
    _save_flow(folder, shift=3.0)
    _name(folder, "StableDiffusion3Pipeline")
    return folder


def flux_folder(folder: Path, *, guided: bool = True) -> Path:
    """Flux on latents of 8x8, with or without the guidance that it was distilled with."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        make: Any = FluxTransformer2DModel
        make(
            patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=8,
            num_attention_heads=2, joint_attention_dim=24, pooled_projection_dim=WIDTH,
            guidance_embeds=guided, axes_dims_rope=(2, 2, 4),
        ).save_pretrained(folder / "transformer")  # fmt: skip
        _save_decoder(folder, shift=0.1)
        _clip().save_pretrained(folder / "text_encoder")
        _t5(24).save_pretrained(folder / "text_encoder_2")
    for end in ("", "_2"):
        _save_tokenizer(folder / f"tokenizer{end}")
    _save_flow(folder, use_dynamic_shifting=True)
    _name(folder, "FluxPipeline")
    return change_config(folder, "transformer/config.json", sample_size=8)


def _save_unet(folder: Path, **settings: Any) -> None:
    make: Any = UNet2DConditionModel
    make(
        sample_size=8, in_channels=4, out_channels=4, layers_per_block=1, norm_num_groups=4,
        block_out_channels=(8, 16), attention_head_dim=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), **settings,
    ).save_pretrained(folder / "unet")  # fmt: skip


def _save_decoder(folder: Path, shift: float | None = None) -> None:
    decoder: Any = AutoencoderKL
    decoder(
        block_out_channels=(8, 8), norm_num_groups=4, latent_channels=4, sample_size=16,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        scaling_factor=0.2, shift_factor=shift,
    ).save_pretrained(folder / "vae")  # fmt: skip


def _clip_config() -> Any:
    return CLIPTextConfig(
        vocab_size=len(VOCABULARY), hidden_size=WIDTH, intermediate_size=WIDTH, eos_token_id=2,
        num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=TOKENS,
        pad_token_id=0, bos_token_id=1, initializer_factor=20.0, projection_dim=POOLED,
    )  # fmt: skip


def _clip() -> Any:
    return CLIPTextModel(_clip_config())


def _projected_clip() -> Any:
    return CLIPTextModelWithProjection(_clip_config())


def _t5(width: int = WIDTH) -> Any:
    return T5EncoderModel(T5Config(
        vocab_size=len(VOCABULARY), d_model=width, d_kv=8, d_ff=WIDTH, num_layers=1, num_heads=2,
        pad_token_id=0, eos_token_id=2,
    ))  # fmt: skip


def _save_tokenizer(folder: Path) -> None:
    tokenizer = word_tokenizer(start=True)
    tokenizer.model_max_length = TOKENS
    tokenizer.save_pretrained(folder)


def _save_rest(folder: Path, *, clip: bool) -> None:
    _save_tokenizer(folder / "tokenizer")
    scheduler: Any = DDIMScheduler
    scheduler(**NOISE, **({} if clip else {"trained_betas": None})).save_pretrained(
        folder / "scheduler"
    )


def _save_flow(folder: Path, **settings: Any) -> None:
    scheduler: Any = FlowMatchEulerDiscreteScheduler
    scheduler(num_train_timesteps=1_000, **settings).save_pretrained(folder / "scheduler")


def _name(folder: Path, name: str, **settings: Any) -> None:
    """Say which pipeline it is."""
    said = json.dumps({"_class_name": name, **settings})
    (folder / "model_index.json").write_text(said, "utf-8")


def change_config(folder: Path, name: str, **changes: Any) -> Path:
    """Change what a configuration in the folder says; None removes a key."""
    path = folder / name
    config = {**json.loads(path.read_text("utf-8")), **changes}
    kept = {key: value for key, value in config.items() if key not in changes or value is not None}
    path.write_text(json.dumps(kept), "utf-8")
    return folder


def change_weights(folder: Path, part: str, change: Any) -> Path:
    """Apply a function to every tensor of a component."""
    for path in sorted((folder / part).glob("*.safetensors")):
        tensors = safetensors.torch.load_file(path)
        changed = {name: change(name, tensor) for name, tensor in tensors.items()}
        safetensors.torch.save_file(changed, path, metadata={"format": "pt"})
    return folder
