"""Property files on disk: the content decides how they are read."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from auditor.errors import FileMissing, InvalidText
from auditor.verify.property import Property, load_property
from auditor.verify.property.reading import MAX_BYTES

VNNLIB = """; comment first
(declare-const X_0 Real)
(declare-const Y_0 Real)
(assert (<= X_0 1)) (assert (>= X_0 0)) (assert (<= Y_0 0))
"""
YAML = """version: 1
id: planted
inputs: {box: {lower: 0, upper: 1}}
then: [{at_least: {output: 0, value: 0}}]
"""


def load(path: Path) -> Property:
    return load_property(path, num_inputs=1, num_outputs=1)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(("text", "name"), [(VNNLIB, "file"), (YAML, "planted")])
def test_form_and_compression_are_told_by_content(
    tmp_path: Path, text: str, name: str, compressed: bool
) -> None:
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(text.encode()) if compressed else text.encode())
    prop = load(path)
    assert prop.name == name
    assert len(prop.cases) == 1


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match="nowhere"):
        load(tmp_path / "nowhere.yaml")


def test_a_small_file_that_inflates_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.vnnlib.gz"
    path.write_bytes(gzip.compress(b";" * (MAX_BYTES + 10)))
    assert path.stat().st_size < 1_000_000
    with pytest.raises(InvalidText, match="larger than"):
        load(path)


@pytest.mark.parametrize(
    "content",
    [gzip.compress(VNNLIB.encode())[:-9], b"\xff\xfe\x00"],
    ids=["cut gzip", "not text"],
)
def test_damaged_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "damaged"
    path.write_bytes(content)
    with pytest.raises(InvalidText):
        load(path)
