"""The header of a safetensors file, checked byte by byte before any library opens the file.

The format: a little-endian u64 with the header's length, the header as JSON (name to dtype,
shape and `data_offsets`), then the numbers. Source: the safetensors format description. The
library accepts keys that stand twice and names that look like paths; both are refused here.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NoReturn, Protocol

from auditor.errors import RefusedModel
from auditor.models.limits import FolderLimits
from auditor.models.strict_json import read_object

BITS: Final[Mapping[str, int]] = MappingProxyType({
    "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E4M3": 8,
    "F8_E5M2": 8, "F8_E8M0": 8, "U16": 16, "I16": 16, "F16": 16, "BF16": 16, "U32": 32,
    "I32": 32, "F32": 32, "U64": 64, "I64": 64, "F64": 64, "C64": 64,
})  # fmt: skip
"""Bits of one number by the format's name for its type."""
_METADATA: Final = "__metadata__"
_ENTRY_KEYS: Final = frozenset({"dtype", "shape", "data_offsets"})
_LENGTH_BYTES: Final = 8
_LARGEST: Final = 2**63 - 1
_WAY_OUT: Final = "save the weights again with save_pretrained"


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of a weights file.

    Attributes:
        name: Its name.
        dtype: A key of `BITS`.
        shape: Its axes.
        begin: Offset of its first byte in the file.
        end: Offset behind its last byte.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return prod(self.shape)


@dataclass(frozen=True)
class SafetensorsHeader:
    """What a weights file says it holds.

    Attributes:
        raw: The bytes that were read: the length and the JSON.
        tensors: In the order of their bytes, which they cover without gap to the file's end.
        metadata: Texts by name, which no reader of the format gives a meaning.
    """

    raw: bytes
    tensors: tuple[StoredTensor, ...]
    metadata: Mapping[str, str]


class Readable(Protocol):
    """What gives its next bytes."""

    def read(self, count: int, /) -> bytes:
        """Up to so many bytes, fewer only at the end."""
        ...


def read_header(
    path: Path, name: str, stream: Readable, size: int, limits: FolderLimits
) -> SafetensorsHeader:
    """Read and check the header; the stream stands behind it afterwards.

    Args:
        path: The model, for messages.
        name: The weights file, for messages.
        stream: The file, at its start.
        size: Its bytes.
        limits: How large a header, how many tensors.

    Raises:
        RefusedModel: The bytes are not the format, or the header asks for other bytes than
            the file has.
    """

    def refuse(rule: str, problem: str) -> NoReturn:
        raise RefusedModel(path, rule, problem, place=name, way_out=_WAY_OUT)

    start = stream.read(_LENGTH_BYTES)
    if len(start) < _LENGTH_BYTES:
        refuse("truncated", f"{len(start)} bytes are no safetensors file")
    (length,) = struct.unpack("<Q", start)
    if length > limits.header_bytes:
        refuse("size-limit", f"a header of {length} bytes; the limit is {limits.header_bytes}")
    if length > size - _LENGTH_BYTES:
        refuse("truncated", f"a header of {length} bytes in a file of {size}")
    text = stream.read(length)
    if len(text) != length:
        refuse("truncated", "the file ends inside its header")
    if not text.startswith(b"{"):
        refuse("malformed", "the header does not begin with '{'")
    entries = read_object(path, name, text, limits)
    metadata = _read_metadata(path, name, entries.pop(_METADATA, {}))
    if len(entries) > limits.tensors:
        refuse("field-limit", f"{len(entries)} tensors; the limit is {limits.tensors}")
    data = _LENGTH_BYTES + length
    tensors = [_read_tensor(path, name, each, entry, data, limits)
               for each, entry in entries.items()]  # fmt: skip
    tensors.sort(key=lambda tensor: (tensor.begin, tensor.end))
    _check_cover(path, name, tensors, data, size)
    return SafetensorsHeader(start + text, tuple(tensors), metadata)


def _read_metadata(path: Path, name: str, metadata: Any) -> dict[str, str]:
    texts = metadata.values() if isinstance(metadata, dict) else [None]
    if not all(isinstance(text, str) for text in texts):
        raise RefusedModel(
            path, "malformed", f"{_METADATA} is not a mapping of texts", place=name,
            way_out=_WAY_OUT,
        )  # fmt: skip
    return dict(metadata)


def _read_tensor(
    path: Path, name: str, tensor: str, entry: Any, data: int, limits: FolderLimits
) -> StoredTensor:
    shown = tensor[:80]

    def refuse(rule: str, problem: str) -> NoReturn:
        raise RefusedModel(path, rule, f"tensor {shown!r}: {problem}", place=name, way_out=_WAY_OUT)

    if not tensor or len(tensor) > limits.name_characters:
        refuse("text-limit", f"a name of {len(tensor)} characters")
    if not tensor.isprintable():
        refuse("control-character", "a control character in its name")
    if "/" in tensor or "\\" in tensor or ".." in tensor:
        refuse("path-like-name", "its name looks like a path")
    if not isinstance(entry, dict) or entry.keys() != _ENTRY_KEYS:
        refuse("malformed", "not described by dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS:
        refuse("unknown-dtype", f"dtype {str(dtype)[:40]!r}")
    if not _are_counts(shape) or not _are_counts(offsets) or len(offsets) != 2:
        refuse("dims-range", "shape and data_offsets are not whole numbers >= 0")
    if len(shape) > limits.rank or prod(filter(None, shape)) > _LARGEST:
        refuse("dims-overflow", f"{len(shape)} axes, or more numbers than can be counted")
    bits, (begin, end) = prod(shape) * BITS[dtype], offsets
    if bits % 8 or end - begin != bits // 8:
        refuse("data-length", f"bytes {begin} to {end} for {bits} bits of shape x dtype")
    return StoredTensor(tensor, dtype, tuple(shape), data + begin, data + end)


def _are_counts(values: Any) -> bool:
    if not isinstance(values, list):
        return False
    # A loop and no generator: this is most of the time that a long header takes.
    for value in values:  # noqa: SIM110
        if type(value) is not int or not 0 <= value <= _LARGEST:
            return False
    return True


def _check_cover(
    path: Path, name: str, tensors: Sequence[StoredTensor], data: int, size: int
) -> None:
    """Tensors in the order of their bytes touch each other and end where the file ends."""
    reached = data
    for tensor in tensors:
        if tensor.begin != reached:
            rule = "tensor-overlap" if tensor.begin < reached else "tensor-gap"
            raise RefusedModel(
                path, rule, f"tensor {tensor.name[:80]!r} begins at byte {tensor.begin}, the one "
                f"before ends at {reached}", place=name, way_out=_WAY_OUT,
            )  # fmt: skip
        reached = tensor.end
    if reached != size:
        rule = "truncated" if reached > size else "tensor-gap"
        raise RefusedModel(
            path, rule, f"the tensors end at byte {reached}, the file at {size}", place=name,
            way_out=_WAY_OUT,
        )  # fmt: skip
