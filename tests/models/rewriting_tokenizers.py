"""Tokenizers that rewrite their own added token while they are built, which hangs or crashes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.models.model_folders import TOKENIZER

_ADDED: dict[str, Any] = {
    "id": 1, "single_word": False, "lstrip": False, "rstrip": False, "special": False,
    "normalized": True,
}  # fmt: skip


def rewriting_tokenizer(
    pattern: dict[str, str], content: str, times: int, token: str
) -> dict[str, Any]:
    """The files of a tokenizer that replaces a pattern so many times in its added token."""
    rule = {"type": "Replace", "pattern": pattern, "content": content}
    normaliser = {"type": "Sequence", "normalizers": [rule] * times}
    added = [{**_ADDED, "content": token}]
    return {
        "tokenizer.json": {**TOKENIZER, "added_tokens": added, "normalizer": normaliser},
        "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast"},
    }


def crashing_tokenizer() -> dict[str, Any]:
    """An expression that backtracks for ever ends the tokenizer's Rust code with a panic."""
    return rewriting_tokenizer({"Regex": "(b+)+c"}, "x", 1, "b" * 40)


def spoil_tokenizer(folder: Path) -> Path:
    """Put the tokenizer that crashes in place of a folder's own."""
    for name, content in crashing_tokenizer().items():
        (folder / name).write_text(json.dumps(content))
    return folder
