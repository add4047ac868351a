"""Pictures decode to the pixels they were made of."""

from __future__ import annotations

import base64
import math
import struct
import zlib

import pytest

from auditor.findings import GrayImage
from auditor_reports.charts.png import MAX_SIDE, data_uri, encode_png


def decode(content: bytes) -> tuple[int, int, list[bytes]]:
    """Width, height and rows of an 8-bit grey PNG without filters; checks every checksum."""
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    at, chunks = 8, {}
    while at < len(content):
        (length,) = struct.unpack_from(">I", content, at)
        kind, body = content[at + 4 : at + 8], content[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", content, at + 8 + length)[0] == zlib.crc32(kind + body)
        chunks[kind] = body
        at += 12 + length
    assert list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
    width, height = struct.unpack_from(">II", chunks[b"IHDR"])
    raw = zlib.decompress(chunks[b"IDAT"])
    lines = [raw[row * (width + 1) : (row + 1) * (width + 1)] for row in range(height)]
    assert all(line[0] == 0 for line in lines)
    return width, height, [line[1:] for line in lines]


def image(width: int, height: int, *pixels: float) -> GrayImage:
    """A picture with these pixels."""
    return GrayImage(caption="c", width=width, height=height, pixels=pixels)


def test_pixels_survive() -> None:
    """Black, white and grey, row by row."""
    assert decode(encode_png(image(2, 2, 0.0, 1.0, 0.2, 0.6))) == (2, 2, [b"\x00\xff", b"\x33\x99"])


def test_values_outside_are_clamped_and_nan_is_black() -> None:
    """No value can break the picture."""
    pixels = (-1.0, 2.0, math.nan, math.inf)
    assert decode(encode_png(image(4, 1, *pixels)))[2] == [b"\x00\xff\x00\xff"]


def test_large_picture_is_thinned() -> None:
    """No picture is larger than the limit; each kept pixel is one of the original."""
    side = 3 * MAX_SIDE
    wide = image(side, 6, *([k / side for k in range(side)] * 6))
    width, height, rows = decode(encode_png(wide))
    assert (width, height) == (MAX_SIDE, 2)
    assert rows[0] == bytes(round(255 * k / side) for k in range(0, side, 3))


@pytest.mark.parametrize("side", [1, 28, MAX_SIDE])
def test_address_holds_the_file(side: int) -> None:
    """The `data:` address is the PNG in base 64."""
    picture = image(side, side, *([0.5] * side * side))
    head, _, body = data_uri(picture).partition(",")
    assert head == "data:image/png;base64"
    assert base64.b64decode(body) == encode_png(picture)
