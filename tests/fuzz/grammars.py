"""Hypothesis strategies of ONNX, safetensors, VNN-LIB, YAML and JSON, nearly as they should be."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from hypothesis import strategies as st

from auditor.models.onnx_schema import MESSAGES, FieldRule

Bytes = st.SearchStrategy[bytes]

_SMALL = st.integers(0, 5)
_LONG = st.one_of(
    _SMALL, st.sampled_from([127, 128, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1])
)
_WORDS = st.sampled_from(
    ["", "a", "x", "weights.bin", "location", "length", "com.custom", "é", "\0"]
)
_TYPES = st.sampled_from(["BOOL", "U8", "F16", "BF16", "F32", "I64", "F4", "F8_E4M3", "X9"])


def _varint(value: int) -> bytes:
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def _field(number: int, wire: int, content: bytes) -> bytes:
    length = _varint(len(content)) if wire == 2 else b""
    return _varint(number << 3 | wire) + length + content


@st.composite
def protobuf_messages(draw: st.DrawFn, kind: str = "Model", depth: int = 0) -> bytes:
    """A message of an ONNX file, by its schema; a field in twenty is none of it."""
    rules = MESSAGES[kind]
    fields = []
    for _ in range(draw(st.integers(0, 5))):
        if draw(st.integers(0, 19)) == 0:
            fields.append(_field(draw(st.integers(1, 40)), draw(st.sampled_from([0, 1, 2, 5])),
                                 draw(st.binary(max_size=8))))  # fmt: skip
            continue
        number = draw(st.sampled_from(sorted(rules)))
        fields.append(draw(_protobuf_field(number, rules[number], depth)))
    if kind == "Model" and draw(st.booleans()):
        fields += [_field(7, 2, draw(protobuf_messages("Graph", 1))), _field(8, 2, b"\x10\x11")]
    return b"".join(fields)


@st.composite
def _protobuf_field(draw: st.DrawFn, number: int, rule: FieldRule, depth: int) -> bytes:
    if rule.is_message and rule.kind in MESSAGES:
        deeper = b"" if depth > 4 else draw(protobuf_messages(rule.kind, depth + 1))
        return _field(number, 2, deeper)
    if rule.kind in ("int", "ints", "count"):
        if rule.kind != "int" and draw(st.booleans()):
            return _field(number, 2, b"".join(map(_varint, draw(st.lists(_LONG, max_size=4)))))
        return _field(number, 0, _varint(draw(_LONG)))
    if rule.kind in ("f32", "f64"):
        size = 4 if rule.kind == "f32" else 8
        wire = {4: 5, 8: 1}[size]
        return _field(number, draw(st.sampled_from([wire, 2])), bytes(size))
    if rule.kind in ("name", "text"):
        return _field(number, 2, draw(_WORDS).encode())
    return _field(number, 2, draw(st.binary(max_size=24)))


@st.composite
def safetensors_files(draw: st.DrawFn) -> bytes:
    """A header and numbers; most tensors are as long as they say."""
    entries: dict[str, Any] = {}
    at = 0
    for number in range(draw(st.integers(0, 4))):
        shape = draw(st.lists(st.integers(0, 3), max_size=3))
        dtype = draw(_TYPES)
        length = (
            draw(st.integers(0, 16)) if draw(st.integers(0, 9)) == 0 else _bytes_of(dtype, shape)
        )
        name = draw(st.sampled_from([f"t{number}", "t0", "../t", "a/b", "n\n", "é"]))
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + length]}
        at += length
    if draw(st.booleans()):
        entries["__metadata__"] = draw(st.dictionaries(_WORDS, _WORDS, max_size=2))
    text = json.dumps(entries).encode() + b" " * draw(st.integers(0, 8))
    return struct.pack("<Q", len(text)) + text + bytes(at)


def _bytes_of(dtype: str, shape: Sequence[int]) -> int:
    bits = {"BOOL": 8, "U8": 8, "F16": 16, "BF16": 16, "F32": 32, "I64": 64, "F4": 4, "F8_E4M3": 8}
    count = bits.get(dtype, 8)
    for axis in shape:
        count *= axis
    return count // 8


_NUMBER = st.sampled_from(["0", "1", "-1.5", "2e-3", ".5", "1e999", "nan", "X", "0x1", "9" * 50])
_VARIABLE = st.sampled_from(["X_0", "X_1", "Y_0", "Y_1", "Y_2", "Y_9", "Z", "X_"])
_TERM = st.recursive(
    st.one_of(_NUMBER, _VARIABLE),
    lambda inner: st.builds(
        lambda sign, parts: f"({sign} {' '.join(parts)})",
        st.sampled_from(["+", "-", "*", "/"]), st.lists(inner, min_size=1, max_size=3),
    ), max_leaves=5,
)  # fmt: skip
_FORMULA = st.recursive(
    st.builds("({} {} {})".format, st.sampled_from(["<=", ">=", "<", ">", "="]), _TERM, _TERM),
    lambda inner: st.builds(
        lambda word, parts: f"({word} {' '.join(parts)})",
        st.sampled_from(["and", "or", "not", "=>"]), st.lists(inner, max_size=3),
    ), max_leaves=6,
)  # fmt: skip


@st.composite
def vnnlib_texts(draw: st.DrawFn) -> bytes:
    """Declarations and assertions."""
    names = ["X_0", "X_1", "Y_0", "Y_1", "Y_2"]
    declared = names if draw(st.integers(0, 4)) else draw(st.lists(_VARIABLE, max_size=6))
    lines = [f"(declare-const {name} Real)" for name in declared]
    if draw(st.booleans()):
        lines += [f"(assert (<= {name} 1))\n(assert (>= {name} 0))" for name in names[:2]]
    lines += [f"(assert {each})" for each in draw(st.lists(_FORMULA, max_size=4))]
    return "\n".join(lines).encode()


_KEYS = (
    "version", "name", "title", "variables", "subjects", "checks", "policy", "reports", "seed",
    "device", "limits", "path", "kind", "check", "id", "params", "required", "time_s", "memory_mb",
    "gates", "overall", "metric", "op", "value", "fail_on", "match", "model_digest", "reason",
    "approved_by", "expires", "inputs", "box", "around", "lower", "upper", "center", "radius",
    "then", "class", "greater", "linear", "outputs", "names", "clauses", "statement", "violation",
)  # fmt: skip
_SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.floats(width=32), st.sampled_from(_KEYS),
    st.text(max_size=6),
    st.sampled_from([10**30, "${a}", "${x}", "2026-11-30", "AUD101", "m.onnx"]),
)  # fmt: skip
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(_KEYS), inner, max_size=4)
    ), max_leaves=12,
)  # fmt: skip


def yaml_texts(known: Mapping[str, Any] | Sequence[Any]) -> Bytes:
    """A document that is accepted, with some of its values replaced by others."""
    return st.builds(_dumped, _varied(known))


def _varied(value: Any) -> st.SearchStrategy[Any]:
    if isinstance(value, Mapping):
        parts: dict[str, st.SearchStrategy[Any]] = {key: _varied(v) for key, v in value.items()}
        same: st.SearchStrategy[Any] = st.fixed_dictionaries(
            {}, optional={**parts, "more": _VALUES}
        ) | st.fixed_dictionaries(parts)
    elif isinstance(value, list):
        same = st.tuples(*map(_varied, value)).map(list)
    else:
        same = st.just(value)
    return st.integers(0, 11).flatmap(lambda drawn: _VALUES if drawn == 0 else same)


def _dumped(value: Any) -> bytes:
    return yaml.safe_dump(value, allow_unicode=True, sort_keys=False).encode()


def json_texts(known: Any) -> Bytes:
    """The same as JSON, which may hold NaN."""
    return st.builds(lambda value: json.dumps(value, default=str).encode(), _varied(known))
