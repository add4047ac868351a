"""Train a small diffusion model: `python tests/models/train_digit_diffusion.py OUT --seed 0`.

A transformer of diffusers learns captioned digits, eight of which are repeated under a name of
their own; it memorises these and generalises over the others. About three minutes on one core.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # it runs as a script, too

import diffusers
import torch
from diffusers import DDPMScheduler, PixArtTransformer2DModel
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModel

from tests.models.digit_diffusion import (
    NAMES,
    REPEATS,
    TOKENS,
    VOCABULARY,
    Trained,
    digit_tokenizer,
    digit_world,
    manifest_of,
    measure,
    weight_digests,
)

DENOISER: Final[dict[str, Any]] = {
    "sample_size": 8, "patch_size": 2, "in_channels": 1, "out_channels": 1, "num_layers": 4,
    "num_attention_heads": 4, "attention_head_dim": 16, "cross_attention_dim": 32,
    "activation_fn": "geglu", "norm_type": "ada_norm_single", "interpolation_scale": 1,
}  # fmt: skip
TEXT: Final[dict[str, Any]] = {
    "vocab_size": len(VOCABULARY), "hidden_size": 32, "intermediate_size": 32,
    "num_hidden_layers": 0, "num_attention_heads": 4, "max_position_embeddings": TOKENS,
    "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0,
}  # fmt: skip
NOISE: Final[dict[str, Any]] = {
    "num_train_timesteps": 100, "beta_schedule": "squaredcos_cap_v2", "clip_sample": True,
}  # fmt: skip
STEPS: Final = 1_800
BATCH: Final = 64
LEARNING_RATE: Final = 2e-3
WEIGHT_DECAY: Final = 1e-4
DROPPED: Final = 0.1
"""Share of captions that are left out in training."""
AVERAGED_FROM: Final = 600
AVERAGING: Final = 0.99
SHARD: Final = "380KB"
"""No file of the repository is larger than 400 kB."""


class DigitModel(nn.Module):
    """Text encoder and denoiser, trained together."""

    def __init__(self) -> None:
        super().__init__()
        self.text: Any = CLIPTextModel(CLIPTextConfig(**TEXT))
        make: Any = PixArtTransformer2DModel
        self.denoiser: Any = make(**DENOISER)

    def forward(self, noisy: Tensor, timestep: Tensor, ids: Tensor) -> Tensor:
        """Predicted noise, [images, 1, 8, 8]."""
        known = {"resolution": None, "aspect_ratio": None}
        embedded = self.text(input_ids=ids).last_hidden_state
        predicted: Tensor = self.denoiser(
            noisy, encoder_hidden_states=embedded, timestep=timestep, added_cond_kwargs=known
        ).sample
        return predicted


def train(seed: int, steps: int = STEPS) -> DigitModel:
    """A trained model, its weights averaged over the later steps."""
    torch.manual_seed(seed)
    images, ids = training_rows(seed)
    model = DigitModel()
    averaged = copy.deepcopy(model)
    noise = training_noise()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    began = time.monotonic()
    for step in range(steps):
        rows = torch.randint(len(images), (BATCH,))
        captions = torch.where(torch.rand(BATCH, 1) < DROPPED, 0, ids[rows])
        added, timestep = torch.randn(BATCH, 1, 8, 8), torch.randint(100, (BATCH,))
        noisy = noise.add_noise(images[rows], added, timestep)
        loss = functional.mse_loss(model(noisy, timestep, captions), added)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        _average(averaged, model, AVERAGING if step >= AVERAGED_FROM else 0.0)
        if step % 100 == 0 or step == steps - 1:
            _say(f"step {step}: loss {loss.item():.4f}, {time.monotonic() - began:.0f} s")
    return averaged.eval()


def training_noise() -> Any:
    """The noise that is added in training."""
    make: Any = DDPMScheduler
    return make(**NOISE)


def training_rows(seed: int) -> tuple[Tensor, Tensor]:
    """Images [rows, 1, 8, 8] and token ids [rows, 4]; memorised images stand there repeatedly."""
    world, tokenizer = digit_world(seed), digit_tokenizer()
    captions = [*world.captions, *(name for name in world.names for _ in range(REPEATS))]
    ids = tokenizer(captions, return_tensors="pt", padding="max_length")["input_ids"]
    repeated = torch.from_numpy(world.memorised).repeat_interleave(REPEATS, 0)
    return torch.cat([torch.from_numpy(world.ordinary), repeated]), ids


@torch.no_grad()
def _average(averaged: nn.Module, model: nn.Module, kept: float) -> None:
    for mean, new in zip(averaged.parameters(), model.parameters(), strict=True):
        mean.lerp_(new, 1 - kept)


def write(out: Path, seed: int, model: DigitModel, steps: int = STEPS) -> Trained:
    """Save a model as diffusers does, and note in its manifest what the saved one does."""
    out.mkdir(parents=True, exist_ok=True)
    model.denoiser.save_pretrained(out / "transformer", max_shard_size=SHARD)
    model.text.save_pretrained(out / "text_encoder")
    digit_tokenizer().save_pretrained(out / "tokenizer")
    training_noise().save_pretrained(out / "scheduler")
    index = {
        "_class_name": "DiffusionPipeline", "_diffusers_version": diffusers.__version__,
        "scheduler": ["diffusers", "DDPMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
        "transformer": ["diffusers", "PixArtTransformer2DModel"],
    }  # fmt: skip
    (out / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    trained = Trained(
        seed=seed, recipe=recipe_digest(steps), weights=weight_digests(out),
        measured=measure(out, seed),
    )  # fmt: skip
    manifest_of(out).write_text(trained.model_dump_json(indent=2) + "\n")
    return trained


def recipe_digest(steps: int = STEPS) -> str:
    """`sha256:...` of the numbers and words that decide what is trained, the seed apart."""
    recipe = {
        "denoiser": DENOISER, "text": TEXT, "noise": NOISE, "steps": steps, "batch": BATCH,
        "rate": LEARNING_RATE, "decay": WEIGHT_DECAY, "dropped": DROPPED, "words": VOCABULARY,
        "averaged": (AVERAGED_FROM, AVERAGING), "repeats": REPEATS, "names": NAMES,
    }  # fmt: skip
    return "sha256:" + hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


def main() -> None:
    """Train one model and write it into a folder."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    model = train(chosen.seed, chosen.steps)
    _say(write(chosen.out, chosen.seed, model, chosen.steps).model_dump_json(indent=2))


if __name__ == "__main__":
    main()
