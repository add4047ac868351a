"""Labelled samples from NumPy and IDX files."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from auditor.errors import ConfigurationError, FileMissing, InvalidText, NothingToAudit
from auditor.models.idx_file import read_idx
from auditor.models.labelled_data import divided, read_labelled


def _idx(path: Path, shape: tuple[int, ...], data: bytes, code: int = 8) -> Path:
    head = struct.pack(f">HBB{len(shape)}I", 0, code, len(shape), *shape)
    content = head + data
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def test_numpy_pairs_and_archives_are_the_same(tmp_path: Path) -> None:
    inputs, labels = np.arange(6.0).reshape(3, 2), np.array([0, 1, 0])
    np.save(tmp_path / "x.npy", inputs)
    np.save(tmp_path / "y.npy", labels)
    np.savez(tmp_path / "both.npz", inputs=inputs, labels=labels)
    pair = read_labelled(tmp_path / "x.npy", tmp_path / "y.npy")
    both = read_labelled(tmp_path / "both.npz")
    for read in (pair, both):
        assert read.inputs.tolist() == inputs.tolist()
        assert read.labels.tolist() == labels.tolist()


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_images_become_flat_rows(tmp_path: Path, suffix: str) -> None:
    images = _idx(tmp_path / f"images-idx3-ubyte{suffix}", (2, 2, 3), bytes(range(12)))
    labels = _idx(tmp_path / f"labels-idx1-ubyte{suffix}", (2,), b"\x07\x01")
    read = read_labelled(images, labels)
    assert read.inputs.tolist() == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]
    assert read.labels.tolist() == [7, 1]


def test_idx_numbers_are_big_endian(tmp_path: Path) -> None:
    path = _idx(tmp_path / "a.idx", (2,), struct.pack(">2f", 1.5, -2.0), code=13)
    assert read_idx(path).tolist() == [1.5, -2.0]


@pytest.mark.parametrize(
    ("shape", "data", "code", "message"),
    [
        ((3,), b"\x00", 8, "1 bytes of data for an array of 3"),
        ((2**32 - 1, 2**32 - 1), b"", 8, "the limit is"),
        ((1,), b"\x00", 10, "name no type"),
        ((), b"", 8, "name no type"),
    ],
)
def test_wrong_idx_files_are_refused(
    tmp_path: Path, shape: tuple[int, ...], data: bytes, code: int, message: str
) -> None:
    with pytest.raises(InvalidText, match=message):
        read_idx(_idx(tmp_path / "a.idx", shape, data, code))


@pytest.mark.parametrize("content", [b"", b"\x00", b"\x1f\x8b", b"\x1f\x8bgarbage", b"text"])
def test_other_files_are_no_idx_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.idx"
    path.write_bytes(content)
    with pytest.raises(InvalidText, match=r"a\.idx"):
        read_idx(path)
    with pytest.raises(FileMissing):
        read_idx(tmp_path / "none.idx")


def test_arrays_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    def saved(name: str, shape: tuple[int, ...]) -> Path:
        np.save(tmp_path / name, np.zeros(shape, np.int64))
        return tmp_path / name

    two, three = saved("two.npy", (2, 4)), saved("three.npy", (3,))
    with pytest.raises(ConfigurationError, match=r"labels of shape \[3\] for 2 samples"):
        read_labelled(two, three)
    with pytest.raises(ConfigurationError, match=r"inputs of shape \[3\]"):
        read_labelled(three, three)
    with pytest.raises(NothingToAudit, match="holds no samples"):
        read_labelled(saved("none.npy", (0, 4)), saved("zero.npy", (0,)))
    np.savez(tmp_path / "odd.npz", inputs=np.zeros((2, 4)))
    with pytest.raises(ConfigurationError, match=r"no array 'labels'; there are \['inputs'\]"):
        read_labelled(tmp_path / "odd.npz")


def test_dividing_gives_float32_and_one_leaves_as_is() -> None:
    pixels = np.array([[0, 51, 255]], np.uint8)
    assert divided(pixels, 255).tolist() == [[0.0, np.float32(0.2), 1.0]]
    assert divided(pixels, 255).dtype == np.float32
    assert divided(pixels, 1) is pixels
    with pytest.raises(ConfigurationError, match="inputs divided by 0"):
        divided(pixels, 0)
