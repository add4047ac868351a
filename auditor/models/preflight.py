"""Deciding, before any library opens a model file, whether it may be opened.

Content decides, never the name. Everything but ONNX (plain or gzip-compressed) is
refused with the rule it breaks and a way out; an ONNX file has to pass the walk of
`auditor.models.onnx_walk` and its data files the rules of
`auditor.models.external_data`. The file is opened once, and what was checked is
what is returned.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import Final

from auditor.errors import FileMissing, RefusedModel
from auditor.models.external_data import ExternalTensor, open_external
from auditor.models.file_format import HEAD_BYTES, TAIL_BYTES, FileFormat, recognise_format
from auditor.models.limits import Limits
from auditor.models.onnx_walk import WalkSummary, walk_model
from auditor.models.scan.archives.compressed import stream_problems
from auditor.models.scan.archives.inflating import InflatingReader
from auditor.models.scan.byte_source import ByteSource
from auditor.models.scan.limits import ScanLimits

_EXPORT: Final = "export the model to ONNX"
_REFUSALS: Final[dict[FileFormat, tuple[str, str, str]]] = {
    FileFormat.PICKLE: (
        "pickle-content",
        "the file is a pickle, which runs code when it is opened",
        "export the model to ONNX where it was trained",
    ),
    FileFormat.TORCHSCRIPT: (
        "pickle-content",
        "a TorchScript archive holds pickles and code",
        "export the model to ONNX where it was trained",
    ),
    FileFormat.NUMPY: ("not-a-model", "a NumPy array, which may hold pickles", _EXPORT),
    FileFormat.SAFETENSORS: (
        "not-onnx",
        "safetensors holds weights without a graph",
        "give the ONNX export, or the folder of the language model",
    ),
    FileFormat.ZIP: ("container", "a zip archive", "unpack it and give the ONNX file"),
    FileFormat.TAR: ("container", "a tar archive", "unpack it and give the ONNX file"),
    FileFormat.SEVEN_ZIP: ("container", "a 7z archive", "unpack it and give the ONNX file"),
    FileFormat.GZIP: ("container", "gzip, and no ONNX inside", "unpack it and give the ONNX file"),
    FileFormat.HDF5: ("not-onnx", "HDF5, which Keras models may fill with code", _EXPORT),
    FileFormat.GGUF: ("not-onnx", "a GGUF model", _EXPORT),
    FileFormat.TEXT: ("not-a-model", "the file is text", "give the exported ONNX model"),
    FileFormat.UNKNOWN: ("not-a-model", "no known model format", "give the exported ONNX model"),
}


_INFLATED_AT_ONCE: Final = 2**24


@dataclass(frozen=True)
class Inspection:
    """What a file is and whether it may be opened.

    Attributes:
        path: The file.
        format: What its content is.
        size: Bytes on disk, 0 for what is not a regular file.
        refusal: Why it must not be opened, or None.
        facts: Counts in words, for a report.
        external_files: Locations of its data files, in order.
    """

    path: Path
    format: FileFormat
    size: int
    refusal: RefusedModel | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    external_files: tuple[str, ...] = ()

    @property
    def openable(self) -> bool:
        """Whether `OnnxModel.open` may go on."""
        return self.refusal is None


@dataclass(frozen=True)
class Vetted:
    """An ONNX file that passed, with the very bytes that were checked.

    Attributes:
        content: The model, inflated, in memory.
        sha256: Hex digest of the file as it is on disk.
        external: Its references to data files; the files were checked and closed.
    """

    inspection: Inspection
    content: bytes
    sha256: str
    external: tuple[ExternalTensor, ...]


def inspect_file(path: Path | str, limits: Limits | None = None) -> Inspection:
    """What the file is, and the refusal if it must not be opened.

    Raises:
        FileMissing: There is nothing at the path.
    """
    path = Path(path)
    try:
        return vet_model(path, limits).inspection
    except RefusedModel as refusal:
        found, size = _format_of(path)
        return Inspection(path, found, size, refusal=refusal)


def require_openable(path: Path | str, *, limits: Limits | None = None) -> Inspection:
    """The inspection of a file that may be opened.

    Raises:
        FileMissing: There is nothing at the path.
        RefusedModel: With the rule, the place and a way out.
    """
    return vet_model(Path(path), limits).inspection


def vet_model(path: Path, limits: Limits | None = None) -> Vetted:
    """Read an ONNX file once, check it, and return the bytes that were checked.

    Raises:
        FileMissing: There is nothing at the path.
        RefusedModel: With the rule, the place and a way out.
    """
    with open_regular(path) as file:
        return vet_open_model(path, file, limits or Limits())


def vet_open_model(path: Path, file: BufferedReader, limits: Limits) -> Vetted:
    """`vet_model` of a file that is open already, at its start; `path` names its folder.

    Raises:
        RefusedModel: With the rule, the place and a way out.
    """
    size = os.fstat(file.fileno()).st_size
    found = recognise_format(*_ends(file, size), size)
    if found not in (FileFormat.ONNX, FileFormat.GZIP):
        raise _refuse_format(path, found)
    if size > limits.file_bytes:
        raise _too_large(path, size, limits.file_bytes)
    content = raw = file.read(size)
    if found is FileFormat.GZIP:
        content = _inflate(path, raw, limits)
        inner = recognise_format(content[:HEAD_BYTES], content[-TAIL_BYTES:], len(content))
        if inner is not FileFormat.ONNX:
            raise _refuse_format(path, inner if inner is FileFormat.PICKLE else found)
        found = FileFormat.ONNX_GZIP
    summary = walk_model(path, content, limits)
    with open_external(path, summary.external, limits) as files:
        files.require_checksums(summary.external)
        locations = tuple(sorted(files.descriptors))
    inspection = Inspection(
        path, found, size, facts=_facts(summary, locations), external_files=locations
    )
    digest = hashlib.sha256(raw).hexdigest()
    return Vetted(inspection, content, digest, tuple(summary.external))


def _facts(summary: WalkSummary, locations: tuple[str, ...]) -> dict[str, str]:
    return {
        "ir_version": str(summary.ir_version),
        "nodes": str(summary.nodes),
        "initialisers": str(summary.initialisers),
        "external_files": ", ".join(locations) or "none",
    }


def open_regular(path: Path) -> BufferedReader:
    """The file opened for reading, decided on the descriptor and not on the name."""
    flags = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    try:
        # Devices may act on being opened, so they are sorted out by name first.
        if not stat.S_ISREG(path.stat().st_mode):
            raise _not_a_file(path)
        # O_NONBLOCK: a pipe put there in between must not stop the audit.
        descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    except (FileNotFoundError, NotADirectoryError):
        raise FileMissing(path, "model file") from None
    except (OSError, ValueError) as error:
        raise RefusedModel(
            path, "unreadable", str(error), way_out="check the file's permissions and its name"
        ) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _not_a_file(path)
    return os.fdopen(descriptor, "rb")


def _not_a_file(path: Path) -> RefusedModel:
    return RefusedModel(
        path,
        "not-a-file",
        "a folder, pipe or device, not a regular file",
        way_out="give the model file itself",
    )


def _ends(file: BufferedReader, size: int) -> tuple[bytes, bytes]:
    head = file.read(HEAD_BYTES)
    file.seek(max(0, size - TAIL_BYTES))
    tail = file.read(TAIL_BYTES)
    file.seek(0)
    return head, tail


def _inflate(path: Path, raw: bytes, limits: Limits) -> bytes:
    """One gzip member, inflated up to the limits; whatever follows it is refused."""
    most = ScanLimits(
        inflated_bytes=limits.inflated_bytes, members=1,
        ratio=limits.inflation_ratio, ratio_free_bytes=limits.inflation_free_bytes,
    )  # fmt: skip
    reader = InflatingReader(ByteSource(io.BytesIO(raw).read), "gzip", most, stored=len(raw))
    content = b"".join(iter(partial(reader.read, _INFLATED_AT_ONCE), b""))
    for problem in stream_problems(reader, "gzip", "", most):
        raise RefusedModel(path, problem.rule, problem.problem, way_out="compress the model again")
    return content


def _too_large(path: Path, size: int, limit: int) -> RefusedModel:
    return RefusedModel(
        path,
        "size-limit",
        f"at least {size} bytes; the limit is {limit}",
        way_out="audit the model in parts",
    )


def _refuse_format(path: Path, found: FileFormat) -> RefusedModel:
    rule, problem, way_out = _REFUSALS[found]
    return RefusedModel(path, rule, problem, way_out=way_out)


def _format_of(path: Path) -> tuple[FileFormat, int]:
    """The format of a refused file, read from its ends only."""
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            head, tail = _ends(file, size)
    except RefusedModel:
        return FileFormat.UNKNOWN, 0
    found = recognise_format(head, tail, size)
    if found is FileFormat.GZIP and holds_onnx(head):
        return FileFormat.ONNX_GZIP, size
    return found, size


def holds_onnx(head: bytes) -> bool:
    """Whether a gzip stream with this beginning holds an ONNX file."""
    try:
        inner = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS).decompress(head, HEAD_BYTES)
    except zlib.error:
        return False
    return recognise_format(inner, b"", len(inner)) is FileFormat.ONNX
