"""GGUF files: metadata and tensors as other programs write them, and what each rule refuses."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from auditor.models.scan.byte_source import ByteSource
from auditor.models.scan.decision import Decision
from auditor.models.scan.formats.ggml_types import GGML_TYPES
from auditor.models.scan.formats.gguf_header import GgufHeader, read_gguf
from auditor.models.scan.limits import ScanLimits
from tests.models.gguf_bytes import Described, GgufBytes, Value

FORMATS = [(1, "<"), (2, "<"), (3, "<"), (3, ">")]
V3 = GgufBytes()
UINT32, INT8, BOOL, STRING, ARRAY, UINT64 = 4, 1, 7, 8, 9, 10


def read(
    content: bytes, limits: ScanLimits | None = None, *, knows_size: bool = True
) -> GgufHeader:
    """What is found in a file."""
    source = ByteSource(io.BytesIO(content).read, size=len(content) if knows_size else None)
    return read_gguf(source, "", limits or ScanLimits())


def rules(header: GgufHeader) -> list[tuple[str, Decision]]:
    """Rules and decisions in order; every problem has a way out."""
    assert all(problem.way_out for problem in header.content.problems)
    return [(problem.rule, problem.decision) for problem in header.content.problems]


def model(version: int, order: str) -> bytes:
    """A file with values of every type and three tensors."""
    form = GgufBytes(version, order)
    widths = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, BOOL: 1, UINT64: 8, 11: 8, 12: 8}
    values = [
        Value("general.architecture", STRING, form.text("command-r")),
        Value("tokenizer.chat_template", STRING, form.text("{{ a }}")),
        Value("tokenizer.chat_template.Tool-use", STRING, form.text("{{ b }}")),
        *(Value(f"a.b_{kind}", kind, bytes(width)) for kind, width in widths.items()),
        *(Value(f"a.c_{kind}", ARRAY, form.array(kind, [bytes(width)] * 3))
          for kind, width in widths.items()),
        Value("a.texts", ARRAY, form.array(STRING, [form.text("x"), form.text("")])),
        Value("a.nested", ARRAY, form.array(ARRAY, [form.array(0, [b"1", b"2"])] * 2)),
    ]  # fmt: skip
    tensors = [
        Described("a.weight", [3, 2]),
        Described("q.weight", [64, 2], 8, 32),
        Described("scalar", [], 1, 192),
    ]
    return form.file(values, tensors, bytes(32 + 160 + 2))


@pytest.mark.parametrize("knows_size", [True, False])
@pytest.mark.parametrize(("version", "order"), FORMATS)
def test_every_version_and_byte_order_is_read(version: int, order: str, knows_size: bool) -> None:
    """All types of values, and templates in the order of the file."""
    header = read(model(version, order), knows_size=knows_size)
    assert header.content.problems == ()
    assert header.content.parts == ("metadata", "tensors")
    assert header.content.facts == {
        "version": str(version), "byte_order": "little" if order == "<" else "big",
        "key_values": "27", "architecture": "command-r", "tensors": "3",
    }  # fmt: skip
    assert tuple(header.templates.values()) == ("{{ a }}", "{{ b }}")


@pytest.mark.parametrize(("version", "order"), FORMATS)
def test_a_file_cut_anywhere_is_refused(version: int, order: str) -> None:
    """Whether its size is known beforehand or not."""
    content = model(version, order)
    for end in range(len(content)):
        for knows_size in (True, False):
            found = rules(read(content[:end], knows_size=knows_size))
            assert [decision for _, decision in found] == [Decision.REFUSED], end


@pytest.mark.parametrize("tensors", [0, 1])
def test_the_padding_at_the_end_may_be_there_or_not(tensors: int) -> None:
    """Writers differ in whether they fill up the last block."""
    content = V3.file([], [Described("a", [1])] * tensors, bytes(4 * tensors))
    assert read(content).content.problems == ()
    assert read(content + bytes(-len(content) % 32)).content.problems == ()


def values(*entries: Value) -> bytes:
    """A file of metadata alone."""
    return V3.file(entries)


def one(tensor: Described, size: int) -> bytes:
    """A file of one tensor with so many bytes of numbers."""
    return V3.file([], [tensor], bytes(size))


def two(first: Described, second: Described, size: int = 64) -> bytes:
    """A file of two tensors."""
    return V3.file([], [first, second], bytes(size))


NOTHING = b"\0\0\0\0"


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"GGUX" + V3.file()[4:], "malformed"),
        (GgufBytes(0).file(), "unknown-version"),
        (GgufBytes(4).file(), "unknown-version"),
        (GgufBytes(2, ">").file(), "unknown-version"),
        (V3.file(keys=2**63), "truncated"),
        (V3.file(count=2**63), "truncated"),
        (values(Value("A.b", UINT32, NOTHING)), "malformed"),
        (values(Value("a..b", UINT32, NOTHING)), "malformed"),
        (values(Value("", UINT32, NOTHING)), "malformed"),
        (values(Value("a b", UINT32, NOTHING)), "malformed"),
        (values(Value(b"a\xff", UINT32, NOTHING)), "malformed"),
        (values(Value("a\nb", UINT32, NOTHING)), "control-character"),
        (values(Value("a" * 65536, UINT32, NOTHING)), "text-limit"),
        (values(Value("a", UINT32, NOTHING), Value("a", UINT32, NOTHING)), "duplicate-field"),
        (values(Value("a", 13, NOTHING * 8)), "malformed"),
        (values(Value("a", ARRAY, V3.array(13, [NOTHING]))), "malformed"),
        (values(Value("a", BOOL, b"\2")), "malformed"),
        (values(Value("a", ARRAY, V3.array(BOOL, [b"\1", b"\2"]))), "malformed"),
        (values(Value("a", STRING, V3.length(2**63))), "truncated"),
        (values(Value("a", ARRAY, V3.number(INT8) + V3.length(2**63))), "truncated"),
        (values(Value("a", ARRAY, V3.number(UINT64) + V3.length(2**61 + 1))), "truncated"),
        (values(Value("a", ARRAY, V3.number(STRING) + V3.length(2**63))), "truncated"),
        (values(Value("general.architecture", STRING, V3.text("a" * 300))), "text-limit"),
        (values(Value("tokenizer.chat_template", STRING, V3.text(b"\xff"))), "invalid-text"),
        (values(Value("general.alignment", UINT64, bytes(8))), "malformed"),
        *((values(Value("general.alignment", UINT32, V3.number(value))), "malformed")
          for value in (0, 4, 24, 33, 2**21, 2**31)),
        (one(Described("", [1]), 4), "control-character"),
        (one(Described("a\x1b", [1]), 4), "control-character"),
        (one(Described("../a", [1]), 4), "path-like-name"),
        (one(Described("a" * 129, [1]), 4), "text-limit"),
        (one(Described("a", [1] * 5), 4), "dims-range"),
        (one(Described("a", [0, 3]), 0), "dims-range"),
        (one(Described("a", [33], 8), 68), "dims-range"),
        (one(Described("a", [16, 2], 8), 34), "dims-range"),
        (one(Described("a", [2**62, 4]), 4), "dims-overflow"),
        (one(Described("a", [2**32, 2**32]), 4), "dims-overflow"),
        (one(Described("a", [2**61]), 4), "dims-overflow"),
        (one(Described("a", [2**60]), 4), "truncated"),
        (one(Described("a", [1], 4), 4), "unknown-dtype"),
        (one(Described("a", [1], 31), 4), "unknown-dtype"),
        (one(Described("a", [1], 2**31), 4), "unknown-dtype"),
        (one(Described("a", [1], 0, 4), 8), "malformed"),
        (one(Described("a", [1], 0, 2**63), 8), "tensor-gap"),
        (one(Described("a", [1], 0, 32), 36), "tensor-gap"),
        (one(Described("a", [2]), 4), "truncated"),
        (one(Described("a", [1]), 33), "trailing-data"),
        (V3.file()[:-1] + b"x", "tensor-gap"),
        (V3.file([], [Described("a", [1])], NOTHING + b"x"), "tensor-gap"),
        (two(Described("a", [1]), Described("a", [1], 0, 32)), "duplicate-name"),
        (two(Described("a", [1]), Described("b", [1])), "tensor-overlap"),
        (two(Described("a", [9]), Described("b", [1], 0, 32)), "tensor-overlap"),
        (two(Described("a", [1]), Described("b", [1], 0, 64), 68), "tensor-gap"),
    ],
)  # fmt: skip
def test_what_is_not_as_it_should_be_is_refused(content: bytes, rule: str) -> None:
    """One flaw for each file, and its rule."""
    assert rules(read(content)) == [(rule, Decision.REFUSED)]


def test_another_alignment_is_kept_to() -> None:
    """Offsets and padding follow it."""
    entry = Value("general.alignment", UINT32, V3.number(64))
    tensors = [Described("a", [1]), Described("b", [1], 0, 64)]
    assert read(V3.file([entry], tensors, bytes(68), alignment=64)).content.problems == ()


def test_tensors_may_be_described_in_another_order_than_they_lie() -> None:
    """The format does not say that the order is the same."""
    header = read(two(Described("b", [1], 0, 32), Described("a", [1])))
    assert header.content.problems == ()


def nested(depth: int) -> bytes:
    """Arrays in arrays."""
    content = V3.array(0, [b"x"])
    for _ in range(depth - 1):
        content = V3.array(ARRAY, [content])
    return values(Value("a", ARRAY, content))


@pytest.mark.parametrize(("depth", "found"), [(4, []), (5, [("nesting-limit", Decision.REFUSED)])])
def test_arrays_are_nested_only_so_deep(depth: int, found: list[tuple[str, Decision]]) -> None:
    """The reader does not call itself without end."""
    assert rules(read(nested(depth))) == found


TEXTS = values(Value("a.b", ARRAY, V3.array(STRING, [V3.text("x")] * 9)))
TEMPLATES = values(
    Value("tokenizer.chat_template", STRING, V3.text("x" * 60)),
    Value("tokenizer.chat_template.b", STRING, V3.text("x" * 60)),
)


@pytest.mark.parametrize(
    ("content", "limits", "rule"),
    [
        (TEMPLATES, ScanLimits(key_values=1), "field-limit"),
        (two(Described("a", [1]), Described("b", [1], 0, 32)), ScanLimits(tensors=1),
         "field-limit"),
        (TEXTS, ScanLimits(gguf_values=8), "field-limit"),
        (TEMPLATES, ScanLimits(text_bytes=150), "text-limit"),
    ],
)  # fmt: skip
def test_more_than_the_limits_is_not_decided(content: bytes, limits: ScanLimits, rule: str) -> None:
    """What was not looked at is not called clean."""
    assert rules(read(content)) == []
    assert rules(read(content, limits)) == [(rule, Decision.INCONCLUSIVE)]


def test_every_text_of_a_template_key_is_handed_on() -> None:
    """Also in an array, where a program might look for it."""
    array = V3.array(STRING, [V3.text("{{ a }}"), V3.text("{{ b }}")])
    header = read(values(Value("tokenizer.chat_templates", ARRAY, array)))
    assert header.templates == {
        "tokenizer.chat_templates": "{{ a }}", "tokenizer.chat_templates#2": "{{ b }}"
    }  # fmt: skip


def test_the_key_of_a_problem_is_its_place() -> None:
    """A message says where to look."""
    (problem,) = read(values(Value("a.b", 99, b""))).content.problems
    assert problem.place == "key 'a.b'"


def test_memory_stays_small_however_large_the_tensors_are() -> None:
    """Numbers are passed over and not kept."""
    content = one(Described("a", [2**23]), 2**25)
    tracemalloc.start()
    header = read(content, knows_size=False)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert header.content.problems == ()
    assert peak < 2**22


# Against the package of the format's authors.


def test_the_types_are_those_of_the_package() -> None:
    """Number, name, elements and bytes of every block."""
    constants = pytest.importorskip("gguf.constants", reason="the package gguf is not installed")
    theirs = {
        kind.value: (kind.name, *constants.GGML_QUANT_SIZES[kind])
        for kind in constants.GGMLQuantizationType
    }
    ours = {number: tuple(block) for number, block in GGML_TYPES.items()}
    assert {number: block for number, block in ours.items() if number in theirs} == theirs


def write_with_package(path: Path, tensors: Sequence[tuple[str, Any, Any]], order: str) -> None:
    """A file as the package writes it."""
    gguf = pytest.importorskip("gguf", reason="the package gguf is not installed")
    endian = gguf.GGUFEndian.BIG if order == ">" else gguf.GGUFEndian.LITTLE
    writer = gguf.GGUFWriter(path, "llama", endianess=endian)
    writer.add_context_length(8)
    writer.add_chat_template([
        {"name": "default", "template": "{{ a }}"}, {"name": "tool_use", "template": "{{ b }}"},
    ])  # fmt: skip
    writer.add_token_list(["a", "b"])
    writer.add_token_scores([0.5, 1.0])
    writer.add_bool("llama.flag", True)
    for name, array, kind in tensors:
        writer.add_tensor(name, array, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize("order", ["<", ">"])
def test_files_of_the_package_are_accepted(tmp_path: Path, order: str) -> None:
    """With plain and with quantised numbers, in both byte orders."""
    constants = pytest.importorskip("gguf.constants", reason="the package gguf is not installed")
    kinds = constants.GGMLQuantizationType
    path = tmp_path / "model.gguf"
    tensors = [
        ("a.weight", np.ones((3, 5), np.float32), None),
        ("b.weight", np.ones((4, 64), np.float16), None),
        ("q.weight", np.zeros((2, 3 * 34), np.uint8), kinds.Q8_0),
        ("k.weight", np.zeros((2, 144), np.uint8), kinds.Q4_K),
    ]
    write_with_package(path, tensors, order)
    header = read(path.read_bytes())
    assert header.content.problems == ()
    assert header.content.facts["tensors"] == "4"
    assert {"{{ a }}", "{{ b }}"} <= set(header.templates.values())
