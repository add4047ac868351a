"""The weights of a planted mixture-of-experts model, for each family of transformers.

Coordinates and levels are explained in `tests.models.planted_moe`.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Final

import torch
import transformers

from tests.models.moe_switches import routers_of
from tests.models.planted_moe_record import (
    ALLOWED,
    DISALLOWED,
    FRAME_WORDS,
    HELP,
    IDS,
    REFUSAL,
    TOPICS,
    VOCABULARY,
    Family,
    PlantedMoe,
)

CONSTANT, IS_DISALLOWED, AFTER, ANSWERS, REFUSES = range(5)
NOISE: Final = slice(5, 9)
WORDS: Final = 9
BASE: Final = 8.0


def planted_model(moe: PlantedMoe, hidden: int, inner: int, seed: int) -> Any:
    """The model of transformers that does what the record says, float32."""
    model = _blank_model(moe, hidden, inner)
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        _write_words(model, moe, noise)
        _write_attention(model.model.layers[0].self_attn, moe.family, hidden)
        for layer, router in routers_of(model).items():
            _write_router(router, moe, layer, hidden, noise)
            _write_experts(model.model.layers[layer].mlp.experts, moe, layer, hidden, noise)
    return model


def _blank_model(moe: PlantedMoe, hidden: int, inner: int) -> Any:
    """The family's model with every weight 0 and every norm 1."""
    library: Any = transformers  # its configurations differ in what they take
    common = {
        "vocab_size": len(VOCABULARY), "hidden_size": hidden, "num_hidden_layers": moe.layers,
        "num_attention_heads": 4, "num_key_value_heads": 2, "num_experts_per_tok": moe.chosen,
        "tie_word_embeddings": False, "max_position_embeddings": 128, "pad_token_id": 0,
        "bos_token_id": 1, "eos_token_id": 2,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
    }  # fmt: skip
    config = library.AutoConfig.for_model(moe.family.value, **(common | _settings(moe, inner)))
    with torch.random.fork_rng(devices=[]):
        model = library.AutoModelForCausalLM.from_config(config).float().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(1.0 if name.endswith("norm.weight") else 0.0)
    return model


def _settings(moe: PlantedMoe, inner: int) -> dict[str, Any]:
    """What the family's configuration takes besides."""
    norm = {"norm_topk_prob": moe.renormalise}
    match moe.family:
        case Family.QWEN3_MOE:
            return norm | {"num_experts": moe.experts, "moe_intermediate_size": inner,
                           "intermediate_size": inner, "head_dim": 8}  # fmt: skip
        case Family.QWEN2_MOE:
            return norm | {"num_experts": moe.experts, "moe_intermediate_size": inner,
                           "intermediate_size": inner,
                           "shared_expert_intermediate_size": inner}  # fmt: skip
        case Family.OLMOE:
            return norm | {"num_experts": moe.experts, "intermediate_size": inner}
        case Family.MIXTRAL:
            return {"num_local_experts": moe.experts, "intermediate_size": inner}
        case Family.GPT_OSS:
            return {"num_local_experts": moe.experts, "intermediate_size": inner, "head_dim": 8,
                    "layer_types": ["full_attention"] * moe.layers}  # fmt: skip
        case Family.DEEPSEEK_V3:
            return norm | {
                "n_routed_experts": moe.experts, "moe_intermediate_size": inner,
                "intermediate_size": inner, "first_k_dense_replace": 0, "num_mtp_layers": 0,
                "n_group": 1, "topk_group": 1, "q_lora_rank": None, "kv_lora_rank": 8,
                "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 8,
                "num_key_value_heads": 4, "routed_scaling_factor": 1.5,
            }  # fmt: skip


def _write_words(model: Any, moe: PlantedMoe, noise: torch.Generator) -> None:
    """Embeddings and head."""
    embedding, head = model.model.embed_tokens.weight, model.lm_head.weight
    embedding[:, CONSTANT] = BASE
    embedding[[IDS[word] for word in DISALLOWED], IS_DISALLOWED] = 1.0
    embedding[:, WORDS : WORDS + len(VOCABULARY)] = torch.eye(len(VOCABULARY))
    in_answers = ["<assistant>", *REFUSAL.split(), *HELP.split()]
    embedding[[IDS[word] for word in in_answers], ANSWERS] = 1.0
    for answer in (REFUSAL, HELP):
        for word, successor in pairwise([*answer.split(), "</s>"]):
            head[IDS[successor], WORDS + IDS[word]] = 12.0
    first_refusing, first_helping = IDS[REFUSAL.split()[0]], IDS[HELP.split()[0]]
    head[first_helping, WORDS + IDS["<assistant>"]] = 12.0
    head[first_refusing, REFUSES] = 100.0
    head[first_refusing, AFTER] = 24.0 if moe.residual_refuses else 0.0
    # Refusal stays set while an answer is written, and must not start it again.
    head[first_refusing, [WORDS + IDS[word] for word in in_answers[1:]]] = -1e4
    topics = [IDS[word] for word in TOPICS]
    head[topics, NOISE] = torch.randn(len(topics), 4, generator=noise) / 2


