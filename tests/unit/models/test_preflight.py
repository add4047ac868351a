"""The pre-flight on whole files: what is refused, by which rule, and nothing executed."""

from __future__ import annotations

import gzip
import os
import pickle
from pathlib import Path

import pytest

from auditor.errors import FileMissing, RefusedModel
from auditor.models.file_format import FileFormat
from auditor.models.limits import Limits
from auditor.models.preflight import inspect_file, require_openable
from tests.models.onnx_networks import dense_network, write_model
from tests.unit.models.test_file_format import SAMPLES

MODEL = dense_network([3, 4, 2])


def _rule(path: Path, limits: Limits | None = None) -> str:
    with pytest.raises(RefusedModel) as caught:
        require_openable(path, limits=limits)
    assert caught.value.way_out
    return caught.value.rule


class _Marker:
    """Unpickling it creates a file; nothing else."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_a_plain_model_is_openable(tmp_path: Path) -> None:
    path = write_model(tmp_path, MODEL)
    inspection = require_openable(path)
    assert (inspection.format, inspection.size, inspection.openable) == (
        FileFormat.ONNX,
        path.stat().st_size,
        True,
    )


def test_the_facts_count_nodes_and_initialisers(tmp_path: Path) -> None:
    assert require_openable(write_model(tmp_path, MODEL)).facts == {
        "ir_version": "8",
        "nodes": "3",
        "initialisers": "4",
        "external_files": "none",
    }


def test_a_compressed_model_is_openable_whatever_its_name(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(gzip.compress(MODEL.SerializeToString()))
    assert require_openable(path).format is FileFormat.ONNX_GZIP


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (FileFormat.TEXT, "not-a-model"),
        (FileFormat.UNKNOWN, "not-a-model"),
        (FileFormat.PICKLE, "pickle-content"),
        (FileFormat.NUMPY, "not-a-model"),
        (FileFormat.SAFETENSORS, "not-onnx"),
        (FileFormat.HDF5, "not-onnx"),
        (FileFormat.GGUF, "not-onnx"),
        (FileFormat.ZIP, "container"),
        (FileFormat.TAR, "container"),
        (FileFormat.SEVEN_ZIP, "container"),
        (FileFormat.GZIP, "container"),
    ],
)
def test_other_content_called_onnx_is_refused(
    tmp_path: Path, content: FileFormat, rule: str
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(SAMPLES[content]())
    assert _rule(path) == rule
    assert inspect_file(path).format is content


def test_a_refused_pickle_does_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    path = tmp_path / "model.onnx"
    path.write_bytes(pickle.dumps(_Marker(marker)))
    assert _rule(path) == "pickle-content"
    assert not marker.exists()


def test_a_pickle_inside_gzip_is_refused_as_a_pickle(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx.gz"
    path.write_bytes(gzip.compress(pickle.dumps([1, 2, 3])))
    assert _rule(path) == "pickle-content"


def test_a_pickle_appended_to_a_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(MODEL.SerializeToString() + pickle.dumps(_Marker(tmp_path / "marker")))
    assert _rule(path) in {"unknown-field", "malformed", "truncated", "duplicate-field"}
    assert not (tmp_path / "marker").exists()


def test_a_model_cut_in_the_middle_is_truncated(tmp_path: Path) -> None:
    content = MODEL.SerializeToString()
    path = tmp_path / "model.onnx"
    path.write_bytes(content[: len(content) // 2])
    assert _rule(path) == "truncated"


def test_a_compressed_model_cut_short_is_truncated(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx.gz"
    path.write_bytes(gzip.compress(MODEL.SerializeToString())[:-12])
    assert _rule(path) == "truncated"


def test_bytes_after_a_compressed_model_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx.gz"
    path.write_bytes(gzip.compress(MODEL.SerializeToString()) + b"more")
    assert _rule(path) == "malformed"


def test_a_file_above_the_limit_is_refused(tmp_path: Path) -> None:
    assert _rule(write_model(tmp_path, MODEL), Limits(file_bytes=100)) == "size-limit"


def test_a_compressed_model_above_the_limit_is_refused_before_it_is_inflated(
    tmp_path: Path,
) -> None:
    path = tmp_path / "model.onnx.gz"
    path.write_bytes(gzip.compress(bytes(50_000_000)))
    assert _rule(path, Limits(inflated_bytes=1_000_000)) == "size-limit"


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileMissing):
        inspect_file(tmp_path / "absent.onnx")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert _rule(tmp_path) == "not-a-file"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_named_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert _rule(tmp_path / "pipe") == "not-a-file"


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="this system has no /dev/zero")
def test_a_device_is_refused() -> None:
    assert _rule(Path("/dev/zero")) == "not-a-file"


def test_an_inspection_keeps_the_refusal(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_text("hello\n")
    inspection = inspect_file(path)
    assert not inspection.openable
    assert inspection.refusal is not None
    assert inspection.refusal.rule == "not-a-model"


def test_a_sparse_file_of_eight_gigabytes_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with path.open("wb") as file:
        file.write(MODEL.SerializeToString())
        file.truncate(8 * 2**30)
    assert _rule(path) == "size-limit"
