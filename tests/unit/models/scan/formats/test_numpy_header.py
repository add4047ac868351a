"""Headers of NumPy files: what is accepted, and what is refused by which rule."""

from __future__ import annotations

import io
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.models.scan.byte_source import ByteSource
from auditor.models.scan.decision import Content, Decision
from auditor.models.scan.formats.numpy_header import read_numpy
from auditor.models.scan.limits import ScanLimits


def read(content: bytes, *, known: bool = True) -> Content:
    """The answer for bytes in memory."""
    source = ByteSource(io.BytesIO(content).read, size=len(content) if known else None)
    return read_numpy(source, "", ScanLimits())


def stored(array: np.ndarray[Any, Any], version: tuple[int, int] = (1, 0)) -> bytes:
    """As NumPy writes it."""
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version=version)
    return stream.getvalue()


def header(text: str, data: bytes = b"", version: int = 1) -> bytes:
    """A file with a header of one's own."""
    content = text.encode("utf-8" if version == 3 else "latin-1")
    width = 2 if version == 1 else 4
    length = len(content).to_bytes(width, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + length + content + data


def fields(descr: str, shape: str = "(2,)") -> str:
    """The text of a header."""
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"


def rule(content: bytes, *, known: bool = True) -> str:
    """The one rule that refuses it."""
    found = read(content, known=known)
    assert found.decision is Decision.REFUSED
    (problem,) = found.problems
    assert problem.way_out
    return problem.rule


NESTED = np.dtype([("a", "<f4", (2, 3)), ("b", [("c", "S3"), ("d", "<M8[ns]")]), ("e", "?")])
TYPES = [
    "?", "i1", "u1", "<i2", ">i4", "<u8", "<f2", "<f4", "f8", "g", "<c8", "<c16", "S5", "<U7",
    "<M8[D]", "<M8[25s]", "<m8", "<m8[us]", NESTED,
    np.dtype([("x", "i1"), ("y", "f8")], align=True), np.dtype([(("a title", "name"), "<f4")]),
]  # fmt: skip


@pytest.mark.parametrize("kind", TYPES, ids=str)
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_an_array_of_fixed_size_is_accepted(kind: Any, version: tuple[int, int]) -> None:
    """Numbers, truth values, texts, dates, and structures of them, in every version."""
    content = stored(np.zeros((3, 2), kind), version)
    for known in (True, False):
        found = read(content, known=known)
        assert found.problems == ()
        assert found.decision is Decision.ACCEPTED
        assert found.facts["shape"] == "3 x 2"
        assert found.facts["version"] == f"{version[0]}.0"


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,) * 32])
def test_every_shape_is_accepted(shape: tuple[int, ...]) -> None:
    """Also none, and one without elements."""
    assert read(stored(np.zeros(shape))).problems == ()


def test_a_header_of_python_2_is_accepted() -> None:
    """Its whole numbers may end in L."""
    assert read(header(fields("'<f4'", "(2L, 1L)"), bytes(8))).problems == ()


