"""`auditor model convert` from the command line: what it writes, says, and refuses."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import safetensors.torch
import torch

from tests.functional.command import Ended, auditor
from tests.models.hostile_files.payload import touching
from tests.models.model_folders import write_folder


def convert(folder: Path, *arguments: str) -> Ended:
    """How the conversion ended; never with a traceback."""
    ended = auditor("model", "convert", *arguments, cwd=folder)
    assert "Traceback" not in ended.err
    return ended


def test_a_checkpoint(tmp_path: Path) -> None:
    """The digest, the counts and what was left out, in words and as JSON."""
    weights = torch.nn.Linear(3, 2).state_dict()
    torch.save({"model": weights, "epoch": 3}, tmp_path / "c.ckpt")
    asked = convert(tmp_path, "c.ckpt", "--out", "w.safetensors")
    assert asked.code == 2
    assert "tensors are inside 'model' (2); choose one with --key" in asked.err
    ended = convert(tmp_path, "c.ckpt", "--out", "w.safetensors", "--key", "model", "--json")
    assert ended.code == 0
    record = json.loads(ended.out)
    content = (tmp_path / "w.safetensors").read_bytes()
    assert record["sha256"] == hashlib.sha256(content).hexdigest()
    assert record["source_sha256"] == hashlib.sha256((tmp_path / "c.ckpt").read_bytes()).hexdigest()
    assert (record["tensors"], record["size"], record["left_out"]) == (2, len(content), [])
    loaded = safetensors.torch.load(content)
    assert all(torch.equal(loaded[name], tensor) for name, tensor in weights.items())
    again = convert(tmp_path, "c.ckpt", "--out", "w.safetensors", "--key", "model")
    assert again.code == 2
    assert "it exists" in again.err


def test_a_folder_that_the_scan_refused(tmp_path: Path) -> None:
    """The scan names the way out, and afterwards accepts what was written."""
    folder = write_folder(tmp_path / "m")
    torch.save(safetensors.torch.load_file(folder / "model.safetensors"),
               folder / "pytorch_model.bin")  # fmt: skip
    (folder / "model.safetensors").unlink()
    torch.save({"lr": 1}, folder / "training_args.bin")
    scanned = auditor("model", "scan", "m", cwd=tmp_path)
    assert scanned.code == 6
    assert "auditor model convert" in scanned.out
    ended = convert(tmp_path, "m", "--out", "new")
    assert ended.code == 0
    assert "new/model.safetensors (2 tensors" in " ".join(ended.out.split())
    assert "left out of the folder: training_args.bin" in ended.out
    assert auditor("model", "scan", "new", cwd=tmp_path).code == 0
    assert convert(tmp_path, "m", "--out", "other", "--key", "x").code == 2
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "weights.pt"])
def test_a_call_is_refused(tmp_path: Path, name: str) -> None:
    """With exit code 6, the byte, and nothing run or written."""
    marker, folder = tmp_path / "marker", tmp_path / "m"
    folder.mkdir()
    (folder / name).write_bytes(touching(marker, 2))
    target = "m" if name.startswith("pytorch") else f"m/{name}"
    ended = convert(tmp_path, target, "--out", "new")
    assert ended.code == 6
    assert "pickle-import" in ended.err
    assert "byte " in ended.err
    assert not marker.exists()
    assert not (tmp_path / "new").exists()


def test_what_is_not_there(tmp_path: Path) -> None:
    """A path that is missing, and a folder with nothing to convert."""
    assert convert(tmp_path, "none.pt", "--out", "new").code == 2
    write_folder(tmp_path / "m")
    ended = convert(tmp_path, "m", "--out", "new")
    assert ended.code == 2
    assert "no pickled weights" in ended.err
