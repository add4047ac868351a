"""Completing and scoring with onnxruntime: what torch says, token for token."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from transformers import RepetitionPenaltyLogitsProcessor

from auditor.errors import AuditorError, FileChanged, FileMissing, RefusedModel, UnsupportedModel
from auditor.language import onnx_network
from auditor.language.causal_lm import CausalLM
from auditor.language.language_model import open_language_model
from auditor.language.onnx_lm import OnnxCausalLM
from auditor.language.text_model import TextModel
from tests.models.tiny import absolute_value
from tests.unit.language.conftest import Twins

pytestmark = pytest.mark.slow

PROMPTS = (
    "the cat", "a small old fish finds the house and the river", "who", "the red dog sees a bird",
    "what is here now", "green stone", "the very old tree keeps",
)  # fmt: skip


def test_what_runs_it_is_read_back(twins: Twins) -> None:
    """The provider that was asked for, and no other."""
    assert twins.onnx.network.session.providers_in_use == ("CPUExecutionProvider",)
    assert twins.onnx.device == "cpu"


def test_texts_limits_and_ends_are_those_of_the_source(twins: Twins) -> None:
    """Encoding, decoding, the chat template, tokens seen at once, and ends of text."""

    def described(model: TextModel) -> tuple[object, ...]:
        ids = [model.encode(prompt) for prompt in PROMPTS]
        return (ids, [model.decode(each) for each in ids], model.chat("who"), model.max_tokens)

    assert described(twins.onnx) == described(twins.torch)
    assert (twins.onnx.ends, twins.onnx.start) == (twins.torch.ends, twins.torch.start)


@pytest.mark.parametrize("temperature", [0.0, 1.3])
@pytest.mark.parametrize("batch_size", [1, 3, 7])
def test_completions_are_those_of_torch(twins: Twins, temperature: float, batch_size: int) -> None:
    """Prompts of unequal lengths, greedy and sampled, whatever runs together."""
    wanted = twins.torch.generate(PROMPTS, max_new_tokens=16, temperature=temperature, seed=3)
    found = twins.onnx.generate(
        PROMPTS, max_new_tokens=16, temperature=temperature, seed=3, batch_size=batch_size
    )
    assert found == wanted
    assert len({each.token_ids for each in found}) > 1


def test_processors_and_stops_work_alike(twins: Twins) -> None:
    """transformers' processors change the logits, and a stop string ends a completion."""
    penalty = RepetitionPenaltyLogitsProcessor(penalty=1.8)
    [free] = twins.torch.generate(["the cat"], max_new_tokens=12)
    stop = (free.text.split()[1],)
    wanted = twins.torch.generate(PROMPTS, max_new_tokens=12, processors=[penalty], stop=stop)
    found = twins.onnx.generate(PROMPTS, max_new_tokens=12, processors=[penalty], stop=stop)
    assert found == wanted
    [cut] = twins.onnx.generate(["the cat"], max_new_tokens=12, stop=stop)
    assert (cut.ended, cut.token_ids) == (True, free.token_ids[:2])


def test_long_prompts_go_in_parts(twins: Twins, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the logits of all prompts would take too much memory, the cache joins the parts."""
    wanted = twins.onnx.generate(PROMPTS, max_new_tokens=8)
    monkeypatch.setattr(onnx_network, "PART_BYTES", 1)
    assert twins.onnx.generate(PROMPTS, max_new_tokens=8) == wanted


def test_scores_are_those_of_torch(twins: Twins) -> None:
    """Nats of each token, alone and in windows, with NaN at the same places; and perplexity."""
    for window, stride in ((None, None), (6, 2)):
        wanted = twins.torch.token_nll(PROMPTS, window=window, stride=stride)
        found = twins.onnx.token_nll(PROMPTS, window=window, stride=stride)
        for ours, theirs in zip(found, wanted, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert twins.onnx.perplexity(PROMPTS) == pytest.approx(twins.torch.perplexity(PROMPTS), 1e-4)
    np.testing.assert_allclose(
        twins.onnx.mean_nats(PROMPTS), twins.torch.mean_nats(PROMPTS), atol=1e-4
    )


def test_running_is_silent(twins: Twins, capfd: pytest.CaptureFixture[str]) -> None:
    """Neither library writes to the terminal."""
    OnnxCausalLM.open(twins.exported.path).generate(PROMPTS, max_new_tokens=2)
    assert capfd.readouterr() == ("", "")


def test_a_folder_is_opened_by_what_it_holds(twins: Twins) -> None:
    """A graph by onnxruntime, safetensors by torch; a digest is checked for both."""
    assert isinstance(open_language_model(twins.exported.path), OnnxCausalLM)
    assert isinstance(open_language_model(twins.torch.folder.path), CausalLM)
    for model in (twins.onnx, twins.torch):
        again = open_language_model(model.folder.path, expected_digest=model.folder.digest)
        assert again.folder.digest == model.folder.digest
        with pytest.raises(FileChanged):
            open_language_model(model.folder.path, expected_digest=twins.exported.source[::-1])


def _change(name: str, **entries: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | entries), "utf-8")

    return change


def _another_graph(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(absolute_value().SerializeToString())


def _pickled_graph(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(pickle.dumps({"graph": 1}))


def _weights_beside(folder: Path) -> None:
    content = safetensors.numpy.save({"weight": np.ones(3, np.float32)})
    (folder / "model.safetensors").write_bytes(content)


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (_change("config.json", auto_map={"AutoModel": "a.B"}), RefusedModel, "custom-code"),
        (_change("config.json", architectures=["ViTModel"]), UnsupportedModel, "ViTModel"),
        (_change("generation_config.json", eos_token_id="x"), UnsupportedModel, "eos_token_id"),
        (_another_graph, UnsupportedModel, "no language model with a key-value cache"),
        (_pickled_graph, RefusedModel, "pickle-content"),
        (_weights_beside, RefusedModel, "two-models"),
        (lambda folder: (folder / "run.py").write_text(""), RefusedModel, "custom-code"),
        (lambda folder: (folder / "config.json").unlink(), FileMissing, "config.json"),
        (lambda folder: (folder / "tokenizer.json").unlink(), UnsupportedModel, "tokenizer"),
    ],
)
@pytest.mark.parametrize("twins", ["llama"], indirect=True)
def test_a_spoilt_folder_is_one_line(
    twins: Twins,
    tmp_path: Path,
    spoil: Callable[[Path], None],
    error: type[AuditorError],
    message: str,
) -> None:
    """It names what is wrong, and nothing is run."""
    folder = tmp_path / "model"
    shutil.copytree(twins.exported.path, folder)
    spoil(folder)
    with pytest.raises(error, match=message) as caught:
        open_language_model(folder)
    assert "\n" not in str(caught.value)


def test_without_generation_settings_the_configuration_ends_texts(
    twins: Twins, tmp_path: Path
) -> None:
    """config.json names an end of text, too."""
    folder = tmp_path / "model"
    shutil.copytree(twins.exported.path, folder)
    (folder / "generation_config.json").unlink()
    assert OnnxCausalLM.open(folder).ends == twins.torch.ends
