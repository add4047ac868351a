"""Tensors kept outside the ONNX file: which files may be read, and reading them.

A location is a plain relative path inside the model's folder. It is opened
component by component without following symbolic links, and everything else is
decided on the open descriptor: regular file, no second hard link, range inside
the file. The onnx and onnxruntime loaders accept some of what is refused here
(hard links, lengths that differ from the dimensions).
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from auditor.errors import RefusedModel
from auditor.folders import open_without_links
from auditor.models.limits import Limits
from auditor.models.onnx_schema import EXTERNAL_KEYS

_DECIMAL: Final = re.compile(r"[0-9]{1,19}", re.ASCII)
_WAY_OUT: Final = "copy the data file into the model's folder and save the model again"


@dataclass(frozen=True)
class ExternalTensor:
    """A tensor's bytes in another file: `length` bytes from `offset` on."""

    name: str
    place: str
    location: str
    offset: int
    length: int
    checksum: str = ""


def parse_external_entries(
    path: Path, name: str, place: str, entries: Sequence[tuple[str, str]], size: int
) -> ExternalTensor:
    """One tensor's `external_data` entries, checked; `size` is dims x dtype in bytes.

    Raises:
        RefusedModel: An unknown or doubled key, a number that is not a plain decimal,
            a length other than `size`, or a location that is not a relative path.
    """

    def refuse(rule: str, problem: str) -> RefusedModel:
        return RefusedModel(path, rule, problem, place=place, way_out=_WAY_OUT)

    keys = [key for key, _ in entries]
    unknown = sorted(set(keys) - EXTERNAL_KEYS)
    if unknown or len(set(keys)) != len(keys) or "location" not in keys:
        raise refuse(
            "external-data-key",
            f"external data keys {keys[:6]!r}; known are {', '.join(sorted(EXTERNAL_KEYS))}, "
            "each at most once, location always",
        )
    values = dict(entries)
    for key in ("offset", "length"):
        if key in values and not _DECIMAL.fullmatch(values[key]):
            raise refuse(
                "external-data-range", f"{key} {values[key][:40]!r} is not a whole number >= 0"
            )
    length = int(values.get("length", size))
    if length != size:
        raise refuse(
            "external-data-length", f"length {length} differs from the {size} bytes of dims x dtype"
        )
    _check_location(values["location"], refuse_path=path, place=place)
    return ExternalTensor(
        name=name,
        place=place,
        location=values["location"],
        offset=int(values.get("offset", "0")),
        length=length,
        checksum=values.get("checksum", ""),
    )


def _check_location(location: str, *, refuse_path: Path, place: str) -> None:
    parts = location.split("/")
    allowed = (
        bool(location)
        and all(part not in ("", ".", "..") for part in parts)
        and not any(letter in location for letter in "\\:*?\0")
    )
    if not allowed:
        raise RefusedModel(
            refuse_path,
            "external-data-escape",
            f"location {location[:80]!r} is not a plain relative path inside the model's folder",
            place=place,
            way_out=_WAY_OUT,
        )


def check_overlaps(path: Path, tensors: Sequence[ExternalTensor]) -> None:
    """Refuse two tensors that share bytes of a file."""
    ordered = sorted(
        (tensor for tensor in tensors if tensor.length),
        key=lambda tensor: (tensor.location, tensor.offset),
    )
    for before, after in pairwise(ordered):
        if before.location == after.location and after.offset < before.offset + before.length:
            raise RefusedModel(
                path,
                "external-data-overlap",
                f"bytes from {after.offset} on also belong to tensor {before.name!r}",
                place=after.place,
                way_out=_WAY_OUT,
            )


def open_external(path: Path, tensors: Sequence[ExternalTensor], limits: Limits) -> ExternalFiles:
    """Open and check every file the tensors name; use the result in a `with` block.

    Raises:
        RefusedModel: See the rules in the module's docstring.
    """
    check_overlaps(path, tensors)
    files = ExternalFiles(path, {})
    try:
        total = 0
        for tensor in tensors:
            if tensor.location not in files.descriptors:
                files.descriptors[tensor.location] = _open_one(path, tensor)
                total += os.fstat(files.descriptors[tensor.location]).st_size
            _check_range(path, tensor, files.size(tensor.location))
            _check_total(path, tensor, total, limits.external_bytes)
    except RefusedModel:
        files.close()
        raise
    return files


