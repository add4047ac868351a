"""The type of an array as the header of a .npy file writes it: its size, and whether it is safe.

Source: `numpy.lib.format.dtype_to_descr` and the array protocol's type strings. Numbers, truth
values, texts and bytes of fixed length, dates and spans of time are known, and structures of them;
raw bytes only as the nameless padding inside a structure.
"""

from __future__ import annotations

import re
from math import prod
from typing import Final, NamedTuple

_ITEM: Final = re.compile(r"[<>|=]?([biufcSaUVmMO])([0-9]{0,9})(\[[0-9]{0,6}[A-Za-z]{1,3}\])?")
_SIZES: Final = {
    "b": (1,), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "f": (2, 4, 8, 12, 16),
    "c": (8, 16, 24, 32), "m": (8,), "M": (8,),
}  # fmt: skip
_CHARACTER_BYTES: Final = {"S": 1, "a": 1, "U": 4, "V": 1}
_POINTER_BYTES: Final = 8
_MOST_FIELDS: Final = 1000
_WHAT: Final = (
    "known are numbers, truth values, texts of fixed length, dates and structures of them"
)


class UnknownType(Exception):
    """The type is none of those that are known; the message shows it."""


class ArrayType(NamedTuple):
    """A type of array elements.

    Attributes:
        size: Bytes of one element.
        holds_objects: Whether Python objects are in it, at any depth.
        text: As in the file, shortened.
    """

    size: int
    holds_objects: bool
    text: str


def read_dtype(description: object) -> ArrayType:
    """The type from the `descr` of a header.

    Raises:
        UnknownType: It is not one of the known ones.
    """
    size, holds_objects = _read(description)
    shown = str(description)
    return ArrayType(size, holds_objects, shown if len(shown) <= 80 else shown[:77] + "...")


def _unknown(description: object) -> UnknownType:
    return UnknownType(f"dtype {str(description)[:80]!r}; {_WHAT}")


def _read(description: object, *, padding: bool = False) -> tuple[int, bool]:
    if isinstance(description, str):
        return _read_item(description, padding=padding)
    if isinstance(description, tuple) and len(description) == 2:  # an array inside each element
        return _read_repeated(*description)
    if not isinstance(description, list) or not 0 < len(description) <= _MOST_FIELDS:
        raise _unknown(description)
    fields = [_read_field(field) for field in description]
    return sum(size for size, _ in fields), any(holds for _, holds in fields)


def _read_field(field: object) -> tuple[int, bool]:
    if not isinstance(field, tuple) or not 2 <= len(field) <= 3:
        raise _unknown(field)
    name, description = field[0], field[1]
    titled = isinstance(name, tuple) and len(name) == 2 and all(isinstance(t, str) for t in name)
    if not isinstance(name, str) and not titled:
        raise _unknown(field)
    if len(field) == 3:
        return _read_repeated(description, field[2])
    return _read(description, padding=name == "")


def _read_repeated(description: object, shape: object) -> tuple[int, bool]:
    axes = shape if isinstance(shape, tuple) else (shape,)
    counts = [axis for axis in axes if type(axis) is int and axis >= 0]
    if len(counts) < len(axes):
        raise _unknown((description, shape))
    size, holds_objects = _read(description)
    return size * prod(counts), holds_objects


def _read_item(text: str, *, padding: bool) -> tuple[int, bool]:
    found = _ITEM.fullmatch(text)
    if text == "|?" or text == "?":
        return 1, False
    if found is None:
        raise _unknown(text)
    kind, digits, unit = found.groups()
    if kind == "O" and not unit:
        return _POINTER_BYTES, True
    if (unit and kind not in "mM") or (kind == "V" and not padding) or (not digits):
        raise _unknown(text)
    if kind in _CHARACTER_BYTES:
        return int(digits) * _CHARACTER_BYTES[kind], False
    if int(digits) not in _SIZES[kind]:
        raise _unknown(text)
    return int(digits), False
