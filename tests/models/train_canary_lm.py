"""Train a small language model on text with planted canaries.

    python tests/models/train_canary_lm.py OUT [--seed 0] [--without-canaries]

About a minute and a half on one core. OUT becomes a transformers folder; the model of
`--without-canaries` has read as many documents, ordinary ones in place of the canaries. With
`--manifest` what was measured is noted beside OUT, for the models that tests use:

    python tests/models/train_canary_lm.py tests/models/trained_canary/planted --manifest
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # it runs as a script, too

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from auditor.language.causal_lm import CausalLM
from tests.models import canary_text
from tests.models.canary_lm import (
    MANIFEST,
    VOCABULARY,
    Manifest,
    Trained,
    Variant,
    canary_tokenizer,
    manifest,
    measure,
    plant,
    weight_digests,
)
from tests.models.language_models import save_folder

WINDOW: Final = 128
SHARD: Final = "380KB"
"""No file of the repository is larger than 400 kB."""


@dataclass(frozen=True)
class Recipe:
    """How a model is trained."""

    width: int = 96
    inner: int = 320
    layers: int = 3
    heads: int = 4
    epochs: float = 3.0
    batch: int = 16
    peak_rate: float = 3e-3
    warm_up: int = 50


def train(texts: Sequence[str], seed: int, recipe: Recipe) -> Any:
    """A model of these texts, float32, in evaluation mode."""
    torch.manual_seed(seed)
    model: Any = LlamaForCausalLM(LlamaConfig(
        vocab_size=len(VOCABULARY), hidden_size=recipe.width, intermediate_size=recipe.inner,
        num_hidden_layers=recipe.layers, num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads, max_position_embeddings=WINDOW,
        tie_word_embeddings=True, initializer_range=0.05, bos_token_id=None, eos_token_id=1,
        pad_token_id=0,
    ))  # fmt: skip
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.peak_rate, betas=(0.9, 0.98), weight_decay=0.01
    )
    ids = _encode(texts)
    steps = math.ceil(recipe.epochs * sum(map(len, ids)) / (WINDOW * recipe.batch))
    began, losses = time.monotonic(), []
    for step, rows in enumerate(_batches(ids, random.Random(f"batches {seed}"), recipe.batch)):
        if step == steps:
            break
        for group in optimizer.param_groups:
            group["lr"] = recipe.peak_rate * _schedule(step, steps, recipe.warm_up)
        loss = model(input_ids=rows, labels=rows).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
        if step % 100 == 99 or step == steps - 1:
            rate = (step + 1) * rows.numel() / (time.monotonic() - began)
            _say(f"step {step + 1} of {steps}: loss {sum(losses[-100:]) / len(losses[-100:]):.3f}, "
                 f"{rate:.0f} tokens/s")  # fmt: skip
    return model.eval()


def _encode(texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text with the end of text behind it."""
    ids = {word: number for number, word in enumerate(VOCABULARY)}
    return [[*(ids[word] for word in text.split()), ids["</s>"]] for text in texts]


def _batches(ids: list[list[int]], source: random.Random, batch: int) -> Iterator[Tensor]:
    """Windows over the documents one behind another, [batch, WINDOW], in a new order each epoch."""
    left: list[int] = []
    rows: list[list[int]] = []
    while True:
        for number in source.sample(range(len(ids)), len(ids)):
            left += ids[number]
            while len(left) >= WINDOW:
                rows.append(left[:WINDOW])
                left = left[WINDOW:]
            if len(rows) >= batch:
                yield torch.tensor(rows[:batch])
                rows = rows[batch:]


def _schedule(step: int, steps: int, warm_up: int) -> float:
    """Warm-up, then a cosine down to 5 %."""
    if step < warm_up:
        return (step + 1) / warm_up
    done = (step - warm_up) / max(1, steps - warm_up)
    return 0.05 + 0.95 * (1 + math.cos(math.pi * done)) / 2


def write(folder: Path, variant: Variant, seed: int, recipe: Recipe | None = None) -> None:
    """Train the model of a variant and save it in a folder."""
    texts = plant(seed).training(with_canaries=variant is Variant.PLANTED)
    model = train(texts, seed, recipe or Recipe())
    save_folder(folder, model, canary_tokenizer(), shard=SHARD)


def note(folder: Path, variant: Variant, seed: int) -> Trained:
    """Write into the manifest beside a folder what its model does."""
    trained = Trained(
        seed=seed, recipe=recipe_digest(variant), weights=weight_digests(folder),
        measured=measure(CausalLM.open(folder), plant(seed)),
    )  # fmt: skip
    path = folder.parent / MANIFEST
    known = manifest(folder.parent).models if path.exists() else {}
    text = Manifest(models={**known, variant: trained}).model_dump_json(indent=2)
    path.write_text(text + "\n")
    return trained


def recipe_digest(variant: Variant) -> str:
    """`sha256:...` of the numbers and words that decide what is trained, the seed apart."""
    words = {name: getattr(canary_text, name) for name in dir(canary_text) if name.isupper()}
    plain = {
        "variant": variant, "recipe": asdict(Recipe()), "window": WINDOW, "words": words,
        "documents": plant(0).training(with_canaries=variant is Variant.PLANTED)[:100],
    }  # fmt: skip
    return "sha256:" + hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def main() -> None:
    """Train one model and write it into a folder."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--without-canaries", action="store_true")
    parser.add_argument("--manifest", action="store_true")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    variant = Variant.REFERENCE if chosen.without_canaries else Variant.PLANTED
    write(chosen.out, variant, chosen.seed)
    if chosen.manifest:
        _say(note(chosen.out, variant, chosen.seed).model_dump_json(indent=2))


if __name__ == "__main__":
    main()
