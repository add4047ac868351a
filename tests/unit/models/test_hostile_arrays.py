"""NumPy and IDX files of strangers: headers are code to a parser, and archives hold any number."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import pytest

from auditor.errors import InvalidText
from auditor.models.idx_file import read_idx
from auditor.models.input_file import MAX_ARRAYS, read_arrays


def with_header(text: str) -> bytes:
    """A file of format 1.0 with this header and no data."""
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode("latin1")


ONE = with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}") + b"\0" * 4


@pytest.mark.parametrize(
    "header",
    [
        "-" * 9_000 + "1",
        "(" * 9_000,
        "{[]: 1}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (True,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (0, 99999999999999999999999)}",
        "{'descr': '" + "x" * 9_000 + "', 'fortran_order': False, 'shape': (1,)}",
    ],
)
def test_a_header_that_breaks_its_parser_is_refused(tmp_path: Path, header: str) -> None:
    """In one line that quotes it only briefly."""
    (tmp_path / "x.npy").write_bytes(with_header(header))
    with pytest.raises(InvalidText) as caught:
        read_arrays(tmp_path / "x.npy")
    assert len(str(caught.value)) < 400


def test_an_archive_of_too_many_arrays_is_refused(tmp_path: Path) -> None:
    """Before the first of them is read."""
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        for number in range(MAX_ARRAYS + 1):
            archive.writestr(f"{number}.npy", b"")
    with pytest.raises(InvalidText, match=f"at most {MAX_ARRAYS} are read"):
        read_arrays(tmp_path / "x.npz")


def test_an_array_that_stands_twice_is_refused(tmp_path: Path) -> None:
    """Readers differ in which one they take."""
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("a", ONE)
        archive.writestr("a.npy", ONE)
    with pytest.raises(InvalidText, match="'a' stands twice"):
        read_arrays(tmp_path / "x.npz")


def test_an_idx_shape_beyond_all_memory_is_refused_though_it_is_empty(tmp_path: Path) -> None:
    """One axis of none makes the size nothing."""
    (tmp_path / "x.idx").write_bytes(struct.pack(">HBB3I", 0, 8, 3, 0, 2**32 - 1, 2**32 - 1))
    with pytest.raises(InvalidText, match="not a readable IDX file"):
        read_idx(tmp_path / "x.idx")
