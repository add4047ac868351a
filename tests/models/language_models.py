"""Tiny language models with word-level tokenizers, made from a configuration and saved."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from auditor.language.opening import quiet_transformers

SPECIAL = ("<pad>", "<s>", "</s>", "<unk>", "<user>", "<assistant>")
WORDS = (
    "the", "a", "red", "blue", "green", "small", "old", "cat", "dog", "bird", "fish", "sees",
    "likes", "finds", "keeps", "house", "tree", "river", "stone", "and", "or", "not", "very",
    "often", "here", "there", "now", "then", "who", "what",
)  # fmt: skip
VOCABULARY = SPECIAL + WORDS
Family = Literal["gpt2", "llama", "mamba", "qwen3_moe"]


def word_tokenizer(
    *,
    start: bool = False,
    template: str | None = None,
    vocabulary: Sequence[str] = VOCABULARY,
) -> Any:
    """One token for each word of a vocabulary; with `start` it puts `<s>` before every text."""
    ids = {word: number for number, word in enumerate(vocabulary)}
    tokenizer = Tokenizer(WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    if start:
        tokenizer.post_processor = TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", ids["<s>"])]
        )
    make: Any = PreTrainedTokenizerFast
    fast = make(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>" if start else None,
        eos_token="</s>",
    )
    fast.chat_template = template
    return fast


def random_model(family: Family = "gpt2", *, seed: int = 0, layers: int = 2) -> Any:
    """Random weights, large enough that next tokens differ clearly."""
    settings: dict[str, Any] = {
        "vocab_size": len(VOCABULARY), "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
        "initializer_range": 0.3,
    }  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if family == "gpt2":
            return GPT2LMHeadModel(
                GPT2Config(n_embd=32, n_layer=layers, n_head=4, n_positions=64, **settings)
            )
        if family == "mamba":
            return MambaForCausalLM(
                MambaConfig(hidden_size=32, num_hidden_layers=layers, state_size=4, **settings)
            )
        settings |= {
            "hidden_size": 32, "num_hidden_layers": layers, "num_attention_heads": 4,
            "num_key_value_heads": 2, "max_position_embeddings": 64,
        }  # fmt: skip
        if family == "qwen3_moe":
            return Qwen3MoeForCausalLM(
                Qwen3MoeConfig(
                    moe_intermediate_size=24, num_experts=8, num_experts_per_tok=2,
                    norm_topk_prob=True, **settings,
                )
            )  # fmt: skip
        return LlamaForCausalLM(LlamaConfig(intermediate_size=48, **settings))


def save_folder(folder: Path, model: Any, tokenizer: Any, *, shard: str = "5GB") -> Path:
    """The folder that transformers writes, safetensors and all; no weights file over `shard`."""
    with quiet_transformers():
        model.save_pretrained(folder, max_shard_size=shard)
        tokenizer.save_pretrained(folder)
    return folder
