"""The opcodes of pickle that make and move values: texts, numbers, collections, the memo.

Source: CPython's `Modules/_pickle.c` for what an opcode takes and leaves. Every method goes past
one opcode: it is given the index behind the opcode's byte and returns the one behind its argument.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from auditor.models.scan.byte_source import ByteSource
from auditor.models.scan.limits import ScanLimits
from auditor.models.scan.pickles.opcodes import OPCODES, Argument
from auditor.models.scan.pickles.stack import Import, Kind, Memo, SymbolicStack, Value
from auditor.models.scan.pickles.trace import PickleTrace
from auditor.models.scan.pickles.window import PickleWindow, WalkEnded

Handler = Callable[[int], int]
_LONGEST_NUMBER: Final = 10_000
_LONGEST_MEMO_NUMBER: Final = 40
_USUAL_NUMBER: Final = 16
# What strtol, float and int read; a NUL ends the number for C. Nothing is tried twice.
_NUMBER: Final = re.compile(
    rb"\s*+[+-]?(0[xX][0-9a-fA-F_]++|0[oO][0-7_]++|0[bB][01_]++|[0-9][0-9_]*+)L?\s*+(\0.*)?",
    re.DOTALL,
)
_FLOAT: Final = re.compile(
    rb"\s*+[+-]?(inf(inity)?|nan|([0-9][0-9_]*+(\.[0-9_]*+)?|\.[0-9][0-9_]*+)(e[+-]?[0-9]++)?)"
    rb"\s*+(\0.*)?",
    re.DOTALL | re.IGNORECASE,
)
_SKIPPED: Final = {
    "SHORT_BINBYTES": Kind.BYTES, "BINBYTES": Kind.BYTES, "BINBYTES8": Kind.BYTES,
    "BYTEARRAY8": Kind.BYTES, "LONG1": Kind.PLAIN, "LONG4": Kind.PLAIN,
}  # fmt: skip


class ValueOpcodes:
    """The window, the stack, the memo, and what these opcodes do to them."""

    def __init__(self, source: ByteSource, limits: ScanLimits) -> None:
        self.window = PickleWindow(source)
        self.limits = limits
        self.stack, self.memo = SymbolicStack(), Memo()
        self.trace = PickleTrace(source.position)

    def value_handlers(self) -> Mapping[int, Handler]:
        """A method for each of these opcodes, by its byte."""
        named: dict[str, Handler] = {
            "MARK": self._mark, "POP": self._pop, "POP_MARK": self._pop_mark, "DUP": self._dup,
            "APPEND": partial(self._append, 1), "APPENDS": self._appends,
            "ADDITEMS": self._appends, "SETITEM": self._set_item, "SETITEMS": self._set_items,
            "LIST": partial(self._collect, Kind.LIST), "TUPLE": partial(self._collect, Kind.TUPLE),
            "FROZENSET": partial(self._collect, Kind.SET), "DICT": self._dict,
            "TUPLE1": partial(self._tuple, 1), "TUPLE2": partial(self._tuple, 2),
            "TUPLE3": partial(self._tuple, 3), "READONLY_BUFFER": self._read_only,
            "INT": partial(self._number, _NUMBER), "LONG": partial(self._number, _NUMBER),
            "FLOAT": partial(self._number, _FLOAT), "STRING": self._quoted,
            "UNICODE": self._escaped, "GET": self._get_line, "PUT": self._put_line,
            "BINGET": partial(self._get, 1), "LONG_BINGET": partial(self._get, 4),
            "BINPUT": partial(self._put, 1), "LONG_BINPUT": partial(self._put, 4),
            "MEMOIZE": self._memoize,
        }  # fmt: skip
        handlers: dict[int, Handler] = {}
        for code, opcode in OPCODES.items():
            signed = opcode.argument is Argument.SIGNED
            if opcode.name in named:
                handlers[code] = named[opcode.name]
            elif opcode.name in _SKIPPED:
                kind = _SKIPPED[opcode.name]
                handlers[code] = partial(self._skip_counted, kind, opcode.width, signed)
            elif opcode.argument in (Argument.COUNTED, Argument.SIGNED):
                handlers[code] = partial(self._text, opcode.width, signed)
        return handlers

    def offset(self, at: int) -> int:
        """The byte of the opcode whose argument begins at an index."""
        return self.window.base + at - 1

    # Texts and numbers.

    def _count(self, at: int, width: int, signed: bool) -> int:
        count = int.from_bytes(self.window.content[at : at + width], "little", signed=signed)
        if not 0 <= count <= sys.maxsize:
            raise WalkEnded("malformed", f"a length of {count} bytes", self.window.base + at)
        return count

    def _skip_counted(self, kind: Kind, width: int, signed: bool, at: int) -> int:
        count = self._count(at, width, signed)
        self.stack.values.append(kind)
        return self.window.skip(at + width, count)

    def _text(self, width: int, signed: bool, at: int) -> int:
        content = self.window.content
        count = content[at] if width == 1 else self._count(at, width, signed)
        at += width
        text: Value = Kind.TEXT
        if count > self.limits.pickle_strings:
            at = self.window.skip(at, count)
        elif at + count <= self.window.end:
            text = content[at : at + count]
            at += count
        else:
            text, at = self.window.read(at, count)
        self.stack.values.append(text)
        return at

    def _digits(self, at: int) -> bytes:
        """The line if it is short and made of digits, as nearly all numbers are."""
        content = self.window.content
        stop = content.find(b"\n", at, at + _USUAL_NUMBER)
        digits = content[at : max(at, stop)]
        return digits if digits.isdigit() else b""

    def _number(self, pattern: re.Pattern[bytes], at: int) -> int:
        if digits := self._digits(at):
            self.stack.values.append(Kind.PLAIN)
            return at + len(digits) + 1
        offset = self.offset(at)
        line, at = self.window.line(at, _LONGEST_NUMBER)
        if line is not None and not pattern.fullmatch(line):
            self.trace.add_structure(offset, f"a number that is written {line[:40]!r}")
        self.stack.values.append(Kind.PLAIN)
        return at

    def _quoted(self, at: int) -> int:
        offset = self.offset(at)
        line, at = self.window.line(at, self.limits.pickle_strings)
        text: Value = Kind.TEXT
        if line is not None:
            if len(line) < 2 or line[0] != line[-1] or line[:1] not in (b"'", b'"'):
                self.trace.add_structure(offset, f"a text without quotes: {line[:40]!r}")
            elif b"\\" not in line:  # with escapes it stays a text that is not known
                text = line[1:-1]
        self.stack.values.append(text)
        return at

    def _escaped(self, at: int) -> int:
        offset = self.offset(at)
        line, at = self.window.line(at, self.limits.pickle_strings)
        text: Value = Kind.TEXT
        if line is not None and line.isascii() and b"\\" not in line:
            text = line
        elif line is not None:
            try:
                text = line.decode("raw-unicode-escape").encode("utf-8", "surrogatepass")
            except UnicodeDecodeError:
                self.trace.add_structure(offset, f"a text that is written {line[:40]!r}")
        self.stack.values.append(text)
        return at

    # Stack, collections and memo.

    def _mark(self, at: int) -> int:
        self.stack.mark()
        return at

    def _pop(self, at: int) -> int:
        self.stack.pop_or_unmark()
        return at

    def _pop_mark(self, at: int) -> int:
        del self.stack.values[self.stack.pop_mark() :]
        return at

    def _dup(self, at: int) -> int:
        self.stack.values.append(self.stack.top())
        return at

    def _append(self, count: int, at: int) -> int:
        for _ in range(count):
            self.stack.pop()
        self.stack.top()
        return at

    def _appends(self, at: int) -> int:
        del self.stack.values[self.stack.pop_mark() :]
        return self._append(0, at)

    def _set_item(self, at: int) -> int:
        self.stack.pop()
        self.stack.pop()
        self._require_dict("SETITEM", at)
        return at

    def _set_items(self, at: int) -> int:
        if self._take_pairs(at):
            self._require_dict("SETITEMS", at)
        else:
            self.stack.top()
        return at

    def _require_dict(self, opcode: str, at: int) -> None:
        target = self.stack.top()
        if target in (Kind.DICT, Kind.UNKNOWN):
            return
        what = "a text" if isinstance(target, bytes) else str(target)
        if isinstance(target, Import):
            what = f"the class or function {'.'.join(target)[:80]!r}"
        self.trace.add_structure(
            self.offset(at), f"{opcode} on {what}, which is no dict (CVE-2026-24747)"
        )

    def _take_pairs(self, at: int) -> int:
        start = self.stack.pop_mark()
        count = len(self.stack.values) - start
        if count % 2 and not self.stack.forgotten:
            problem = f"{count} keys and values, which are no pairs"
            self.trace.add_structure(self.offset(at), problem)
        del self.stack.values[start:]
        return count

    def _dict(self, at: int) -> int:
        self._take_pairs(at)
        self.stack.values.append(Kind.DICT)
        return at

    def _collect(self, kind: Kind, at: int) -> int:
        del self.stack.values[self.stack.pop_mark() :]
        self.stack.values.append(kind)
        return at

    def _tuple(self, count: int, at: int) -> int:
        for _ in range(count):
            self.stack.pop()
        self.stack.values.append(Kind.TUPLE)
        return at

    def _read_only(self, at: int) -> int:
        self.stack.top()
        return at

    def _memoize(self, at: int) -> int:
        self.memo.append(self.stack.top())
        return at

    def _put(self, width: int, at: int) -> int:
        content = self.window.content
        number = content[at] if width == 1 else int.from_bytes(content[at : at + width], "little")
        self.memo.put(number, self.stack.top())
        return at + width

    def _get(self, width: int, at: int) -> int:
        content = self.window.content
        number = content[at] if width == 1 else int.from_bytes(content[at : at + width], "little")
        self.stack.values.append(self.memo.get(number))
        return at + width

    def _memo_number(self, at: int) -> tuple[int | None, int]:
        if digits := self._digits(at):
            return int(digits), at + len(digits) + 1
        offset = self.offset(at)
        line, at = self.window.line(at, _LONGEST_MEMO_NUMBER)
        if line is None:
            return None, at
        try:
            return int(line), at
        except ValueError:
            self.trace.add_structure(offset, f"a memo number that is written {line[:40]!r}")
            return None, at

    def _put_line(self, at: int) -> int:
        number, at = self._memo_number(at)
        self.memo.put(number, self.stack.top())
        return at

    def _get_line(self, at: int) -> int:
        number, at = self._memo_number(at)
        self.stack.values.append(self.memo.get(number))
        return at
