"""Laws of the pre-flight: whatever the bytes, it answers; what it accepts, onnx reads."""

from __future__ import annotations

import gzip
from pathlib import Path

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.errors import RefusedModel
from auditor.models.file_format import FileFormat
from auditor.models.limits import Limits
from auditor.models.onnx_walk import walk_model
from auditor.models.preflight import Inspection, inspect_file
from tests.models.onnx_networks import dense_network

CONTENT = dense_network([2, 3, 2]).SerializeToString()
PATH = Path("model.onnx")


def _accepts(content: bytes) -> bool:
    try:
        walk_model(PATH, content, Limits())
    except RefusedModel:
        return False
    return True


@given(content=st.binary(max_size=200))
def test_random_bytes_always_get_an_inspection(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("random") / "model.onnx"
    path.write_bytes(content)
    inspection = inspect_file(path)
    assert isinstance(inspection, Inspection)
    assert isinstance(inspection.format, FileFormat)
    assert inspection.openable == (inspection.refusal is None)


BEGINNINGS = [b"\x08\x08", b"\x08\x08\x3a", b"\x80\x04", b"PK\x03\x04", b"\x1f\x8b\x08"]


@given(start=st.sampled_from(BEGINNINGS), rest=st.binary(max_size=200))
def test_random_bytes_behind_a_known_beginning_always_get_an_inspection(
    tmp_path_factory: pytest.TempPathFactory, start: bytes, rest: bytes
) -> None:
    path = tmp_path_factory.mktemp("random") / "model.onnx"
    path.write_bytes(start + rest)
    assert isinstance(inspect_file(path), Inspection)


def test_a_model_cut_at_any_offset_is_refused() -> None:
    assert [offset for offset in range(len(CONTENT)) if _accepts(CONTENT[:offset])] == []


def test_a_compressed_model_cut_at_any_offset_is_refused(tmp_path: Path) -> None:
    compressed = gzip.compress(CONTENT)
    for offset in range(len(compressed)):
        path = tmp_path / "model.onnx"
        path.write_bytes(compressed[:offset])
        assert not inspect_file(path).openable


@given(offset=st.integers(0, len(CONTENT) - 1), value=st.integers(0, 255))
def test_a_changed_byte_never_crashes_and_what_passes_is_readable(offset: int, value: int) -> None:
    content = bytearray(CONTENT)
    content[offset] = value
    if _accepts(bytes(content)):
        assert onnx.load_from_string(bytes(content)).HasField("graph")


@given(
    first=st.integers(0, len(CONTENT)),
    second=st.integers(0, len(CONTENT)),
    inserted=st.binary(max_size=12),
)
def test_spliced_models_never_crash_and_what_passes_is_readable(
    first: int, second: int, inserted: bytes
) -> None:
    content = CONTENT[:first] + inserted + CONTENT[second:]
    if _accepts(content):
        assert onnx.load_from_string(content).HasField("graph")
