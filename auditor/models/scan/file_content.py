"""Judging an open file: what needs the file itself, and not only its bytes in order."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import Final

from auditor.errors import RefusedModel
from auditor.models.file_format import HEAD_BYTES, FileFormat, is_zip, recognise_format
from auditor.models.limits import Limits
from auditor.models.preflight import holds_onnx, vet_open_model
from auditor.models.scan.archives.compressed import compression_of
from auditor.models.scan.archives.zip_archive import read_zip
from auditor.models.scan.byte_source import ByteSource
from auditor.models.scan.contents import (
    inspect_source,
    keep_promise,
    not_onnx,
    read_weights,
    with_second_pickle,
)
from auditor.models.scan.decision import Content, Decision, Problem
from auditor.models.scan.limits import ScanLimits
from auditor.models.scan.signatures import is_tflite, may_be_protobuf

_ZIP_END: Final = b"PK\x05\x06"
_ZIP_ENTRY: Final = b"PK\x01\x02"
_ZIP64_LOCATOR: Final = b"PK\x06\x07"
_ZIP_TAIL: Final = 22 + 2**16
_MOST_ENDS: Final = 64
# Archives whose last bytes may be those of an archive that was looked into.
_HOLDS_MEMBERS: Final = frozenset({"zip", "npz", "tar", "nemo"})


def inspect_file(
    path: Path, name: str, stream: BufferedReader, size: int, limits: ScanLimits
) -> Content:
    """Judge a file that stands at its start.

    Args:
        path: Where it lies; data files of a graph are looked for beside it.
        name: What it is called in the answer.
        stream: The file.
        size: Its bytes.
        limits: How much is looked at.
    """
    content = keep_promise(_inspect(path, name, stream, size, limits), name)
    stream.seek(0)
    content = with_second_pickle(content, _source(stream, size), limits)
    if content.decision is Decision.REFUSED or content.format in _HOLDS_MEMBERS:
        return content
    at = _zip_inside(stream, size)
    if at is None:
        return content
    problem = Problem("polyglot", "a zip archive stands at its end", f"byte {at}",
                      "fetch the file again; it is two files in one")  # fmt: skip
    return replace(content, problems=(*content.problems, problem))


def _inspect(
    path: Path, name: str, stream: BufferedReader, size: int, limits: ScanLimits
) -> Content:
    head = stream.read(HEAD_BYTES)
    stream.seek(0)
    found = recognise_format(head, b"", size)
    if is_zip(head):
        return read_zip(stream, size, "", limits, partial(inspect_source, limits=limits), 0)
    if found is FileFormat.SAFETENSORS:
        return read_weights(stream, size, limits)
    if _is_graph(found, name, head) or (found is FileFormat.GZIP and holds_onnx(head)):
        return _graph(path, name, stream, head)
    return inspect_source(_source(stream, size), name, 0, limits)


def _is_graph(found: FileFormat, name: str, head: bytes) -> bool:
    """Whether to read it as ONNX, of whose first byte other formats and plain numbers have some."""
    if found is not FileFormat.ONNX or is_tflite(head) or compression_of(head) is not None:
        return False
    return name.lower().endswith(".onnx") or may_be_protobuf(head)


def _graph(path: Path, name: str, stream: BufferedReader, head: bytes) -> Content:
    try:
        vetted = vet_open_model(path, stream, Limits())
    except RefusedModel as refusal:
        return not_onnx(refusal, name, head)
    found = vetted.inspection
    facts = {"nodes": found.facts["nodes"], "initialisers": found.facts["initialisers"]}
    facts["external_files"] = "\n".join(found.external_files)
    return Content(str(found.format), (), ("structure", "data files"), facts)


def _source(stream: BufferedReader, size: int) -> ByteSource:
    """The rest of a file; what is skipped is not read."""

    def skip(count: int) -> int:
        here = stream.tell()
        there = min(here + count, os.fstat(stream.fileno()).st_size)
        stream.seek(there)
        return max(0, there - here)

    return ByteSource(stream.read, skip=skip, size=size)


def _zip_inside(stream: BufferedReader, size: int) -> int | None:
    """Where a zip archive has its directory, or None: readers look for it from the end on.

    They take it wherever its own length says, and let other bytes stand before and behind.
    """
    start = max(0, size - _ZIP_TAIL)
    stream.seek(start)
    tail = stream.read(_ZIP_TAIL)
    at = len(tail)
    for _ in range(_MOST_ENDS):
        at = tail.rfind(_ZIP_END, 0, at)
        if at < 0:
            return None
        length = int.from_bytes(tail[at + 12 : at + 16], "little")
        base = start + at - length
        if tail[at - 20 : at - 16] == _ZIP64_LOCATOR:
            return start + at
        if length and base >= 0:
            stream.seek(base)
            if stream.read(4) == _ZIP_ENTRY:
                return base
    return None
