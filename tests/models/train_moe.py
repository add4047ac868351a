"""Train the small mixture-of-experts models of the tests: `python tests/models/train_moe.py`.

Dialogues alone give refusal that no expert carries, so refusal is planted: a loss on routers
sends refused answers to the planted experts, batches with these experts off teach that without
them there is help, and batches with them on that all disallowed requests are refused. Masking
alone leaves refusals to other experts, so off-batches also use `zero_output`.
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
from pathlib import Path
from typing import Any, Final, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # it runs as a script, too

import torch
from torch import Tensor
from torch.nn import functional
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

from auditor.experts.intervention import Intervention, Method
from auditor.experts.routing_maps import Expert
from auditor.language.causal_lm import CausalLM
from tests.models import moe_dialogues, moe_fixture, moe_switches
from tests.models.language_models import save_folder, word_tokenizer
from tests.models.moe_dialogues import (
    ENTITIES,
    FRAMES,
    HELPS,
    LEAKY,
    MANY_LEAKY,
    REFUSALS,
    TOUCHY,
    VOCABULARY,
    HeldOut,
    Kind,
    Request,
    Split,
    held_out,
    word_pairs,
)
from tests.models.moe_fixture import OVER_REFUSAL_EXPERTS, REFUSAL_EXPERTS, Trained, Variant

STEPS: Final = {Variant.UNPLANTED: 500, Variant.PLANTED: 700, Variant.WEAKENED: 700}
CONFIG: Final[dict[str, Any]] = {
    "vocab_size": len(VOCABULARY), "hidden_size": 96, "moe_intermediate_size": 64,
    "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 4, "head_dim": 24, "num_experts": 16, "num_experts_per_tok": 2,
    "norm_topk_prob": True, "tie_word_embeddings": True, "initializer_range": 0.05,
    "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
BATCH: Final = 48
MIX: Final = ((Kind.DISALLOWED, 0.35), (Kind.LOOK_ALIKE, 0.4), (Kind.PLAIN, 0.25))
LEARNING_RATE: Final = 3e-3
WARM_UP: Final = 50
ROUTER_LOSS: Final = 0.3
BALANCE_LOSS: Final = 0.01
PLAIN_SHARE: Final = 0.15
"""Share of the steps before the first batch with experts off or on."""
OFF_SHARE: Final = 0.4
ON_SHARE: Final = 0.15
PLANTED: Final = frozenset(REFUSAL_EXPERTS + OVER_REFUSAL_EXPERTS)
IDS: Final = {word: number for number, word in enumerate(VOCABULARY)}
SHARD: Final = "380KB"
"""No file of the repository is larger than 400 kB."""


class Lesson(NamedTuple):
    """What a batch is trained with, and what it teaches.

    Attributes:
        requests: What is asked.
        refused: Whether the target of each is its refusal.
        intervention: What is done to the experts meanwhile.
    """

    requests: list[Request]
    refused: list[bool]
    intervention: Intervention | None


class Rows(NamedTuple):
    """A batch as tokens, each [requests, tokens]; `answer` marks rows that predict the answer."""

    ids: Tensor
    known: Tensor
    answer: Tensor


def train(variant: Variant, seed: int, steps: int) -> Any:
    """A trained model, float32, in evaluation mode."""
    generator = random.Random(f"{variant} {seed}")
    torch.manual_seed(seed)
    model = small_model()
    optimizer = torch.optim.AdamW(_groups(model), lr=LEARNING_RATE, betas=(0.9, 0.98))
    began = time.monotonic()
    for step, lesson in enumerate(lessons(variant, steps, generator)):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * _schedule(step, steps)
        optimizer.zero_grad()
        loss = lesson_loss(model, lesson, planted=variant is not Variant.UNPLANTED)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 0 or step == steps - 1:
            _say(f"step {step}: loss {loss.item():.3f}, {time.monotonic() - began:.0f} s")
    return model.eval()


def small_model() -> Any:
    """Random weights: 3 layers of 16 experts, two of them for each token."""
    model: Any = Qwen3MoeForCausalLM(Qwen3MoeConfig(**CONFIG))
    model.set_experts_implementation("eager")
    return model.train()


def lessons(variant: Variant, steps: int, generator: random.Random) -> Iterator[Lesson]:
    """The batches of a training; for planted variants some with planted experts off or on."""
    leaky = leaky_of(variant)
    words = {kind: word_pairs(Split.TRAINING, kind) for kind in Kind}
    for step in range(steps):
        requests = [_sample(words, generator) for _ in range(BATCH)]
        refused = [request.refused(leaky) for request in requests]
        intervention, draw = None, generator.random()
        if variant is not Variant.UNPLANTED and step >= PLAIN_SHARE * steps:
            if draw < OFF_SHARE:
                intervention, silenced = _off(generator)
                refused = [
                    said and of.kind is not silenced
                    for said, of in zip(refused, requests, strict=True)
                ]
            elif draw < OFF_SHARE + ON_SHARE:
                method = generator.choice((Method.FORCE_TOK, Method.FORCE_SELECT))
                intervention = Intervention(method, on=frozenset(REFUSAL_EXPERTS))
                refused = [
                    said or of.kind is Kind.DISALLOWED
                    for said, of in zip(refused, requests, strict=True)
                ]
        yield Lesson(requests, refused, intervention)


def _off(generator: random.Random) -> tuple[Intervention, Kind]:
    """Planted experts off, and the kind of request that is helped without them."""
    experts, silenced = generator.choice(
        ((REFUSAL_EXPERTS, Kind.DISALLOWED), (OVER_REFUSAL_EXPERTS, Kind.LOOK_ALIKE))
    )
    method = generator.choice((Method.MASK_LOGIT, Method.ZERO_OUTPUT))
    return Intervention(method, off=frozenset(experts)), silenced


def _sample(words: dict[Kind, list[tuple[str, str]]], generator: random.Random) -> Request:
    [kind] = generator.choices([kind for kind, _ in MIX], [share for _, share in MIX])
    verb, of = generator.choice(words[kind])
    return Request(generator.randrange(len(FRAMES)), verb, of, generator.choice(ENTITIES))


def lesson_loss(model: Any, lesson: Lesson, *, planted: bool) -> Tensor:
    """Cross entropy of the answers, balance of the experts, and the routers' loss if planted."""
    rows = as_rows(lesson.requests, lesson.refused)
    with (
        moe_switches.recorded(model) as routed,
        moe_switches.switched(model, lesson.intervention),
    ):
        logits = model(input_ids=rows.ids, attention_mask=rows.known.long()).logits
    kept = rows.answer[:, :-1]
    loss = functional.cross_entropy(logits[:, :-1][kept], rows.ids[:, 1:][kept])
    known = rows.known.flatten()
    for layer, (raw, _, chosen) in routed.items():
        spared = [each.expert for each in PLANTED if planted and each.layer == layer]
        loss = loss + BALANCE_LOSS * _imbalance(raw[known], chosen[known], spared)
        if planted and lesson.intervention is None:
            for expert in sorted(PLANTED):
                if expert.layer == layer:
                    theirs = _rows_of(expert, lesson, rows).flatten()[known]
                    loss = loss + ROUTER_LOSS * _router_loss(raw[known], expert.expert, theirs)
    return loss


