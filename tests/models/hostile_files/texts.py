"""Texts, native code, and files that are not what a model's folder should hold."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path

from tests.models.hostile_files.case import (
    Builder,
    Content,
    HostileCase,
    accepted,
    file,
    files,
    given,
    outside,
    refused,
    sound_weights,
    stopped,
    undecided,
)

_POINTER = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n"
    b"size 12345678\n"
)
_ELF = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHI", 3, 62, 1) + bytes(40)
_PE = b"MZ" + bytes(58) + struct.pack("<I", 64) + b"PE\0\0" + struct.pack("<H", 0x8664) + bytes(18)
_MACH_O = struct.pack("<IIIIIII", 0xFEEDFACF, 0x0100000C, 0, 6, 0, 0, 0) + bytes(36)
_FAT = struct.pack(">IIIIIII", 0xCAFEBABE, 2, 7, 3, 4096, 100, 12) + bytes(36)
_WIDTH = 9


def _laughs(marker: Path) -> bytes:
    """Nine lines that stand for 9^9 words."""
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    for level in range(1, _WIDTH):
        again = ", ".join([f"*a{level - 1}"] * _WIDTH)
        lines.append(f"a{level}: &a{level} [{again}]")
    return "\n".join(lines).encode()


def _tagged(marker: Path) -> bytes:
    return f"model: !!python/object/apply:os.system ['touch {marker}']\n".encode()


def _with(name: str, content: Content) -> Builder:
    """A folder with sound weights and one more file."""
    return files([("model.safetensors", lambda marker: sound_weights()), (name, content)])


def _fixed(content: bytes) -> Content:
    return lambda marker: content


def _native(case_id: str, name: str, content: bytes) -> HostileCase:
    return refused(case_id, "custom-operator libraries", file(name, _fixed(content)),
                   "native-code custom-code")  # fmt: skip


def _special(make: Callable[[Path], object], *, inside: bool) -> Builder:
    """Something that is no file, scanned by itself or in a folder."""

    def build(folder: Path, marker: Path) -> Path:
        root = given(folder) / "model"
        root.mkdir()
        (root / "model.safetensors").write_bytes(sound_weights())
        make(root / "more.bin")
        return root if inside else root / "more.bin"

    return build


def _listen(path: Path) -> None:
    """A socket; its address may be no longer than about 100 bytes."""
    here = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path.name)
    finally:
        os.chdir(here)


def _to_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _deep(folder: Path, marker: Path) -> Path:
    root = given(folder) / "model"
    inner = root.joinpath(*["d"] * 60)
    inner.mkdir(parents=True)
    (inner / "a.txt").write_text("text\n")
    return root


def _wide(folder: Path, marker: Path) -> Path:
    secret = outside(folder)
    (given(folder) / "link.txt").symlink_to(secret)
    return given(folder)


GONE = "not-a-file link-escape"
CASES: tuple[HostileCase, ...] = (
    refused("yaml-billion-laughs", "text: billion laughs", _with("config.yaml", _laughs),
            "yaml-aliases", "config.yaml"),
    refused("yaml-that-calls-python", "YAML: safe loader", _with("hparams.yaml", _tagged),
            "yaml-tag custom-code yaml-tags malformed", "hparams.yaml"),
    stopped("yaml-deeply-nested", "YAML: limits", _with("config.yaml", _fixed(
        b"a: " + b"[" * 5000 + b"]" * 5000)),
        "nesting-limit yaml-aliases malformed", "config.yaml"),
    undecided("lfs-pointer", "nothing skipped is called clean", _with(
        "model-2.safetensors", _fixed(_POINTER)), "not-downloaded", "model-2.safetensors"),
    stopped("empty-weights", "nothing skipped is called clean", file(
        "model.safetensors", _fixed(b"")), "name-mismatch truncated unknown-format empty"),
    undecided("unknown-binary", "nothing skipped is called clean", file(
        "weights.dat", _fixed(b"\x01\x02\x03\xfe" * 64)), "unknown-format"),
    _native("native-elf", "kernel.so", _ELF),
    _native("native-elf-named-json", "config.json", _ELF),
    _native("native-elf-named-safetensors", "model.safetensors", _ELF),
    _native("native-pe", "kernel.dll", _PE),
    _native("native-pe-named-txt", "vocab.txt", _PE),
    _native("native-mach-o", "kernel.dylib", _MACH_O),
    _native("native-mach-o-fat", "weights.bin", _FAT),
    refused("native-elf-in-a-folder", "onnxruntime-genai#2267", _with(
        "assets/notes.md", _fixed(_ELF)), "native-code custom-code", "assets/notes.md"),
    refused("python-in-a-folder", "repository .py", _with("modeling_x.py", _fixed(
        b"import os\n")), "custom-code", "modeling_x.py"),
    refused("shell-script-without-a-name", "repository .py", _with("install", _fixed(
        b"#!/bin/sh\necho hello\n")), "custom-code native-code", "install"),
    refused("file-called-with-escape", "text: ESC", _with("a\x1b[2J.txt", _fixed(b"a\n")),
            "control-character", "\\x1b"),
    refused("file-called-with-newline", "text: newline", _with("a\n::error::x.txt", _fixed(
        b"a\n")), "control-character", "\\n"),
    accepted("file-called-like-markup", "text: </script>, text: =CMD(), text: ::error", files([
        ("<script>alert(1)<b>.txt", _fixed(b"a\n")), ("=CMD().txt", _fixed(b"a\n")),
        ("::error::x.txt", _fixed(b"a\n"))])),
    refused("pipe", "not a regular file", _special(os.mkfifo, inside=False), GONE),
    refused("pipe-in-a-folder", "not a regular file", _special(os.mkfifo, inside=True), GONE,
            "more.bin"),
    refused("socket-in-a-folder", "not a regular file", _special(_listen, inside=True), GONE,
            "more.bin"),
    refused("device-through-a-link", "not a regular file", _special(_to_device, inside=False),
            GONE),
    refused("device-through-a-link-in-a-folder", "not a regular file", _special(
        _to_device, inside=True), GONE, "more.bin"),
    refused("link-that-leaves", "symlink", _wide, "link-escape", "link.txt"),
    stopped("folders-nested-too-deep", "nesting", _deep, "nesting-limit file-limit"),
)  # fmt: skip
