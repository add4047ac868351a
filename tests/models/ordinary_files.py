"""Small sound files of every kind that lies beside models, written by the libraries themselves."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import safetensors.torch
import torch
from onnx import helper, numpy_helper

from tests.models.hostile_files.onnx_data_files import model_of
from tests.models.hostile_files.weights import gguf, gguf_string, gguf_tensor
from tests.models.onnx_networks import conv_network, dense_network, make_model
from tests.models.packed import tarred, zipped

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_ALIGNMENT: Final = 32


def _saved(save: Callable[[io.BytesIO], object]) -> bytes:
    stream = io.BytesIO()
    save(stream)
    return stream.getvalue()


def _arrays() -> dict[str, Any]:
    return {
        "floats": np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4),
        "counts": np.arange(5), "names": np.array(["a", "bc"]), "flags": np.array([True, False]),
    }  # fmt: skip


def _tensors() -> dict[str, torch.Tensor]:
    return {
        "wide.weight": torch.ones(2, 3, dtype=torch.bfloat16),
        "small.weight": torch.ones(4, 4).to(torch.float8_e4m3fn),
        "model.layers.0.mlp.weight": torch.zeros(3), "empty": torch.zeros(0),
    }  # fmt: skip


def _gguf() -> bytes:
    """An architecture, numbers, a vocabulary, a template and one tensor."""
    words = ("<s>", "</s>", "hello")
    array = struct.pack("<IIQ", 9, 8, len(words)) + b"".join(
        struct.pack("<Q", len(word)) + word.encode() for word in words
    )
    values = {
        "general.architecture": gguf_string("llama"),
        "llama.block_count": struct.pack("<II", 4, 1),
        "llama.rope.freq_base": struct.pack("<If", 6, 10000.0),
        "tokenizer.ggml.tokens": array,
        "tokenizer.chat_template": gguf_string("{{ messages[0]['content'] }}"),
    }
    head = gguf(values, tensors=1, rest=gguf_tensor("token_embd.weight", (2, 3)))
    return head + bytes(-len(head) % _ALIGNMENT) + bytes(2 * 3 * 4 + -24 % _ALIGNMENT)


def _branching() -> bytes:
    """A graph with graphs inside, strings, and a control that is no float."""
    then = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["t"])],
        "then",
        [],
        [helper.make_tensor_value_info("t", 1, [1, 2])],
    )
    other = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["e"])],
        "else",
        [],
        [helper.make_tensor_value_info("e", 1, [1, 2])],
    )
    nodes = [helper.make_node("If", ["c"], ["y"], "branch", then_branch=then, else_branch=other)]
    model = make_model(nodes, {"x": [1, 2]}, {"y": [1, 2]}, {"c": np.array(True)})
    model.graph.initializer.append(numpy_helper.from_array(np.array(["a"], object), "words"))
    return bytes(model.SerializeToString())


def _png() -> bytes:
    """One grey pixel."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"\0\x80")) + chunk(b"IEND", b"")
    )  # fmt: skip


def _members() -> dict[str, bytes]:
    return {
        "weights/model.safetensors": safetensors.torch.save(_tensors()),
        "config.json": b'{"model_type": "gpt2"}', "notes.txt": b"Read me.\n" * 20,
        "a.npy": _saved(lambda stream: np.save(stream, _arrays()["floats"])),
    }  # fmt: skip


def ordinary_files() -> dict[str, bytes]:
    """The bytes of each file, by its name."""
    arrays, members = _arrays(), _members()
    files = {
        "network.onnx": bytes(dense_network([3, 4, 2]).SerializeToString()),
        "convolution.onnx": conv_network(batch_norm=True).SerializeToString(),
        "network.onnx.gz": gzip.compress(dense_network([3, 4, 2]).SerializeToString()),
        "branching.onnx": _branching(),
        "tensors.safetensors": safetensors.torch.save(
            _tensors(), {"format": "pt", "note": "Trained on nothing.\nTwo lines."}
        ),
        "no-tensors.safetensors": safetensors.torch.save({}),
        "model.gguf": _gguf(),
        "arrays.npz": _saved(lambda stream: np.savez(stream, **arrays)),
        "packed.npz": _saved(lambda stream: np.savez_compressed(stream, **arrays)),
        "stored.zip": zipped(members, zipfile.ZIP_STORED),
        "deflated.zip": zipped(members, zipfile.ZIP_DEFLATED),
        "no-members.zip": zipped({}, zipfile.ZIP_STORED),
        "files.tar": tarred(members),
        "files.tar.gz": gzip.compress(tarred(members)),
        "files.tar.xz": lzma.compress(tarred(members)),
        "files.tar.bz2": bz2.compress(tarred(members)),
        "notes.txt.zst": zstd.compress(b"Read me.\n" * 20),
        "README.md": "# A model\n\nFor testing, très simple: 100 % of it.\n".encode(),
        "LICENSE": b"Copyright of nobody. Permission is granted.\n",
        "vocab.txt": b"[PAD]\n[UNK]\n(\n.\n##s\n",
        "labels.txt": b"cat\ndog\nbird\n",
        "merges.txt": "#version: 0.2\nh e\nĠ t\n".encode(),
        "added.json": b'{"a": [1, 2.5, null, "__class__"]}',
        "config.yaml": b"model:\n  layers: 2\n  name: small\n",
        "table.csv": b"name,value\na,1\n",
        "picture.png": _png(),
        "empty.txt": b"",
    }
    for name, array in arrays.items():
        files[f"{name}.npy"] = _saved(partial(np.save, arr=array))
    return files


def write_ordinary(folder: Path) -> Path:
    """The folder with each of them, and a graph whose numbers lie in another file."""
    folder.mkdir(parents=True)
    for name, content in ordinary_files().items():
        (folder / name).write_bytes(content)
    (folder / "apart.bin").write_bytes(np.ones(2, np.float32).tobytes())
    model = model_of({"location": "apart.bin", "offset": "0", "length": "8"})
    (folder / "apart.onnx").write_bytes(model.SerializeToString())
    (folder / "nested" / "deep").mkdir(parents=True)
    (folder / "nested" / "deep" / "settings.json").write_text(json.dumps({"a": {"b": [1]}}))
    return folder
