"""HDF5 files: refused as models, with what their beginning shows."""

from __future__ import annotations

import io
import json
import tracemalloc
from pathlib import Path

import pytest

from auditor.models.scan.byte_source import ByteSource
from auditor.models.scan.decision import Content, Decision
from auditor.models.scan.formats.hdf5_file import read_hdf5
from auditor.models.scan.limits import ScanLimits

SIGNATURE = b"\x89HDF\r\n\x1a\n"
LAMBDA = b'{"class_name": "Lambda", "config": {}}'


def read(content: bytes) -> Content:
    """The answer for a file."""
    source = ByteSource(io.BytesIO(content).read, size=len(content))
    answer = read_hdf5(source, "member 'a.h5', ", ScanLimits())
    assert answer.decision is Decision.REFUSED
    assert all(problem.way_out for problem in answer.problems)
    return answer


@pytest.mark.parametrize("version", range(4))
def test_every_known_version_is_refused_by_its_type(version: int) -> None:
    """The file is not parsed, so nothing in it can make it harmless."""
    content = read(SIGNATURE + bytes([version]) + bytes(100))
    assert [(each.rule, each.place) for each in content.problems] == [("hdf5", "member 'a.h5'")]
    assert content.facts == {"superblock": str(version)}


def test_an_unknown_version_is_named() -> None:
    """The format has no such superblock."""
    content = read(SIGNATURE + b"\x09" + bytes(100))
    assert [each.rule for each in content.problems] == ["malformed", "hdf5"]


@pytest.mark.parametrize("content", [b"", SIGNATURE[:5], SIGNATURE, b"\x89HDF\n\n\n\n\0\0"])
def test_what_has_no_signature_is_malformed(content: bytes) -> None:
    """A line end that was converted breaks it."""
    assert [each.rule for each in read(content).problems] == ["malformed"]


@pytest.mark.parametrize("before", [0, 2**16 - 20, 2**16 - 9, 2**20 - 9 - len(LAMBDA)])
def test_a_lambda_layer_is_named_with_its_offset(before: int) -> None:
    """Also where it lies across two of the pieces that are read."""
    (problem,) = read(SIGNATURE + b"\0" + bytes(before) + LAMBDA + bytes(100)).problems
    assert "Lambda layer" in problem.problem.partition(";")[2]
    at = len(SIGNATURE) + 1 + before + LAMBDA.index(b'"class_name"')
    assert problem.place == f"member 'a.h5', byte {at}"


@pytest.mark.parametrize(
    "text", [b'"class_name": "LambdaRank"', b'"name": "Lambda"', b"Lambda", b'"class_name":"Dense"']
)
def test_other_layers_are_not_called_lambda(text: bytes) -> None:
    """Only the name of a class counts."""
    (problem,) = read(SIGNATURE + b"\0" + text).problems
    assert ";" not in problem.problem


def test_what_lies_beyond_the_first_megabyte_is_not_searched() -> None:
    """The file is refused as it is, and a long one costs no more than a short one."""
    (problem,) = read(SIGNATURE + b"\0" + bytes(2**20) + LAMBDA).problems
    assert ";" not in problem.problem


def test_memory_stays_small() -> None:
    """The search goes in pieces."""
    content = SIGNATURE + b"\0" + bytes(2**23)
    tracemalloc.start()
    read(content)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**22


def test_the_configuration_that_a_library_writes_is_found(tmp_path: Path) -> None:
    """Keras keeps it in an attribute of the root."""
    h5py = pytest.importorskip("h5py", reason="the package h5py is not installed")
    config = {"class_name": "Sequential", "config": {"layers": [{"class_name": "Lambda"}]}}
    path = tmp_path / "model.h5"
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(config)
    (problem,) = read(path.read_bytes()).problems
    assert "Lambda layer" in problem.problem.partition(";")[2]
