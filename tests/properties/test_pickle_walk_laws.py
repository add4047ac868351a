"""Laws of the pickle walk: it finds every import that an unpickler would ask for, and always ends.

The programs are made here, by a grammar. What they import is told by the standard library's own
unpickler, whose `find_class` only writes names down and returns a class that does nothing.
"""

from __future__ import annotations

import io
import pickle
import tracemalloc
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.models.scan.byte_source import ByteSource
from auditor.models.scan.decision import Decision
from auditor.models.scan.limits import ScanLimits
from auditor.models.scan.pickles.opcodes import CODES
from auditor.models.scan.pickles.stack import Import
from auditor.models.scan.pickles.walk import (
    PickleWalk,
    begins_with_pickle,
    trace_pickles,
    walk_pickle,
)

WORDS = ["os", "system", "posix", "torch._utils", "a b", "größe", "_x", "builtins", "eval", "Ünï.X"]
NUMBERS = [0, 1, 2, 7, 255, 256, 70_000]


class _Inert:
    """Stands for whatever a program imports; all it can do is be there."""

    def __new__(cls, *_: object, **__: object) -> _Inert:
        return super().__new__(cls)

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __call__(self, *_: object) -> _Inert:
        return self

    def __setstate__(self, _: object) -> None:
        pass

    def __setitem__(self, _: object, __: object) -> None:
        pass


def _recorder(base: Any) -> Any:
    class Recorder(base):  # type: ignore[misc]
        """Writes down what it is asked for."""

        def find_class(self, module: str, name: str) -> type[_Inert]:
            FOUND.append(Import(module, name))
            return _Inert

        def persistent_load(self, _: object) -> None:
            return None

    return Recorder


FOUND: list[Import] = []
RECORDER = _recorder(pickle.Unpickler)
# The one in Python allocates nothing for a memo number that a changed byte made huge.
SLOW_RECORDER = _recorder(pickle._Unpickler)


def _recorded(program: bytes, recorder: Any = RECORDER) -> set[Import]:
    """The names that an unpickler asks for until it ends or gives up."""
    FOUND.clear()
    stream = io.BytesIO(program)
    try:
        while stream.tell() < len(program):
            recorder(stream).load()
    except Exception:  # noqa: BLE001 - a changed program may fail in any way
        assert recorder is SLOW_RECORDER
    return set(FOUND)


def _walked(program: bytes) -> PickleWalk:
    return trace_pickles(ByteSource(io.BytesIO(program).read), ScanLimits())


def _op(name: str, argument: bytes = b"") -> bytes:
    return bytes([CODES[name]]) + argument


def _counted(name: str, width: int, content: bytes) -> bytes:
    return _op(name, len(content).to_bytes(width, "little") + content)


