"""Targets: what the scan looks into. A reader of it never raises, whatever the bytes."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.fuzz.inert_unpickler import asked_by
from tests.fuzz.target import Check, Contradiction, require_equal, require_plain_words

if TYPE_CHECKING:
    from auditor.models.scan.byte_source import ByteSource
    from auditor.models.scan.decision import Content, Problem

_MOST_PROBLEMS = 10_000


def small_limits() -> Any:
    from auditor.models.scan.limits import ScanLimits

    return ScanLimits(
        inflated_bytes=2**24, ratio_free_bytes=2**22, opcodes=200_000, members=1000, tensors=5000,
        key_values=5000, text_bytes=2**20, graph_bytes=2**20,
    )  # fmt: skip


def require_plain(problems: Iterable[Problem]) -> None:
    """Each problem can be shown: one line of plain characters, and not too many of them.

    Raises:
        Contradiction: One cannot.
    """
    found = list(problems)
    if len(found) > _MOST_PROBLEMS:
        raise Contradiction(f"{len(found)} problems for one input")
    for each in found:
        for text in (each.rule, each.problem, each.place, each.way_out):
            require_plain_words(text)
        if not each.rule or not each.problem:
            raise Contradiction(f"a problem without words: {each!r}")


def _source(data: bytes) -> ByteSource:
    from auditor.models.scan.byte_source import ByteSource

    return ByteSource(io.BytesIO(data).read, size=len(data))


class _Members:
    """An inspector that accepts every member and keeps its bytes."""

    def __init__(self) -> None:
        self.contents: list[tuple[str, bytes]] = []

    def __call__(self, source: ByteSource, name: str, depth: int) -> Content:
        from auditor.models.scan.decision import Content

        self.contents.append((name, source.read(2**20)))
        return Content("anything")


def open_pickle_walk(folder: Path) -> Check:
    """Pickles: always refused, and whatever an unpickler asks to import was found."""
    from auditor.models.scan.decision import Decision
    from auditor.models.scan.pickles.walk import trace_pickles, walk_pickle

    limits = small_limits()

    def check(data: bytes) -> None:
        content = walk_pickle(_source(data), "", limits)
        require_plain(content.problems)
        require_equal("decision", content.decision, Decision.REFUSED)
        trace = trace_pickles(_source(data), limits).trace
        if trace.over or trace.hidden_count or trace.unlisted:
            return
        missed = asked_by(data).imports - {(each.module, each.name) for each in trace.imports}
        # What cannot be the name of a module may be raw numbers that look like an opcode.
        real = [each for each in missed if all(map(str.isidentifier, each[0].split(".")))]
        require_equal("imports that were not found", real, [])

    return check


def open_numpy_header(folder: Path) -> Check:
    """A `.npy` file; one that is accepted has the shape and type that numpy reads."""
    from auditor.models.scan.decision import Decision
    from auditor.models.scan.formats.numpy_header import read_numpy

    limits = small_limits()

    def check(data: bytes) -> None:
        content = read_numpy(_source(data), "", limits)
        require_plain(content.problems)
        if content.decision is Decision.ACCEPTED:
            array = np.load(io.BytesIO(data), allow_pickle=False)
            shape = " x ".join(str(axis) for axis in array.shape) or "scalar"
            require_equal("shape", content.facts["shape"], shape)

    return check


def open_zip_archive(folder: Path) -> Check:
    """A zip archive; out of an accepted one `zipfile` reads the same members."""
    from auditor.models.scan.archives.zip_archive import read_zip
    from auditor.models.scan.decision import Decision

    limits = small_limits()

    def check(data: bytes) -> None:
        members = _Members()
        content = read_zip(io.BytesIO(data), len(data), "", limits, members, 0)
        require_plain(content.problems)
        if content.decision is not Decision.ACCEPTED:
            return
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            require_equal("first damaged member", None, archive.testzip())
            theirs = [(each.filename, archive.read(each)) for each in archive.infolist()]
        # Members that can only be numbers, as in archives of torch, are not inspected.
        require_equal("strange members", [m for m in members.contents if m not in theirs], [])

    return check


def open_tar_archive(folder: Path) -> Check:
    """A tar archive; out of an accepted one `tarfile` reads the same members."""
    from auditor.models.scan.archives.tar_archive import read_tar
    from auditor.models.scan.decision import Decision

    limits = small_limits()

    def check(data: bytes) -> None:
        members = _Members()
        content = read_tar(_source(data), "", limits, members, 0)
        require_plain(content.problems)
        if content.decision is not Decision.ACCEPTED:
            return
        theirs = []
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            for each in archive:
                if each.isfile() and (file := archive.extractfile(each)) is not None:
                    theirs.append((each.name, file.read()))
        require_equal("members", members.contents, theirs)

    return check


def open_compressed(folder: Path) -> Check:
    """A compressed stream; `gzip` inflates an accepted one to the same bytes."""
    from auditor.models.scan.archives.compressed import read_compressed
    from auditor.models.scan.decision import Decision

    limits = small_limits()

    def check(data: bytes) -> None:
        members = _Members()
        content = read_compressed(_source(data), "", limits, members, 0)
        require_plain(content.problems)
        if content.decision is Decision.ACCEPTED and data.startswith(b"\x1f\x8b"):
            theirs = gzip.decompress(data)
            require_equal("inflated", b"".join(part for _, part in members.contents), theirs)

    return check


def open_gguf_header(folder: Path) -> Check:
    """A GGUF file."""
    from auditor.models.scan.formats.gguf_header import read_gguf

    limits = small_limits()

    def check(data: bytes) -> None:
        header = read_gguf(_source(data), "", limits)
        require_plain(header.content.problems)
        require_equal(
            "texts", all(isinstance(text, str) for text in header.templates.values()), True
        )

    return check


def open_hdf5_file(folder: Path) -> Check:
    """An HDF5 file: always refused."""
    from auditor.models.scan.decision import Decision
    from auditor.models.scan.formats.hdf5_file import read_hdf5

    limits = small_limits()

    def check(data: bytes) -> None:
        content = read_hdf5(_source(data), "", limits)
        require_plain(content.problems)
        require_equal("decision", content.decision, Decision.REFUSED)

    return check


def open_keras_config(folder: Path) -> Check:
    """The configuration inside a Keras archive."""
    from auditor.models.limits import FolderLimits
    from auditor.models.scan.archives.keras_config import keras_problems

    limits = FolderLimits()

    def check(data: bytes) -> None:
        require_plain(keras_problems(data, limits))

    return check


def open_yaml_events(folder: Path) -> Check:
    """YAML of a model."""
    from auditor.models.scan.yaml_events import yaml_problems

    def check(data: bytes) -> None:
        require_plain(yaml_problems(data))

    return check


def open_template_rules(folder: Path) -> Check:
    """A chat template by its syntax alone."""
    from auditor.models.chat_template_rules import template_problem

    def check(data: bytes) -> None:
        problem = template_problem(data.decode("utf-8", "replace"))
        require_equal("words", problem is None or bool(problem), True)

    return check
