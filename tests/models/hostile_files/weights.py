"""safetensors and GGUF files whose header lies, hides something, or asks for too much."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.models.hostile_files.case import (
    Builder,
    Content,
    HostileCase,
    accepted,
    file,
    given,
    refused,
    sound_weights,
    stopped,
)
from tests.models.hostile_files.payload import touching
from tests.models.hostile_files.torch_archives import saved
from tests.models.model_folders import entry, safetensors_bytes

_HUNDRED_MB = 100 * 10**6
_EIGHT_GB = 8 * 10**9
_STRING, _ARRAY, _UINT32 = 8, 9, 4


def header(entries: Mapping[str, Any], data: bytes = b"") -> Content:
    """A safetensors file with this header."""
    return lambda marker: safetensors_bytes(entries, data)


def text(content: str, data: bytes = b"") -> Content:
    """A safetensors file whose header is this text."""
    return lambda marker: safetensors_bytes(content, data)


def named(name: str) -> Content:
    """One float under a name."""
    return header({name: entry("F32", [1], 0, 4)}, bytes(4))


def sound(marker: Path) -> bytes:
    """A file in order."""
    return sound_weights()


def _sparse(declared: int, size: int, start: bytes = b'{"') -> Builder:
    """A file of `size` bytes that takes no room, whose header claims `declared` bytes."""

    def build(folder: Path, marker: Path) -> Path:
        path = given(folder) / "model.safetensors"
        with path.open("wb") as stream:
            stream.write(struct.pack("<Q", declared) + start)
            stream.truncate(size)
        return path

    return build


def gguf(values: Mapping[str, bytes], *, tensors: int = 0, rest: bytes = b"") -> bytes:
    """A GGUF file of version 3 with these metadata, each already with its type."""
    pairs = b"".join(_gguf_text(key) + value for key, value in values.items())
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, len(values)) + pairs + rest


def _gguf_text(value: str) -> bytes:
    encoded = value.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def gguf_string(value: str) -> bytes:
    """A text with its type."""
    return struct.pack("<I", _STRING) + _gguf_text(value)


def gguf_tensor(name: str, dims: tuple[int, ...], offset: int = 0) -> bytes:
    """A tensor of floats (type 0)."""
    return (
        _gguf_text(name) + struct.pack("<I", len(dims))
        + struct.pack(f"<{len(dims)}Q", *dims) + struct.pack("<IQ", 0, offset)
    )  # fmt: skip


_ARCHITECTURE = {"general.architecture": gguf_string("llama")}
_LARGE = 2**40


def _many(marker: Path) -> bytes:
    """A count of metadata that no file could hold."""
    return b"GGUF" + struct.pack("<IQQ", 3, 0, 2**62)


def _long_text(marker: Path) -> bytes:
    text_type = struct.pack("<I", _STRING)
    return gguf({"general.name": text_type + struct.pack("<Q", 2**62) + b"x"})


def _long_array(marker: Path) -> bytes:
    kind = struct.pack("<IIQ", _ARRAY, _UINT32, 2**61)
    return gguf({"tokenizer.ggml.tokens": kind})


def _nested_arrays(marker: Path) -> bytes:
    inner = struct.pack("<IQ", _ARRAY, 1) * 500
    return gguf({"a": struct.pack("<I", _ARRAY) + inner + struct.pack("<IQ", _UINT32, 0)})


def _key_twice(marker: Path) -> bytes:
    """The same key with two values: readers differ in which one they take."""
    values = {"general.name": gguf_string("a"), "general.nama": gguf_string("b")}
    return gguf(values).replace(b"general.nama", b"general.name")


def _huge_tensor(marker: Path) -> bytes:
    return gguf(_ARCHITECTURE, tensors=1, rest=gguf_tensor("w", (2**62, 4)))


def _tensor_beyond(marker: Path) -> bytes:
    return gguf(_ARCHITECTURE, tensors=1, rest=gguf_tensor("w", (8,), _LARGE) + bytes(64))


CASES: tuple[HostileCase, ...] = (
    refused("weights-key-twice", "measured gap: duplicate keys", file("m.safetensors", text(
        '{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},'
        '"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"x")),
        "duplicate-field", "'w'"),
    refused("weights-metadata-key-twice", "measured gap: duplicate keys", file(
        "m.safetensors", text('{"__metadata__":{"format":"pt","format":"np"}}')),
        "duplicate-field", "'format'"),
    refused("weights-name-in-the-parent", "measured gap: ../../x", file(
        "m.safetensors", named("../../x")), "path-like-name", "../../x"),
    refused("weights-name-absolute", "path-like names", file("m.safetensors", named(
        "/etc/cron.d/x")), "path-like-name", "/etc/cron.d/x"),
    refused("weights-name-with-backslashes", "path-like names", file("m.safetensors", named(
        "..\\x")), "path-like-name", "x"),
    refused("weights-name-with-escape", "text: ESC", file("m.safetensors", named("\x1b[31mw")),
            "control-character", "\\x1b"),
    refused("weights-name-with-newline", "text: newline", file("m.safetensors", named(
        "w\n::error::x")), "control-character", "\\n"),
    refused("weights-name-with-nul", "text: NUL", file("m.safetensors", named("w\0")),
            "control-character", "\\x00"),
    refused("weights-name-with-direction-override", "text: ESC", file("m.safetensors", named(
        "w\u202etxt")), "control-character", "u202e"),
    refused("weights-name-of-markup", "text: </script>", file("m.safetensors", named(
        "</script>")), "path-like-name", "</script>"),
    accepted("weights-name-of-a-formula", "text: =CMD()", file("m.safetensors", named("=CMD()"))),
    accepted("weights-name-of-an-annotation", "text: ::error", file("m.safetensors", named(
        "::error::x"))),
    refused("weights-unknown-dtype", "unknown dtypes", file("m.safetensors", header(
        {"w": entry("OBJECT", [1], 0, 4)}, bytes(4))), "unknown-dtype", "OBJECT"),
    refused("weights-overflow", "product of dims", file("m.safetensors", header(
        {"w": entry("F32", [2**62, 4], 0, 0)})), "dims-overflow dims-range", "'w'"),
    refused("weights-negative-axis", "product of dims", file("m.safetensors", header(
        {"w": entry("F32", [-1], 0, 4)}, bytes(4))), "dims-range", "'w'"),
    refused("weights-beyond-the-file", "negative or overlapping ranges", file(
        "m.safetensors", header({"w": entry("F32", [64], 0, 256)}, bytes(8))), "truncated"),
    refused("weights-overlap", "negative or overlapping ranges", file("m.safetensors", header(
        {"a": entry("U8", [4], 0, 4), "b": entry("U8", [4], 2, 6)}, bytes(6))),
        "tensor-overlap", "'b'"),
    refused("weights-gap", "negative or overlapping ranges", file("m.safetensors", header(
        {"a": entry("U8", [2], 0, 2), "b": entry("U8", [2], 4, 6)}, bytes(6))),
        "tensor-gap", "'b'"),
    refused("weights-then-pickle", "containers: valid prefix then pickle", file(
        "m.safetensors", lambda marker: sound(marker) + touching(marker)),
        "tensor-gap trailing-data pickle-content"),
    refused("weights-then-torch-archive", "containers: valid prefix then pickle", file(
        "m.safetensors", lambda marker: sound(marker) + saved(touching(marker, 2))),
        "tensor-gap trailing-data pickle-content"),
    refused("weights-header-of-100-mb", "text: 100 MB header", _sparse(
        _HUNDRED_MB, _HUNDRED_MB + 8), "size-limit", str(_HUNDRED_MB)),
    refused("weights-sparse-8-gb", "modelaudit#1667", _sparse(_EIGHT_GB - 8, _EIGHT_GB),
            "size-limit"),
    refused("weights-small-header-and-8-gb", "modelaudit#1667", _sparse(2, _EIGHT_GB, b"{}"),
            "tensor-gap trailing-data", str(_EIGHT_GB)),
    refused("weights-header-longer-than-the-file", "header size", file(
        "m.safetensors", lambda marker: struct.pack("<Q", 5000) + b'{"w":1}'),
        "truncated name-mismatch malformed"),
    refused("weights-large-metadata", "oversized metadata", file("m.safetensors", text(
        json.dumps({"__metadata__": {"a": "x" * 2**25}}))), "size-limit text-limit"),
    refused("weights-metadata-of-another-type", "safetensors", file("m.safetensors", text(
        '{"__metadata__":{"a":{"__class__":"x"}}}')), "malformed", "__metadata__"),
    refused("weights-header-that-is-no-json", "safetensors", file("m.safetensors", text(
        '{"w":NaN}')), "malformed", "NaN"),
    refused("weights-deeply-nested-header", "nesting", file("m.safetensors", text(
        '{"w":' + "[" * 3000 + "]" * 3000 + "}")), "nesting-limit", "nested"),
    refused("gguf-then-pickle", "containers: valid prefix then pickle", file(
        "m.gguf", lambda marker: gguf(_ARCHITECTURE) + touching(marker)),
        "trailing-data tensor-gap pickle-content"),
    refused("gguf-of-many-values", "limits before allocation", file("m.gguf", _many),
            "field-limit size-limit truncated malformed"),
    refused("gguf-long-text", "limits before allocation", file("m.gguf", _long_text),
            "truncated text-limit size-limit malformed"),
    refused("gguf-long-array", "limits before allocation", file("m.gguf", _long_array),
            "truncated field-limit size-limit malformed"),
    refused("gguf-nested-arrays", "nesting", file("m.gguf", _nested_arrays),
            "nesting-limit malformed"),
    refused("gguf-key-twice", "duplicate keys", file("m.gguf", _key_twice), "duplicate-field",
            "general.name"),
    stopped("gguf-of-an-unknown-version", "nothing skipped is called clean", file(
        "m.gguf", lambda marker: b"GGUF" + struct.pack("<IQQ", 99, 0, 0)),
        "unknown-format malformed unknown-version not-a-model name-mismatch"),
    refused("gguf-dims-overflow", "product of dims", file("m.gguf", _huge_tensor),
            "dims-overflow dims-range", "w"),
    refused("gguf-tensor-beyond-the-file", "negative or overlapping ranges", file(
        "m.gguf", _tensor_beyond), "truncated data-length tensor-gap"),
    refused("gguf-name-with-escape", "text: ESC", file("m.gguf", lambda marker: gguf(
        _ARCHITECTURE, tensors=1, rest=gguf_tensor("\x1b[2Jw", (0,)))), "control-character",
        "\\x1b"),
    accepted("weights-named-bin", "containers: safetensors renamed .bin", file(
        "weights.bin", sound)),
)  # fmt: skip
