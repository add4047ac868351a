"""Walking one pickle after the other, opcode by opcode: what they import and call.

No object is built. A pickle that an unpickler would give up on is followed all the same, as far
as its bytes are opcodes, because unpicklers differ in what they give up on.
"""

from __future__ import annotations

from functools import partial
from struct import Struct
from typing import Final

from auditor.models.scan.byte_source import ByteSource
from auditor.models.scan.limits import ScanLimits
from auditor.models.scan.pickles.imports import DICT_MAKERS, TENSOR_MAKERS
from auditor.models.scan.pickles.opcodes import CODES, LATEST_PROTOCOL, OPCODES
from auditor.models.scan.pickles.stack import Import, Kind, Memo, SymbolicStack, Value
from auditor.models.scan.pickles.trace import PickleTrace
from auditor.models.scan.pickles.values import Handler, ValueOpcodes
from auditor.models.scan.pickles.window import WalkEnded

_PUSHED: Final = {
    "NONE": Kind.PLAIN, "NEWTRUE": Kind.PLAIN, "NEWFALSE": Kind.PLAIN, "BININT": Kind.PLAIN,
    "BININT1": Kind.PLAIN, "BININT2": Kind.PLAIN, "BINFLOAT": Kind.PLAIN,
    "EMPTY_TUPLE": Kind.TUPLE, "EMPTY_LIST": Kind.LIST, "EMPTY_DICT": Kind.DICT,
    "EMPTY_SET": Kind.SET, "NEXT_BUFFER": Kind.UNKNOWN,
}  # fmt: skip
"""Opcodes that only push a value, and the value."""
_STEPS: Final = [0] * 256
_VALUES: Final[list[Value]] = [Kind.UNKNOWN] * 256
for _name, _kind in _PUSHED.items():
    _STEPS[CODES[_name]] = 1 + OPCODES[CODES[_name]].width
    _VALUES[CODES[_name]] = _kind
_STOP: Final = CODES["STOP"]
_MARK: Final = CODES["MARK"]
_SHORT_TEXT: Final = CODES["SHORT_BINUNICODE"]
_TEXT: Final = CODES["BINUNICODE"]
_MEMOIZE: Final = CODES["MEMOIZE"]
_LONG_PUT: Final = CODES["LONG_BINPUT"]
_GET: Final = CODES["BINGET"]
_COLLECTS: Final = {CODES["TUPLE"]: (Kind.TUPLE,), CODES["LIST"]: (Kind.LIST,)}
_FOLDS: Final[dict[int, tuple[int, int, tuple[Kind, ...]]]] = {
    **{CODES[f"TUPLE{count}"]: (count, count, (Kind.TUPLE,)) for count in (1, 2, 3)},
    CODES["APPEND"]: (2, 1, ()),
}
"""Values an opcode needs above the last mark, how many of them it takes, and what it leaves."""
_LONG: Final = Struct("<I").unpack_from


