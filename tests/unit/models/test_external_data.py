"""External data: the gaps of the onnx and onnxruntime loaders, closed one by one."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from auditor.errors import RefusedModel
from auditor.models.limits import Limits
from auditor.models.onnx_model import OnnxModel
from auditor.models.preflight import require_openable
from tests.models.onnx_networks import external_tensor, model_with_tensor, write_model

VALUES = np.array([[1.5, -2.5]], dtype=np.float32)


def _folder(tmp_path: Path, data: bytes = VALUES.tobytes()) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "w.bin").write_bytes(data)
    return folder


def _model(folder: Path, entries: Mapping[str, str], dims: tuple[int, ...] = (1, 2)) -> Path:
    return write_model(folder, model_with_tensor(external_tensor("t", dims, entries)))


def _rule(path: Path, limits: Limits | None = None) -> str:
    with pytest.raises(RefusedModel) as caught:
        require_openable(path, limits=limits)
    assert "tensor 't'" in caught.value.place
    return caught.value.rule


def test_data_in_the_models_folder_are_read(tmp_path: Path) -> None:
    path = _model(_folder(tmp_path), {"location": "w.bin"})
    model = OnnxModel.open(path)
    np.testing.assert_array_equal(model.initialisers["t"], VALUES)


def test_data_in_a_folder_below_are_read_from_their_offset(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    (folder / "parts").mkdir()
    (folder / "parts" / "w.bin").write_bytes(b"skip" + VALUES.tobytes())
    path = _model(folder, {"location": "parts/w.bin", "offset": "4", "length": "8"})
    np.testing.assert_array_equal(OnnxModel.open(path).initialisers["t"], VALUES)


def test_the_inspection_lists_the_data_files(tmp_path: Path) -> None:
    path = _model(_folder(tmp_path), {"location": "w.bin"})
    assert require_openable(path).external_files == ("w.bin",)


@pytest.mark.parametrize(
    "location",
    ["../secret", "/etc/hostname", "a/../../secret", "./w.bin", "a//w.bin", "..", "", "C:\\w.bin",
     "*/_ORT_MEM_ADDR_/*", "w.bin/"],
)  # fmt: skip
def test_a_location_outside_the_folder_is_refused(tmp_path: Path, location: str) -> None:
    (tmp_path / "secret").write_bytes(VALUES.tobytes())
    assert _rule(_model(_folder(tmp_path), {"location": location})) == "external-data-escape"


def test_a_hard_link_is_refused(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    (tmp_path / "secret").write_bytes(VALUES.tobytes())
    os.link(tmp_path / "secret", folder / "linked.bin")
    assert _rule(_model(folder, {"location": "linked.bin"})) == "external-data-hardlink"


def test_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    (folder / "linked.bin").symlink_to(folder / "w.bin")
    assert _rule(_model(folder, {"location": "linked.bin"})) == "external-data-symlink"


def test_a_linked_folder_is_refused(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "w.bin").write_bytes(VALUES.tobytes())
    (folder / "inside").symlink_to(tmp_path / "outside")
    assert _rule(_model(folder, {"location": "inside/w.bin"})) == "external-data-symlink"


def test_a_folder_as_data_is_refused(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    (folder / "d").mkdir()
    assert _rule(_model(folder, {"location": "d"})) == "external-data-not-a-file"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_named_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    os.mkfifo(folder / "pipe")
    assert _rule(_model(folder, {"location": "pipe"})) == "external-data-not-a-file"


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert _rule(_model(_folder(tmp_path), {"location": "no.bin"})) == "external-data-missing"


@pytest.mark.parametrize(
    "entries",
    [
        {"offset": "-1"},
        {"length": "-8"},
        {"offset": "0x0"},
        {"offset": " 0"},
        {"offset": "1_0"},
        {"offset": ""},
        {"offset": "4"},
        {"offset": "9" * 19},
        {"offset": "9" * 30},
        {"offset": "٣"},
    ],
)
def test_a_range_that_is_no_range_of_the_file_is_refused(
    tmp_path: Path, entries: Mapping[str, str]
) -> None:
    path = _model(_folder(tmp_path), {"location": "w.bin", **entries})
    assert _rule(path) == "external-data-range"


@pytest.mark.parametrize("length", ["4", "12", "0"])
def test_a_length_other_than_dims_times_type_is_refused(tmp_path: Path, length: str) -> None:
    path = _model(_folder(tmp_path, bytes(64)), {"location": "w.bin", "length": length})
    assert _rule(path) == "external-data-length"


def test_overflowing_dims_are_refused(tmp_path: Path) -> None:
    path = _model(_folder(tmp_path), {"location": "w.bin"}, (2**62, 4))
    assert _rule(path) == "dims-overflow"


@pytest.mark.parametrize("key", ["__class__", "basepath", "Location"])
def test_an_unknown_key_is_refused(tmp_path: Path, key: str) -> None:
    path = _model(_folder(tmp_path), {"location": "w.bin", key: "x"})
    assert _rule(path) == "external-data-key"


def test_a_missing_location_is_refused(tmp_path: Path) -> None:
    assert _rule(_model(_folder(tmp_path), {"offset": "0"})) == "external-data-key"


def test_a_doubled_key_is_refused(tmp_path: Path) -> None:
    tensor = external_tensor("t", (1, 2), {"location": "w.bin"})
    tensor.external_data.add(key="location", value="w.bin")
    assert _rule(write_model(_folder(tmp_path), model_with_tensor(tensor))) == "external-data-key"


def test_inline_and_external_data_together_are_refused(tmp_path: Path) -> None:
    tensor = external_tensor("t", (1, 2), {"location": "w.bin"})
    tensor.raw_data = VALUES.tobytes()
    path = write_model(_folder(tmp_path), model_with_tensor(tensor))
    assert _rule(path) == "external-data-ambiguous"


def test_overlapping_ranges_are_refused(tmp_path: Path) -> None:
    model = model_with_tensor(external_tensor("s", (1, 2), {"location": "w.bin"}))
    model.graph.initializer.append(
        external_tensor("t", (1, 2), {"location": "w.bin", "offset": "4"})
    )
    assert _rule(write_model(_folder(tmp_path, bytes(16)), model)) == "external-data-overlap"


def test_data_above_the_limit_are_refused(tmp_path: Path) -> None:
    path = _model(_folder(tmp_path), {"location": "w.bin"})
    assert _rule(path, Limits(external_bytes=7)) == "size-limit"


def test_a_right_checksum_passes(tmp_path: Path) -> None:
    checksum = hashlib.sha1(VALUES.tobytes()).hexdigest()
    path = _model(_folder(tmp_path), {"location": "w.bin", "checksum": checksum})
    np.testing.assert_array_equal(OnnxModel.open(path).initialisers["t"], VALUES)


def test_a_wrong_checksum_is_refused(tmp_path: Path) -> None:
    path = _model(_folder(tmp_path), {"location": "w.bin", "checksum": "0" * 40})
    with pytest.raises(RefusedModel) as caught:
        OnnxModel.open(path)
    assert caught.value.rule == "external-data-checksum"


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc to count descriptors")
def test_refusals_leave_no_descriptor_open(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    (folder / "linked.bin").symlink_to(folder / "w.bin")
    path = _model(folder, {"location": "linked.bin"})
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        _rule(path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