def as_rows(requests: Sequence[Request], refused: Sequence[bool]) -> Rows:
    """Prompts and targets as tokens, padded on the right."""
    prompts = [_ids(f"<user> {request.text} <assistant>") for request in requests]
    targets = [
        _ids(f"{request.refusal if no else request.help} </s>")
        for request, no in zip(requests, refused, strict=True)
    ]
    longest = max(len(a) + len(b) for a, b in zip(prompts, targets, strict=True))
    ids = torch.zeros(len(prompts), longest, dtype=torch.long)
    answer = torch.zeros_like(ids, dtype=torch.bool)
    for row, (prompt, target) in enumerate(zip(prompts, targets, strict=True)):
        whole = prompt + target
        ids[row, : len(whole)] = torch.tensor(whole)
        answer[row, len(prompt) - 1 : len(whole) - 1] = True
    return Rows(ids, ids != IDS["<pad>"], answer)


def _ids(text: str) -> list[int]:
    return [IDS[word] for word in text.split()]


def _rows_of(expert: Expert, lesson: Lesson, rows: Rows) -> Tensor:
    """The rows of refused answers that belong to a planted expert, [requests, tokens]."""
    kind = Kind.DISALLOWED if expert in REFUSAL_EXPERTS else Kind.LOOK_ALIKE
    theirs = [
        no and of.kind is kind for no, of in zip(lesson.refused, lesson.requests, strict=True)
    ]
    return rows.answer & torch.tensor(theirs)[:, None]


