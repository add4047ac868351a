"""Diffusion folders: what is read of a sound one, and by which rule a dangerous one is refused."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from auditor.errors import FileChanged, FileMissing, RefusedModel, UnsupportedModel
from auditor.models.diffusion_folder import read_diffusion_folder
from auditor.models.limits import FolderLimits
from auditor.models.weight_numbers import find_nonfinite

DENOISER = "unet/diffusion_pytorch_model.safetensors"
CONFIGS: dict[str, dict[str, Any]] = {
    "unet/config.json": {"_class_name": "UNet2DConditionModel", "sample_size": 8},
    "text_encoder/config.json": {"architectures": ["CLIPTextModel"], "model_type": "clip"},
    "scheduler/scheduler_config.json": {"_class_name": "DDIMScheduler"},
    "model_index.json": {"_class_name": "StableDiffusionPipeline", "safety_checker": [None, None],
                         "unet": ["diffusers", "UNet2DConditionModel"]},
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sound folder: a denoiser of six numbers and a text encoder of three."""
    made = tmp_path / "model"
    for name, config in CONFIGS.items():
        write(made, name, json.dumps(config))
    write(made, "tokenizer/tokenizer.json", "{}")
    write(made, "README.md", "# A model\n")
    write(made, DENOISER, numbers(a=np.arange(6, dtype=np.float32)))
    write(made, "text_encoder/model.safetensors", numbers(b=np.ones(3, np.float16)))
    return made


def write(folder: Path, name: str, content: str | bytes) -> None:
    """A file of the folder, with the sub-folders it needs."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def numbers(**tensors: Any) -> bytes:
    """A safetensors file."""
    return safetensors.numpy.save(tensors)


def refusal(folder: Path) -> RefusedModel:
    """The refusal of a folder, one line with a way out."""
    with pytest.raises(RefusedModel) as caught:
        read_diffusion_folder(folder)
    assert len(str(caught.value).splitlines()) == 1
    assert caught.value.way_out
    return caught.value


def test_a_sound_folder_is_described(folder: Path) -> None:
    """Components with their classes and numbers, and the whole."""
    found = read_diffusion_folder(folder)
    assert (found.model_type, found.parameter_count) == ("UNet2DConditionModel", 9)
    assert found.dtypes == {"F16": 3, "F32": 6}
    assert {
        part.name: (part.class_name, part.parameter_count, part.tensor_count)
        for part in found.components.values()
    } == {
        "unet": ("UNet2DConditionModel", 6, 1), "text_encoder": ("CLIPTextModel", 3, 1),
        "scheduler": ("DDIMScheduler", 0, 0), "tokenizer": ("", 0, 0),
    }  # fmt: skip
    assert found.denoiser is found.component("unet")
    assert found.size == sum((folder / name).stat().st_size for name in found.files)


def test_the_digest_is_the_documented_one(folder: Path) -> None:
    """What sha256sum of the model's files gives, through sha256sum; documents do not count."""
    names = sorted(
        [*CONFIGS, "tokenizer/tokenizer.json", DENOISER, "text_encoder/model.safetensors"]
    )
    lines = "".join(
        f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names
    )
    expected = f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"
    assert read_diffusion_folder(folder, expected).digest == expected


@pytest.mark.parametrize("name", ["scheduler/scheduler_config.json", "tokenizer/tokenizer.json"])
def test_a_changed_part_changes_the_digest(folder: Path, name: str) -> None:
    """The noise and the tokenizer are the model as much as its weights."""
    before = read_diffusion_folder(folder).digest
    write(folder, name, '{"other": 1}')
    with pytest.raises(FileChanged, match="changed during the run"):
        read_diffusion_folder(folder, before)


def test_sharded_weights_are_read_with_the_index_of_their_component(folder: Path) -> None:
    """The same numbers as in one file."""
    (folder / DENOISER).unlink()
    places = {}
    for tensor, values in (("a", np.zeros(4, np.float32)), ("c", np.zeros(2, np.float32))):
        places[tensor] = f"diffusion_pytorch_model-{tensor}.safetensors"
        write(folder, f"unet/{places[tensor]}", numbers(**{tensor: values}))
    write(folder, f"{DENOISER}.index.json", json.dumps({"weight_map": places}))
    assert read_diffusion_folder(folder).denoiser.parameter_count == 6
    write(folder, f"{DENOISER}.index.json", json.dumps({"weight_map": {"a": places["a"]}}))
    assert refusal(folder).rule == "weights-ambiguous"


