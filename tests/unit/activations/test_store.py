"""A store gives back what was captured, mapped, and notices changes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from auditor.activations.capture import CaptureOptions
from auditor.activations.onnx_capture import OnnxCapture
from auditor.activations.store import ActivationStore, store_activations
from auditor.errors import ConfigurationError, FileMissing, InvalidText
from auditor.models.onnx_model import OnnxModel
from tests.models.onnx_networks import dense_network

MODEL = OnnxModel.from_proto(dense_network([5, 9, 7, 4]))
INPUTS = np.random.default_rng(0).standard_normal((50, 5)).astype(np.float32)


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    capture = OnnxCapture(MODEL, (), CaptureOptions(batch_size=7))
    store_activations(tmp_path / "store", capture, INPUTS, shard_samples=16)
    return tmp_path / "store"


def test_shards_hold_the_activations_in_order(stored: Path) -> None:
    store = ActivationStore.open(stored, model_digest=MODEL.digest)
    (whole,) = OnnxCapture(MODEL).batches(INPUTS)
    for name, values in zip(("act0", "act1"), whole.values, strict=True):
        shards = list(store.shards(name))
        assert [len(shard) for shard in shards] == [16, 16, 16, 2]
        assert all(isinstance(shard, np.memmap) and not shard.flags.writeable for shard in shards)
        np.testing.assert_allclose(np.concatenate(shards), values, rtol=1e-4, atol=1e-5)


def test_a_changed_shard_is_noticed(stored: Path) -> None:
    path = stored / "layer-001" / "shard-00002.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    store = ActivationStore.open(stored)
    with pytest.raises(InvalidText, match=r"shard-00002.npy: the shard has changed"):
        list(store.shards("act1"))
    assert len(list(store.shards("act1", check=False))) == 4


@pytest.mark.parametrize("content", [b"", b"no numpy file at all", b"\x93NUMPY\x01\x00"])
def test_other_files_in_place_of_a_shard_are_refused(stored: Path, content: bytes) -> None:
    (stored / "layer-000" / "shard-00000.npy").write_bytes(content)
    with pytest.raises(InvalidText, match="no NumPy file"):
        list(ActivationStore.open(stored).shards("act0", check=False))


def test_a_missing_shard_and_one_of_another_shape_are_named(stored: Path) -> None:
    store = ActivationStore.open(stored)
    np.save(stored / "layer-000" / "shard-00000.npy", np.zeros((16, 3), np.float32))
    with pytest.raises(InvalidText, match=r"float32 of shape \[16, 3\]"):
        list(store.shards("act0", check=False))
    (stored / "layer-000" / "shard-00000.npy").unlink()
    with pytest.raises(InvalidText, match="the shard is missing"):
        list(store.shards("act0"))


def test_a_folder_without_manifest_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match="manifest of a store"):
        ActivationStore.open(tmp_path)


@pytest.mark.parametrize("change", [{"version": 2}, {"layers": []}, {"more": 1}, {"point": "x"}])
def test_a_manifest_that_says_something_else_is_refused(
    stored: Path, change: dict[str, object]
) -> None:
    path = stored / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InvalidText, match=next(iter(change))):
        ActivationStore.open(stored)


def test_another_model_and_an_unknown_layer_are_refused(stored: Path) -> None:
    with pytest.raises(ConfigurationError, match="holds activations of the model"):
        ActivationStore.open(stored, model_digest="sha256:" + "0" * 64)
    with pytest.raises(ConfigurationError, match="no layer 'act9'"):
        list(ActivationStore.open(stored).shards("act9"))


def test_a_store_is_not_written_over(stored: Path) -> None:
    with pytest.raises(ConfigurationError, match="holds a store already"):
        store_activations(stored, OnnxCapture(MODEL), INPUTS)
    with pytest.raises(ConfigurationError, match="0 samples in a shard"):
        store_activations(stored / "new", OnnxCapture(MODEL), INPUTS, shard_samples=0)


def test_a_capture_that_fails_leaves_no_manifest(tmp_path: Path) -> None:
    broken = INPUTS.copy()
    broken[40, 0] = np.nan
    capture = OnnxCapture(MODEL, (), CaptureOptions(batch_size=4))
    with pytest.raises(ConfigurationError, match="sample 40"):
        store_activations(tmp_path / "s", capture, broken, shard_samples=8)
    assert not (tmp_path / "s" / "manifest.json").exists()
