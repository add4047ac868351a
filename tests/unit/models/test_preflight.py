"""The pre-flight on whole files: what is refused, by which rule, and nothing executed."""

from __future__ import annotations

import gzip
import hashlib
import os
import pickle
import random
from pathlib import Path

import pytest

from auditor.errors import FileMissing, RefusedModel
from auditor.models.file_format import FileFormat
from auditor.models.limits import Limits
from auditor.models.preflight import (
    holds_onnx,
    inspect_file,
    require_openable,
    vet_model,
    vet_open_model,
)
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
    assert _rule(path) == "trailing-data"


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


def _compressed(folder: Path, size: int) -> Path:
    path = folder / "model.onnx.gz"
    path.write_bytes(gzip.compress(bytes(size)))
    return path


def test_what_inflates_to_far_more_than_is_stored_is_refused(tmp_path: Path) -> None:
    """A megabyte of zeros is stored in a thousandth of it."""
    path = _compressed(tmp_path, 1_000_000)
    limits = Limits(inflation_ratio=200, inflation_free_bytes=100_000)
    assert _rule(path, limits) == "inflation-ratio"


def test_little_may_inflate_to_any_ratio(tmp_path: Path) -> None:
    """A small model of zeros is compressed as well as a bomb; then its content decides."""
    path = _compressed(tmp_path, 1_000_000)
    assert _rule(path, Limits(inflation_free_bytes=1_000_000)) == "container"


def test_a_ratio_is_refused_before_the_size(tmp_path: Path) -> None:
    """No more is inflated than says so."""
    path = _compressed(tmp_path, 50_000_000)
    assert _rule(path, Limits(inflation_free_bytes=0)) == "inflation-ratio"


def test_a_compressed_model_of_many_pieces_is_the_model(tmp_path: Path) -> None:
    """Larger than what is inflated at once."""
    model = dense_network([2_000, 2_300, 3])
    content = model.SerializeToString()
    assert len(content) > 2**24
    path = tmp_path / "model.onnx.gz"
    path.write_bytes(gzip.compress(content, compresslevel=1))
    assert vet_model(path).content == content


@pytest.mark.parametrize(
    ("size", "kind"),
    [(0, "zeros"), (2**24 - 6, "zeros"), (2**24 - 5, "zeros"), (2**20, "random")],
)
def test_any_length_inflates_to_itself(size: int, kind: str, tmp_path: Path) -> None:
    """Whether the output or the input of a step is full first; nothing is lost at the end."""
    content = bytes(size) if kind == "zeros" else random.Random(size).randbytes(size)
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(b"words " + content, compresslevel=1))
    # A text is refused as what it is, and only after the whole stream was inflated and checked.
    assert _rule(path, Limits(inflation_free_bytes=2**26)) == "container"
    path.write_bytes(path.read_bytes() + bytes(512) + b"x")
    assert _rule(path, Limits(inflation_free_bytes=2**26)) == "trailing-data"


def test_an_open_file_is_vetted_by_its_descriptor(tmp_path: Path) -> None:
    """What lies at the path by now does not matter."""
    path = write_model(tmp_path, MODEL)
    with path.open("rb") as file:
        path.unlink()
        path.write_text("another file")
        vetted = vet_open_model(path, file, Limits())
    assert vetted.content == MODEL.SerializeToString()
    assert vetted.sha256 == hashlib.sha256(vetted.content).hexdigest()


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (gzip.compress(MODEL.SerializeToString(), mtime=0), True),
        (gzip.compress(MODEL.SerializeToString(), mtime=0)[:60], True),
        (gzip.compress(pickle.dumps([1]), mtime=0), False),
        (gzip.compress(b"", mtime=0), False),
        (b"\x1f\x8b\x08\xff", False),
        (b"not gzip", False),
        (b"", False),
    ],
)
def test_a_gzip_stream_holds_a_model_or_not(head: bytes, expected: bool) -> None:
    """As far as its beginning says; a broken one is no error."""
    assert holds_onnx(head) is expected
