"""The walk over pickles: what is refused by which rule, where, and that nothing of it runs."""

from __future__ import annotations

import io
import pickle
import pickletools
import random
import tracemalloc
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from auditor.models.scan.byte_source import ByteSource
from auditor.models.scan.decision import Content, Decision, Problem
from auditor.models.scan.limits import ScanLimits
from auditor.models.scan.pickles.imports import ALLOWED, describe_import
from auditor.models.scan.pickles.opcodes import OPCODES, Argument
from auditor.models.scan.pickles.stack import Import
from auditor.models.scan.pickles.walk import begins_with_pickle, walk_pickle
from tests.models.onnx_networks import dense_network

WINDOW = 2**16


def walk(content: bytes, place: str = "", limits: ScanLimits | None = None) -> Content:
    """The answer for bytes in memory whose number is known."""
    source = ByteSource(io.BytesIO(content).read, size=len(content))
    return walk_pickle(source, place, limits or ScanLimits())


def further(content: bytes, limits: ScanLimits | None = None) -> list[tuple[str, str, str]]:
    """What is wrong besides that it is a pickle."""
    found = walk(content, limits=limits)
    first, *others = found.problems
    assert (first.rule, first.decision) == ("pickle-content", Decision.REFUSED)
    return [(problem.rule, problem.problem, problem.place) for problem in others]


def rules(content: bytes, limits: ScanLimits | None = None) -> list[str]:
    """The rules of those."""
    return [rule for rule, _, _ in further(content, limits)]


def text(content: bytes) -> bytes:
    """A text of protocol 4."""
    return b"\x8c" + bytes([len(content)]) + content


