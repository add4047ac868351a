"""Small grey-scale PNG files, the same bytes on every machine.

The image data is stored, not compressed: zlib libraries differ in their output, and
at this size compression gains less than reproducible reports are worth.
Source: W3C PNG (third edition), RFC 1950 and RFC 1951 section 3.2.4.
"""

from __future__ import annotations

import base64
import math
import struct
import zlib

from auditor.findings import GrayImage

MAX_SIDE = 64
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_STORED_BLOCK = 65_535


def encode_png(image: GrayImage) -> bytes:
    """The image as an 8-bit grey PNG; longer sides than `MAX_SIDE` are thinned by a whole step.

    Values outside [0, 1] are clamped; NaN is drawn black.
    """
    step = math.ceil(max(image.width, image.height) / MAX_SIDE)
    columns = range(0, image.width, step)
    rows = range(0, image.height, step)
    scanlines = b"".join(
        b"\x00" + bytes(_grey(image.pixels[row * image.width + column]) for column in columns)
        for row in rows
    )
    header = struct.pack(">IIBBBBB", len(columns), len(rows), 8, 0, 0, 0, 0)
    return b"".join(
        (
            _SIGNATURE,
            _chunk(b"IHDR", header),
            _chunk(b"IDAT", _stored(scanlines)),
            _chunk(b"IEND", b""),
        )
    )


def data_uri(image: GrayImage) -> str:
    """The image as a `data:` address."""
    return "data:image/png;base64," + base64.b64encode(encode_png(image)).decode("ascii")


def _grey(value: float) -> int:
    return round(255 * min(max(value, 0.0), 1.0)) if value == value else 0


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _stored(data: bytes) -> bytes:
    """`data` as a zlib stream of stored blocks."""
    blocks = [data[at : at + _STORED_BLOCK] for at in range(0, len(data), _STORED_BLOCK)]
    body = b"".join(
        struct.pack("<BHH", number == len(blocks) - 1, len(block), len(block) ^ 0xFFFF) + block
        for number, block in enumerate(blocks)
    )
    return b"\x78\x01" + body + struct.pack(">I", zlib.adler32(data))
