"""The header of a GGUF file: metadata and tensors, each checked against the file's size.

Source: ggml-org/ggml docs/gguf.md, versions 1 to 3. The format holds no code except chat
templates, which are handed on; the dangers are numbers that a reader in C++ trusts (sizes that
overflow, offsets outside of the file) and bytes that no tensor accounts for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Final, NamedTuple

from auditor.models.scan.byte_source import ByteSource
from auditor.models.scan.decision import Content, Problem
from auditor.models.scan.formats.ggml_types import GGML_TYPES
from auditor.models.scan.formats.gguf_values import STRING, UINT32, GgufCursor
from auditor.models.scan.limits import ScanLimits
from auditor.models.scan.problem_list import ProblemList, join_places, shown

_TEMPLATE: Final = "tokenizer.chat_template"
# Segments of small letters; names of architectures have hyphens, those of templates capitals.
_KEY: Final = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*|tokenizer\.chat_template\.[A-Za-z0-9_.-]+")
_KEY_BYTES: Final = 2**16 - 1
# The format says 64; programs built with a larger GGML_MAX_NAME write up to twice as many.
_NAME_BYTES: Final = 128
_RANK: Final = 4
_SMALLEST_ALIGNMENT, _LARGEST_ALIGNMENT, _DEFAULT_ALIGNMENT = 8, 2**20, 32
_LARGEST: Final = 2**63 - 1
_ARCHITECTURE: Final = "general.architecture"
_SHORT_TEXT: Final = 256


@dataclass(frozen=True)
class GgufHeader:
    """What a GGUF file says about itself.

    Attributes:
        content: The answer.
        templates: Chat templates by key; further texts of one key have `#2` and so on.
    """

    content: Content
    templates: Mapping[str, str] = field(default_factory=dict)


class _Tensor(NamedTuple):
    begin: int
    end: int
    name: str


class _Metadata(NamedTuple):
    alignment: int
    architecture: str


def read_gguf(source: ByteSource, place: str, limits: ScanLimits) -> GgufHeader:
    """Judge a GGUF file.

    Args:
        source: The file, at its beginning.
        place: Prefix of messages.
        limits: How many keys and tensors.
    """
    cursor, problems = GgufCursor(source, place, limits), ProblemList()
    templates: dict[str, str] = {}
    facts: dict[str, str] = {}
    parts: list[str] = []
    with problems.ended_by_stop():
        tensors, keys = _read_start(cursor, limits)
        order = "big" if cursor.order == ">" else "little"
        facts.update(version=str(cursor.version), byte_order=order)
        metadata = _read_metadata(cursor, keys, templates, problems, place)
        facts.update(key_values=str(keys), architecture=metadata.architecture)
        parts.append("metadata")
        found = [_read_tensor(cursor, metadata.alignment) for _ in range(tensors)]
        facts.update(tensors=str(tensors))
        _check_names(cursor, found)
        _check_cover(cursor, found, metadata.alignment)
        parts.append("tensors")
    return GgufHeader(Content("gguf", tuple(problems), tuple(parts), facts), templates)


def _read_start(cursor: GgufCursor, limits: ScanLimits) -> tuple[int, int]:
    """Counts of tensors and keys; the cursor knows version and byte order afterwards."""
    if cursor.take(4) != b"GGUF":
        cursor.stop("malformed", "it does not begin with GGUF")
    version = cursor.take_u32()
    if version & 0xFFFF == 0:
        cursor.order = ">"
        version = int.from_bytes(version.to_bytes(4, "little"), "big")
        if version != 3:
            cursor.stop("unknown-version", f"big-endian GGUF of version {version}; only 3 has that")
    if version not in (1, 2, 3):
        cursor.stop("unknown-version", f"GGUF of version {version}; 1 to 3 are known here")
    cursor.version = version
    tensors, keys = cursor.take_length(), cursor.take_length()
    width = 4 if version == 1 else 8
    # The least that an entry takes: a key with a byte, a tensor without axes.
    cursor.require(keys * (width + 5) + tensors * (width + 16))
    if keys > limits.key_values:
        cursor.undecided("field-limit", f"{keys} keys; the limit is {limits.key_values}")
    if tensors > limits.tensors:
        cursor.undecided("field-limit", f"{tensors} tensors; the limit is {limits.tensors}")
    return tensors, keys


def _read_metadata(
    cursor: GgufCursor, keys: int, templates: dict[str, str], problems: ProblemList, place: str
) -> _Metadata:
    """Go through all keys, keeping templates and what is needed to read on."""
    alignment, architecture = _DEFAULT_ALIGNMENT, ""
    seen: set[str] = set()
    for _ in range(keys):
        key = _read_key(cursor)
        cursor.key = f"key {shown(key)}"
        if key in seen:
            cursor.stop("duplicate-field", "the key stands twice")
        seen.add(key)
        kind = cursor.take_u32()
        if key == "general.alignment":
            alignment = _read_alignment(cursor, kind)
        elif key == _ARCHITECTURE and kind == STRING:
            text = cursor.take_text(_SHORT_TEXT, "a name of an architecture")
            name = text.decode(errors="backslashreplace")
            architecture = name if name.isprintable() else shown(name)
        elif key.startswith(_TEMPLATE):
            for number, text in enumerate(cursor.take_texts(kind), start=1):
                name = key if number == 1 else f"{key}#{number}"
                templates[name] = text.decode(errors="replace")
                if text.decode(errors="ignore").encode() != text:
                    where = join_places(place, cursor.key)
                    problems.add(Problem("invalid-text", "not UTF-8", where, "write it as UTF-8"))
        else:
            cursor.pass_value(kind)
        cursor.key = ""
    return _Metadata(alignment, architecture)


def _read_key(cursor: GgufCursor) -> str:
    raw = cursor.take_kept(_KEY_BYTES)
    key = raw.decode("ascii", errors="backslashreplace")
    if not key.isprintable():
        cursor.stop("control-character", f"a control character in the key {shown(key)}")
    if not _KEY.fullmatch(key):
        cursor.stop("malformed", f"the key {shown(key)} is not small letters with full stops")
    return key


def _read_alignment(cursor: GgufCursor, kind: int) -> int:
    if kind != UINT32:
        cursor.stop("malformed", f"the alignment is of type {kind}, not uint32")
    value = cursor.take_u32()
    if value & (value - 1) or not _SMALLEST_ALIGNMENT <= value <= _LARGEST_ALIGNMENT:
        cursor.stop(
            "malformed", f"an alignment of {value}, not a power of two from "
            f"{_SMALLEST_ALIGNMENT} to {_LARGEST_ALIGNMENT}",
        )  # fmt: skip
    return value


def _read_tensor(cursor: GgufCursor, alignment: int) -> _Tensor:
    """One entry; `begin` and `end` count from where the numbers begin."""
    raw = cursor.take_text(_NAME_BYTES, "a tensor's name")
    name = raw.decode(errors="backslashreplace")
    tensor = f"tensor {shown(name)}"
    if not name or not name.isprintable():
        cursor.stop("control-character", f"{tensor}: an empty name or a control character in it")
    if "/" in name or "\\" in name or ".." in name:
        cursor.stop("path-like-name", f"{tensor}: its name looks like a path")
    rank = cursor.take_u32()
    if rank > _RANK:
        cursor.stop("dims-range", f"{tensor}: {rank} axes; the format has at most {_RANK}")
    shape = [cursor.take_length() for _ in range(rank)]
    number, begin = cursor.take_u32(), cursor.take_u64()
    if number not in GGML_TYPES:
        cursor.stop("unknown-dtype", f"{tensor}: unknown type {number}")
    block = GGML_TYPES[number]
    if not all(shape):
        cursor.stop("dims-range", f"{tensor}: an axis of length 0")
    size = prod(shape) // block.elements * block.size
    if prod(shape) > _LARGEST or size > _LARGEST:
        cursor.stop("dims-overflow", f"{tensor}: more numbers than can be counted")
    if (shape[0] if shape else 1) % block.elements:
        cursor.stop(
            "dims-range", f"{tensor}: rows of {shape[:1]} are not whole blocks of {block.name}"
        )
    if begin % alignment:
        cursor.stop("malformed", f"{tensor}: begins at {begin}, no multiple of {alignment}")
    return _Tensor(begin, begin + size, name)


def _check_names(cursor: GgufCursor, tensors: list[_Tensor]) -> None:
    seen: set[str] = set()
    for tensor in tensors:
        if tensor.name in seen:
            cursor.stop("duplicate-name", f"two tensors are called {shown(tensor.name)}")
        seen.add(tensor.name)


def _check_cover(cursor: GgufCursor, tensors: list[_Tensor], alignment: int) -> None:
    """Tensors in the order of their bytes follow each other up to the end of the file."""
    _pass_padding(cursor, alignment, is_last=not tensors)
    reached = 0
    for number, tensor in enumerate(ordered := sorted(tensors)):
        if tensor.begin != reached:
            rule = "tensor-overlap" if tensor.begin < reached else "tensor-gap"
            cursor.stop(rule, f"tensor {shown(tensor.name)} begins at {tensor.begin}, the one "
                        f"before ends at {reached}")  # fmt: skip
        cursor.skip(tensor.end - tensor.begin)
        _pass_padding(cursor, alignment, is_last=number == len(ordered) - 1)
        reached = tensor.end + -tensor.end % alignment
    if cursor.rest(1):
        cursor.stop("trailing-data", "bytes behind the last tensor")


def _pass_padding(cursor: GgufCursor, alignment: int, *, is_last: bool) -> None:
    """Zeros up to the next multiple of the alignment; the file may end among the last."""
    count = -cursor.position % alignment
    padding = cursor.rest(count) if is_last else cursor.take(count)
    if any(padding):
        cursor.stop("tensor-gap", "bytes that are not zero between tensors")