class _Marker:
    """Unpickling it creates a file; nothing else."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


# The table of opcodes.


def test_the_opcodes_are_those_of_the_standard_library() -> None:
    """By byte and name, none missing."""
    assert {code: opcode.name for code, opcode in OPCODES.items()} == {
        ord(opcode.code): opcode.name for opcode in pickletools.opcodes
    }


@pytest.mark.parametrize("code", sorted(OPCODES), ids=lambda code: OPCODES[code].name)
def test_an_argument_is_as_long_as_the_standard_library_says(code: int) -> None:
    """Fixed bytes, a length of so many bytes, or lines."""
    opcode = OPCODES[code]
    (argument,) = (each.arg for each in pickletools.opcodes if each.code == chr(code))
    count = 0 if argument is None else argument.n
    lines = {"stringnl_noescape_pair": Argument.LINES}
    prefixes = {-2: 1, -3: 4, -4: 4, -5: 8}
    if count >= 0:
        assert (opcode.argument, opcode.width) == (Argument.FIXED, count)
    elif count == pickletools.UP_TO_NEWLINE:
        assert argument is not None
        assert opcode.argument is lines.get(argument.name, Argument.LINE)
    else:
        assert opcode.argument in (Argument.COUNTED, Argument.SIGNED)
        assert opcode.width == prefixes[count]


# What a plain pickle gives.


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_is_refused_as_a_pickle_and_for_nothing_else(protocol: int) -> None:
    """In every protocol; every opcode is counted."""
    content = pickle.dumps({"a": [1, 2.5, None, True, -(2**80)], "b": (b"x", "ü")}, protocol)
    found = walk(content)
    allowed = "_codecs.encode" if protocol < 3 else "none"
    assert rules(content) == []
    assert found.format == "pickle"
    assert found.decision is Decision.REFUSED
    assert found.facts["opcodes"] == str(len(list(pickletools.genops(content))))
    assert (found.facts["pickles"], found.facts["imports"]) == ("1", allowed)


def _tensors(*, old: bool) -> bytes:
    stream = io.BytesIO()
    state = OrderedDict(w=torch.zeros(3), b=torch.nn.Parameter(torch.ones(2)))
    torch.save(state, stream, _use_new_zipfile_serialization=not old)
    return stream.getvalue()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_plain_array_imports_nothing_that_is_not_allowed(protocol: int) -> None:
    """The names that numpy needs are on the list."""
    content = pickle.dumps(np.zeros(3, np.float32), protocol)
    assert further(content) == []


def test_an_old_torch_file_is_pickles_and_raw_numbers() -> None:
    """The numbers behind the last pickle are counted and said not to be looked at."""
    found = walk(_tensors(old=True))
    assert [problem.rule for problem in found.problems] == ["pickle-content"]
    assert found.facts["pickles"] == "5"
    assert found.facts["persistent_ids"] == "2"
    raw = 2 * 8 + (3 + 2) * 4
    assert found.parts[1:] == (f"{raw} bytes after the last pickle, not looked at",)


def test_every_allowed_name_has_a_reason() -> None:
    """And none of them is known for anything else than tensors need."""
    for name, reason in ALLOWED.items():
        assert reason
        assert describe_import(name).endswith("which is none of the names that plain tensors need")


# Imports.

IMPORTS: dict[str, bytes] = {
    "GLOBAL": b"\x80\x02cposix\nsystem\n.",
    "INST": b"(iposix\nsystem\n.",
    "STACK_GLOBAL": text(b"posix") + text(b"system") + b"\x93.",
    "long texts": b"X\x05\0\0\0posixX\x06\0\0\0system\x93.",
    "longest texts": b"\x8d\x05" + bytes(7) + b"posix\x8d\x06" + bytes(7) + b"system\x93.",
    "old texts": b"U\x05posixT\x06\0\0\0system\x93.",
    "lines": b"Vposi\\u0078\nS'system'\n\x93.",
    "MEMOIZE": text(b"posix") + b"\x94" + text(b"system") + b"\x9400h\x00h\x01\x93.",
    "BINPUT": text(b"posix") + b"q\x07" + text(b"system") + b"q\x0900h\x07h\x09\x93.",
    "LONG_BINPUT": text(b"posix") + b"r\0\1\0\0" + text(b"system")
    + b"r\1\1\0\x0000j\0\1\0\0j\1\1\0\0\x93.",
    "PUT": text(b"posix") + b"p7\n" + text(b"system") + b"p9\n00g7\ng9\n\x93.",
    "overwritten": text(b"torch") + b"q\x00" + text(b"posix") + b"q\x00" + text(b"Size")
    + b"00h\x00" + text(b"system") + b"\x93.",
    "gaps that are filled": b"Nr\0\0\0\0r\2\0\0\0r\1\0\0\0r\2\0\0\0" + text(b"posix") + b"\x94"
    + text(b"system") + b"\x94h\3h\4\x93.",
    "DUP": text(b"posix") + b"20" + text(b"system") + b"\x93.",
    "below a mark": text(b"posix") + text(b"system") + b"(1\x93.",
}  # fmt: skip


@pytest.mark.parametrize("how", sorted(IMPORTS))
def test_an_import_is_found_however_it_is_written(how: str) -> None:
    """And said what it can do."""
    content = IMPORTS[how]
    opcode = b"c" if how == "GLOBAL" else b"i" if how == "INST" else b"\x93"
    offset = content.index(opcode)
    problem = "imports 'posix.system', which can run commands"
    assert further(content) == [("pickle-import", problem, f"byte {offset}")]
    assert walk(content).facts["imports"] == "posix.system"


HIDDEN: dict[str, tuple[bytes, str]] = {
    "EXT1": (b"\x82\x07.", "imports by extension code 7, which hides the name"),
    "EXT2": (b"\x83\x07\x01.", "imports by extension code 263, which hides the name"),
    "EXT4": (b"\x84\x07\0\1\0.", "imports by extension code 65543, which hides the name"),
    "a number": (b"K\x01K\x01\x93.", "imports by a name that it hides"),
    "one name": (text(b"posix") + b"K\x01\x93.", "imports from 'posix' by a name that it hides"),
    "a result": (b"ca\nb\n)R" + text(b"x") + b"\x93.", "imports by a name that it hides"),
    "an escape": (b"S'\\x6fs'\nS'system'\n\x93.", "imports by a name that it hides"),
    "never written": (b"h\x05h\x06\x93.", "imports by a name that it hides"),
    "a long line": (b"c" + b"a" * 2000 + b"\nb\n.", "imports by a name of more than 1024 bytes"),
    "a long text": (b"X\xd0\7\0\0" + b"a" * 2000 + text(b"x") + b"\x93.",
                    "imports by a name that it hides"),
}  # fmt: skip


@pytest.mark.parametrize("how", sorted(HIDDEN))
def test_a_name_that_cannot_be_told_is_refused_as_hidden(how: str) -> None:
    """Whatever it may be."""
    content, problem = HIDDEN[how]
    assert problem in [found for rule, found, _ in further(content) if rule == "pickle-import"]


@pytest.mark.parametrize(
    ("module", "name", "what"),
    [
        ("os", "system", "can run commands"),
        ("nt", "system", "can run commands"),
        ("subprocess", "Popen", "can run commands"),
        ("asyncio.unix_events", "_UnixSubprocessTransport._start", "can run commands"),
        ("pip._internal.cli.main", "main", "can run commands"),  # CVE-2025-1716
        ("torch.utils.collect_env", "run", "can run commands"),
        ("builtins", "eval", "can run code that is given as a text"),
        ("__builtin__", "eval", "can run code that is given as a text"),
        ("timeit", "timeit", "can run code that is given as a text"),
        ("idlelib.run", "Executive.runcode", "can run code that is given as a text"),
        ("cProfile", "run", "can run code that is given as a text"),
        ("numpy.testing._private.utils", "runstring", "can run code that is given as a text"),
        ("torch._dynamo.guards", "GuardBuilder.get", "can run code that is given as a text"),
        ("builtins", "__import__", "can import any module"),
        ("pydoc", "locate", "can import any module"),
        ("builtins", "getattr", "can reach or call any function"),
        ("operator", "methodcaller", "can reach or call any function"),
        ("functools", "partial", "can reach or call any function"),
        ("torch.storage", "_load_from_bytes", "opens another pickle"),
        ("lib2to3.pgen2.grammar", "Grammar.loadGrammar", "opens another pickle"),
        ("torch.distributed.rpc", "rpc_sync", "can call functions on other machines"),
        ("torch.distributed.nn", "RemoteModule", "can call functions on other machines"),
        ("webbrowser", "open", "can fetch and send over the network"),
        ("torch.hub", "load", "can fetch and send over the network"),
        ("ctypes", "CDLL", "can load native code"),
        ("shutil", "rmtree", "can read, write or delete files"),
        ("torch._C", "os.system", "can run commands"),
        ("harmless", "module.builtins.exec", "can run code that is given as a text"),
        ("osmosis", "system", "is none of the names that plain tensors need"),
        ("mylib", "Model", "is none of the names that plain tensors need"),
    ],
)
def test_what_an_import_can_do_is_said(module: str, name: str, what: str) -> None:
    """By the longest part of its name that is known."""
    assert describe_import(Import(module, name)) == f"imports '{module}.{name}', which {what}"


def test_a_name_with_a_dot_is_not_the_allowed_one() -> None:
    """Module and name are compared, not what they make together."""
    assert rules(text(b"torch") + text(b"_utils._rebuild_tensor_v2") + b"\x93.") == [
        "pickle-import"
    ]
    assert rules(text(b"torch._utils") + text(b"_rebuild_tensor_v2") + b"\x93.") == []


def test_an_import_that_stands_many_times_is_named_once() -> None:
    """With its first byte."""
    assert [place for _, _, place in further(b"N0cos\nsystem\n0cos\nsystem\n.")] == ["byte 2"]


def test_twenty_imports_are_listed_and_the_rest_is_counted() -> None:
    """However many there are."""
    many = 3000
    found = further(b"".join(b"cm\nn%d\n0" % number for number in range(many)) + b"N.")
    assert [rule for rule, _, _ in found] == ["pickle-import"] * 21
    assert found[-1][1] == f"{many - 20} more of this kind, which are not listed"


def test_a_long_name_is_shortened_in_what_is_shown() -> None:
    """In the problem and in the facts."""
    content = b"c" + b"m" * 900 + b"\nn\n."
    assert len(further(content)[0][1]) < 200
    assert len(walk(content).facts["imports"]) < 200


def test_the_place_stands_before_the_byte() -> None:
    """As for a member of an archive."""
    found = walk(b"cos\nsystem\n.", "member 'data.pkl', ").problems
    assert [problem.place for problem in found] == [
        "member 'data.pkl'",
        "member 'data.pkl', byte 0",
    ]


def test_a_pickle_that_would_create_a_file_does_not(tmp_path: Path) -> None:
    """It is walked and not run."""
    marker = tmp_path / "marker"
    found = rules(pickle.dumps(_Marker(marker)))
    assert "pickle-import" in found
    assert not marker.exists()


@pytest.mark.parametrize("before", range(WINDOW - 320, WINDOW + 20, 19))
@pytest.mark.parametrize("how", ["GLOBAL", "STACK_GLOBAL", "LONG_BINPUT", "longest texts"])
def test_an_import_is_found_wherever_the_window_ends(how: str, before: int) -> None:
    """An opcode or its argument may lie across the end of what is in memory."""
    content = b"N0" * (before // 2) + IMPORTS[how]
    assert [found for _, found, _ in further(content)] == [
        "imports 'posix.system', which can run commands"
    ]


@pytest.mark.parametrize("length", [WINDOW - 3, WINDOW, 5 * WINDOW])
def test_an_import_is_found_behind_a_long_argument(length: int) -> None:
    """Bytes, a text, and a number that is one long line."""
    for long in (
        b"B" + length.to_bytes(4, "little") + bytes(length),
        b"X" + length.to_bytes(4, "little") + bytes(length),
        b"L" + b"1" * length + b"L\n",
        b"V" + b"a" * length + b"\n",
    ):
        assert further(long + b"0" + IMPORTS["GLOBAL"])[0][2] == f"byte {len(long) + 3}"


# Several pickles, and what follows them.


def test_every_pickle_of_a_stream_is_walked() -> None:
    """The import of the second is found."""
    first = pickle.dumps([1, 2])
    found = walk(first + IMPORTS["GLOBAL"] + pickle.dumps("x"))
    assert found.facts["pickles"] == "3"
    assert found.problems[1].place == f"byte {len(first) + 2}"


@pytest.mark.parametrize("count", [1, 511, 3 * WINDOW])
def test_zeros_after_a_pickle_are_padding(count: int) -> None:
    """They are not even noted."""
    assert walk(pickle.dumps(1) + bytes(count)).parts == ("opcodes of 1 pickle",)


@pytest.mark.parametrize("rest", [b"raw", bytes(500) + b"x", b"\xff" * 3 * WINDOW, b"((((K"])
def test_bytes_that_are_no_pickle_are_noted(rest: bytes) -> None:
    """With how many there are, as what was not looked at."""
    found = walk(pickle.dumps(1) + rest)
    note = f"{len(rest)} bytes after the last pickle, not looked at"
    assert found.parts == ("opcodes of 1 pickle", note)
    assert found.facts["rest"] == note
    assert len(found.problems) == 1


def test_what_imports_and_then_breaks_off_is_a_pickle() -> None:
    """An unpickler would have imported by then."""
    assert rules(pickle.dumps(1) + b"cos\nsystem\n\xff") == ["pickle-import", "malformed"]


# What is wrong with the bytes themselves.


def test_a_pickle_cut_at_any_byte_is_truncated() -> None:
    """Also where its length is not known."""
    content = pickle.dumps({"a": [1, "text", b"bytes", 2.5], "b": OrderedDict(x=10**30)}, 4)
    for size in range(len(content)):
        for known in (True, False):
            source = ByteSource(io.BytesIO(content[:size]).read, size=size if known else None)
            found = {problem.rule for problem in walk_pickle(source, "", ScanLimits()).problems}
            assert "truncated" in found


@pytest.mark.parametrize("byte", [0x00, 0x01, 0x41, 0xFF])
def test_an_unknown_opcode_is_malformed(byte: int) -> None:
    """Named with its byte and place."""
    problem = f"byte {byte:#04x} is no opcode of pickle"
    assert further(b"N0" + bytes([byte]) + b".") == [("malformed", problem, "byte 2")]


@pytest.mark.parametrize(
    "content",
    [b"T\xff\xff\xff\xff.", b"\x8b\xfe\xff\xff\xff.", b"\x8e" + b"\xff" * 8, b"\x8d" + b"\xff" * 8],
)
def test_a_length_that_cannot_be_is_malformed(content: bytes) -> None:
    """Negative, or more than memory can be."""
    assert rules(content) == ["malformed"]


@pytest.mark.parametrize("opcode", [b"\x8e", b"\x8d", b"\x96"])
@pytest.mark.parametrize("known", [True, False])
def test_a_huge_length_takes_no_memory(opcode: bytes, known: bool) -> None:
    """It is only that the stream ends before."""
    content = opcode + (2**62).to_bytes(8, "little") + b"few bytes"
    source = ByteSource(io.BytesIO(content).read, size=len(content) if known else None)
    tracemalloc.start()
    found = walk_pickle(source, "", ScanLimits())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [problem.rule for problem in found.problems] == ["pickle-content", "truncated"]
    assert peak < 2**21


STRUCTURE: dict[str, tuple[bytes, str]] = {
    "SETITEM on a list": (b"]K\1K\2s.", "SETITEM on a list, which is no dict (CVE-2026-24747)"),
    "SETITEMS on a tuple": (b")(K\1K\2u.",
                            "SETITEMS on a tuple, which is no dict (CVE-2026-24747)"),
    "SETITEM on a text": (text(b"a") + b"K\1K\2s.",
                          "SETITEM on a text, which is no dict (CVE-2026-24747)"),
    "SETITEMS on a tensor": (b"ctorch._utils\n_rebuild_tensor_v2\n)R(K\1K\2u.",
                             "SETITEMS on a tensor, which is no dict (CVE-2026-24747)"),
    "SETITEM on a class": (b"ctorch\nSize\nK\1K\2s.", "SETITEM on the class or function "
                           "'torch.Size', which is no dict (CVE-2026-24747)"),
    "SETITEM on a list of the memo": (b"]\x940h\0K\1K\2s.",
                                      "SETITEM on a list, which is no dict (CVE-2026-24747)"),
    "odd SETITEMS": (b"}(K\1u.", "1 keys and values, which are no pairs"),
    "odd DICT": (b"(K\1d.", "1 keys and values, which are no pairs"),
    "POP": (b"0N.", "POP takes more than there is on the stack"),
    "STOP": (b".", "STOP takes more than there is on the stack"),
    "TUPLE": (b"Nt.", "TUPLE takes more than there is on the stack"),
    "TUPLE2": (b"N\x86.", "TUPLE2 takes more than there is on the stack"),
    "below a mark": (b"N(\x85.", "TUPLE1 takes more than there is on the stack"),
    "number": (b"Ione\n.", "a number that is written b'one'"),
    "memo number": (b"Npone\n.", "a memo number that is written b'one'"),
    "quotes": (b"Sone\n.", "a text without quotes: b'one'"),
    "no name": (b"c\n\n.", "imports without a name"),
    "protocol": (b"\x80\x06N.", "protocol 6; the latest is 5"),
    "long frame": (b"\x95\x09" + bytes(7) + b"N.", "a frame of 9 bytes in a stream of 11"),
    "frame in a frame": (b"\x95\x0b" + bytes(7) + b"\x95\x02" + bytes(7) + b"N.",
                         "a frame begins inside another one"),
}  # fmt: skip


@pytest.mark.parametrize("how", sorted(STRUCTURE))
def test_what_no_pickle_does_is_named(how: str) -> None:
    """Once, and the walk goes on."""
    content, problem = STRUCTURE[how]
    assert [(rule, found) for rule, found, _ in further(content)] == [("pickle-structure", problem)]


@pytest.mark.parametrize(
    "content",
    [b"}K\1K\2s.", b"ccollections\nOrderedDict\n)RK\1K\2s.", b"NQK\1K\2s.", b"h\5K\1K\2s.",
     b"ccollections\nOrderedDict\n)\x81(K\1K\2u.", b"](u.", b"(dK\1K\2s."],
)  # fmt: skip
def test_an_item_of_what_may_be_a_dict_is_no_problem(content: bytes) -> None:
    """Only what certainly is none is named."""
    assert rules(content) == []


def test_a_frame_beyond_a_stream_of_unknown_length_is_truncated() -> None:
    """Which is seen at its end."""
    source = ByteSource(io.BytesIO(b"\x95\x09" + bytes(7) + b"N.").read)
    found = walk_pickle(source, "", ScanLimits()).problems
    assert [problem.rule for problem in found] == ["pickle-content", "truncated"]


def test_the_raw_numbers_of_joblib_are_not_looked_at() -> None:
    """They stand inside the pickle, which cannot be walked behind them."""
    wrapper = b"cjoblib.numpy_pickle\nNumpyArrayWrapper\n)\x81}b"
    last = walk(b"\x80\x04" + wrapper + b"\x00\x01\x02").problems[-1]
    assert (last.rule, last.decision) == ("unknown-format", Decision.INCONCLUSIVE)


# Limits.


def test_more_opcodes_than_the_limit_are_an_open_question() -> None:
    """The walk stops within a window, and says so."""
    found = walk(b"N0" * 3 * WINDOW + IMPORTS["GLOBAL"], limits=ScanLimits(opcodes=1000))
    last = found.problems[-1]
    assert (last.rule, last.decision) == ("field-limit", Decision.INCONCLUSIVE)
    assert int(found.facts["opcodes"]) <= 1000 + WINDOW


def test_the_limit_counts_the_opcodes_of_all_pickles() -> None:
    """Many small pickles are as long as a large one."""
    assert rules(b"N." * 600, ScanLimits(opcodes=1000)) == ["field-limit"]


def test_more_pickles_than_the_limit_are_an_open_question() -> None:
    """Each costs more than its opcodes; together they take little memory."""
    assert rules(b"N." * 10, ScanLimits(members=10)) == []
    assert rules(b"N." * 11, ScanLimits(members=10)) == ["field-limit"]
    tracemalloc.start()
    assert rules(b"]\x94." * 20_000) == []
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


@pytest.mark.parametrize("opcode", [b"I", b"L", b"F", b"p", b"S", b"V", b"P"])
@pytest.mark.parametrize("line", [b"1" * 9000 + b"x", b"1_" * 4500 + b".", b" " * 9000 + b"x"])
def test_long_lines_that_are_hard_to_match_are_walked(opcode: bytes, line: bytes) -> None:
    """A pattern that tries everything twice would never come to their end."""
    content = b"N" + (opcode + line + b"\n") * 50
    assert walk(content).facts["opcodes"] == "51"


def _endless(unit: bytes, count: int) -> ByteSource:
    """A stream that repeats a unit, made as it is read."""
    left = [count * len(unit)]
    many = unit * (WINDOW // len(unit) + 2)

    def read(size: int) -> bytes:
        start = -left[0] % len(unit)
        size = min(size, left[0], WINDOW)
        left[0] -= size
        return many[start : start + size]

    return ByteSource(read)


@pytest.mark.parametrize(
    ("unit", "count", "most"),
    [
        (b"N", 400_000, 2**21),
        (b"(", 150_000, 2**22),
        (text(b"x" * 250), 50_000, 2**23),
        (text(b"x" * 250) + b"\x94", 50_000, 2**23),
        (b"X\xe8\3\0\0" + b"x" * 1000 + b"\x94", 20_000, 2**24),
    ],
    ids=["values", "marks", "texts", "memo", "long texts"],
)
def test_a_long_pickle_takes_little_memory(unit: bytes, count: int, most: int) -> None:
    """However many values, marks, texts and memo entries it makes; less than it would keep."""
    tracemalloc.start()
    found = walk_pickle(_endless(unit, count), "", ScanLimits())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert int(found.facts["opcodes"]) >= count
    assert peak < most


def test_many_memo_numbers_take_little_memory() -> None:
    """Numbers with gaps between them; names from there are hidden from then on."""
    puts = b"".join(b"r" + (7 * number).to_bytes(4, "little") for number in range(1, 30_000))
    content = text(b"posix") + puts + b"0h\x07" + text(b"system") + b"\x93."
    tracemalloc.start()
    found = walk(content).problems
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [problem.problem for problem in found[1:]] == ["imports by a name that it hides"]
    assert peak < 2**22


def test_an_import_by_names_that_were_forgotten_is_hidden() -> None:
    """What does not fit into memory is never taken for something else."""
    content = text(b"posix") + text(b"system") + b"(" + b"N" * 300_000 + b"1\x93."
    assert "pickle-import" in rules(content)


# The beginning of a file.


def _cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


BEGINNINGS: dict[str, bytes] = {
    "protocol 2": b"\x80\x02",
    "protocol 5": pickle.dumps(1, 5),
    "mark": pickle.dumps((1, 2, 3, 4), 0),
    "import": b"cposix\nsystem\n",
    "import of protocol 4": text(b"posix") + text(b"system") + b"\x93",
    "list": pickle.dumps([1, 2], 1),
    "dict": pickle.dumps({"a": 1}, 1),
    "text": pickle.dumps("text", 0),
    "number": pickle.dumps(12, 0),
    "many opcodes and an import": b"N0" * 20_000 + b"cos\nsystem\n",
    "cut off": _cut(pickle.dumps(list(range(5000)), 1)),
    "cut off, protocol 0": _cut(pickle.dumps([(n, str(n)) for n in range(500)], 0)),
}


@pytest.mark.parametrize("how", sorted(BEGINNINGS))
def test_the_beginning_of_a_pickle_is_recognised(how: str) -> None:
    """Whatever the protocol, whole or cut off."""
    assert begins_with_pickle(BEGINNINGS[how])


OTHERS: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "readme": lambda: b"# Model\n\nThis is a model card.\n\n- (a) first\n- (b) second\n",
    "licence": lambda: b"(c) 2026 Somebody\nAll rights reserved.\n" * 20,
    "class": lambda: b"class Model:\n    pass\n",
    "json object": lambda: b'{"a": [1, 2], "b": null}',
    "json list": lambda: b"[1, 2, 3]",
    "empty list": lambda: b"[]\n",
    "numbers": lambda: b"1.5\n2.5\n3.5\n" * 100,
    "csv": lambda: b"a,b,c\n1,2,3\n",
    "vocabulary": lambda: b"\n".join(b"token%d" % number for number in range(500)),
    "brackets": lambda: b"((((((((((" * 100,
    "sequence": lambda: b"N" * 70_000,
    "onnx": lambda: dense_network([3, 4, 2]).SerializeToString(),
    "safetensors": lambda: save({"w": np.zeros(2, np.float32)}),
    "zeros": lambda: bytes(1000),
    "a wrong name": lambda: b"c a\nb c\n.",
}


@pytest.mark.parametrize("how", sorted(OTHERS))
def test_other_beginnings_are_no_pickle(how: str) -> None:
    """Even if their first letters are opcodes."""
    assert not begins_with_pickle(OTHERS[how]())


def test_random_beginnings_are_no_pickles() -> None:
    """Of two hundred, none."""
    heads = [random.Random(seed).randbytes(WINDOW) for seed in range(200)]
    assert [seed for seed, head in enumerate(heads) if begins_with_pickle(head)] == []


def test_a_problem_is_the_same_for_the_same_bytes() -> None:
    """The walk has no state that outlives it."""
    content = IMPORTS["MEMOIZE"]
    assert walk(content) == walk(content)
    assert isinstance(walk(content).problems[0], Problem)
