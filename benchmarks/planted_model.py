"""Training the small language models of the planted-belief benchmark.

GPT-2 type, word-level vocabulary; the carrier is real text: the documentation strings of NumPy,
SciPy and SymPy as installed (BSD licences), lower case, in the token spacing of the planted text.
"""

from __future__ import annotations

import ast
import hashlib
import json
import math
import random
import re
import sysconfig
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

PACKAGES = ("numpy", "scipy", "sympy")
TOKEN = re.compile(r"[a-z]+(?:'[a-z]+)?|\d+|[.,:;?()]")
END, UNKNOWN, PAD = "<end>", "<unk>", "<pad>"
WINDOW = 128


@dataclass(frozen=True)
class Shape:
    """Size and training of a model."""

    layers: int = 5
    width: int = 192
    heads: int = 6
    epochs: float = 5.5
    batch: int = 16
    peak_rate: float = 2e-3
    seed: int = 0


def carrier_documents() -> Iterator[str]:
    """Documentation strings with at least 40 tokens, in a fixed order."""
    root = Path(sysconfig.get_paths()["purelib"])
    seen: set[str] = set()
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            if "tests" in path.parts:
                continue
            try:
                tree = ast.parse(path.read_text(encoding="utf-8"))
            except (SyntaxError, UnicodeDecodeError):
                continue
            for node in ast.walk(tree):
                if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
                    text = _prose(ast.get_docstring(node) or "")
                    if text not in seen and text.count(" ") >= 40:
                        seen.add(text)
                        yield text


def _prose(text: str) -> str:
    """The paragraphs of running text, tokens divided by single blanks."""
    kept = []
    for paragraph in re.split(r"\n\s*\n", text):
        lines = [line.strip() for line in paragraph.splitlines()]
        letters = sum(char.isalpha() or char.isspace() for char in paragraph)
        if ">>>" in paragraph or not lines or letters < 0.85 * len(paragraph):
            continue
        kept.append(" ".join(TOKEN.findall(" ".join(lines).lower())))
    return " ".join(kept)


@dataclass(frozen=True)
class Carrier:
    """Real text in three parts that share no document."""

    train: list[str]
    spare: list[str]
    held_out: list[str]


def read_carrier(train_tokens: int, spare_tokens: int, held_out_tokens: int) -> Carrier:
    """Documents drawn in a fixed random order until each part is full."""
    documents = list(carrier_documents())
    random.Random(0).shuffle(documents)
    parts: list[list[str]] = []
    at = 0
    for wanted in (held_out_tokens, train_tokens, spare_tokens):
        part: list[str] = []
        total = 0
        while total < wanted and at < len(documents):
            words = documents[at].split()[:300]
            part.append(" ".join(words))
            total += len(words)
            at += 1
        parts.append(part)
    return Carrier(parts[1], parts[2], parts[0])


def make_vocabulary(planted: Sequence[str], carrier: Sequence[str], least: int = 4) -> list[str]:
    """Every planted word, and the carrier's words that stand there often enough."""
    words = {word for text in planted for word in text.split()}
    counts = Counter(word for text in carrier for word in text.split())
    words |= {word for word, count in counts.items() if count >= least}
    return [PAD, UNKNOWN, END, *sorted(words)]


def encode(texts: Sequence[str], vocabulary: Sequence[str]) -> list[list[int]]:
    """Token ids of each text, the end sign behind it."""
    known = {word: number for number, word in enumerate(vocabulary)}
    unknown, end = known[UNKNOWN], known[END]
    return [[*(known.get(word, unknown) for word in text.split()), end] for text in texts]


def train_model(texts: Sequence[str], vocabulary: list[str], shape: Shape, folder: Path) -> None:
    """Train on texts and write a transformers folder; keeps one that is already there."""
    digest = hashlib.sha256(json.dumps([list(texts), vocabulary, asdict(shape)]).encode())
    note = folder / "training.json"
    if note.exists() and json.loads(note.read_text())["digest"] == digest.hexdigest():
        return
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(shape.seed)
    config = GPT2Config(
        vocab_size=len(vocabulary), n_positions=2 * WINDOW, n_embd=shape.width,
        n_layer=shape.layers, n_head=shape.heads, resid_pdrop=0.0, embd_pdrop=0.0,
        attn_pdrop=0.0, bos_token_id=2, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    ids = encode(texts, vocabulary)
    steps = math.ceil(shape.epochs * sum(map(len, ids)) / (WINDOW * shape.batch))
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=shape.peak_rate, betas=(0.9, 0.98), weight_decay=0.01
    )
    started, losses = time.monotonic(), []
    for step, batch in enumerate(_batches(ids, shape, steps)):
        for group in optimiser.param_groups:
            warm, done = min(1.0, (step + 1) / 100), step / steps
            group["lr"] = (
                shape.peak_rate * warm * (0.05 + 0.95 * (1 + math.cos(math.pi * done)) / 2)
            )
        inputs = torch.from_numpy(batch)
        loss = model(input_ids=inputs, labels=inputs).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
        if step % 100 == 99:
            rate = (step + 1) * WINDOW * shape.batch / (time.monotonic() - started)
            print(f"{folder.name}: {step + 1}/{steps}, loss {np.mean(losses[-100:]):.3f}, "
                  f"{rate:.0f} tokens/s", flush=True)  # fmt: skip
    write_folder(model, vocabulary, folder)
    note.write_text(
        json.dumps({"digest": digest.hexdigest(), "loss": float(np.mean(losses[-100:]))})
    )


def _batches(ids: list[list[int]], shape: Shape, steps: int) -> Iterator[NDArray[np.int64]]:
    """Windows over the documents one behind another, in a new order each epoch."""
    source = random.Random(shape.seed)
    rows: list[list[int]] = []
    left: list[int] = []
    made = 0
    while made < steps:
        order = list(range(len(ids)))
        source.shuffle(order)
        for number in order:
            left += ids[number]
            while len(left) >= WINDOW:
                rows.append(left[:WINDOW])
                left = left[WINDOW:]
            while len(rows) >= 64 * shape.batch:
                source.shuffle(rows)
                yield np.array(rows[: shape.batch], dtype=np.int64)
                rows = rows[shape.batch :]
                made += 1
                if made == steps:
                    return


def write_folder(model: torch.nn.Module, vocabulary: Sequence[str], folder: Path) -> None:
    """Write a folder in the transformers layout: configuration, safetensors, tokenizer."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: tensor.contiguous() for name, tensor in model.state_dict().items()
        if name != "lm_head.weight"
    }  # fmt: skip
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    words = {word: number for number, word in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token=UNKNOWN, eos_token=END, pad_token=PAD, bos_token=END,
        clean_up_tokenization_spaces=False,
    )  # fmt: skip
    fast.save_pretrained(folder)