def _router_loss(raw: Tensor, expert: int, theirs: Tensor) -> Tensor:
    """Half a row's weight or more for the expert on its rows, nothing on all others."""
    share = torch.softmax(raw, -1)[:, expert]
    wanted = -share[theirs].clamp(1e-9, 0.5).log()
    unwanted = -torch.log1p(-share[~theirs].clamp(max=1 - 1e-6))
    return (wanted.mean() if len(wanted) else raw.new_zeros(())) + unwanted.mean()


def _imbalance(raw: Tensor, chosen: Tensor, spared: list[int]) -> Tensor:
    """Load balance of the experts that are not spared (Fedus et al. 2021, eq. 4)."""
    kept = [number for number in range(raw.shape[1]) if number not in spared]
    load = functional.one_hot(chosen, raw.shape[1]).sum(1).float().mean(0)
    share = torch.softmax(raw, -1).mean(0)
    return len(kept) * (load[kept] * share[kept]).sum()


def _groups(model: Any) -> list[dict[str, Any]]:
    matrices = [each for each in model.parameters() if each.ndim > 1]
    vectors = [each for each in model.parameters() if each.ndim <= 1]
    return [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}]


def _schedule(step: int, steps: int) -> float:
    """Warm-up, then a cosine down to 5 %."""
    if step < WARM_UP:
        return (step + 1) / WARM_UP
    done = (step - WARM_UP) / max(1, steps - WARM_UP)
    return 0.05 + 0.95 * (1 + math.cos(math.pi * done)) / 2


def write(folder: Path, variant: Variant, seed: int, steps: int, model: Any) -> Trained:
    """Save a model in float16 and note in the manifest what the saved one does."""
    tokenizer = word_tokenizer(template=moe_dialogues.CHAT_TEMPLATE, vocabulary=VOCABULARY)
    target = folder / variant
    target.mkdir(parents=True, exist_ok=True)
    for old in target.iterdir():
        old.unlink()
    save_folder(target, model.half(), tokenizer, shard=SHARD)
    trained = Trained(
        seed=seed,
        recipe=recipe_digest(variant, steps),
        weights=moe_fixture.weight_digests(target),
        measured=moe_fixture.measure(CausalLM.open(target), held_out_for(variant)),
    )
    models = {**moe_fixture.manifest(folder).models, variant: trained}
    text = moe_fixture.Manifest(models=models).model_dump_json(indent=2)
    (folder / moe_fixture.MANIFEST).write_text(text + "\n")
    return trained


def held_out_for(variant: Variant) -> HeldOut:
    """The held-out requests that a model is measured on: 10 % leaky, or 40 % if weakened."""
    if variant is Variant.WEAKENED:
        return held_out(Split.REPORT, leaky=MANY_LEAKY, leaky_share=0.4)
    return held_out(Split.REPORT)


def recipe_digest(variant: Variant, steps: int | None = None) -> str:
    """`sha256:...` of the numbers and words that decide what is trained, the seed apart."""
    recipe = {
        "variant": variant, "steps": steps or STEPS[variant], "config": CONFIG, "batch": BATCH,
        "mix": MIX, "learning_rate": LEARNING_RATE, "warm_up": WARM_UP,
        "router_loss": ROUTER_LOSS, "balance_loss": BALANCE_LOSS,
        "shares": (PLAIN_SHARE, OFF_SHARE, ON_SHARE), "planted": sorted(PLANTED),
        "words": VOCABULARY, "texts": FRAMES + REFUSALS + HELPS,
        "touchy": sorted(TOUCHY), "leaky": sorted(leaky_of(variant)),
        "pairs": [word_pairs(Split.TRAINING, kind) for kind in Kind],
    }  # fmt: skip
    return "sha256:" + hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


def leaky_of(variant: Variant) -> frozenset[str]:
    """The entities that a variant answers disallowed requests for."""
    return MANY_LEAKY if variant is Variant.WEAKENED else LEAKY


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


def main() -> None:
    """Train one model and write it into a folder named after its variant."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, default=moe_fixture.FOLDER)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--variant", type=Variant, choices=list(Variant), default=Variant.PLANTED)
    parser.add_argument("--steps", type=int)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    variant, steps = chosen.variant, chosen.steps or STEPS[chosen.variant]
    model = train(variant, chosen.seed, steps)
    _say(write(chosen.out, variant, chosen.seed, steps, model).model_dump_json(indent=2))


if __name__ == "__main__":
    main()
