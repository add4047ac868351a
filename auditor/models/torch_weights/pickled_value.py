"""The value that a pickle of weights describes, worked out from its opcodes; nothing is called.

Only opcodes, names and values are known here that weights need: numbers, texts, lists, mappings
and tensors. At anything else reading ends. That is stricter than an unpickler that refuses some
names: there is no object here whose attributes could be set and no function that could be reached.
The walk of the scan (`auditor.models.scan.pickles`) cannot serve: it follows what is broken, in
bounded memory, and keeps no values.

Source: CPython's `Modules/_pickle.c` for what an opcode takes and leaves.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from auditor.models.scan.pickles.imports import describe_import
from auditor.models.scan.pickles.opcodes import CODES, LATEST_PROTOCOL, OPCODES
from auditor.models.scan.pickles.stack import Import
from auditor.models.torch_weights.names import CALLED, NAMED, put_item, storage_of
from auditor.models.torch_weights.tensors import NotRead, Storage

_MOST_OPCODES: Final = 20_000_000
_LONGEST_LINE: Final = 256
_LONGEST_INTEGER: Final = 16
_MARK: Final = object()


class PickleUnread(Exception):
    """A pickle that is not one of weights.

    Attributes:
        rule: Stable rule id.
        problem: Why, one line.
        offset: Byte of the content at which that stands.
    """

    def __init__(self, rule: str, problem: str, offset: int) -> None:
        self.rule, self.problem, self.offset = rule, problem, offset
        super().__init__(problem)


@dataclass(frozen=True)
class PickledValue:
    """What one pickle describes.

    Attributes:
        value: Numbers, texts, bytes, None, tuples, lists, `dict` for mappings of any kind,
            `PickledTensor`, `Storage`, and `Import` for a name that is used as a value.
        end: The byte behind it.
        storages: What its tensors are parts of, by key.
    """

    value: Any
    end: int
    storages: Mapping[str, Storage]


def read_value(content: bytes, start: int = 0) -> PickledValue:
    """The value of one pickle.

    Args:
        content: The pickle, and perhaps more behind it.
        start: The byte at which it begins.

    Raises:
        PickleUnread: It holds what weights do not need, or is broken.
    """
    reader = _Reader(content, start)
    try:
        return PickledValue(reader.run(), reader.at, reader.storages)
    except NotRead as problem:
        raise PickleUnread("pickle-structure", str(problem), reader.began) from None
    except (IndexError, struct.error):
        raise PickleUnread("truncated", "the pickle ends before its STOP",
                           min(reader.began, len(content))) from None  # fmt: skip


class _Reader:
    """The stack, the memo, and a method for each opcode."""

    def __init__(self, content: bytes, start: int) -> None:
        self._content = content
        self.at = self.began = start
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}
        self._copies_left = len(content)
        self._handlers = self._by_code()

    def run(self) -> Any:
        """Follow the opcodes to a STOP."""
        content, handlers = self._content, self._handlers
        for _ in range(_MOST_OPCODES):
            self.began = self.at
            code = content[self.at]
            self.at += 1
            if code == CODES["STOP"]:
                return self._last_value()
            handler = handlers.get(code)
            if handler is None:
                name = OPCODES[code].name if code in OPCODES else f"{code:#04x}"
                raise PickleUnread(
                    "pickle-structure", f"opcode {name}, which weights do not need", self.began
                )
            handler()
        raise PickleUnread("field-limit", f"more than {_MOST_OPCODES} opcodes", self.at)

    def _by_code(self) -> dict[int, Callable[[], None]]:
        push = self._stack.append
        named: dict[str, Callable[[], None]] = {
            "PROTO": self._protocol, "FRAME": self._frame,
            "MARK": partial(push, _MARK), "NONE": partial(push, None),
            "NEWTRUE": partial(push, True), "NEWFALSE": partial(push, False),
            "BININT": partial(self._unpack, "<i"), "BININT1": partial(self._unpack, "<B"),
            "BININT2": partial(self._unpack, "<H"), "BINFLOAT": partial(self._unpack, ">d"),
            "LONG1": self._long, "BINUNICODE": partial(self._text, "<I"),
            "SHORT_BINUNICODE": partial(self._text, "<B"), "BINSTRING": partial(self._text, "<i"),
            "SHORT_BINSTRING": partial(self._text, "<B"),
            "BINBYTES": partial(self._bytes, "<I"), "SHORT_BINBYTES": partial(self._bytes, "<B"),
            "EMPTY_TUPLE": partial(push, ()), "TUPLE": self._tuple,
            "TUPLE1": partial(self._tuple_of, 1), "TUPLE2": partial(self._tuple_of, 2),
            "TUPLE3": partial(self._tuple_of, 3),
            "EMPTY_LIST": self._empty_list, "APPEND": self._append, "APPENDS": self._appends,
            "EMPTY_DICT": self._empty_dict, "SETITEM": self._set_item, "SETITEMS": self._set_items,
            "BINPUT": partial(self._put, "<B"), "LONG_BINPUT": partial(self._put, "<I"),
            "MEMOIZE": self._memoize, "BINGET": partial(self._get, "<B"),
            "LONG_BINGET": partial(self._get, "<I"), "GLOBAL": self._global,
            "STACK_GLOBAL": self._stack_global, "REDUCE": self._call, "BUILD": self._build,
            "BINPERSID": self._persistent,
        }  # fmt: skip
        return {CODES[name]: handler for name, handler in named.items()}

    # The bytes and the stack.

    def _take(self, count: int) -> bytes:
        found = self._content[self.at : self.at + count]
        if len(found) < count:
            raise IndexError
        self.at += count
        return found

    def _number(self, layout: str) -> Any:
        (value,) = struct.unpack_from(layout, self._content, self.at)
        self.at += struct.calcsize(layout)
        return value

    def _counted(self, layout: str) -> bytes:
        count = self._number(layout)
        if count < 0:
            raise NotRead(f"a length of {count} bytes")
        return self._take(count)

    def _pop(self) -> Any:
        if not self._stack or self._stack[-1] is _MARK:
            raise NotRead("an opcode that takes more than there is")
        return self._stack.pop()

    def _top(self) -> Any:
        self._stack.append(value := self._pop())
        return value

    def _pop_to_mark(self) -> list[Any]:
        values = []
        while self._stack and self._stack[-1] is not _MARK:
            values.append(self._stack.pop())
        if not self._stack:
            raise NotRead("an opcode that takes more than there is")
        self._stack.pop()
        values.reverse()
        return values

    def _last_value(self) -> Any:
        value = self._pop()
        if self._stack:
            raise NotRead(f"{len(self._stack)} values left over at its end")
        return value

    # Numbers and texts.

    def _protocol(self) -> None:
        protocol = self._number("<B")
        if not 2 <= protocol <= LATEST_PROTOCOL:
            raise NotRead(f"protocol {protocol}")

    def _frame(self) -> None:
        self._take(8)

    def _unpack(self, layout: str) -> None:
        self._stack.append(self._number(layout))

    def _long(self) -> None:
        digits = self._counted("<B")
        if len(digits) > _LONGEST_INTEGER:
            raise NotRead(f"a whole number of {len(digits)} bytes")
        self._stack.append(int.from_bytes(digits, "little", signed=True))

    def _text(self, layout: str) -> None:
        try:
            self._stack.append(self._counted(layout).decode("utf-8"))
        except UnicodeDecodeError:
            raise NotRead("a text that is not UTF-8") from None

    def _bytes(self, layout: str) -> None:
        self._stack.append(self._counted(layout))

    # Collections and the memo.

    def _tuple(self) -> None:
        self._stack.append(tuple(self._pop_to_mark()))

    def _tuple_of(self, count: int) -> None:
        values = [self._pop() for _ in range(count)]
        self._stack.append(tuple(reversed(values)))

    def _empty_list(self) -> None:
        self._stack.append([])

    def _empty_dict(self) -> None:
        self._stack.append({})

    def _append(self) -> None:
        value = self._pop()
        self._list().append(value)

    def _appends(self) -> None:
        values = self._pop_to_mark()
        self._list().extend(values)

    def _list(self) -> list[Any]:
        target = self._top()
        if not isinstance(target, list):
            raise NotRead("a value that is added to what is no list")
        return target

    def _set_item(self) -> None:
        value, key = self._pop(), self._pop()
        put_item(self._dict(), key, value)

    def _set_items(self) -> None:
        values = self._pop_to_mark()
        if len(values) % 2:
            raise NotRead(f"{len(values)} keys and values, which are no pairs")
        target = self._dict()
        for key, value in zip(values[::2], values[1::2], strict=True):
            put_item(target, key, value)

    def _dict(self) -> dict[str | int, Any]:
        target = self._top()
        if not isinstance(target, dict):
            raise NotRead("an item that is set in what is no mapping (CVE-2026-24747)")
        return target

    def _put(self, layout: str) -> None:
        self._memo[self._number(layout)] = self._top()

    def _memoize(self) -> None:
        self._memo[len(self._memo)] = self._top()

    def _get(self, layout: str) -> None:
        number = self._number(layout)
        if number not in self._memo:
            raise NotRead(f"number {number} of the memo, which was never written")
        self._stack.append(self._memo[number])

    # Names and what they make.

    def _global(self) -> None:
        self._name(self._line(), self._line())

    def _line(self) -> str:
        end = self._content.find(b"\n", self.at, self.at + _LONGEST_LINE)
        if end < 0:
            raise NotRead(f"a name of more than {_LONGEST_LINE} bytes")
        text = self._content[self.at : end].decode("utf-8", "backslashreplace")
        self.at = end + 1
        return text

    def _stack_global(self) -> None:
        name, module = self._pop(), self._pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise NotRead("a name that is no text")
        self._name(module, name)

    def _name(self, module: str, name: str) -> None:
        found = Import(module, name)
        if found not in NAMED:
            raise PickleUnread("pickle-import", describe_import(found), self.began)
        self._stack.append(found)

    def _call(self) -> None:
        arguments, function = self._pop(), self._pop()
        if not isinstance(function, Import) or function not in CALLED:
            raise NotRead("a call of what is no function of weights")
        if not isinstance(arguments, tuple):
            raise NotRead("a call without arguments")
        # What was written once can be copied again and again through the memo.
        self._copies_left -= sum(len(each) for each in (arguments, *arguments[:1])
                                 if isinstance(each, tuple | list | str))  # fmt: skip
        if self._copies_left < 0:
            raise PickleUnread("field-limit", "calls that copy more than was written", self.began)
        self._stack.append(CALLED[function](arguments))

    def _build(self) -> None:
        """Attributes of a mapping, as torch gives one to a state dict; they are left out."""
        self._pop()
        self._dict()

    def _persistent(self) -> None:
        found = storage_of(self._pop())
        if self.storages.setdefault(found.key, found) != found:
            raise NotRead(f"storage {found.key[:40]!r} with two types or lengths")
        self._stack.append(found)
