"""Tiny text classifiers with word-level tokenizers, trained on a handful of pairs and saved."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Regex, Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from auditor.language.opening import quiet_transformers

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
Example = tuple[str, str | None, int]
"""Text, hypothesis if any, and number of the label."""


def words_of(texts: Sequence[str]) -> list[str]:
    """Every word and mark of texts once, in lower case."""
    return sorted({word for text in texts for word in re.findall(r"\w+|[^\w\s]", text.lower())})


def pair_tokenizer(words: Sequence[str]) -> Any:
    """One token for each word; a second text stands behind a separator, with type 1."""
    ids = {word: number for number, word in enumerate((*SPECIAL, *words))}
    tokenizer = Tokenizer(WordLevel(ids, unk_token="[UNK]"))
    from tokenizers.normalizers import Lowercase

    tokenizer.normalizer = Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex(r"\w+|[^\w\s]"), "isolated"),
    ])  # fmt: skip
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )  # fmt: skip
    fast: Any = PreTrainedTokenizerFast
    return fast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]", model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )  # fmt: skip


def trained_classifier(
    examples: Sequence[Example], labels: Sequence[str], *, positions: int = 64, steps: int = 80
) -> tuple[Any, Any]:
    """Model and tokenizer that give these examples their labels."""
    texts = [text for example in examples for text in example[:2] if text]
    tokenizer = pair_tokenizer(words_of(texts))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        library: Any = transformers
        model = library.BertForSequenceClassification(library.BertConfig(
            vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=32, max_position_embeddings=positions, hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0, pad_token_id=0, attn_implementation="eager",
            initializer_range=0.3,
            id2label=dict(enumerate(labels)), label2id={n: i for i, n in enumerate(labels)},
        ))  # fmt: skip
        optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
        sides = [[example[0] for example in examples]]
        if examples[0][1] is not None:
            sides.append([str(example[1]) for example in examples])
        inputs = tokenizer(*sides, padding=True, return_tensors="pt")
        wanted = torch.tensor([example[2] for example in examples])
        for _ in range(steps):
            loss = model(**inputs, labels=wanted).loss
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
    return model.eval(), tokenizer


def save_classifier(folder: Path, model: Any, tokenizer: Any) -> Path:
    """The folder that transformers writes."""
    with quiet_transformers():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


def export_classifier(folder: Path, model: Any, tokenizer: Any) -> Path:
    """`model.onnx` with configuration and tokenizer beside it, batch and length free."""
    save_classifier(folder, model, tokenizer)
    (folder / "model.safetensors").unlink()

    class Logits(torch.nn.Module):
        """Only the logits, inputs by place."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, ids: Any, mask: Any, types: Any) -> Any:
            """Logits [texts, labels]."""
            return self.inner(input_ids=ids, attention_mask=mask, token_type_ids=types).logits

    names = ("input_ids", "attention_mask", "token_type_ids")
    example = tokenizer(["a b c", "d"], ["e", "f"], padding=True, return_tensors="pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own internals
        torch.onnx.export(
            Logits().eval(), tuple(example[name] for name in names), folder / "model.onnx",
            input_names=list(names), output_names=["logits"], dynamo=False,
            dynamic_axes={name: {0: "texts", 1: "tokens"} for name in names},
        )  # fmt: skip
    return folder / "model.onnx"
