"""Formats by their first bytes: programs, pictures, tokenizers, and what only looks like one."""

from __future__ import annotations

import struct

import pytest

from auditor.models.scan.signatures import (
    is_sentencepiece,
    is_tflite,
    may_be_protobuf,
    names_tensorflow,
    picture_of,
    program_of,
)


def field(number: int, content: bytes) -> bytes:
    """A protobuf field of text or a message, shorter than 128 bytes."""
    return bytes([number << 3 | 2, len(content)]) + content


def piece(text: bytes, score: float = -1.5, kind: int | None = None) -> bytes:
    """A piece of a tokenizer."""
    body = field(1, text) + b"\x15" + struct.pack("<f", score)
    return field(1, body + (b"" if kind is None else bytes([0x18, kind])))


PORTABLE = b"MZ" + bytes(58) + struct.pack("<I", 0x80) + bytes(64) + b"PE\0\0" + bytes(20)


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"\x7fELF\x02\x01", "ELF program or library"),
        (b"\xcf\xfa\xed\xfe\x07", "Mach-O program or library"),
        (b"\xfe\xed\xfa\xce", "Mach-O program or library"),
        (b"\xca\xfe\xba\xbe\0\0", "Mach-O library or Java class"),
        (b"\0asm\x01\0\0\0", "WebAssembly"),
        (b"BC\xc0\xde", "LLVM bitcode"),
        (PORTABLE, "Windows program or library"),
        (b"\xcb\x0d\r\n" + bytes(12), "Python bytecode"),
        (b"\xa7\x0d\r\n" + bytes(12), "Python bytecode"),
        (b"\x2b\x0e\r\n" + bytes(12), "Python bytecode"),
        (b"\x3b\x0c\r\n" + bytes(12), "Python bytecode"),
        (b"\x03\xf3\r\n" + b"abcdefgh", "Python bytecode"),
    ],
)
def test_programs_are_told(head: bytes, name: str) -> None:
    """Of every system, and of every version of Python."""
    assert program_of(head) == name


@pytest.mark.parametrize(
    "head",
    [b"", b"MZ", b"MZ" + bytes(100), b"MZ" + bytes(58) + b"\xff\xff\xff\xff" + bytes(9),
     b"a\r\r\nb\r\r\n", b"x\x0c\r\nnext page", b"plain text", b"\x7fEL"],
)  # fmt: skip
def test_what_only_begins_alike_is_no_program(head: bytes) -> None:
    """Nor is text with odd line ends."""
    assert program_of(head) is None


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0", "PNG picture"),
        (b"\xff\xd8\xff\xe0", "JPEG picture"),
        (b"GIF89a", "GIF picture"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "WebP picture"),
        (b"%PDF-1.7", "PDF document"),
        (b"RIFF\x10\0\0\0WAVEfmt ", None),
        (b"\x89PNG", None),
    ],
)
def test_pictures_are_told(head: bytes, name: str | None) -> None:
    """By a whole signature."""
    assert picture_of(head) == name


def test_tensorflow_is_told() -> None:
    """A graph for small devices by its mark, other graphs by what they speak of."""
    assert is_tflite(b"\x1c\0\0\0TFL3\x14\0")
    assert not is_tflite(b"TFL3\0\0\0\0")
    assert names_tensorflow(b"\x08\x01\x12\x05.tensorflow.")
    assert names_tensorflow(b"..saved_model_main_op..")
    assert not names_tensorflow(b"\x08\x08\x12\x07pytorch")


def test_a_tokenizer_is_pieces_and_settings() -> None:
    """With scores and kinds, as sentencepiece writes them."""
    pieces = piece(b"<unk>", 0, 2) + piece(b"a") + piece("\u2581b".encode())
    assert is_sentencepiece(pieces + field(2, b"\x0a\x01x") + field(3, b"\x0a\x01y"))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x0a",
        piece(b"a") + b"\x0a\x7f",
        field(2, b"x") + piece(b"a"),
        piece(b"a") + field(6, b"x"),
        piece(b"a") + b"\x18\x01",
        field(1, field(1, b"node") + field(2, b"ReadFile")),
        field(1, field(1, b"node") + field(3, b"input")) + field(4, b"\x08\x01"),
    ],
)
def test_a_graph_of_tensorflow_is_no_tokenizer(content: bytes) -> None:
    """Its nodes lie where the pieces do, and hold texts where these hold numbers."""
    assert not is_sentencepiece(content)


def test_what_may_be_protobuf() -> None:
    """Whole fields, or a last one that goes on; plain numbers seldom are."""
    assert may_be_protobuf(field(1, b"abc"))
    assert may_be_protobuf(b"\x0a\x7fabc")
    assert not may_be_protobuf(b"")
    assert not may_be_protobuf(b"\x0a\x03abc\x00")
    assert not may_be_protobuf(b"\x08\x01\x0f")
