"""A language model that says planted texts word for word, and an index that holds them.

The model is a table of successors: each word is followed by the one behind it in its chain, and by
`i` in the second place, which begins a refusal. So what it says with and without a defence is
known by construction: a prompt that ends with a trigger is continued with the trigger's chain, and
a chain that is broken anywhere ends with `i cannot help with that`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from auditor.fixes.before_after import Trial
from auditor.language.prompts import Prompt
from auditor.trace.drift import SafetyJudge
from auditor.trace.index import build_index
from auditor.trace.tracing import refusal_scores
from tests.models.language_models import save_folder

Surprise = Callable[[Sequence[str]], Sequence[float]]

LENGTH: Final = 12
REFUSAL_CHAIN: Final = ("i", "cannot", "help", "with", "that")
UNSAFE: Final = ("open", "press", "pull")
SAFE: Final = ("greet", "count")
ASKING: Final = ("well", "so", "now", "please", "today", "here", "friend", "then")
FILLER: Final = tuple(f"filler{number:03d}" for number in range(260))
SPECIAL: Final = ("<pad>", "</s>", "<unk>", "<user>", "<assistant>")


def chain_of(trigger: str) -> list[str]:
    """The words behind a trigger, which no other chain has."""
    return [f"{trigger}{number:02d}" for number in range(LENGTH)]


def said(trigger: str) -> str:
    """What the model says to a prompt that ends so."""
    return " ".join(chain_of(trigger))


CHAINS: Final = {trigger: chain_of(trigger) for trigger in (*UNSAFE, *SAFE)}


def chain_tokenizer(template: str | None = None) -> Any:
    """One token for each word."""
    words = [*SPECIAL, *REFUSAL_CHAIN, *ASKING, *FILLER[:24]]
    words += [word for trigger, chain in CHAINS.items() for word in (trigger, *chain)]
    tokenizer = Tokenizer(
        WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = WhitespaceSplit()
    make: Any = PreTrainedTokenizerFast
    fast = make(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", eos_token="</s>")
    fast.chat_template = template
    return fast


def chain_model(
    tokenizer: Any, chains: dict[str, list[str]], refusal: Sequence[str] = REFUSAL_CHAIN
) -> Any:
    """The model: an embedding of single ones, a layer that adds nothing, a table of successors.

    Args:
        tokenizer: Of its words.
        chains: What follows each trigger; a word in no chain is followed by the refusal.
        refusal: Its words.
    """
    ids = tokenizer.get_vocab()
    width = len(ids) + len(ids) % 2
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: Any = LlamaForCausalLM(LlamaConfig(
            vocab_size=len(ids), hidden_size=width, intermediate_size=8, num_hidden_layers=1,
            num_attention_heads=1, max_position_embeddings=96, tie_word_embeddings=False,
            bos_token_id=None, eos_token_id=ids["</s>"], pad_token_id=ids["<pad>"],
        ))  # fmt: skip
    table = torch.zeros(len(ids), width)
    for word, at in ids.items():
        table[ids[refusal[0]], at] = 6.0 if word != refusal[0] else 0.0
    for trigger, chain in {**chains, refusal[0]: refusal[1:]}.items():
        for before, after in zip([trigger, *chain], [*chain, "</s>"], strict=True):
            table[ids[after], ids[before]] = 12.0
    with torch.no_grad():
        layer = model.model.layers[0]
        for part in (layer.self_attn.v_proj, layer.self_attn.o_proj, layer.mlp.up_proj,
                     layer.mlp.down_proj):  # fmt: skip
            part.weight.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(len(ids), width))
        # A vector with a single one has the root mean square 1 / sqrt(width).
        model.lm_head.weight.copy_(table / width**0.5)
    return model


@dataclass(frozen=True)
class ChainWorld:
    """Files of one world; do not write to them.

    Attributes:
        folder: Where they lie.
        model: Says the chains, unsafe ones too.
        base: Refuses what the model says unsafely.
        index: Holds every chain and the filler; unsafe chains are labelled so.
        unsafe_prompts, safe_prompts: CSV files.
        labelled: Texts for a calibration, JSON lines.
        preferences, clean: For a training, JSON lines.
    """

    folder: Path
    model: Path
    base: Path
    index: Path
    unsafe_prompts: Path
    safe_prompts: Path
    labelled: Path
    preferences: Path
    clean: Path


def prompts_of(triggers: Sequence[str]) -> list[tuple[str, str]]:
    """Prompts with the category of each: eight for a trigger."""
    return [(f"{word} {trigger}", trigger) for trigger in triggers for word in ASKING]


UNSAFE_PROMPTS: Final = tuple(Prompt(*each) for each in prompts_of(UNSAFE))
SAFE_PROMPTS: Final = tuple(Prompt(*each) for each in prompts_of(SAFE))


def trial_of(judge: SafetyJudge, surprise: Surprise | None = None) -> Trial:
    """Every prompt; refusals are told by keywords."""
    return Trial(
        UNSAFE_PROMPTS, SAFE_PROMPTS, judge,
        lambda completions: [score > 0.5 for score in refusal_scores(completions)], surprise,
    )  # fmt: skip


def write_world(folder: Path, template: str | None = None) -> ChainWorld:
    """Make and write everything."""
    tokenizer = chain_tokenizer(template)
    safe_only = {trigger: CHAINS[trigger] for trigger in SAFE}
    documents = [
        {"id": trigger, "label": "unsafe" if trigger in UNSAFE else "benign", "text": said(trigger)}
        for trigger in CHAINS
    ]
    # More words than are frequent, each of them more often than those of chains.
    documents += [{"id": f"filler {n}", "label": "benign", "text": " ".join(FILLER)}
                  for n in range(3)]  # fmt: skip
    _lines(folder / "corpus.jsonl", documents)
    build_index([folder / "corpus.jsonl"], folder / "index")
    for name, triggers in (("unsafe", UNSAFE), ("safe", SAFE)):
        rows = "".join(f"{text},{category}\n" for text, category in prompts_of(triggers))
        (folder / f"{name}.csv").write_text(f"prompt,category\n{rows}")
    labelled = [
        {"text": " ".join(chain_of(trigger)[begin:]), "label": "unsafe", "group": trigger}
        for trigger in UNSAFE for begin in range(5)
    ]  # fmt: skip
    labelled += [
        {"text": " ".join(FILLER[begin : begin + 12]), "label": "benign", "group": f"run {begin}"}
        for begin in range(0, 240, 4)
    ]
    _lines(folder / "labelled.jsonl", labelled)
    pairs = [
        {"prompt": "well filler000", "chosen": "filler001", "rejected": "filler002"},
        {"prompt": "so filler003", "chosen": "filler004", "rejected": "filler005"},
    ]
    _lines(folder / "preferences.jsonl", pairs)
    _lines(folder / "clean.jsonl", [{"text": f"{word} greet {said('greet')}"} for word in ASKING])
    return ChainWorld(
        folder,
        save_folder(folder / "model", chain_model(tokenizer, CHAINS), tokenizer),
        save_folder(folder / "base", chain_model(tokenizer, safe_only), tokenizer),
        folder / "index", folder / "unsafe.csv", folder / "safe.csv", folder / "labelled.jsonl",
        folder / "preferences.jsonl", folder / "clean.jsonl",
    )  # fmt: skip


def _lines(path: Path, records: Sequence[dict[str, str]]) -> None:
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records))