@dataclass
class _Emitter:
    """Turns trees into opcodes; knows which texts are in the memo."""

    memo: dict[int, str | None] = field(default_factory=dict)

    def text(self, text: str, how: int) -> bytes:
        content = text.encode()
        forms = [
            _counted("SHORT_BINUNICODE", 1, content),
            _counted("BINUNICODE", 4, content),
            _counted("BINUNICODE8", 8, content),
            _op("UNICODE", text.encode("raw-unicode-escape") + b"\n"),
        ]
        if text.isascii():
            forms += [
                _counted("SHORT_BINSTRING", 1, content),
                _counted("BINSTRING", 4, content),
                _op("STRING", b"'" + content + b"'\n"),
            ]
        return forms[how % len(forms)]

    def put(self, value: str | None, how: int, number: int) -> bytes:
        """Write the last value into the memo, in one of the four ways."""
        form = how % 4
        if form == 0:
            self.memo[len(self.memo)] = value
            return _op("MEMOIZE")
        if form == 1:
            number %= 256
        self.memo[number] = value
        if form == 1:
            return _op("BINPUT", bytes([number]))
        if form == 2:
            return _op("LONG_BINPUT", number.to_bytes(4, "little"))
        return _op("PUT", b"%d\n" % number)

    def get(self, number: int, how: int) -> bytes:
        if how % 3 == 0 and number < 256:
            return _op("BINGET", bytes([number]))
        return _op("GET", b"%d\n" % number) if how % 3 == 1 else _op(
            "LONG_BINGET", number.to_bytes(4, "little"))  # fmt: skip

    def from_memo(self, pick: int, how: int, otherwise: str) -> bytes:
        """A text from the memo if there is one."""
        numbers = [number for number, text in self.memo.items() if text is not None]
        if not numbers:
            return self.text(otherwise, how)
        return self.get(numbers[pick % len(numbers)], how)

    def emit(self, tree: Any) -> bytes:
        kind, how, *parts = tree
        return getattr(self, f"_{kind}")(how, *parts)  # type: ignore[no-any-return]

    def _plain(self, how: int, value: int) -> bytes:
        forms = [
            _op("NONE"), _op("NEWTRUE"), _op("BININT1", bytes([value % 256])),
            _op("BININT", value.to_bytes(4, "little")), _op("INT", b"%d\n" % value),
            _op("LONG", b"%dL\n" % value), _op("FLOAT", b"%d.5e1\n" % value), _op("INT", b"01\n"),
            _counted("LONG1", 1, value.to_bytes(5, "little")), _op("BINFLOAT", bytes(8)),
            _counted("LONG4", 4, value.to_bytes(5, "little")), _op("INT", b"0x1F\n"),
            _counted("SHORT_BINBYTES", 1, b"cos\n"), _counted("BINBYTES8", 8, b"cos\nsystem\n"),
            _counted("BINBYTES", 4, b"\x93"), _op("EMPTY_SET"),
        ]  # fmt: skip
        return forms[how % len(forms)]

    def _word(self, how: int, word: str) -> bytes:
        return self.text(word, how)

    def _kept_word(self, how: int, word: str, number: int) -> bytes:
        return self.text(word, how) + self.put(word, how, number)

    def _kept(self, how: int, number: int, inner: Any) -> bytes:
        return self.emit(inner) + self.put(None, how, number)

    def _pushed_out(self, how: int, first: Any, second: Any) -> bytes:
        ends = [_op("POP"), _op("DUP") + _op("POP") + _op("POP")]
        if how % 3 == 2:
            return _op("MARK") + self.emit(first) + _op("POP_MARK") + self.emit(second)
        return self.emit(first) + ends[how % 2] + self.emit(second)

    def _global(self, how: int, module: str, name: str) -> bytes:
        lines = module.encode() + b"\n" + name.encode() + b"\n"
        if how % 2 and lines.isascii():  # which INST has to be
            return _op("MARK") + _op("INST", lines)
        return _op("GLOBAL", lines)

    def _stack_global(self, how: int, module: str, name: str, pick: int) -> bytes:
        first = self.from_memo(pick, how, module) if how % 3 else self.text(module, how)
        second = self.from_memo(pick // 7, how + 1, name) if how % 2 else self.text(name, how)
        return first + second + _op("STACK_GLOBAL")

    def _called(self, how: int, module: str, name: str, inner: Any) -> bytes:
        found = self._global(0, module, name)
        argument = self.emit(inner)
        forms = [
            found + argument + _op("TUPLE1") + _op("REDUCE"),
            found + argument + _op("TUPLE1") + _op("NEWOBJ"),
            found + argument + _op("TUPLE1") + _op("EMPTY_DICT") + _op("NEWOBJ_EX"),
            _op("MARK") + found + argument + _op("OBJ"),
            found + _op("EMPTY_TUPLE") + _op("REDUCE") + argument + _op("BUILD"),
            found + _op("EMPTY_TUPLE") + _op("REDUCE") + _op("NONE") + argument + _op("SETITEM"),
        ]
        return forms[how % len(forms)]

    def _persistent(self, how: int, inner: Any) -> bytes:
        return _op("PERSID", b"id\n") if how % 2 else self.emit(inner) + _op("BINPERSID")

    def _sequence(self, how: int, inner: list[Any]) -> bytes:
        items = b"".join(self.emit(each) for each in inner)
        forms = [
            _op("MARK") + items + _op("TUPLE"),
            _op("MARK") + items + _op("LIST"),
            _op("EMPTY_LIST") + _op("MARK") + items + _op("APPENDS"),
        ]
        if inner and how % 5 >= 3:
            return self._few(how, len(inner), items)
        return forms[how % 5 % 3]

    def _few(self, how: int, count: int, items: bytes) -> bytes:
        if count <= 3:
            return items + _op(f"TUPLE{count}")
        return _op("EMPTY_LIST") + _op("MARK") + items + _op("TUPLE") + _op("APPEND")

    def _mapping(self, how: int, inner: list[Any]) -> bytes:
        items = b"".join(
            self._plain(2, key) + self.emit(each) for key, each in enumerate(inner)
        )  # fmt: skip
        if how % 2:
            return _op("MARK") + items + _op("DICT")
        return _op("EMPTY_DICT") + _op("MARK") + items + _op("SETITEMS")


HOW = st.integers(0, 59)
WORD = st.sampled_from(WORDS)
NUMBER = st.sampled_from(NUMBERS)
LEAVES = st.one_of(
    st.tuples(st.just("plain"), HOW, st.integers(0, 2**31 - 1)),
    st.tuples(st.just("word"), HOW, WORD),
    st.tuples(st.just("kept_word"), HOW, WORD, NUMBER),
    st.tuples(st.just("global"), HOW, WORD, WORD),
    st.tuples(st.just("stack_global"), HOW, WORD, WORD, st.integers(0, 99)),
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.tuples(st.just("kept"), HOW, NUMBER, inner),
        st.tuples(st.just("pushed_out"), HOW, inner, inner),
        st.tuples(st.just("called"), HOW, WORD, WORD, inner),
        st.tuples(st.just("persistent"), HOW, inner),
        st.tuples(st.just("sequence"), HOW, st.lists(inner, max_size=5)),
        st.tuples(st.just("mapping"), HOW, st.lists(inner, max_size=5)),
    ),
    max_leaves=25,
)


