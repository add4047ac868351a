"""Judging bytes by what they are: of a file, or of a member of an archive.

A name never makes bytes harmless. It tells what a text is for, and a name that promises a
format whose bytes are another is a reason against the file.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final

from auditor.errors import RefusedModel
from auditor.models.chat_template_rules import check_template
from auditor.models.file_format import (
    HEAD_BYTES,
    FileFormat,
    is_plain,
    is_zip,
    recognise_format,
)
from auditor.models.limits import FolderLimits, Limits
from auditor.models.onnx_walk import walk_model
from auditor.models.safetensors_header import read_header
from auditor.models.scan.archives.compressed import compression_of, read_compressed
from auditor.models.scan.archives.tar_archive import read_tar
from auditor.models.scan.archives.zip_archive import read_zip
from auditor.models.scan.byte_source import ByteSource
from auditor.models.scan.decision import Content, Decision, Problem
from auditor.models.scan.formats.gguf_header import read_gguf
from auditor.models.scan.formats.hdf5_file import read_hdf5
from auditor.models.scan.formats.idx_header import begins_with_idx, read_idx
from auditor.models.scan.formats.numpy_header import read_numpy
from auditor.models.scan.limits import ScanLimits
from auditor.models.scan.pickles.accidental import only_words, runs_as_pickle, runs_past
from auditor.models.scan.pickles.walk import walk_pickle
from auditor.models.scan.signatures import (
    is_sentencepiece,
    is_tflite,
    may_be_protobuf,
    names_tensorflow,
    picture_of,
    program_of,
)
from auditor.models.scan.texts import (
    has_rules,
    may_hold_template,
    read_stray_templates,
    read_text,
)

# What a name promises, by its ending: the formats that keep the promise.
_PROMISED: Final = {
    ".onnx": {"onnx", "onnx.gz"},
    ".safetensors": {"safetensors"},
    ".gguf": {"gguf"},
    ".npy": {"npy"},
    ".npz": {"npz", "npy"},
}
# Rules that say that bytes are no ONNX, rather than that an ONNX file is wrong.
_NOT_ONNX: Final = frozenset({
    "unknown-field", "malformed", "truncated", "not-a-model", "duplicate-field", "invalid-text",
})  # fmt: skip
_UNKNOWN_WAY_OUT: Final = "keep it apart from the model, or give it in a format that is known here"


def inspect_source(source: ByteSource, name: str, depth: int, limits: ScanLimits) -> Content:
    """Judge bytes that come one after another.

    Args:
        source: The bytes, at their beginning.
        name: Of the file or member.
        depth: In how many archives it lies.
        limits: How much is looked at.
    """
    head = source.peek(HEAD_BYTES)
    content = keep_promise(_inspect(source, name, depth, limits), name)
    return with_second_pickle(content, ByteSource(io.BytesIO(head).read), limits)


def keep_promise(content: Content, name: str) -> Content:
    """The content, refused if its name promises another format."""
    promised = _PROMISED.get(PurePosixPath(name.lower()).suffix)
    if promised is None or content.format in promised or content.decision is Decision.REFUSED:
        return content
    if any(problem.rule == "not-downloaded" for problem in content.problems):
        return content
    problem = Problem(
        "name-mismatch", f"it is called {PurePosixPath(name).name[-80:]!r}, its content is "
        f"{content.format}", "", "fetch the file again, or give it the name of what it is",
    )  # fmt: skip
    return replace(content, problems=(problem, *content.problems))


def _inspect(source: ByteSource, name: str, depth: int, limits: ScanLimits) -> Content:
    head = source.peek(HEAD_BYTES)
    if not head:
        return Content("empty", (), ("size",))
    program = program_of(head)
    if program is not None:
        return refused(program, "native-code", f"{program}, whatever it is called",
                       "keep programs apart from models")  # fmt: skip
    picture = picture_of(head)
    if picture is not None:
        return Content(picture, (), ("signature",))
    size = len(head) if source.size is None else source.size
    found = recognise_format(head, b"", size)
    if found is FileFormat.PICKLE and only_words(head, whole=len(head) < HEAD_BYTES):
        found = FileFormat.TEXT
    inspect = partial(inspect_source, limits=limits)
    if is_zip(head):
        stream = _in_memory(source, depth, limits)
        if stream is None:
            return _open_question("zip", "container", "an archive inside an archive")
        return read_zip(stream, len(stream.getvalue()), "", limits, inspect, depth)
    if compression_of(head) is not None:
        # What is compressed has the name of the file without its ending: config.json.gz.
        stem = PurePosixPath(name).stem
        return read_compressed(
            source, "", limits, lambda inner, _, deeper: inspect(inner, stem, deeper), depth
        )
    if found is FileFormat.TAR:
        return read_tar(source, "", limits, inspect, depth)
    return _single(found, source, head, name, limits)


def _single(
    found: FileFormat, source: ByteSource, head: bytes, name: str, limits: ScanLimits
) -> Content:
    """Judge what holds nothing else."""
    if found is FileFormat.SAFETENSORS:
        return read_weights(source, source.size or 0, limits)
    if found is FileFormat.PICKLE:
        return walk_pickle(source, "", limits)
    if found is FileFormat.NUMPY:
        return read_numpy(source, "", limits)
    if found is FileFormat.GGUF:
        header = read_gguf(source, "", limits)
        return _with_templates(header.content, header.templates)
    if found is FileFormat.HDF5:
        return read_hdf5(source, "", limits)
    if found is FileFormat.SEVEN_ZIP:
        return refused("7z", "container", "a 7z archive, which is not unpacked here",
                       "unpack it and scan the folder")  # fmt: skip
    if found is FileFormat.TEXT:
        return _text(source, name, limits)
    if found is FileFormat.UNKNOWN and begins_with_idx(head):
        return read_idx(source)
    return _protobuf(source, head, name, limits)


def _text(source: ByteSource, name: str, limits: ScanLimits) -> Content:
    head = source.peek(HEAD_BYTES)
    if len(head) == HEAD_BYTES and runs_past(head):
        walked = walk_pickle(source, "", limits)
        if any(problem.rule == "pickle-import" for problem in walked.problems):
            return walked
        return Content("text", (), ("text",))
    is_ruled = has_rules(name, head[:2])
    if not is_ruled and not may_hold_template(name):
        return Content("text", (), ("beginning",))
    content = source.read(limits.text_bytes + 1)
    if not is_ruled:
        is_whole = len(content) <= limits.text_bytes
        judged = read_stray_templates(content, name, FolderLimits()) if is_whole else None
        return judged or Content("text", (), ("beginning",))
    if len(content) > limits.text_bytes:
        return _open_question("text", "text-limit", f"more than {limits.text_bytes} bytes of text")
    return read_text(content, name, FolderLimits())


def _protobuf(source: ByteSource, head: bytes, name: str, limits: ScanLimits) -> Content:
    """ONNX, a tokenizer, a graph of TensorFlow, or nothing that is known."""
    if is_tflite(head):
        return _open_question("tflite", "unknown-format", "a TensorFlow Lite model")
    if not may_be_protobuf(head):
        return _open_question("unknown", "unknown-format", "no format that is known here")
    content = source.read(limits.graph_bytes + 1)
    if len(content) > limits.graph_bytes:
        return _open_question("unknown", "size-limit", f"more than {limits.graph_bytes} bytes")
    if is_sentencepiece(content):
        return Content("sentencepiece", (), ("fields",))
    try:
        summary = walk_model(Path(name), content, Limits())
    except RefusedModel as refusal:
        return not_onnx(refusal, name, head)
    if summary.external:
        return _open_question("onnx", "container", "a graph in an archive whose data are outside")
    return Content("onnx", (), ("structure",), {"nodes": str(summary.nodes)})


def not_onnx(refusal: RefusedModel, name: str, head: bytes) -> Content:
    """Judge what may have been meant as ONNX and is refused as that."""
    if names_tensorflow(head) or PurePosixPath(name).name == "saved_model.pb":
        return refused("tensorflow", "tensorflow-graph", "a graph of TensorFlow, which can read "
                       "and write files when it runs", "export the model to ONNX")  # fmt: skip
    if refusal.rule in _NOT_ONNX and not name.lower().endswith((".onnx", ".onnx.gz")):
        return _open_question("unknown", "unknown-format", "no format that is known here")
    return Content("onnx", (Problem.of(refusal),))


def read_weights(source: ByteSource | BinaryIO, size: int, limits: ScanLimits) -> Content:
    """Judge safetensors: its whole header, templates in it, and that it is nothing else."""
    try:
        header = read_header(Path(), "", source, size, FolderLimits())
    except RefusedModel as refusal:
        return Content("safetensors", (Problem.of(refusal),))
    facts = {"tensors": str(len(header.tensors))}
    templates = {key: text for key, text in header.metadata.items() if "template" in key.lower()}
    content = _with_templates(Content("safetensors", (), ("header",), facts), templates)
    # A header may be longer than the beginning that is looked at of everything.
    begun = io.BytesIO(header.raw)
    whole = ByteSource(lambda count: begun.read(count) or source.read(count))
    return with_second_pickle(content, whole, limits)


def with_second_pickle(content: Content, source: ByteSource, limits: ScanLimits) -> Content:
    """The content, refused if its bytes, from the first on, are a pickle as well.

    Texts are told apart from pickles when they are recognised.
    """
    plain = is_plain(source.peek(HEAD_BYTES))
    if content.decision is Decision.REFUSED or plain or not runs_as_pickle(source, limits):
        return content
    problem = Problem("polyglot", "the same bytes are a pickle, too", "byte 0",
                      "save it again; it is two files in one")  # fmt: skip
    return replace(content, problems=(*content.problems, problem))


def _with_templates(content: Content, templates: Mapping[str, str]) -> Content:
    problems = list(content.problems)
    for key, text in templates.items():
        try:
            check_template(Path(), f"metadata {key[:80]!r}", text)
        except RefusedModel as refusal:
            problems.append(Problem.of(refusal))
    return replace(content, problems=tuple(problems), parts=(*content.parts, "metadata"))


def _in_memory(source: ByteSource, depth: int, limits: ScanLimits) -> io.BytesIO | None:
    """A small archive inside another, to go to and fro in; None if it is neither."""
    if depth >= limits.archive_depth:
        return None
    content = source.read(limits.graph_bytes + 1)
    return io.BytesIO(content) if len(content) <= limits.graph_bytes else None


def refused(what: str, rule: str, problem: str, way_out: str) -> Content:
    """Content of this format that is refused by its kind."""
    return Content(what, (Problem(rule, problem, "", way_out),))


def _open_question(what: str, rule: str, problem: str) -> Content:
    return Content(what, (Problem(rule, problem, "", _UNKNOWN_WAY_OUT, Decision.INCONCLUSIVE),))
