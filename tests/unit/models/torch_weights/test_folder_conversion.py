"""Model folders with pickled weights are written anew, and are what the libraries would load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from auditor.errors import ConfigurationError, OutputNotWritable, RefusedFolder, RefusedModel
from auditor.models.torch_weights.folder_conversion import convert_folder, converted_name
from auditor.models.transformers_folder import read_folder
from tests.models.hostile_files.payload import touching
from tests.models.language_models import random_model, save_folder, word_tokenizer
from tests.models.model_folders import write_folder
from tests.models.tiny_diffusion import transformer_folder


def with_pickled_weights(folder: Path) -> Path:
    """Every safetensors file of a folder as torch would have saved it, and every index with it."""
    names = {"model": "pytorch_model", "diffusion_pytorch_model": "diffusion_pytorch_model"}
    for path in sorted(folder.rglob("*.safetensors")):
        stem, dash, rest = path.stem.partition("-")
        torch.save(
            safetensors.torch.load_file(path), path.with_name(f"{names[stem]}{dash}{rest}.bin")
        )
        path.unlink()
    for path in folder.rglob("model.safetensors.index.json"):
        index = json.loads(path.read_text())
        index["weight_map"] = {
            name: file.replace("model-", "pytorch_model-").replace(".safetensors", ".bin")
            for name, file in index["weight_map"].items()
        }
        path.with_name("pytorch_model.bin.index.json").write_text(json.dumps(index))
        path.unlink()
    return folder


def tensors_below(folder: Path) -> dict[str, torch.Tensor]:
    """Every tensor by file and name."""
    return {
        f"{path.relative_to(folder)} {name}": tensor
        for path in sorted(folder.rglob("*.safetensors"))
        for name, tensor in safetensors.torch.load_file(path).items()
    }


def require_same_tensors(ours: Path, theirs: Path) -> None:
    """Two folders hold the same weights under the same names."""
    found, wanted = tensors_below(ours), tensors_below(theirs)
    assert found.keys() == wanted.keys()
    assert wanted
    for name, tensor in wanted.items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize("shard", ["5GB", "20KB"])
def test_a_language_model_is_the_same_afterwards(tmp_path: Path, shard: str) -> None:
    """Whole or sharded; the new folder is one that auditor opens."""
    model = random_model("llama")
    tokenizer = word_tokenizer()
    original = save_folder(tmp_path / "original", model, tokenizer, shard=shard)
    pickled = with_pickled_weights(save_folder(tmp_path / "pickled", model, tokenizer, shard=shard))
    with pytest.raises(RefusedModel, match="auditor model convert"):
        read_folder(pickled)
    found = convert_folder(pickled, tmp_path / "new")
    require_same_tensors(tmp_path / "new", original)
    assert read_folder(tmp_path / "new").digest == read_folder(original).digest
    assert found.left_out == ()
    assert len(found.converted) == len(list(original.glob("*.safetensors")))


def test_a_pipeline_is_the_same_afterwards(tmp_path: Path) -> None:
    """Each component by the name that its library looks for."""
    original = transformer_folder(tmp_path / "original")
    pickled = with_pickled_weights(transformer_folder(tmp_path / "pickled"))
    found = convert_folder(pickled, tmp_path / "new")
    require_same_tensors(tmp_path / "new", original)
    assert "text_encoder/model.safetensors" in found.converted
    assert "transformer/diffusion_pytorch_model.safetensors" in found.converted


def sound(folder: Path) -> Path:
    """A small folder with pickled weights."""
    return with_pickled_weights(write_folder(folder))


def test_what_is_no_weights_is_left_out_and_told(tmp_path: Path) -> None:
    """Optimizer states, arguments and code stay behind; documents come along."""
    folder = sound(tmp_path / "m")
    torch.save({"lr": 1}, folder / "training_args.bin")
    torch.save({"state": {}}, folder / "optimizer.pt")
    (folder / "modeling.py").write_text("raise SystemExit\n")
    (folder / "blob").write_bytes(bytes(range(256)))
    found = convert_folder(folder, tmp_path / "new")
    left_out = {each.split(" ")[0]: each for each in found.left_out}
    assert left_out.keys() == {"training_args.bin", "optimizer.pt", "modeling.py", "blob"}
    assert "pickle-content" in left_out["optimizer.pt"]
    assert set(found.copied) == {
        ".gitattributes", "LICENSE", "README.md", "config.json", "tokenizer.json"
    }  # fmt: skip
    assert {path.name for path in (tmp_path / "new").iterdir()} == {
        *found.copied, "model.safetensors"
    }  # fmt: skip


def test_safetensors_that_are_there_win(tmp_path: Path) -> None:
    """As for transformers; a folder with nothing to convert says so."""
    folder = write_folder(tmp_path / "m")
    torch.save({"other": torch.ones(1)}, folder / "pytorch_model.bin")
    with pytest.raises(ConfigurationError, match="no pickled weights"):
        convert_folder(folder, tmp_path / "new")
    (folder / "config.json").unlink()  # no longer one model, of which nothing may lie elsewhere
    (folder / "part").mkdir()
    torch.save({"w": torch.ones(1)}, folder / "part" / "adapter_model.bin")
    found = convert_folder(folder, tmp_path / "new")
    assert found.converted.keys() == {"part/adapter_model.safetensors"}
    assert found.left_out == ("pytorch_model.bin (its safetensors are there)",)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("pytorch_model.bin", b"not torch", "no file of torch.save"),
        ("config.json", json.dumps({"model_type": "gpt2", "auto_map": {"A": "b.C"}}).encode(),
         "m at config.json: .*auto_map"),
        ("pytorch_model.bin.index.json", b'{"weight_map": {"a": 3}}', "does not map tensors"),
        ("pytorch_model.bin.index.json", b'{"weight_map": {"a": [3]}}', "does not map tensors"),
        ("pytorch_model.bin.index.json", b'{"weight_map": [3]}', "does not map tensors"),
        ("pytorch_model.bin.index.json", b'{"weight_map": {"a": "../b.bin"}}',
         "does not map tensors"),
        ("pytorch_model.bin.index.json", b'{"weight_map": {"a": "../pytorch_model.bin"}}',
         "index-escape"),
        ("pytorch_model.bin.index.json", b'{"weight_map": {"a": "pytorch_model.bin"}}',
         "index-tensor"),
        ("pytorch_model.bin.index.json", b"{", "JSON"),
    ],
)  # fmt: skip
def test_a_folder_that_would_be_refused_is_not_written(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    """Nothing is left behind, and the message names what is wrong."""
    folder = sound(tmp_path / "m")
    (folder / name).write_bytes(content)
    with pytest.raises(RefusedModel, match=message) as caught:
        convert_folder(folder, tmp_path / "new")
    assert "m" in str(caught.value)
    assert ".unfinished" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_an_index_longer_than_is_read(tmp_path: Path) -> None:
    """It says so, instead of calling it broken."""
    folder = sound(tmp_path / "m")
    text = json.dumps({"weight_map": {"a": "pytorch_model.bin"}})
    (folder / "pytorch_model.bin.index.json").write_text(text + " " * 2**24)
    with pytest.raises(RefusedModel, match=r"more than 16777216 bytes of index \[size-limit\]"):
        convert_folder(folder, tmp_path / "new")


def test_a_call_in_one_shard_stops_everything(tmp_path: Path) -> None:
    """And does not happen."""
    folder, marker = sound(tmp_path / "m"), tmp_path / "marker"
    (folder / "pytorch_model-00002-of-00002.bin").write_bytes(touching(marker))
    with pytest.raises(RefusedModel, match="pickle-import"):
        convert_folder(folder, tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_links_and_existing_places(tmp_path: Path) -> None:
    """A link that leaves the folder is refused, and nothing is written over."""
    folder = sound(tmp_path / "m")
    with pytest.raises(OutputNotWritable, match="it exists"):
        convert_folder(folder, folder)
    (tmp_path / "secret").write_text("secret")
    (folder / "notes.txt").symlink_to(tmp_path / "secret")
    with pytest.raises(RefusedFolder, match="link-escape"):
        convert_folder(folder, tmp_path / "new")


def test_progress_names_each_file(tmp_path: Path) -> None:
    """Large folders take a while."""
    told: list[str] = []
    convert_folder(sound(tmp_path / "m"), tmp_path / "new", told.append)
    assert told == ["pytorch_model.bin -> model.safetensors"]


@pytest.mark.parametrize(
    ("name", "new"),
    [
        ("pytorch_model.bin", "model.safetensors"),
        ("a/pytorch_model.fp16.bin", "a/model.fp16.safetensors"),
        ("pytorch_model-00001-of-00002.bin", "model-00001-of-00002.safetensors"),
        ("diffusion_pytorch_model.bin", "diffusion_pytorch_model.safetensors"),
        ("adapter_model.bin", "adapter_model.safetensors"),
        ("pytorch_model.bin.index.json", "model.safetensors.index.json"),
        ("model.bin", None), ("training_args.bin", None), ("pytorch_model.pt", None),
        ("pytorch_model.bin.json", None), ("model.safetensors.index.json", None),
    ],
)  # fmt: skip
def test_names_are_those_the_libraries_look_for(name: str, new: Any) -> None:
    """All others are no weights of a folder."""
    assert converted_name(name) == new
