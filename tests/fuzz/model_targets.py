"""Targets: what is read of model files before any library opens them."""

from __future__ import annotations

import io
import json
import os
import re
from pathlib import Path
from typing import Any

from tests.fuzz.target import Check, Contradiction, only, require_equal

PATH = Path("model")


def open_protobuf_wire(folder: Path) -> Check:
    """Protobuf fields at the top level, and in every field that has a length, one level down."""
    from auditor.models.protobuf_wire import (
        MalformedWire,
        WireType,
        count_packed_varints,
        iterate_fields,
        read_packed_varints,
    )

    def check(data: bytes) -> None:
        with only(MalformedWire):
            for field in iterate_fields(data, 0, len(data)):
                if field.wire_type is not WireType.LENGTH:
                    continue
                with only(MalformedWire):
                    count = count_packed_varints(data, field.start, field.end)
                    values = read_packed_varints(data, field.start, field.end)
                    require_equal("packed varints", count, len(values))
                with only(MalformedWire):
                    list(iterate_fields(data, field.start, field.end))

    return check


def open_onnx_walk(folder: Path) -> Check:
    """The walk over an ONNX file; what it accepts, the onnx library parses."""
    import onnx

    from auditor.errors import RefusedModel
    from auditor.models.limits import Limits
    from auditor.models.onnx_walk import walk_model

    limits = Limits()

    def check(data: bytes) -> None:
        with only(RefusedModel):
            walk_model(PATH, data, limits)
            onnx.load_from_string(data)

    return check


def open_preflight(folder: Path) -> Check:
    """A whole file: format, inflation, walk, external data; what passes, the library parses."""
    import onnx

    from auditor.errors import RefusedModel
    from auditor.models.preflight import inspect_file, vet_model

    path = folder / "model.onnx"
    (folder / "weights.bin").write_bytes(bytes(64))

    def check(data: bytes) -> None:
        path.write_bytes(data)
        accepted = False
        with only(RefusedModel):
            onnx.load_from_string(vet_model(path).content)
            accepted = True
        require_equal("openable", inspect_file(path).openable, accepted)

    return check


def open_external_entries(folder: Path) -> Check:
    """External-data entries, one `key=value` a line, then the file that they name."""
    from auditor.errors import RefusedModel
    from auditor.models.external_data import open_external, parse_external_entries, slice_tensor
    from auditor.models.limits import Limits

    path = folder / "model.onnx"
    (folder / "weights.bin").write_bytes(bytes(64))
    (folder / "inner").mkdir()
    (folder / "inner" / "more.bin").write_bytes(bytes(32))
    (folder / "link.bin").symlink_to("weights.bin")
    os.link(folder / "inner" / "more.bin", folder / "hard.bin")

    def check(data: bytes) -> None:
        size, _, text = data.partition(b"\n")
        lines = text.decode("utf-8", "surrogateescape").split("\n")
        entries = [(key, value) for key, _, value in (line.partition("=") for line in lines)]
        with only(RefusedModel):
            tensor = parse_external_entries(PATH, "t", "", entries, len(size) * 4)
            with open_external(path, [tensor], Limits()) as files:
                content = files.read_all()[tensor.location]
            require_equal("slice", len(slice_tensor(path, tensor, content)), tensor.length)

    return check


def open_safetensors(folder: Path) -> Check:
    """A safetensors header; what is accepted, the library reads with the same tensors."""
    import safetensors

    from auditor.errors import RefusedModel
    from auditor.models.limits import FolderLimits
    from auditor.models.safetensors_header import read_header

    limits = FolderLimits()

    def check(data: bytes) -> None:
        with only(RefusedModel):
            header = read_header(PATH, "model.safetensors", io.BytesIO(data), len(data), limits)
            try:
                theirs = safetensors.deserialize(data)  # type: ignore[no-untyped-call]
            except safetensors.SafetensorError as error:
                raise Contradiction(f"accepted here, and the library says {error}") from error
            require_equal(
                "tensors",
                {t.name: (t.dtype, list(t.shape), data[t.begin : t.end]) for t in header.tensors},
                {n: (t["dtype"], list(t["shape"]), bytes(t["data"])) for n, t in theirs},
            )

    return check


def open_strict_json(folder: Path) -> Check:
    """Strict JSON; what is accepted, `json.loads` reads as the same."""
    from auditor.errors import RefusedModel
    from auditor.models.limits import FolderLimits
    from auditor.models.strict_json import read_object

    limits = FolderLimits()

    def check(data: bytes) -> None:
        with only(RefusedModel):
            require_equal("JSON", read_object(PATH, "file", data, limits), json.loads(data))

    return check


def open_folder_config(folder: Path) -> Check:
    """A configuration of a model's folder."""
    from auditor.errors import RefusedModel
    from auditor.models.folder_config import read_config, read_model_type
    from auditor.models.limits import FolderLimits

    limits = FolderLimits()

    def check(data: bytes) -> None:
        with only(RefusedModel):
            config = read_config(PATH, "config.json", data, limits)
            read_model_type(PATH, "config.json", config)

    return check


def open_weight_index(folder: Path) -> Check:
    """The index of sharded weights, against two files with a tensor each."""
    from auditor.errors import RefusedModel
    from auditor.models.limits import FolderLimits
    from auditor.models.safetensors_header import StoredTensor
    from auditor.models.weight_index import check_weight_files

    limits = FolderLimits()
    weights = {
        f"{name}.safetensors": [StoredTensor(name, "F32", (1,), 8, 12)] for name in ("a", "b")
    }

    def check(data: bytes) -> None:
        with only(RefusedModel):
            check_weight_files(PATH, "model.safetensors.index.json", data, weights, limits)

    return check


def open_file_format(folder: Path) -> Check:
    """What a file is by its bytes: an answer for every one of them, and no error at all."""
    from auditor.models.file_format import HEAD_BYTES, TAIL_BYTES, FileFormat, recognise_format

    def check(data: bytes) -> None:
        found = recognise_format(data[:HEAD_BYTES], data[-TAIL_BYTES:], len(data))
        require_equal("format", isinstance(found, FileFormat), True)

    return check


def open_chat_template(folder: Path) -> Check:
    """A chat template, compiled and rendered, unless it may repeat or multiply things."""
    from auditor.errors import ConfigurationError, RefusedModel
    from auditor.language.chat_template import render_chat
    from tests.models.language_models import word_tokenizer

    tokenizer: Any = word_tokenizer(template="")
    # A template can waste time and memory, as the module says.
    wasteful = re.compile(r"[*~]|%\d|range|cycler|macro|recursive|center|indent|just|format")

    def check(data: bytes) -> None:
        text = data.decode("utf-8", "replace")
        if wasteful.search(text) or text.count("for ") > 1:
            return
        tokenizer.chat_template = text
        with only(RefusedModel, ConfigurationError):
            render_chat(tokenizer, PATH, "hello", None)

    return check
