"""Pickles whose only effect would be to create the marker file, as objects and as opcodes.

Nothing here is ever loaded: `pickle.dumps` writes names down and calls none of them.
"""

from __future__ import annotations

import pickle
import struct
from pathlib import Path


class Touch:
    """Unpickling it would create the marker."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.marker,)


def touching(marker: Path, protocol: int = 4) -> bytes:
    """A pickle that would create the marker."""
    return pickle.dumps(Touch(marker), protocol)


def line(marker: Path) -> str:
    """The same as a line of Python."""
    return f"open({str(marker)!r}, 'w').close()"


def calling(module: str, name: str, *texts: str) -> bytes:
    """A pickle of protocol 2 that would call a function with these texts."""
    arguments = b"".join(text(each) for each in texts)
    return b"\x80\x02" + imported(module, name) + b"(" + arguments + b"tR."


def imported(module: str, name: str) -> bytes:
    """The opcode GLOBAL."""
    return b"c" + f"{module}\n{name}\n".encode()


def text(value: str) -> bytes:
    """The opcode BINUNICODE."""
    encoded = value.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def number(value: int) -> bytes:
    """The opcode BININT1 or BININT."""
    return b"K" + bytes([value]) if 0 <= value < 256 else b"J" + struct.pack("<i", value)