class PickleWalker(ValueOpcodes):
    """Walks the pickles of a stream.

    Args:
        source: The bytes; read on behind a pickle as the window needs it.
        limits: How many opcodes in all, and how long a text is remembered.
    """

    def __init__(self, source: ByteSource, limits: ScanLimits) -> None:
        super().__init__(source, limits)
        self.frame_end = 0
        """Byte behind the frame that reaches furthest."""
        self._source, self._at, self._total = source, 0, 0
        named: dict[str, Handler] = {
            "GLOBAL": self._global, "STACK_GLOBAL": self._stack_global, "INST": self._inst,
            "OBJ": self._obj, "REDUCE": partial(self._call, 1), "NEWOBJ": partial(self._call, 1),
            "NEWOBJ_EX": partial(self._call, 2), "BUILD": self._build,
            "EXT1": partial(self._extension, 1), "EXT2": partial(self._extension, 2),
            "EXT4": partial(self._extension, 4), "PERSID": self._persistent_line,
            "BINPERSID": self._persistent, "PROTO": self._proto, "FRAME": self._frame,
        }  # fmt: skip
        handlers = {CODES[name]: handler for name, handler in named.items()}
        handlers |= self.value_handlers()
        self._handlers = [handlers.get(code, self._unknown) for code in range(256)]

    @property
    def position(self) -> int:
        """The byte of the stream at which the next pickle would begin."""
        return self.window.base + self._at

    def at_end(self) -> bool:
        """Whether no byte follows."""
        if self._at < self.window.safe:
            return False
        try:
            self._at = self.window.refill(self._at)
        except WalkEnded:
            return True
        return False

    def rest_from(self, offset: int) -> int:
        """Bytes from `offset` on, 0 if all are zero; nothing can be walked afterwards."""
        return self.window.rest_from(offset)

    def walk(self) -> PickleTrace:
        """Walk one pickle; what is wrong with it stands in the trace."""
        self.stack, self.memo = SymbolicStack(), Memo()
        self.trace = trace = PickleTrace(self.position)
        try:
            self._walk()
            trace.end = self.position
        except WalkEnded as ended:
            trace.ended, trace.end = ended, ended.offset
        self._total += trace.opcodes
        trace.over = trace.over or self._total > self.limits.opcodes
        return trace

    def _walk(self) -> None:
        """Walk to behind a STOP; common opcodes here, for a call costs more than an opcode."""
        window, stack, memo, trace = self.window, self.stack, self.memo, self.trace
        values, marks, recent = stack.values, stack.marks, memo.recent
        push, keep, early, handlers = values.append, recent.append, memo.early, self._handlers
        content, end, safe = window.content, window.end, window.safe
        at, count, fence, most = self._at, 0, 0, self.limits.pickle_strings
        try:
            while True:
                if at >= safe:
                    trace.opcodes, count = trace.opcodes + count, 0
                    at = self._refill(at)
                    if trace.over:
                        return
                    content, end, safe = window.content, window.end, window.safe
                    fence = marks[-1] if marks else 0
                code = content[at]
                step = _STEPS[code]
                count += 1
                if step:  # a value to push, and bytes to go past
                    push(_VALUES[code])
                    at += step
                    continue
                at += 1
                if code == _SHORT_TEXT:
                    behind = at + 1 + content[at]
                    push(content[at + 1 : behind])
                    at = behind
                    continue
                if code == _MEMOIZE:
                    if len(values) > fence and memo.counts:
                        keep(values[-1])
                        continue
                elif code == _MARK:
                    fence = len(values)
                    marks.append(fence)
                    continue
                elif code == _LONG_PUT:
                    number = _LONG(content, at)[0]
                    if number == memo.first + len(recent) and len(values) > fence and memo.dense:
                        keep(values[-1])
                        at += 4
                        continue
                elif code == _TEXT:
                    length = _LONG(content, at)[0]
                    if at + 4 + length <= end and length <= most:
                        push(content[at + 4 : at + 4 + length])
                        at += 4 + length
                        continue
                elif code in _FOLDS:
                    needed, taken, left = _FOLDS[code]
                    if len(values) - fence >= needed:
                        values[-taken:] = left
                        continue
                elif code in _COLLECTS:
                    if marks:
                        values[marks.pop() :] = _COLLECTS[code]
                        fence = marks[-1] if marks else 0
                        continue
                elif code == _GET:
                    number = content[at]
                    is_recent = number < len(recent) and not memo.first and memo.counts
                    if is_recent or number in early:
                        push(recent[number] if is_recent else early[number])
                        at += 1
                        continue
                elif code == _STOP:
                    stack.pop()
                    self._note_short(code, at)
                    return
                at = handlers[code](at)
                if stack.short:
                    self._note_short(code, at)
                content, end, safe = window.content, window.end, window.safe
                fence = marks[-1] if marks else 0
        finally:
            self._at = at
            trace.opcodes += count
            trace.left = len(values) + len(marks) + stack.forgotten

    def _refill(self, at: int) -> int:
        """Make room, and read on unless there are too many opcodes; where to go on."""
        self.stack.bound()
        self.memo.bound()
        self.trace.over = self._total + self.trace.opcodes > self.limits.opcodes
        return at if self.trace.over else self.window.refill(at)

    def _note_short(self, code: int, at: int) -> None:
        if self.stack.short:
            self.stack.short = False
            problem = f"{OPCODES[code].name} takes more than there is on the stack"
            self.trace.add_structure(self.offset(at), problem)

    def _unknown(self, at: int) -> int:
        offset = self.offset(at)
        code = self.window.content[at - 1]
        raise WalkEnded("malformed", f"byte {code:#04x} is no opcode of pickle", offset)

    def _import(self, module: bytes, name: bytes, offset: int) -> Value:
        most = self.limits.pickle_strings
        if max(len(module), len(name)) > most:
            self.trace.add_hidden(offset, f"imports by a name of more than {most} bytes")
            return Kind.UNKNOWN
        found = Import(module.decode(errors="backslashreplace"),
                       name.decode(errors="backslashreplace"))  # fmt: skip
        self.trace.add_import(found, offset)
        return found

    def _import_lines(self, at: int) -> tuple[Value, int]:
        offset, most = self.offset(at), self.limits.pickle_strings
        module, at = self.window.line(at, most)
        name, at = self.window.line(at, most)
        if module is None or name is None:
            self.trace.add_hidden(offset, f"imports by a name of more than {most} bytes")
            return Kind.UNKNOWN, at
        if not module or not name:
            self.trace.add_structure(offset, "imports without a name")
            return Kind.UNKNOWN, at
        return self._import(module, name, offset), at

    def _global(self, at: int) -> int:
        found, at = self._import_lines(at)
        self.stack.values.append(found)
        return at

    def _stack_global(self, at: int) -> int:
        name, module, offset = self.stack.pop(), self.stack.pop(), self.offset(at)
        found: Value = Kind.UNKNOWN
        if isinstance(module, bytes) and isinstance(name, bytes):
            found = self._import(module, name, offset)
        else:
            shown = module.decode(errors="backslashreplace") if isinstance(module, bytes) else ""
            source = f"from {shown[:80]!r} " if shown else ""
            self.trace.add_hidden(offset, f"imports {source}by a name that it hides")
        self.stack.values.append(found)
        return at

    def _extension(self, width: int, at: int) -> int:
        code = int.from_bytes(self.window.content[at : at + width], "little")
        problem = f"imports by extension code {code}, which hides the name"
        self.trace.add_hidden(self.offset(at), problem)
        self.stack.values.append(Kind.UNKNOWN)
        return at + width

    def _result(self, called: Value) -> Kind:
        self.trace.calls += 1
        if called in TENSOR_MAKERS:
            return Kind.TENSOR
        return Kind.DICT if called in DICT_MAKERS else Kind.UNKNOWN

    def _call(self, arguments: int, at: int) -> int:
        for _ in range(arguments):
            self.stack.pop()
        self.stack.values.append(self._result(self.stack.pop()))
        return at

    def _inst(self, at: int) -> int:
        start = self.stack.pop_mark()
        found, at = self._import_lines(at)
        self.stack.values[start:] = [self._result(found)]
        return at

    def _obj(self, at: int) -> int:
        start = self.stack.pop_mark()
        called = self.stack.values[start : start + 1]
        if not called:
            self.stack.pop()
        known = called and not self.stack.forgotten
        self.stack.values[start:] = [self._result(called[0] if known else Kind.UNKNOWN)]
        return at

    def _build(self, at: int) -> int:
        self.stack.pop()
        self.stack.top()
        self.trace.calls += 1
        return at

    def _persistent_line(self, at: int) -> int:
        offset = self.offset(at)
        line, at = self.window.line(at, self.limits.pickle_strings)
        if line is not None and not line.isascii():
            self.trace.add_structure(offset, f"a persistent id that is written {line[:40]!r}")
        self.trace.persistent += 1
        self.stack.values.append(Kind.UNKNOWN)
        return at

    def _persistent(self, at: int) -> int:
        self.stack.pop()
        self.trace.persistent += 1
        self.stack.values.append(Kind.UNKNOWN)
        return at

    def _proto(self, at: int) -> int:
        protocol = self.window.content[at]
        if protocol > LATEST_PROTOCOL:
            problem = f"protocol {protocol}; the latest is {LATEST_PROTOCOL}"
            self.trace.add_structure(self.offset(at), problem)
        return at + 1

    def _frame(self, at: int) -> int:
        offset, behind = self.offset(at), at + 8
        length = int.from_bytes(self.window.content[at:behind], "little")
        start = self.window.base + behind
        if start < self.frame_end:
            self.trace.add_structure(offset, "a frame begins inside another one")
        size = self._source.size
        if size is not None and start + length > size:
            problem = f"a frame of {length} bytes in a stream of {size}"
            self.trace.add_structure(offset, problem)
        self.frame_end = max(self.frame_end, start + length)
        return behind
