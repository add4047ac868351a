"""What a file is, decided from its bytes and never from its name.

Only the beginning (and, for archives, the table of contents) is looked at, and
nothing is decoded by a library that could act on it: pickles are recognised by
listing opcodes, which runs none of them.
"""

from __future__ import annotations

import struct
from enum import StrEnum
from typing import Final

from auditor.models.scan.pickles.walk import begins_with_pickle

HEAD_BYTES: Final = 64 * 1024
TAIL_BYTES: Final = 66 * 1024
_OF_TEXTS: Final = bytes([*b"\t\n\r\f", *range(32, 256)])
_ZIP_STARTS: Final = (b"PK\x03\x04", b"PK\x05\x06")

# Tags (field number and wire type) a ModelProto may begin with, ir_version first.
_MODEL_TAGS: Final = frozenset({0x08, 0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42, 0x72})


class FileFormat(StrEnum):
    """Formats that are told apart; only the two ONNX forms are ever opened."""

    ONNX = "onnx"
    ONNX_GZIP = "onnx.gz"
    SAFETENSORS = "safetensors"
    PICKLE = "pickle"
    TORCHSCRIPT = "torchscript"
    NUMPY = "npy"
    ZIP = "zip"
    TAR = "tar"
    SEVEN_ZIP = "7z"
    GZIP = "gzip"
    HDF5 = "hdf5"
    GGUF = "gguf"
    TEXT = "text"
    UNKNOWN = "unknown"


def recognise_format(head: bytes, tail: bytes, size: int) -> FileFormat:
    """The format of a file from its first and last bytes.

    Args:
        head: The first `HEAD_BYTES` bytes, or all there are.
        tail: The last `TAIL_BYTES` bytes; archives keep their contents there.
        size: Size of the whole file.

    Gzip is reported as `GZIP`; what is inside has to be recognised after inflating.
    """
    for magic, found in (
        (b"\x1f\x8b", FileFormat.GZIP),
        (b"7z\xbc\xaf\x27\x1c", FileFormat.SEVEN_ZIP),
        (b"\x89HDF\r\n\x1a\n", FileFormat.HDF5),
        (b"GGUF", FileFormat.GGUF),
        (b"\x93NUMPY", FileFormat.NUMPY),
    ):
        if head.startswith(magic):
            return found
    if is_zip(head):
        return _recognise_zip(tail)
    if head[257:262] == b"ustar":
        return FileFormat.TAR
    if _is_safetensors(head, size):
        return FileFormat.SAFETENSORS
    if looks_like_pickle(head):
        return FileFormat.PICKLE
    if _is_text(head):
        return FileFormat.TEXT
    if head and head[0] in _MODEL_TAGS:
        return FileFormat.ONNX
    return FileFormat.UNKNOWN


def looks_like_pickle(head: bytes) -> bool:
    """Whether the bytes begin with a pickle of any protocol, complete or cut off."""
    return begins_with_pickle(head)


def _recognise_zip(tail: bytes) -> FileFormat:
    # File names in the central directory, without trusting its counts or offsets.
    if b"data.pkl" not in tail:
        return FileFormat.ZIP
    return FileFormat.TORCHSCRIPT if b"/code/" in tail else FileFormat.PICKLE


def _is_safetensors(head: bytes, size: int) -> bool:
    if len(head) < 10:
        return False
    (length,) = struct.unpack("<Q", head[:8])
    return 2 <= length <= size - 8 and head[8:9] == b"{" and head[9:10] in (b'"', b"}", b" ")


def is_zip(head: bytes) -> bool:
    """Whether a file begins like a zip archive, an empty one included."""
    return head.startswith(_ZIP_STARTS)


def is_plain(start: bytes) -> bool:
    """Whether bytes hold no control characters but those of texts; any encoding above ASCII."""
    return not start.translate(None, _OF_TEXTS)


def _is_text(head: bytes) -> bool:
    if not head or not is_plain(head):
        return False
    try:
        # The head may end inside a character.
        head.decode() if len(head) < HEAD_BYTES else head[: HEAD_BYTES - 4].decode(errors="ignore")
    except UnicodeDecodeError:
        return False
    return True