def _program(tree: Any) -> bytes:
    return _Emitter().emit(tree) + _op("STOP")


PROGRAMS = TREES.map(_program)


@settings(max_examples=300)
@given(programs=st.lists(PROGRAMS, min_size=1, max_size=3))
def test_every_import_of_every_pickle_is_found(programs: list[bytes]) -> None:
    """And no other; nor does anything that an unpickler accepts look wrong."""
    content = b"".join(programs)
    walk = _walked(content)
    assert set(walk.trace.imports) == _recorded(content)
    assert (walk.pickles, walk.trace.broken_at, walk.trace.hidden) == (len(programs), None, [])


@settings(max_examples=300)
@given(program=PROGRAMS, at=st.integers(0, 10**6), value=st.integers(0, 255))
def test_a_changed_byte_hides_no_import(program: bytes, at: int, value: int) -> None:
    """What an unpickler asks for before it gives up is named, or said to be hidden."""
    changed = bytearray(program)
    changed[at % len(changed)] = value
    if CODES["BYTEARRAY8"] in changed:  # the recorder would allocate what it asks for
        return
    walk = _walked(bytes(changed))
    asked = {found for found in _recorded(bytes(changed), SLOW_RECORDER) if all(found)}
    assert asked <= set(walk.trace.imports) or walk.trace.hidden


@settings(max_examples=200)
@given(program=PROGRAMS, cut=st.integers(0, 10**6))
def test_a_pickle_that_is_cut_off_hides_no_import(program: bytes, cut: int) -> None:
    """The imports that come before the cut are found, and the cut is seen."""
    kept = program[: cut % len(program)]
    walk = _walked(kept)
    asked = {found for found in _recorded(kept, SLOW_RECORDER) if all(found)}
    assert asked <= set(walk.trace.imports)
    assert walk.trace.ended is not None


@given(program=PROGRAMS)
def test_an_import_makes_any_beginning_a_pickle(program: bytes) -> None:
    """Of names that are names, whatever comes before it."""
    walk = _walked(program)
    names = [".".join(found) for found in walk.trace.imports]
    if names and all(name.isascii() and " " not in name for name in names):
        assert begins_with_pickle(program)


@settings(max_examples=300)
@given(content=st.binary(max_size=2000), size_known=st.booleans())
def test_random_bytes_are_walked_to_an_end(content: bytes, size_known: bool) -> None:
    """They never raise, are never accepted, and take little memory."""
    size = len(content) if size_known else None
    tracemalloc.start()
    found = walk_pickle(ByteSource(io.BytesIO(content).read, size=size), "", ScanLimits())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.decision is Decision.REFUSED
    assert peak < 2**20


OPCODE_SOUP = st.lists(
    st.sampled_from([bytes([code]) for code in CODES.values()]) | st.binary(max_size=6),
    max_size=200,
).map(b"".join)


@settings(max_examples=300)
@given(content=OPCODE_SOUP)
def test_random_opcodes_are_walked_to_an_end(content: bytes) -> None:
    """They never raise, and the beginning of a file is judged the same way."""
    found = walk_pickle(ByteSource(io.BytesIO(content).read), "", ScanLimits())
    assert found.decision is Decision.REFUSED
    assert begins_with_pickle(content) in (True, False)
