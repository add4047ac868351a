"""Which folders are opened, and with what; whatever is refused is refused in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.utils import logging

from auditor.errors import (
    AuditorError,
    DeviceUnavailable,
    FileMissing,
    OperationFailed,
    RefusedModel,
    UnsupportedModel,
)
from auditor.language.causal_lm import CausalLM
from auditor.language.opening import quiet_transformers
from auditor.models.transformers_folder import read_folder
from tests.models.language_models import random_model, save_folder, word_tokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_folder(tmp_path / "model", random_model("llama"), word_tokenizer())


def _change_config(folder: Path, **entries: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | entries), "utf-8")


def _drop_tensor(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _drop_tensor_but_keep_the_count(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["unused"] = torch.zeros_like(weights.pop("model.norm.weight"))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _drop_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()


def test_an_opened_model_is_the_saved_one(folder: Path) -> None:
    """Weights are equal to the last bit, in evaluation mode, with the folder's digest."""
    model = CausalLM.open(folder)
    saved = random_model("llama").state_dict()
    opened = model.model.state_dict()
    assert all(torch.equal(saved[name], opened[name]) for name in saved)
    assert not model.model.training
    assert model.folder == read_folder(folder)
    assert (model.device, model.max_tokens) == ("cpu", 64)


def test_weights_may_stay_in_their_own_type(tmp_path: Path) -> None:
    """`stored` keeps bfloat16, the default computes in float32."""
    network = random_model("llama").to(torch.bfloat16)
    folder = save_folder(tmp_path, network, word_tokenizer())
    assert CausalLM.open(folder).model.dtype == torch.float32
    assert CausalLM.open(folder, precision="stored").model.dtype == torch.bfloat16


def test_another_digest_is_noticed_before_opening(folder: Path) -> None:
    """A folder that is not the expected one is not opened."""
    digest = read_folder(folder).digest
    assert CausalLM.open(folder, expected_digest=digest).folder.digest == digest
    _change_config(folder, note="changed")
    with pytest.raises((OperationFailed, RefusedModel), match="sha256"):
        CausalLM.open(folder, expected_digest=digest)


REFUSED: dict[str, tuple[Callable[[Path], Any], type[AuditorError], str]] = {
    "remote code": (
        lambda folder: _change_config(folder, auto_map={"AutoConfig": "code.Config"}),
        RefusedModel, "auto_map",
    ),
    "pickled weights": (
        lambda folder: torch.save({}, folder / "pytorch_model.bin"), RefusedModel, "pickle",
    ),
    "kernels of a hub": (
        lambda folder: _change_config(folder, _attn_implementation="someone/kernel"),
        RefusedModel, "attn_implementation",
    ),
    "kernels of a hub by the inner name": (
        lambda folder: _change_config(folder, _attn_implementation_internal="someone/kernel"),
        RefusedModel, "attn_implementation",
    ),
    "kernels of a hub for a part": (
        lambda folder: _change_config(folder, attn_implementation={"text": "someone/kernel"}),
        RefusedModel, "attn_implementation",
    ),
    "an adapter": (
        lambda folder: (folder / "adapter_config.json").write_text("{}"), RefusedModel, "adapter",
    ),
    "quantised weights": (
        lambda folder: _change_config(folder, quantization_config={"quant_method": "x"}),
        UnsupportedModel, "quantised",
    ),
    "more layers than tensors": (
        lambda folder: _change_config(folder, num_hidden_layers=60_000, layer_types=None),
        RefusedModel, "60000 layers",
    ),
    "more layers than any model has": (
        lambda folder: _change_config(folder, num_hidden_layers=10**9, layer_types=None),
        RefusedModel, "num_hidden_layers is 1000000000, more than",
    ),
    "a vocabulary that the weights lack": (
        lambda folder: _change_config(folder, vocab_size=10**12), RefusedModel, "asks for",
    ),
    "a missing tensor": (_drop_tensor, RefusedModel, "asks for"),
    "a renamed tensor": (
        _drop_tensor_but_keep_the_count, UnsupportedModel, "1 weights are missing",
    ),
    "another shape": (
        lambda folder: _change_config(folder, intermediate_size=24),
        UnsupportedModel, "transformers cannot open it",
    ),
    "no weights": (
        lambda folder: (folder / "model.safetensors").unlink(), FileMissing, "safetensors",
    ),
    "a torn header": (
        lambda folder: (folder / "model.safetensors").write_bytes(b"\xff" * 64),
        RefusedModel, "header",
    ),
    "an encoder": (
        lambda folder: _change_config(folder, architectures=["BertForMaskedLM"]),
        UnsupportedModel, "no causal language model",
    ),
    "an unknown model type": (
        lambda folder: _change_config(folder, model_type="nothing-known"),
        UnsupportedModel, "cannot open it",
    ),
    "no tokenizer": (
        _drop_tokenizer, UnsupportedModel, "tokenizer",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_whole_and_safe_is_not_opened(folder: Path, case: str) -> None:
    """One line, of the right kind, that says what is wrong."""
    spoil, kind, message = REFUSED[case]
    spoil(folder)
    with pytest.raises(kind, match=message) as caught:
        CausalLM.open(folder)
    assert "\n" not in str(caught.value)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """The path stands in the message."""
    with pytest.raises(FileMissing, match="nowhere"):
        CausalLM.open(tmp_path / "nowhere")


def test_an_unknown_device_is_named(folder: Path) -> None:
    """Known devices are listed."""
    with pytest.raises(DeviceUnavailable, match="auto, cpu, cuda"):
        CausalLM.open(folder, device="tpu")


def test_opening_is_silent_and_leaves_settings_alone(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nothing is printed; verbosity, progress bars and random state are as they were."""
    before = (logging.get_verbosity(), logging.is_progress_bar_enabled())
    state = torch.random.get_rng_state()
    CausalLM.open(folder)
    assert capfd.readouterr() == ("", "")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
    assert torch.equal(state, torch.random.get_rng_state())


def test_quiet_is_over_after_an_error() -> None:
    """Settings come back also when something fails inside."""
    before = (logging.get_verbosity(), logging.is_progress_bar_enabled())
    with pytest.raises(ZeroDivisionError), quiet_transformers():
        _ = 1 / 0
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


def test_judging_loads_neither_torch_nor_transformers() -> None:
    """Keyword rules and agreement are there at once; models are imported when one is opened."""
    code = (
        "import sys, auditor.language.opening, auditor.language.refusal, "
        "auditor.language.judge_agreement, auditor.language.sentence_embedding\n"
        "print(sorted({'torch', 'transformers', 'sentence_transformers'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
