"""File digests, with and without data files."""

from __future__ import annotations

import hashlib
from pathlib import Path

import onnx
import pytest

from auditor.errors import FileMissing, RefusedModel
from auditor.models.digest import combine_digests, file_digest, functional_digest
from auditor.models.onnx_model import OnnxModel
from tests.models.onnx_networks import dense_network, write_model


def _sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_without_data_files_it_is_the_plain_sha256(tmp_path: Path) -> None:
    path = write_model(tmp_path, dense_network([3, 2]))
    assert file_digest(path) == f"sha256:{_sha(path)}"


def test_a_refused_file_has_a_digest_too(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_text("hello\n")
    assert file_digest(path) == f"sha256:{_sha(path)}"


def test_with_data_files_it_is_the_documented_combination(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(
        dense_network([30, 40]), path, save_as_external_data=True, location="w", size_threshold=0
    )
    lines = f"{_sha(path)}  \n{_sha(tmp_path / 'w')}  w\n"
    assert file_digest(path) == f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"


def test_the_opened_model_has_the_same_digest(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(
        dense_network([30, 40]), path, save_as_external_data=True, location="w", size_threshold=0
    )
    assert OnnxModel.open(path).digest == file_digest(path)


def test_the_order_of_locations_does_not_matter() -> None:
    assert combine_digests("0", {"a": "1", "b": "2"}) == combine_digests("0", {"b": "2", "a": "1"})


def test_swapped_data_files_have_another_digest() -> None:
    assert combine_digests("0", {"a": "1", "b": "2"}) != combine_digests("0", {"a": "2", "b": "1"})


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileMissing):
        file_digest(tmp_path / "absent")


def test_a_folder_has_no_digest(tmp_path: Path) -> None:
    with pytest.raises(RefusedModel):
        file_digest(tmp_path)


def test_the_functional_digest_says_its_version() -> None:
    digest = functional_digest(OnnxModel.from_proto(dense_network([3, 2])))
    version, _, hexadecimal = digest.partition(":")
    assert (version, len(hexadecimal)) == ("fn1", 64)