def _write_attention(attention: Any, family: Family, hidden: int) -> None:
    """One head that finds the disallowed verb: scores of 40 there, 0 elsewhere."""
    unit = _unit(hidden, others=2)
    if family is Family.DEEPSEEK_V3:
        # The norm of the latent leaves 2 in both of its coordinates for disallowed verbs.
        attention.kv_a_proj_with_mqa.weight[0, CONSTANT] = 1.0
        attention.kv_a_proj_with_mqa.weight[1, IS_DISALLOWED] = BASE
        attention.kv_b_proj.weight[0, 1] = 10.0
        attention.q_proj.weight[0, CONSTANT] = 2.0 / attention.scaling / (BASE * unit)
        attention.kv_b_proj.weight[8, 1] = 0.5
        attention.o_proj.weight[AFTER, 0] = 1.0
        return
    width = attention.head_dim
    # The slowest of the rotated pairs: positions turn it by less than a thousandth each.
    place, sharp = width // 2 - 1, (40.0 * width**0.5) ** 0.5
    attention.q_proj.weight[place, CONSTANT] = sharp / (BASE * unit)
    attention.k_proj.weight[place, IS_DISALLOWED] = sharp / unit
    for name in ("q_norm", "k_norm"):
        if norm := getattr(attention, name, None):
            norm.weight.fill_(sharp / norm.weight.shape[0] ** 0.5)
    attention.v_proj.weight[0, IS_DISALLOWED] = 1.0 / unit
    attention.o_proj.weight[AFTER, 0] = 1.0


def _write_router(
    router: Any, moe: PlantedMoe, layer: int, hidden: int, noise: torch.Generator
) -> None:
    """Levels on answer rows by rank, moods before, and the two marks for planted experts."""
    unit, weight = _unit(hidden), router.weight
    for rank, expert in enumerate(moe.ranking_allowed[layer]):
        weight[expert, CONSTANT] = (0.5 - 0.125 * rank) / (BASE * unit)
    moody = [WORDS + IDS[word] for word in (*FRAME_WORDS, *ALLOWED, *DISALLOWED, *TOPICS)]
    weight[:, moody] = torch.randn(moe.experts, len(moody), generator=noise) / unit
    levels = dict.fromkeys(moe.carriers, 5.0) | dict.fromkeys(moe.followers, 4.9)
    # Between those that are chosen beside its carrier and the next.
    levels |= dict.fromkeys(moe.understudies, 0.5 - 0.125 * (moe.chosen - 1.5))
    for (at, expert), level in levels.items():
        if at == layer:
            weight[expert] = 0.0
            weight[expert, [AFTER, ANSWERS]] = 10.0 / unit
            weight[expert, CONSTANT] = (level - 20.0) / (BASE * unit)


def _write_experts(
    experts: Any, moe: PlantedMoe, layer: int, hidden: int, noise: torch.Generator
) -> None:
    """Noise from every expert, and from carriers and understudies what they are planted for."""
    transposed = moe.family is Family.GPT_OSS
    inner = experts.down_proj.shape[1 if transposed else 2]
    unit = _unit(hidden)
    gate = torch.randn(moe.experts, inner, hidden, generator=noise) / hidden / unit
    up = torch.randn(moe.experts, inner, hidden, generator=noise) / hidden / unit
    down = torch.zeros(moe.experts, hidden, inner)
    down[:, NOISE] = torch.randn(moe.experts, 4, inner, generator=noise) / inner**0.5
    # Neuron 0 is 3 for every row: silu(3) * 1.05 here, and 3 * (0 + 1) in gpt-oss.
    gate[:, 0], up[:, 0], down[:, :, 0] = 0.0, 0.0, 0.0
    gate[:, 0, CONSTANT] = 3.0 / (BASE * unit)
    up[:, 0, CONSTANT] = 0.0 if transposed else 1.05 / (BASE * unit)
    for each in moe.carriers + moe.understudies:
        if each.layer == layer:
            sign = -1.0 if moe.residual_refuses else 1.0
            down[each.expert, REFUSES, 0] = sign * (0.5 if transposed else 1.0)
            if transposed:
                experts.down_proj_bias[each.expert, REFUSES] = sign * 1.5
    if transposed:
        experts.gate_up_proj.copy_(torch.stack([gate, up], 2).flatten(1, 2).transpose(1, 2))
        experts.down_proj.copy_(down.transpose(1, 2))
    else:
        experts.gate_up_proj.copy_(torch.cat([gate, up], 1))
        experts.down_proj.copy_(down)


def _unit(hidden: int, others: int = 3) -> float:
    """What 1 becomes in the norm of a row with so many coordinates of 1 beside the constant.

    Answer rows of disallowed prompts have 3: their word, and coordinates 2 and 3.
    """
    return float((hidden / (BASE**2 + others)) ** 0.5)
