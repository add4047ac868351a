"""Formats told by their first bytes and not looked into: programs, pictures and others."""

from __future__ import annotations

import struct
from typing import Final

from auditor.models.file_format import is_plain
from auditor.models.protobuf_wire import MalformedWire, WireField, WireType, iterate_fields

_PROGRAMS: Final = (
    (b"\x7fELF", "ELF program or library"),
    (b"\xfe\xed\xfa\xce", "Mach-O program or library"),
    (b"\xfe\xed\xfa\xcf", "Mach-O program or library"),
    (b"\xce\xfa\xed\xfe", "Mach-O program or library"),
    (b"\xcf\xfa\xed\xfe", "Mach-O program or library"),
    (b"\xca\xfe\xba\xbe", "Mach-O library or Java class"),
    (b"\0asm", "WebAssembly"),
    (b"BC\xc0\xde", "LLVM bitcode"),
)
_PICTURES: Final = (
    (b"\x89PNG\r\n\x1a\n", "PNG picture"),
    (b"\xff\xd8\xff", "JPEG picture"),
    (b"GIF87a", "GIF picture"),
    (b"GIF89a", "GIF picture"),
    (b"%PDF-", "PDF document"),
)
# Versions of Python write other numbers here, always before a line end that text cannot keep:
# 3.x thousands by their upper byte, then 2.x.
_BYTECODE_END: Final = b"\r\n"
_BYTECODE: Final = (b"\x0b", b"\x0c", b"\x0d", b"\x0e", b"\x0f", b"\xf1", b"\xf2", b"\xf3")
_PE_OFFSET: Final = 0x3C
# The fields of sentencepiece's ModelProto: pieces, two specifications, self-test, denormaliser;
# and those of a piece: its text, its score, its kind. Graphs of TensorFlow have texts there.
_PIECES_FIELDS: Final = frozenset({1, 2, 3, 4, 5})
_MOST_PIECES: Final = 1_000_000
_PIECE: Final = {1: WireType.LENGTH, 2: WireType.FIXED32, 3: WireType.VARINT}


def program_of(head: bytes) -> str | None:
    """What kind of machine code a file is, or None."""
    for magic, name in _PROGRAMS:
        if head.startswith(magic):
            return name
    if head.startswith(b"MZ") and len(head) > _PE_OFFSET + 4:
        (offset,) = struct.unpack_from("<I", head, _PE_OFFSET)
        if head[offset : offset + 4] == b"PE\0\0":
            return "Windows program or library"
    # A time and a size or a hash follow; text may begin with one letter and two line ends.
    is_text = head[:16].isascii() and is_plain(head[:16])
    if head[2:4] == _BYTECODE_END and head[1:2] in _BYTECODE and not is_text:
        return "Python bytecode"
    return None


def picture_of(head: bytes) -> str | None:
    """What kind of picture or document a file is, or None."""
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WebP picture"
    return next((name for magic, name in _PICTURES if head.startswith(magic)), None)


def is_tflite(head: bytes) -> bool:
    """Whether a file is a model of TensorFlow Lite."""
    return head[4:8] == b"TFL3"


def names_tensorflow(head: bytes) -> bool:
    """Whether a protobuf speaks of TensorFlow, as a SavedModel or a frozen graph does."""
    return any(word in head for word in (b"saved_model", b"tensorflow", b"StatefulPartitionedCall"))


def may_be_protobuf(head: bytes) -> bool:
    """Whether a beginning can be one of protobuf: fields that follow each other to its end."""
    try:
        return bool(head) and all(True for _ in iterate_fields(head, 0, len(head)))
    except MalformedWire as end:
        return end.truncated


def is_sentencepiece(content: bytes) -> bool:
    """Whether a file is a tokenizer of sentencepiece: pieces of text, and settings."""
    if not content.startswith(b"\x0a"):
        return False
    try:
        return all(
            number < _MOST_PIECES
            and field.number in _PIECES_FIELDS
            and field.wire_type is WireType.LENGTH
            and (field.number != 1 or _is_piece(content, field))
            for number, field in enumerate(iterate_fields(content, 0, len(content)))
        )
    except MalformedWire:
        return False


def _is_piece(content: bytes, field: WireField) -> bool:
    return all(
        _PIECE.get(inner.number) is inner.wire_type
        for inner in iterate_fields(content, field.start, field.end)
    )
