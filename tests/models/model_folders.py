"""Model folders in the transformers layout, written file by file so that each can be spoilt."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

CONFIG: dict[str, Any] = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_embd": 2}
TOKENIZER: dict[str, Any] = {
    "version": "1.0", "added_tokens": [],
    "model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"},
}  # fmt: skip
WEIGHTS: dict[str, NDArray[Any]] = {
    "h.0.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "h.0.bias": np.ones(3, dtype=np.float16),
}


def write_folder(folder: Path, config: Mapping[str, Any] | None = None) -> Path:
    """A sound model of 9 numbers: configuration, weights, tokenizer, and what is not the model."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG if config is None else config))
    (folder / "model.safetensors").write_bytes(safetensors.numpy.save(WEIGHTS))
    (folder / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    (folder / "README.md").write_text("# A model\n")
    (folder / "LICENSE").write_text("Copyright of nobody.\n")
    (folder / ".gitattributes").write_text("*.safetensors filter=lfs\n")
    return folder


def write_sharded(folder: Path) -> Path:
    """The same weights in two files with an index."""
    write_folder(folder)
    (folder / "model.safetensors").unlink()
    places = {"h.0.weight": "model-00001-of-00002.safetensors",
              "h.0.bias": "model-00002-of-00002.safetensors"}  # fmt: skip
    for tensor, name in places.items():
        (folder / name).write_bytes(safetensors.numpy.save({tensor: WEIGHTS[tensor]}))
    write_index(folder, places)
    return folder


def write_index(folder: Path, places: Mapping[str, Any]) -> None:
    """The index of sharded weights: tensor to file."""
    text = json.dumps({"metadata": {}, "weight_map": dict(places)})
    (folder / "model.safetensors.index.json").write_text(text)


def safetensors_bytes(header: str | bytes | Mapping[str, Any], data: bytes = b"") -> bytes:
    """A safetensors file with any header, sound or not."""
    if isinstance(header, Mapping):
        header = json.dumps(header)
    text = header.encode() if isinstance(header, str) else header
    return struct.pack("<Q", len(text)) + text + data


def entry(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, Any]:
    """A tensor's entry in a header."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
