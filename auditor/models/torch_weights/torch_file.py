"""A file of `torch.save`: which value it holds, and where the numbers of its tensors lie.

Two layouts: the zip archive that torch writes since version 1.6, and the stream before it: five
pickles (a magic number, a version, the machine, the value, the keys of the storages) and then each
storage, its count in front.

Source: `_save`, `_legacy_save` and `_legacy_load` in torch/serialization.py (2.13).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np

from auditor.errors import RefusedModel
from auditor.models.file_format import is_zip
from auditor.models.scan.archives.kind import ArchiveKind, recognise_zip
from auditor.models.scan.archives.zip_listing import ZipMember, list_members
from auditor.models.scan.archives.zip_stream import STORED, MemberStream
from auditor.models.scan.byte_source import ByteSource
from auditor.models.scan.decision import Problem
from auditor.models.scan.file_content import inspect_file
from auditor.models.scan.limits import ScanLimits
from auditor.models.scan.problem_list import ReadingStopped
from auditor.models.torch_weights.pickled_value import PickledValue, PickleUnread, read_value
from auditor.models.torch_weights.tensors import Storage, width_of

_MOST_PICKLED: Final = 2**26
"""Bytes of a pickle, which says where numbers are and does not hold them."""
_MAGIC: Final = 0x1950A86A20F9469CFC6C
_VERSION: Final = 1001
_COUNT: Final = struct.Struct("<q")
WAY_OUT: Final = "save the state dict alone as safetensors where the model was trained"


@dataclass(frozen=True)
class TorchFile:
    """What an open file holds.

    Attributes:
        stream: The file.
        value: As `PickledValue` describes it.
        places: First byte of each storage's numbers in the file, by its key.
        is_swapped: Whether the most significant byte of a number comes first.
    """

    stream: BufferedReader
    value: Any
    places: Mapping[str, int]
    is_swapped: bool = False

    def numbers(self, storage: Storage, first: int, count: int, dtype: str) -> bytes:
        """Numbers of a storage as little-endian bytes; fewer only if the file was cut meanwhile.

        Args:
            storage: One of the file's.
            first: The first number, counted in numbers of `dtype`.
            count: How many.
            dtype: Their type.
        """
        width = width_of(dtype)
        self.stream.seek(self.places[storage.key] + first * width)
        found = self.stream.read(count * width)
        if not self.is_swapped or width == 1:
            return found
        part = width // 2 if dtype.startswith("C") else width
        whole = found[: len(found) // part * part]
        return np.frombuffer(whole, f">u{part}").astype(f"<u{part}").tobytes()


def read_torch_file(path: Path, stream: BufferedReader, size: int) -> TorchFile:
    """Scan an open file and work out what it holds; no pickle of it is run.

    Args:
        path: Its name, for messages.
        stream: The file.
        size: Its bytes.

    Raises:
        RefusedModel: It is no file of `torch.save`, the scan refuses it for more than being a
            pickle, or the pickle holds what weights do not need.
    """
    _refuse_by_scan(path, stream, size)
    stream.seek(0)
    if is_zip(stream.read(4)):
        return _read_archive(path, stream, size)
    return _read_stream(path, stream, size)


def _refuse_by_scan(path: Path, stream: BufferedReader, size: int) -> None:
    stream.seek(0)
    content = inspect_file(path, path.name, stream, size, ScanLimits())
    others = [each for each in content.problems if each.rule != "pickle-content"]
    if others:
        raise _refusal(path, others[0])
    if len(content.problems) > 1:
        raise _refusal(path, content.problems[1])  # a second pickle beside the one of the weights
    if not content.problems or content.format not in (ArchiveKind.TORCH, "pickle"):
        raise RefusedModel(
            path, "unknown-format", f"{content.format}, and no file of torch.save",
            way_out="give a file that torch.save wrote",
        )  # fmt: skip


def _refusal(path: Path, problem: Problem) -> RefusedModel:
    return RefusedModel(path, problem.rule, problem.problem, place=problem.place, way_out=WAY_OUT)


def _read_archive(path: Path, stream: BufferedReader, size: int) -> TorchFile:
    try:
        listed = list_members(stream, size, "", ScanLimits())
    except ReadingStopped as stop:
        raise _refusal(path, stop.problem) from None
    members = {member.name: member for member in listed}
    root = recognise_zip([name for name in members if not name.endswith("/")]).root
    root = next(name for name in members if name.lower() == f"{root}data.pkl")[: len(root)]
    pickled = _read_small(path, stream, members[f"{root}data.pkl"])
    is_swapped = _is_swapped(path, stream, members.get(f"{root}byteorder"))
    found = _value_of(path, pickled, 0, f"member '{root}data.pkl'")
    places = {}
    for storage in found.storages.values():
        member = members.get(f"{root}data/{storage.key}")
        places[storage.key] = _place_of(path, storage, member)
    return TorchFile(stream, found.value, places, is_swapped)


def _is_swapped(path: Path, stream: BufferedReader, member: ZipMember | None) -> bool:
    order = b"little" if member is None else _read_small(path, stream, member)
    if order not in (b"little", b"big"):
        raise RefusedModel(
            path, "unknown-format", f"the order of bytes is {order[:20]!r}", place="byteorder",
            way_out=WAY_OUT,
        )  # fmt: skip
    return order == b"big"


def _read_small(path: Path, stream: BufferedReader, member: ZipMember) -> bytes:
    if member.size > _MOST_PICKLED:
        raise RefusedModel(
            path, "size-limit", f"a pickle of {member.size} bytes; the limit is {_MOST_PICKLED}",
            place=f"member '{member.name}'", way_out=WAY_OUT,
        )  # fmt: skip
    source = MemberStream(stream, member, member.name)
    content = ByteSource(source.read, size=member.size).read(member.size)
    problem = source.finish()
    if problem is not None:  # it was whole when it was scanned
        raise _refusal(path, problem)
    return content


def _place_of(path: Path, storage: Storage, member: ZipMember | None) -> int:
    shown = f"storage {storage.key[:40]!r}"
    if member is None:
        raise RefusedModel(path, "truncated", "no such member", place=shown, way_out=WAY_OUT)
    if member.method != STORED or member.size != storage.size:
        raise RefusedModel(
            path, "data-length", f"{member.size} bytes, compressed or not {storage.size} as the "
            "pickle says", place=shown, way_out=WAY_OUT,
        )  # fmt: skip
    return member.data


def _value_of(path: Path, content: bytes, start: int, place: str) -> PickledValue:
    try:
        return read_value(content, start)
    except PickleUnread as unread:
        raise RefusedModel(
            path, unread.rule, unread.problem,
            place=f"{place}, byte {unread.offset}".removeprefix(", "), way_out=WAY_OUT,
        ) from None  # fmt: skip


def _read_stream(path: Path, stream: BufferedReader, size: int) -> TorchFile:
    """The layout before version 1.6."""

    def refuse(rule: str, problem: str, offset: int) -> NoReturn:
        raise RefusedModel(path, rule, problem, place=f"byte {offset}", way_out=WAY_OUT)

    stream.seek(0)
    head = stream.read(min(size, _MOST_PICKLED))
    magic = _value_of(path, head, 0, "")
    if magic.value != _MAGIC:
        refuse("unknown-format", "a pickle that torch.save did not write", 0)
    version = _value_of(path, head, magic.end, "")
    machine = _value_of(path, head, version.end, "")
    if version.value != _VERSION or not isinstance(machine.value, dict):
        refuse("unknown-format", "another version of torch.save", magic.end)
    found = _value_of(path, head, machine.end, "")
    keys = _value_of(path, head, found.end, "")
    if not _are_texts(keys.value) or sorted(keys.value) != sorted(found.storages):
        refuse("pickle-structure", "the keys of the storages are not those that are used",
               found.end)  # fmt: skip
    places, at = dict[str, int](), keys.end
    for key in keys.value:
        storage = found.storages[key]
        stream.seek(at)
        if stream.read(_COUNT.size) != _COUNT.pack(storage.count):
            problem = f"a storage that is not of {storage.count} numbers as the pickle says"
            refuse("data-length", problem, at)
        places[key] = at + _COUNT.size
        at += _COUNT.size + storage.size
    if at != size:
        refuse("data-length", f"the storages end at byte {at}, the file at {size}", at)
    # Whatever the machine, torch wrote this layout with the least significant byte first.
    return TorchFile(stream, found.value, places)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)
