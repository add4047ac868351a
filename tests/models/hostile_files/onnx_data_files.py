"""ONNX models whose tensors lie in other files: where they point, and how long they claim to be."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import onnx
from onnx import helper

from tests.models.hostile_files.case import (
    Builder,
    HostileCase,
    accepted,
    given,
    outside,
    refused,
)
from tests.models.onnx_networks import external_tensor, make_model, write_model

_STEP = 8  # bytes of a tensor of two floats
_FOLDER = (".",)
Place = Callable[[Path, Path], object]
"""Puts something at a path; the second path is the file outside."""


def model_of(*entries: Mapping[str, str], dims: tuple[int, ...] = (2,)) -> onnx.ModelProto:
    """A network that adds one external tensor after the other."""
    names = [f"w{number}" for number in range(len(entries))]
    nodes = [
        helper.make_node("Add", [f"x{number}" if number else "x", name], [f"x{number + 1}"])
        for number, name in enumerate(names)
    ]
    model = make_model(nodes, {"x": [1, 2]}, {f"x{len(names)}": [1, 2]})
    for name, values in zip(names, entries, strict=True):
        model.graph.initializer.append(external_tensor(name, dims, values))
    return model


def pointing(*entries: Mapping[str, str], dims: tuple[int, ...] = (2,), size: int = 64) -> Builder:
    """The model beside a data file `w.bin` of so many bytes, and a secret elsewhere."""

    def build(folder: Path, marker: Path) -> Path:
        secret = outside(folder)
        (given(folder) / "w.bin").write_bytes(bytes(size))
        filled = [
            {key: value.replace("SECRET", str(secret)) for key, value in each.items()}
            for each in entries
        ]
        return write_model(given(folder), model_of(*filled, dims=dims))

    return build


def placed(location: str, place: Place) -> Builder:
    """The model beside something that is no data file of its own."""

    def build(folder: Path, marker: Path) -> Path:
        place(given(folder) / location, outside(folder))
        return write_model(given(folder), model_of({"location": location}))

    return build


def _linked_folder(path: Path, secret: Path) -> None:
    path.parent.symlink_to(secret.parent, target_is_directory=True)


def _at(offset: str, length: str = str(_STEP)) -> dict[str, str]:
    return {"location": "w.bin", "offset": offset, "length": length}


ESCAPE = "external-data-escape"
CASES: tuple[HostileCase, ...] = (
    refused("data-file-in-the-parent", "CVE-2022-25882, CVE-2024-27318", pointing(
        {"location": "../outside/secret.bin"}), ESCAPE, "../outside/secret.bin"),
    refused("data-file-in-the-parent-behind-a-folder", "CVE-2024-27318", pointing(
        {"location": "sub/../../outside/secret.bin"}), ESCAPE, "sub/.."),
    refused("data-file-to-write-elsewhere", "CVE-2025-51480", pointing(
        {"location": "../../../../new-file"}), ESCAPE, "new-file"),
    refused("data-file-absolute", "CVE-2022-25882, onnxruntime#26776", pointing(
        {"location": "SECRET"}), ESCAPE, "location"),
    refused("data-file-with-backslashes", "CVE-2022-25882", pointing(
        {"location": "..\\outside\\secret.bin"}), ESCAPE, "outside"),
    refused("data-file-symlink", "CVE-2026-27489", placed(
        "w.bin", lambda path, secret: path.symlink_to(secret)),
        "external-data-symlink link-escape", "w.bin", _FOLDER),
    refused("data-file-in-a-linked-folder", "CVE-2026-27489", placed(
        "sub/secret.bin", _linked_folder), "external-data-symlink link-escape", "sub", _FOLDER),
    refused("data-file-hard-link", "measured gap: hardlink", placed(
        "w.bin", lambda path, secret: os.link(secret, path)), "external-data-hardlink", "w.bin",
        _FOLDER),
    refused("data-file-pipe", "not a regular file", placed(
        "w.bin", lambda path, secret: os.mkfifo(path)), "external-data-not-a-file", "w.bin",
        _FOLDER),
    refused("data-file-folder", "not a regular file", placed(
        "w.bin", lambda path, secret: path.mkdir()), "external-data-not-a-file", "w.bin", _FOLDER),
    refused("data-file-missing", "outside the recorded digests", pointing(
        {"location": "other.bin"}), "external-data-missing", "other.bin", _FOLDER),
    refused("data-file-with-an-unknown-key", "CVE-2026-34445, measured gap: unknown key", pointing(
        {"location": "w.bin", "__class__": "os"}), "external-data-key", "__class__"),
    refused("data-file-negative-offset", "measured gap: negative offset", pointing(_at("-8")),
            "external-data-range", "-8"),
    refused("data-file-negative-length", "measured gap: negative length", pointing(
        _at("0", "-8")), "external-data-range", "-8"),
    refused("data-file-beyond-its-end", "measured gap: length beyond the file", pointing(
        _at("60")), "external-data-range", "60", _FOLDER),
    refused("data-file-of-another-length", "measured gap: length differs from dims", pointing(
        _at("0", "16")), "external-data-length", "16"),
    refused("data-file-dims-overflow", "measured gap: dims product overflow, CVE-2026-34445",
            pointing(_at("0", "0"), dims=(2**62, 4)), "dims-overflow", "w0"),
    refused("data-file-overlap", "overlapping ranges", pointing(_at("0"), _at("4")),
            "external-data-overlap", "w1"),
    refused("data-file-of-another-digest", "outside the recorded digests", pointing(
        {"location": "w.bin", "checksum": "0" * 40}), "external-data-checksum", "SHA-1", _FOLDER),
    accepted("data-file-in-order", "ONNX external data", pointing(_at("0"), _at("8")), _FOLDER),
)  # fmt: skip
