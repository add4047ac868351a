"""The opcodes of pickle, protocols 0 to 5, and how long the argument of each is.

Source: the comments of CPython's `Lib/pickletools.py`, PEP 307 (protocol 2), PEP 3154 (protocol 4)
and PEP 574 (protocol 5). Only lengths stand here; what an opcode does to the stack is followed in
`auditor.models.scan.pickles.walk`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple


class Argument(StrEnum):
    """How the end of an opcode's argument is found."""

    FIXED = "fixed"
    COUNTED = "counted"
    SIGNED = "signed"
    LINE = "line"
    LINES = "lines"


class Opcode(NamedTuple):
    """An opcode.

    Attributes:
        name: As in the standard library.
        argument: `FIXED` many bytes, an unsigned or `SIGNED` little-endian length and so many
            bytes, one `LINE` that ends in a newline, or two.
        width: Bytes of a fixed argument, or of the length; 0 for lines.
    """

    name: str
    argument: Argument = Argument.FIXED
    width: int = 0


_COUNTED, _SIGNED = Argument.COUNTED, Argument.SIGNED
_LINE, _LINES = Argument.LINE, Argument.LINES

OPCODES: Final[Mapping[int, Opcode]] = MappingProxyType({
    0x28: Opcode("MARK"),
    0x29: Opcode("EMPTY_TUPLE"),
    0x2E: Opcode("STOP"),
    0x30: Opcode("POP"),
    0x31: Opcode("POP_MARK"),
    0x32: Opcode("DUP"),
    0x42: Opcode("BINBYTES", _COUNTED, 4),
    0x43: Opcode("SHORT_BINBYTES", _COUNTED, 1),
    0x46: Opcode("FLOAT", _LINE),
    0x47: Opcode("BINFLOAT", width=8),
    0x49: Opcode("INT", _LINE),
    0x4A: Opcode("BININT", width=4),
    0x4B: Opcode("BININT1", width=1),
    0x4C: Opcode("LONG", _LINE),
    0x4D: Opcode("BININT2", width=2),
    0x4E: Opcode("NONE"),
    0x50: Opcode("PERSID", _LINE),
    0x51: Opcode("BINPERSID"),
    0x52: Opcode("REDUCE"),
    0x53: Opcode("STRING", _LINE),
    0x54: Opcode("BINSTRING", _SIGNED, 4),
    0x55: Opcode("SHORT_BINSTRING", _COUNTED, 1),
    0x56: Opcode("UNICODE", _LINE),
    0x58: Opcode("BINUNICODE", _COUNTED, 4),
    0x5D: Opcode("EMPTY_LIST"),
    0x61: Opcode("APPEND"),
    0x62: Opcode("BUILD"),
    0x63: Opcode("GLOBAL", _LINES),
    0x64: Opcode("DICT"),
    0x65: Opcode("APPENDS"),
    0x67: Opcode("GET", _LINE),
    0x68: Opcode("BINGET", width=1),
    0x69: Opcode("INST", _LINES),
    0x6A: Opcode("LONG_BINGET", width=4),
    0x6C: Opcode("LIST"),
    0x6F: Opcode("OBJ"),
    0x70: Opcode("PUT", _LINE),
    0x71: Opcode("BINPUT", width=1),
    0x72: Opcode("LONG_BINPUT", width=4),
    0x73: Opcode("SETITEM"),
    0x74: Opcode("TUPLE"),
    0x75: Opcode("SETITEMS"),
    0x7D: Opcode("EMPTY_DICT"),
    0x80: Opcode("PROTO", width=1),
    0x81: Opcode("NEWOBJ"),
    0x82: Opcode("EXT1", width=1),
    0x83: Opcode("EXT2", width=2),
    0x84: Opcode("EXT4", width=4),
    0x85: Opcode("TUPLE1"),
    0x86: Opcode("TUPLE2"),
    0x87: Opcode("TUPLE3"),
    0x88: Opcode("NEWTRUE"),
    0x89: Opcode("NEWFALSE"),
    0x8A: Opcode("LONG1", _COUNTED, 1),
    0x8B: Opcode("LONG4", _SIGNED, 4),
    0x8C: Opcode("SHORT_BINUNICODE", _COUNTED, 1),
    0x8D: Opcode("BINUNICODE8", _COUNTED, 8),
    0x8E: Opcode("BINBYTES8", _COUNTED, 8),
    0x8F: Opcode("EMPTY_SET"),
    0x90: Opcode("ADDITEMS"),
    0x91: Opcode("FROZENSET"),
    0x92: Opcode("NEWOBJ_EX"),
    0x93: Opcode("STACK_GLOBAL"),
    0x94: Opcode("MEMOIZE"),
    0x95: Opcode("FRAME", width=8),
    0x96: Opcode("BYTEARRAY8", _COUNTED, 8),
    0x97: Opcode("NEXT_BUFFER"),
    0x98: Opcode("READONLY_BUFFER"),
})  # fmt: skip
"""By the byte that stands for the opcode."""

CODES: Final[Mapping[str, int]] = MappingProxyType(
    {opcode.name: code for code, opcode in OPCODES.items()}
)
"""The byte by the opcode's name."""

LATEST_PROTOCOL: Final = 5
