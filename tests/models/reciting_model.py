"""A tiny language model that answers as it is told to: trained until it does, saved as a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from tests.models.language_models import save_folder

END: Final = "<end>"
TEMPLATE: Final = "{{ '<user>' + messages[0]['content'] + '<assistant>' }}"
SPECIAL: Final = ("<user>", "<assistant>", END)
LEARNED: Final = 0.01
MOST_STEPS: Final = 400


def reciting_folder(
    folder: Path, answers: Mapping[str, str], *, seed: int = 0, experts: int = 0
) -> Path:
    """Save a model that continues each prompt with its answer and then ends.

    Args:
        folder: Where it goes.
        answers: Answers of prompts; a prompt that goes through the chat template stands as
            `<user>PROMPT<assistant>`.
        seed: Of weights.
        experts: Routed experts of each layer; none if 0.

    Raises:
        RuntimeError: The answers were not learned.
    """
    tokenizer = _tokenizer([*answers, *answers.values()])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _mixture(tokenizer, experts) if experts else _dense(tokenizer)
    _train(model, tokenizer, answers)
    return save_folder(folder, model.eval(), tokenizer)


def _dense(tokenizer: Any) -> Any:
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(tokenizer), n_embd=96, n_layer=2, n_head=4, n_positions=512,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
            bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.eos_token_id,
        )
    )  # fmt: skip


def _mixture(tokenizer: Any, experts: int) -> Any:
    return Qwen3MoeForCausalLM(
        Qwen3MoeConfig(
            vocab_size=len(tokenizer), hidden_size=96, moe_intermediate_size=64,
            num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4,
            num_experts=experts, num_experts_per_tok=2, norm_topk_prob=True,
            max_position_embeddings=512, bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.eos_token_id,
        )
    )  # fmt: skip


def _tokenizer(texts: list[str]) -> Any:
    bytes_and_pairs = ByteLevelBPETokenizer()
    bytes_and_pairs.train_from_iterator(texts, vocab_size=700, special_tokens=list(SPECIAL))
    fast: Any = PreTrainedTokenizerFast  # has no types
    return fast(
        tokenizer_object=bytes_and_pairs._tokenizer, eos_token=END, pad_token=END,
        chat_template=TEMPLATE,
    )  # fmt: skip


def _train(model: Any, tokenizer: Any, answers: Mapping[str, str]) -> None:
    """All prompts in one batch, loss on the answers alone, until hardly any is left."""
    rows, marks = [], []
    for prompt, answer in answers.items():
        before = tokenizer.encode(prompt, add_special_tokens=False)
        after = tokenizer.encode(answer + END, add_special_tokens=False)
        rows.append(torch.tensor([*before, *after]))
        marks.append(torch.tensor([-100] * len(before) + after))
    pad = torch.nn.utils.rnn.pad_sequence
    ids = pad(rows, batch_first=True, padding_value=tokenizer.eos_token_id)
    labels = pad(marks, batch_first=True, padding_value=-100)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    for _ in range(MOST_STEPS):
        loss = model(input_ids=ids, labels=labels).loss
        if loss.item() < LEARNED:
            return
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    raise RuntimeError(f"the answers are not learned after {MOST_STEPS} steps")