class ExternalFiles:
    """The open data files of one model, by location."""

    def __init__(self, path: Path, descriptors: dict[str, int]) -> None:
        self.path, self.descriptors = path, descriptors

    def __enter__(self) -> ExternalFiles:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every descriptor."""
        while self.descriptors:
            os.close(self.descriptors.popitem()[1])

    def size(self, location: str) -> int:
        """Bytes in the file."""
        return os.fstat(self.descriptors[location]).st_size

    def digests(self) -> Mapping[str, str]:
        """SHA-256 of each whole file in hex, ordered by location."""
        return {location: self._digest(location, "sha256") for location in sorted(self.descriptors)}

    def require_checksums(self, tensors: Sequence[ExternalTensor]) -> None:
        """Compare each file with the SHA-1 that its tensors say it has.

        Raises:
            RefusedModel: It has another.
        """
        found: dict[str, str] = {}
        for tensor in tensors:
            if tensor.checksum:
                if tensor.location not in found:
                    found[tensor.location] = self._digest(tensor.location, "sha1")
                _check_checksum(self.path, tensor, found[tensor.location])

    def _digest(self, location: str, kind: str) -> str:
        with open(os.dup(self.descriptors[location]), "rb") as file:  # noqa: PTH123
            file.seek(0)
            return hashlib.file_digest(file, kind).hexdigest()

    def read_all(self) -> Mapping[str, bytes]:
        """The bytes of each file, read once; sizes were limited on opening."""
        found: dict[str, bytes] = {}
        for location in sorted(self.descriptors):
            with open(os.dup(self.descriptors[location]), "rb") as file:  # noqa: PTH123
                file.seek(0)
                found[location] = file.read(self.size(location))
        return found


def slice_tensor(path: Path, tensor: ExternalTensor, content: bytes) -> bytes:
    """The bytes of one tensor, compared with its SHA-1 checksum where it has one.

    Raises:
        RefusedModel: The file shrank since it was checked, or the checksum differs.
    """
    data = content[tensor.offset : tensor.offset + tensor.length]
    if len(data) != tensor.length:
        raise RefusedModel(
            path,
            "external-data-range",
            "the data file changed while it was read",
            place=tensor.place,
            way_out="run again when nothing writes to the model's folder",
        )
    if tensor.checksum:
        _check_checksum(path, tensor, hashlib.sha1(content, usedforsecurity=False).hexdigest())
    return data


def _check_checksum(path: Path, tensor: ExternalTensor, actual: str) -> None:
    """The ONNX specification defines the checksum over the whole data file."""
    if actual != tensor.checksum.lower():
        raise RefusedModel(
            path,
            "external-data-checksum",
            f"SHA-1 of the data file is {actual}, the model says {tensor.checksum[:40]!r}",
            place=tensor.place,
            way_out="fetch model and data files again",
        )


def _check_total(path: Path, tensor: ExternalTensor, total: int, limit: int) -> None:
    if total > limit:
        raise RefusedModel(
            path,
            "size-limit",
            f"external data of {total} bytes; the limit is {limit}",
            place=tensor.place,
            way_out="audit the model in parts",
        )


def _check_range(path: Path, tensor: ExternalTensor, size: int) -> None:
    if tensor.offset + tensor.length > size:
        raise RefusedModel(
            path,
            "external-data-range",
            f"bytes {tensor.offset} to {tensor.offset + tensor.length} of a file of {size} bytes",
            place=tensor.place,
            way_out="fetch model and data files again",
        )


def _open_one(path: Path, tensor: ExternalTensor) -> int:
    def refuse(rule: str, problem: str) -> RefusedModel:
        return RefusedModel(path, rule, problem, place=tensor.place, way_out=_WAY_OUT)

    try:
        descriptor = open_without_links(path.parent, tensor.location.split("/"))
    except FileNotFoundError:
        raise refuse("external-data-missing", f"no file {tensor.location!r}") from None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EMLINK):
            raise refuse(
                "external-data-symlink",
                f"{tensor.location!r} is or passes through a symbolic link or a non-folder",
            ) from error
        raise refuse(
            "external-data-unreadable", f"{tensor.location!r}: {error.strerror}"
        ) from error
    status = os.fstat(descriptor)
    problem: tuple[str, str] | None = None
    if not stat.S_ISREG(status.st_mode):
        problem = ("external-data-not-a-file", f"{tensor.location!r} is not a regular file")
    elif status.st_nlink != 1:
        problem = (
            "external-data-hardlink",
            f"{tensor.location!r} has {status.st_nlink} hard links, so it also is another file",
        )
    if problem is not None:
        os.close(descriptor)
        raise refuse(*problem)
    return descriptor
