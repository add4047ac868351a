"""Seeds: model files of every format that is scanned, none of which does anything if opened."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import struct
import tarfile
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from tests.fuzz.model_seeds import model_seeds
from tests.fuzz.scan_path_targets import FILE_NAMES, FOLDER_NAMES
from tests.fuzz.target import with_parts

Files = dict[str, bytes]


def scan_seeds(folder: Path) -> dict[str, Files]:
    """Every format, alone and as a file or folder."""
    pickles, zips, tars, packed = pickle_files(), zip_files(), tar_files(), compressed_files()
    gguf = {"v3": gguf_file(), "big": gguf_file(">")}
    hdf5 = {"lambda": b"\x89HDF\r\n\x1a\n\x00" + bytes(16) + b'{"class_name": "Lambda"}'}
    npy = {"plain": npy_file(np.arange(6, dtype="<i2").reshape(2, 3)),
           "record": npy_file(np.zeros(2, dtype=[("a", "<f4"), ("b", "S3")])),
           "objects": npy_file(np.array([None, 1], dtype=object))}  # fmt: skip
    yaml = b"model:\n  _target_: a.B\n  x: &a [1, 2]\n  y: *a\n  z: !!python/name:os.path\n"
    template = b"{% generation %}{{ messages[0].content.__class__ }}{% endgeneration %}"
    keras = json.dumps(
        {
            "class_name": "Functional",
            "module": "keras",
            "config": {
                "layers": [
                    {"class_name": "Lambda", "config": {"name": "l"}, "registered_name": "my>Layer"}
                ]
            },
        }
    )
    models = model_seeds(folder)
    files = {
        "model.bin": pickles["four"],
        "model.pt": zips["torch"],
        "conf.yaml": yaml,
        "chat_template.jinja": template,
        "model.gguf": gguf["v3"],
        "data.npy": npy["plain"],
        "model.tar": tars["ustar"],
        "weights.h5": hdf5["lambda"],
        "data.npz": zips["stored"],
        "model.onnx": models["onnx-walk"]["tiny"],
        "model.onnx.gz": models["preflight"]["gzip"],
        "model.safetensors": models["safetensors"]["three"],
        "a.txt": b"cos\npath\n",
        "config.json": models["folder-config"]["config"],
        "read.py": b"#!/bin/sh\n",
    }
    inside = {
        "config.json": models["folder-config"]["config"],
        "tokenizer.json": b"{}",
        "model.safetensors": models["safetensors"]["three"],
        "README.md": b"words\n",
        "chat_template.jinja": b"{{ messages[0]['content'] }}",
    }
    return {
        "pickle-walk": pickles,
        "numpy-header": npy,
        "zip-archive": zips,
        "tar-archive": tars,
        "compressed": packed,
        "gguf-header": gguf,
        "hdf5-file": hdf5,
        "keras-config": {"lambda": keras.encode()},
        "yaml-events": {"all": yaml},
        "template-rules": {"all": template},
        "scan-file": {
            name.replace(".", "-"): bytes([FILE_NAMES.index(name)]) + content
            for name, content in files.items()
        },
        "scan-folder": {
            "transformers": with_parts((FOLDER_NAMES.index(n), c) for n, c in inside.items()),
            "onnx": with_parts([(FOLDER_NAMES.index("config.json"), inside["config.json"]),
                                (FOLDER_NAMES.index("model.onnx"), files["model.onnx"])]),
            "diffusers": with_parts([
                (FOLDER_NAMES.index("model_index.json"),
                 b'{"_class_name": "P", "unet": ["diffusers", "UNet2DModel"]}'),
                (FOLDER_NAMES.index("unet/config.json"), b'{"_class_name": "UNet2DModel"}'),
                (FOLDER_NAMES.index("unet/diffusion_pytorch_model.safetensors"),
                 inside["model.safetensors"]),
            ]),
        },
    }  # fmt: skip


def pickle_files() -> Files:
    """Plain values in every protocol, names imported in every way, and several in one stream."""
    value: Any = OrderedDict(a=[1, 2.5, None, True], b=("text", b"bytes"), c={1, 2})
    every = {f"protocol-{number}": pickle.dumps(value, number) for number in range(6)}
    return every | {
        "four": pickle.dumps(np.dtype("<f4"), 4),
        "old-global": b"ccollections\nOrderedDict\n(tR.",
        "inst": b"(I1\nI2\nicollections\nOrderedDict\n.",
        "obj": b"(ccollections\nOrderedDict\nI1\no.",
        "stack-global": b"\x80\x04\x8c\x0bcollections\x94\x8c\x0bOrderedDict\x93\x94)R.",
        "memo": b"\x80\x02X\x02\x00\x00\x00osq\x00X\x04\x00\x00\x00pathq\x01h\x00h\x01\x93.",
        "persistent": b"Pstorage\n(lp0\n0g0\n.",
        "build": b"\x80\x02ccollections\nOrderedDict\n)\x81}X\x01\x00\x00\x00aK\x01sb.",
        "extension": b"\x80\x02\x82\x01.",
        "two": pickle.dumps(1) + pickle.dumps([2]),
        "rest": pickle.dumps([1]) + bytes(range(32)),
        "frame": b"\x80\x04\x95\x04\x00\x00\x00\x00\x00\x00\x00K\x01K\x02\x86.",
        "cut": pickle.dumps(value)[:-4],
    }


def npy_file(array: np.ndarray[Any, Any]) -> bytes:
    """The array as numpy writes it."""
    written = io.BytesIO()
    np.save(written, array, allow_pickle=True)
    return written.getvalue()


def zip_files() -> Files:
    """Stored, deflated, with a descriptor, with 64-bit sizes, and an archive as torch writes it."""
    return {
        "stored": _zip({"a.npy": npy_file(np.arange(2)), "b.txt": b"words"}),
        "deflated": _zip({"a": b"0" * 500, "inner/b": b"b"}, zipfile.ZIP_DEFLATED),
        "bzip2": _zip({"a": b"0" * 50}, zipfile.ZIP_BZIP2),
        "streamed": _streamed_zip(),
        "wide": _wide_zip(),
        "torch": _zip({"m/data.pkl": pickle.dumps([1], 2), "m/version": b"3\n",
                       "m/data/0": bytes(8), "m/byteorder": b"little"}),
        "keras": _zip({"config.json": b"{}", "metadata.json": b"{}", "model.weights.h5": b"x"}),
        "empty": _zip({}),
        "nested": _zip({"inner.zip": _zip({"a": b"a"})}),
    }  # fmt: skip


def _zip(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return written.getvalue()


class _OneWay(io.RawIOBase):
    """A stream that cannot go back, so that sizes follow the bytes."""

    def __init__(self) -> None:
        self.content = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, part: Any) -> int:
        self.content += part
        return len(part)


def _streamed_zip() -> bytes:
    stream = _OneWay()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("a"), b"words and words", zipfile.ZIP_DEFLATED)
    return bytes(stream.content)


def _wide_zip() -> bytes:
    written = io.BytesIO()
    with (
        zipfile.ZipFile(written, "w") as archive,
        archive.open(zipfile.ZipInfo("a"), "w", force_zip64=True) as member,
    ):
        member.write(b"words")
    return written.getvalue()


def tar_files() -> Files:
    """Each of the three layouts, with a folder, a link, and a long name."""
    layouts = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
    found = {name: _tar(layout, "a.txt") for name, layout in layouts.items()}
    long_name = "folder/" + "n" * 120
    found |= {f"{name}-long": _tar(layouts[name], long_name) for name in ("gnu", "pax")}
    return found | {"link": _tar(tarfile.USTAR_FORMAT, "a", link="b")}


def _tar(layout: int, name: str, link: str = "") -> bytes:
    written = io.BytesIO()
    # The usual record of 10,240 bytes is mostly zeros; two blocks of them end an archive.
    with tarfile.TarFile(fileobj=written, mode="w", format=layout) as archive:
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        member = tarfile.TarInfo(name)
        if link:
            member.type, member.linkname = tarfile.SYMTYPE, link
        else:
            member.size = 5
        archive.addfile(member, None if link else io.BytesIO(b"words"))
        end = archive.offset
    return written.getvalue()[: end + 1024]


def compressed_files() -> Files:
    """One stream of each kind, two behind each other, and one inside another."""
    from backports import zstd

    text = b"words and words and words"
    once = gzip.compress(text, mtime=0)
    return {
        "gzip": once, "two": once + once, "nested": gzip.compress(once, mtime=0),
        "bzip2": bz2.compress(text), "xz": lzma.compress(text),
        "lzma": lzma.compress(text, lzma.FORMAT_ALONE), "zstd": bytes(zstd.compress(text)),
    }  # fmt: skip


def gguf_file(order: str = "<") -> bytes:
    """Two tensors and some metadata; the format is described in ggml-org/ggml docs/gguf.md."""

    def text(words: str) -> bytes:
        return struct.pack(f"{order}Q", len(words)) + words.encode()

    pairs = [
        text("general.architecture") + struct.pack(f"{order}I", 8) + text("llama"),
        text("general.alignment") + struct.pack(f"{order}II", 4, 32),
        text("tokenizer.chat_template") + struct.pack(f"{order}I", 8) + text("{{ messages }}"),
        text("tokenizer.ggml.scores") + struct.pack(f"{order}IIQ2f", 9, 6, 2, 0.5, 1.0),
        text("a.b") + struct.pack(f"{order}I?", 7, True),
    ]
    tensors = [
        text("one.weight") + struct.pack(f"{order}IQQIQ", 2, 4, 2, 0, 0),
        text("two.weight") + struct.pack(f"{order}IQIQ", 1, 32, 8, 32),
    ]
    head = b"GGUF" + struct.pack(f"{order}IQQ", 3, len(tensors), len(pairs))
    whole = head + b"".join(pairs) + b"".join(tensors)
    return whole.ljust(-(-len(whole) // 32) * 32, b"\0") + bytes(32) + bytes(34).ljust(64, b"\0")