class _Marker:
    """Unpickling it creates a file; nothing else."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_an_array_of_objects_is_a_pickle_and_does_not_run(tmp_path: Path) -> None:
    """What it imports is named as well (CVE-2019-6446)."""
    marker = tmp_path / "marker"
    stream = io.BytesIO()
    np.save(stream, np.array([_Marker(marker)], dtype=object), allow_pickle=True)
    found = read(stream.getvalue())
    assert found.problems[0].rule == "pickle-content"
    imports = [problem.problem for problem in found.problems if problem.rule == "pickle-import"]
    assert any("Path.touch" in text or "getattr" in text for text in imports)
    assert not marker.exists()


@pytest.mark.parametrize(
    "descr",
    ["'|O'", "'O'", "'|O8'", "[('a', '<f4'), ('b', '|O')]", "[('a', [('b', '|O')])]",
     "[('a', '|O', (2, 3))]", "('|O', (2,))", "[('', '|O')]"],
)  # fmt: skip
def test_objects_are_found_at_any_depth(descr: str) -> None:
    """In structures, in arrays inside elements, and without a name."""
    assert read(header(fields(descr), b"N.")).problems[0].rule == "pickle-content"


@pytest.mark.parametrize(
    "descr",
    ["'|V4'", "'object'", "'float64'", "'<f5'", "'<i3'", "'S'", "'<x4'", "'<f4,O'", "''",
     "'<f4[s]'", "[]", "[('a',)]", "[('a', '|V4')]", "['<f4']", "('<f4', (-1,))", "[(1, '<f4')]",
     "1", "None",
     "{'a': '<f4'}", "('<f4', 'x')", "'T16'", "'<M8[notaunit]'"],
)  # fmt: skip
def test_a_type_that_is_not_known_is_refused(descr: str) -> None:
    """Raw bytes too, except as padding inside a structure."""
    assert rule(header(fields(descr), bytes(16))) == "unknown-dtype"


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "{}", "[]", "1", "{'descr': '<f4'}", "__import__('os')",
        fields("'<f4'") + "x", fields("'<f4'")[:-2], fields("'<f4'").replace("False", "0"),
        fields("'<f4'").replace("False", "true"), fields("'<f4'").replace("(2,)", "[2]"),
        fields("'<f4'").replace("(2,)", "(2,,)"), fields("'<f4'").replace("(2,)", "2"),
        fields("'<f4'").replace("{", "{'more': 1, "), fields("'<f4'").replace("shape", "descr"),
        fields("'<f4'").replace("(2,)", "1+1"), fields("'\\x3cf4'"), fields("'<f4' '<f4'"),
        fields("(" * 5000), fields("'<f4'", "(" + "9" * 5000 + ",)"), "((((" * 2000,
        fields("[" * 20 + "'<f4'" + "]" * 20),
    ],
)  # fmt: skip
def test_a_header_that_is_not_such_a_dict_is_malformed(text: str) -> None:
    """Nothing of it is evaluated."""
    assert rule(header(text, bytes(8))) == "malformed"


@pytest.mark.parametrize("shape", ["(-1,)", "(2, -3)", "('2',)", "(True,)", "(None,)",
                                   "(" + "1, " * 65 + ")"])  # fmt: skip
def test_a_shape_that_cannot_be_is_refused(shape: str) -> None:
    """Negative, no number, or of too many axes."""
    assert rule(header(fields("'<f4'", shape), bytes(8))) == "dims-range"


@pytest.mark.parametrize("shape", ["(4611686018427387904, 4)", "(99999999999999999999999999999,)",
                                   "(4611686018427387904, 4, 0)"])  # fmt: skip
@pytest.mark.parametrize("known", [True, False])
def test_a_shape_beyond_all_memory_is_refused(shape: str, known: bool) -> None:
    """Its product is taken in whole numbers without bounds."""
    assert rule(header(fields("'<f4'", shape)), known=known) == "dims-overflow"


@pytest.mark.parametrize("known", [True, False])
def test_data_are_as_long_as_shape_and_type_say(known: bool) -> None:
    """Not a byte less or more; a second array is more."""
    content = stored(np.zeros(5, "<f4"))
    assert rule(content[:-1], known=known) == "data-length"
    assert rule(content + b"x", known=known) == "trailing-data"
    assert rule(content + content, known=known) == "trailing-data"
    assert rule(header(fields("'<f4'", f"({2**60},)"), bytes(8)), known=known) == "data-length"


@pytest.mark.parametrize("cut", range(127))
def test_a_header_cut_at_any_byte_is_refused(cut: int) -> None:
    """As truncated."""
    assert rule(stored(np.zeros(5))[:cut]) == "truncated"


@pytest.mark.parametrize("version", [b"\0\0", b"\4\0", b"\1\1", b"\xff\xff"])
def test_another_version_is_malformed(version: bytes) -> None:
    """Only what is described is read."""
    assert rule(b"\x93NUMPY" + version + bytes(100)) == "malformed"


@pytest.mark.parametrize("length", [10_001, 2**32 - 1])
def test_a_long_header_is_refused_before_it_is_read(length: int) -> None:
    """Whatever follows."""
    start = b"\x93NUMPY\x02\0" + length.to_bytes(4, "little")
    tracemalloc.start()
    assert rule(start + b" " * 20_000) == "size-limit"
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def test_the_place_is_the_header_or_the_whole() -> None:
    """With the prefix that is given."""
    for content, place in ((header("x"), "member 'a', header"), (stored(np.zeros(2))[:-1],
                                                                 "member 'a'")):  # fmt: skip
        source = ByteSource(io.BytesIO(content).read)
        assert read_numpy(source, "member 'a', ", ScanLimits()).problems[0].place == place


@given(
    content=st.binary(max_size=300), start=st.sampled_from([b"", b"\x93NUMPY\x01\0", b"\x93NUMPY"])
)
def test_random_bytes_never_raise(content: bytes, start: bytes) -> None:
    """They are judged, one way or the other."""
    assert isinstance(read(start + content, known=False), Content)


@given(text=st.text(alphabet="{}()[],:'\" descrshape_fortan0123LTFf<|O", max_size=200))
def test_random_headers_never_raise(text: str) -> None:
    """And what is accepted is what numpy reads."""
    content = header(text)
    if read(content).decision is Decision.ACCEPTED:
        assert isinstance(np.load(io.BytesIO(content), allow_pickle=False), np.ndarray)


@given(at=st.integers(0, 200), value=st.integers(0, 255))
def test_what_is_accepted_is_what_numpy_reads(at: int, value: int) -> None:
    """An array with one byte changed is refused, or the same to NumPy."""
    content = bytearray(stored(np.arange(12, dtype="<i4").reshape(3, 4)))
    content[at % len(content)] = value
    if read(bytes(content)).decision is Decision.ACCEPTED:
        assert np.load(io.BytesIO(bytes(content)), allow_pickle=False).size > 0
