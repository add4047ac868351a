"""Formats are told from content; each sample is written by the format's own library."""

from __future__ import annotations

import gzip
import io
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from auditor.models.file_format import FileFormat, looks_like_pickle, recognise_format
from tests.models.onnx_networks import dense_network


def _zip() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("readme.txt", "hello")
    return stream.getvalue()


def _tar() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("empty"))
    return stream.getvalue()


def _torch_save() -> bytes:
    stream = io.BytesIO()
    torch.save({"w": torch.zeros(2)}, stream)
    return stream.getvalue()


def _numpy() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.zeros(3))
    return stream.getvalue()


SAMPLES: dict[FileFormat, Callable[[], bytes]] = {
    FileFormat.ONNX: lambda: dense_network([2, 2]).SerializeToString(),
    FileFormat.GZIP: lambda: gzip.compress(b"anything"),
    FileFormat.SAFETENSORS: lambda: save({"w": np.zeros(2, np.float32)}),
    FileFormat.PICKLE: lambda: pickle.dumps({"w": [1, 2]}, protocol=4),
    FileFormat.NUMPY: _numpy,
    FileFormat.ZIP: _zip,
    FileFormat.TAR: _tar,
    FileFormat.SEVEN_ZIP: lambda: b"7z\xbc\xaf\x27\x1c\x00\x04" + bytes(24),
    FileFormat.HDF5: lambda: b"\x89HDF\r\n\x1a\n" + bytes(64),
    FileFormat.GGUF: lambda: b"GGUF\x03\x00\x00\x00" + bytes(16),
    FileFormat.TEXT: lambda: "graph: ein Modell für Prüfer\n".encode(),
    FileFormat.UNKNOWN: lambda: b"\x01\x02\x03\x04" * 8,
}


@pytest.mark.parametrize("expected", sorted(SAMPLES))
def test_each_format_is_recognised(expected: FileFormat) -> None:
    content = SAMPLES[expected]()
    assert recognise_format(content, content, len(content)) is expected


def test_torch_save_is_a_pickle_inside_its_zip() -> None:
    content = _torch_save()
    assert recognise_format(content, content, len(content)) is FileFormat.PICKLE


def test_an_empty_file_is_unknown() -> None:
    assert recognise_format(b"", b"", 0) is FileFormat.UNKNOWN


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_of_every_protocol_are_recognised(protocol: int) -> None:
    assert looks_like_pickle(pickle.dumps({"key": [1.5, "text", Path]}, protocol))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_cut_off_pickle_with_a_global_is_still_one(protocol: int) -> None:
    assert looks_like_pickle(pickle.dumps([Path, "tail"], protocol)[:-6])


@pytest.mark.parametrize("text", [b"hello world.", b"c", b"import os\n", b"{}", b"(a) b\n", b""])
def test_ordinary_text_is_no_pickle(text: bytes) -> None:
    assert not looks_like_pickle(text)
