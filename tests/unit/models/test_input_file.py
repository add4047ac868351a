"""Inputs from NumPy files: shapes, names, and files that must not be trusted."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from auditor.errors import FileMissing, InvalidText, UnsupportedModel
from auditor.models.input_file import read_arrays, read_inputs, split_samples
from auditor.models.onnx_model import OnnxModel
from tests.models.onnx_networks import conv_network, dense_network

DENSE = OnnxModel.from_proto(dense_network([3, 2]))
CONV = OnnxModel.from_proto(conv_network())
ROWS = np.arange(6, dtype=np.float32).reshape(2, 3)


def _npy(folder: Path, array: Any, **options: Any) -> Path:
    path = folder / "inputs.npy"
    np.save(path, array, **options)
    return path


def test_one_array_feeds_one_input(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_inputs(_npy(tmp_path, ROWS), DENSE)["x"], ROWS)


def test_flat_rows_get_the_shape_of_the_input(tmp_path: Path) -> None:
    rows = np.arange(128, dtype=np.float32).reshape(2, 64)
    assert read_inputs(_npy(tmp_path, rows), CONV)["x"].shape == (2, 1, 8, 8)


def test_arrays_are_found_by_name(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=ROWS)
    np.testing.assert_array_equal(read_inputs(tmp_path / "a.npz", DENSE)["x"], ROWS)


def test_an_array_called_inputs_is_taken_and_labels_are_left_alone(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", inputs=ROWS, labels=np.array([0, 1]))
    assert list(read_inputs(tmp_path / "a.npz", DENSE)) == ["x"]


def test_fortran_order_is_kept(tmp_path: Path) -> None:
    found = read_arrays(_npy(tmp_path, np.asfortranarray(ROWS)))[""]
    np.testing.assert_array_equal(found, ROWS)


def test_float64_becomes_the_inputs_type(tmp_path: Path) -> None:
    found = read_inputs(_npy(tmp_path, ROWS.astype(np.float64)), DENSE)["x"]
    assert found.dtype == np.float32


def test_a_pickled_array_is_refused_and_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "marker"

    class Marker:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (marker,)

    path = _npy(tmp_path, np.array([Marker()], dtype=object), allow_pickle=True)
    with pytest.raises(InvalidText, match="only plain numbers"):
        read_arrays(path)
    assert not marker.exists()


def _with_shape(folder: Path, shape: str) -> Path:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    path = folder / "inputs.npy"
    path.write_bytes(
        b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + bytes(8)
    )
    return path


def test_a_header_that_promises_terabytes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidText, match="the limit is"):
        read_arrays(_with_shape(tmp_path, "(1000000000000,)"))


@pytest.mark.parametrize("shape", ["(3,)", "(-1,)", "(-2, -1)"])
def test_a_shape_that_does_not_fit_the_data_is_refused(tmp_path: Path, shape: str) -> None:
    with pytest.raises(InvalidText):
        read_arrays(_with_shape(tmp_path, shape))


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04broken", b"\x93NUMPY\x09\x09xx"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(InvalidText):
        read_arrays(tmp_path / "a.npz")


def test_damaged_compressed_data_are_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros(5000))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        start = archive.infolist()[0].header_offset + 60
    content[start : start + 8] = b"\xff" * 8
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(InvalidText):
        read_arrays(tmp_path / "a.npz")


def test_other_names_are_listed_with_the_models_own(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", wrong=ROWS)
    with pytest.raises(InvalidText, match=r"\['wrong'\].*\['x'\]"):
        read_inputs(tmp_path / "a.npz", DENSE)


def test_another_size_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match="x float32"):
        read_inputs(_npy(tmp_path, np.zeros((2, 5), np.float32)), DENSE)


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileMissing):
        read_inputs(tmp_path / "absent.npy", DENSE)


def test_samples_are_split_one_by_one() -> None:
    samples = split_samples({"x": ROWS, "z": np.array([5, 6])})
    assert [(s["x"].tolist(), s["z"].tolist()) for s in samples] == [
        ([[0, 1, 2]], [5]),
        ([[3, 4, 5]], [6]),
    ]


def test_inputs_with_different_numbers_of_samples_are_refused() -> None:
    with pytest.raises(UnsupportedModel, match=r"\[1, 2\]"):
        split_samples({"x": ROWS, "z": np.zeros(1)})
