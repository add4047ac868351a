"""Opening diffusion folders: every weight from the folder, nothing larger, or one line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from auditor.errors import (
    AuditorError,
    DeviceUnavailable,
    FileChanged,
    MissingExtra,
    RefusedModel,
    UnsupportedModel,
)
from auditor.memorization.diffusion.model import DiffusionModel
from auditor.memorization.diffusion.opening import open_diffusion
from tests.models.language_models import VOCABULARY, word_tokenizer
from tests.models.tiny_diffusion import change_config, change_weights, transformer_folder

SCHEDULER = "scheduler/scheduler_config.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sound model."""
    return transformer_folder(tmp_path / "m")


def test_weights_are_those_of_the_folder(folder: Path) -> None:
    """Number by number, in evaluation mode, and torch's own random numbers are left alone."""
    state = torch.random.get_rng_state()
    opened = open_diffusion(folder, "cpu", None)
    assert torch.equal(torch.random.get_rng_state(), state)
    for part, module in (
        ("transformer", opened.denoiser),
        ("text_encoder", opened.encoders[0].model),
    ):
        (path,) = (folder / part).glob("*.safetensors")
        stored, loaded = safetensors.torch.load_file(path), module.state_dict()
        assert {name: tensor.tolist() for name, tensor in stored.items()} == {
            name: loaded[name].tolist() for name in stored
        }
        assert not module.training


def test_another_folder_than_expected_is_not_opened(folder: Path) -> None:
    """The digest is checked first."""
    digest = open_diffusion(folder, "cpu", None).folder.digest
    change_config(folder, SCHEDULER, beta_end=0.5)
    with pytest.raises(FileChanged):
        open_diffusion(folder, "cpu", digest)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_on_the_cpu_is_one_line(folder: Path, dtype: torch.dtype) -> None:
    """In whichever component it is."""
    change_weights(folder, "text_encoder", lambda name, tensor: tensor.to(dtype))
    with pytest.raises(UnsupportedModel, match=r"half precision \(B?F16\), and the device is cpu"):
        DiffusionModel.open(folder)


@pytest.mark.parametrize(
    ("name", "changes", "error", "message"),
    [
        ("transformer/config.json", {"num_layers": 60_000}, RefusedModel,
         "asks for 60000 for 'num_layers'"),
        ("transformer/config.json", {"num_layers": 10**9}, RefusedModel,
         "num_layers is 1000000000, more than"),
        ("transformer/config.json", {"attention_head_dim": 4_096}, RefusedModel, "numbers, and"),
        ("text_encoder/config.json", {"vocab_size": 10**6}, RefusedModel, "numbers, and"),
        ("transformer/config.json", {"activation_fn": "none"}, UnsupportedModel, "cannot open it"),
        (SCHEDULER, {"prediction_type": "sample"}, UnsupportedModel, "predicts 'sample'"),
        (SCHEDULER, {"num_train_timesteps": 10**9}, UnsupportedModel, "num_train_timesteps is 1"),
        (SCHEDULER, {"beta_schedule": "laplace"}, UnsupportedModel, "its noise cannot be used"),
    ],
)  # fmt: skip
def test_a_configuration_that_does_not_fit_is_one_line(
    folder: Path, name: str, changes: dict[str, Any], error: type[AuditorError], message: str
) -> None:
    """Nothing large is built."""
    change_config(folder, name, **changes)
    with pytest.raises(error, match=message) as caught:
        DiffusionModel.open(folder)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"cross_attention_dim": 24},
            "the text encoder gives 16 numbers a vector, the denoiser reads 24",
        ),
        ({"caption_channels": 12}, "gives 16 numbers a vector, the denoiser reads 12"),
    ],
)
def test_components_of_two_models_are_told_apart(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    """Before their shapes clash."""
    with pytest.raises(UnsupportedModel, match=message):
        DiffusionModel.open(transformer_folder(tmp_path / "other", **changes))


def test_a_tokenizer_of_another_model_is_told_apart(folder: Path) -> None:
    """Its tokens would have no embedding."""
    other = word_tokenizer(vocabulary=[*VOCABULARY, "another"])
    other.save_pretrained(folder / "tokenizer")
    count = len(VOCABULARY)
    message = f"the tokenizer has {count + 1} tokens, and the text encoder {count}"
    with pytest.raises(UnsupportedModel, match=message):
        DiffusionModel.open(folder)


def test_a_missing_weight_is_not_made_up(folder: Path) -> None:
    """The first one is named, though others stand in its place."""
    (path,) = (folder / "transformer").glob("*.safetensors")
    tensors = safetensors.torch.load_file(path)
    tensors["other"] = tensors.pop("proj_out.weight")
    safetensors.torch.save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(UnsupportedModel, match=r"1 weights are missing.*proj_out\.weight"):
        DiffusionModel.open(folder)


def test_without_diffusers_the_extra_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where it is not installed."""
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(MissingExtra, match=r"needs diffusers.*install auditor\[diffusion\]"):
        DiffusionModel.open(folder)


def test_a_device_that_is_not_there_is_named(folder: Path) -> None:
    """Before weights are read."""
    with pytest.raises(DeviceUnavailable, match="'tpu'"):
        DiffusionModel.open(folder, "tpu")