def test_numbers_that_are_not_finite_are_found(folder: Path) -> None:
    """By the scan that other model folders have."""
    write(folder, DENOISER, numbers(a=np.array([0, np.nan], np.float32)))
    (entry,) = find_nonfinite(read_diffusion_folder(folder))
    assert (entry.tensor, entry.count) == ("a", 1)


@pytest.mark.parametrize(
    "name", ["unet/diffusion_pytorch_model.bin", "vae/x.ckpt", "model.pt", "tokenizer/vocab.txt"]
)
def test_a_pickle_is_refused_in_every_component(folder: Path, name: str) -> None:
    """By its name or by its content."""
    write(folder, name, pickle.dumps([1]))
    assert (refusal(folder).rule, refusal(folder).place) == ("pickle-content", name)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("unet/config.json", {"auto_map": {"AutoModel": "x.X"}}),
        ("text_encoder/config.json", {"auto_map": {"AutoModel": "x.X"}}),
        ("scheduler/scheduler_config.json", {"trust_remote_code": True}),
        ("model_index.json", {"unet": ["my_unet", "MyUNet"]}),
        ("model_index.json", {"_class_name": ["pipeline", "MyPipeline"]}),
    ],
)
def test_code_of_its_own_is_refused(folder: Path, name: str, changes: dict[str, Any]) -> None:
    """Whichever configuration asks for it."""
    write(folder, name, json.dumps(CONFIGS[name] | changes))
    assert (refusal(folder).rule, refusal(folder).place) == ("custom-code", name)


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("pipeline.py", "custom-code"),
        ("unet/kernel.so", "custom-code"),
        ("unet/model.onnx", "unknown-file"),
        ("v1-5-pruned.safetensors", "weights-ambiguous"),
        ("unet/deeper/model.safetensors", "weights-ambiguous"),
        ("unet/diffusion_pytorch_model.fp16.safetensors", "weights-ambiguous"),
        ("unet/model.safetensors", "weights-ambiguous"),
        ("vae.zip", "container"),
    ],
)
def test_files_that_belong_to_no_component_are_refused(folder: Path, name: str, rule: str) -> None:
    """Weights of a variant, too: which of them is the model would be a guess."""
    write(folder, name, numbers(a=np.zeros(6, np.float32)))
    assert refusal(folder).rule == rule


def test_two_denoisers_are_refused(folder: Path) -> None:
    """Either may be the model."""
    shutil.copytree(folder / "unet", folder / "transformer")
    assert refusal(folder).rule == "two-models"


def test_a_link_that_leaves_the_folder_is_refused(folder: Path) -> None:
    """As in every folder."""
    (folder.parent / "outside.json").write_text("{}")
    (folder / "tokenizer" / "vocab.json").symlink_to("../../outside.json")
    assert refusal(folder).rule == "link-escape"


def test_a_second_index_is_refused(folder: Path) -> None:
    """Only one of them would be looked at."""
    index = json.dumps({"weight_map": {"a": "diffusion_pytorch_model.safetensors"}})
    write(folder, f"{DENOISER}.index.json", index)
    write(folder, "unet/model.safetensors.index.json", index)
    assert refusal(folder).rule == "weights-ambiguous"


def test_sizes_are_limited_before_anything_is_read(folder: Path) -> None:
    """Weights of all components together."""
    with pytest.raises(RefusedModel, match="size-limit"):
        read_diffusion_folder(folder, limits=FolderLimits(weight_bytes=10))


@pytest.mark.parametrize("name", ["unet/config.json", DENOISER, "text_encoder/model.safetensors"])
def test_what_is_missing_is_named(folder: Path, name: str) -> None:
    """A folder without it is no diffusion model."""
    (folder / name).unlink()
    with pytest.raises(FileMissing, match=name):
        read_diffusion_folder(folder)


def test_a_component_that_is_not_there_is_named(folder: Path) -> None:
    """With those that are."""
    with pytest.raises(UnsupportedModel, match="no vae among scheduler, text_encoder"):
        read_diffusion_folder(folder).component("vae")
