"""Exporting: the graph computes what torch computes, says where it came from, or is not there."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import numpy_helper
from transformers import MistralConfig, MistralForCausalLM

from auditor.errors import AuditorError, OutputNotWritable, RefusedModel, UnsupportedModel
from auditor.language import onnx_export
from auditor.language.causal_lm import CausalLM
from auditor.language.onnx_comparison import TOLERANCE, compare, plan_comparisons
from auditor.language.onnx_export import export_causal_lm
from auditor.language.onnx_lm import OnnxCausalLM
from auditor.language.onnx_tracing import SCOPES, SOURCE
from auditor.models.onnx_folder import read_onnx_folder
from auditor.models.transformers_folder import read_folder
from tests.models.language_models import (
    VOCABULARY,
    Family,
    random_model,
    save_folder,
    word_tokenizer,
)
from tests.unit.language.conftest import Twins

pytestmark = pytest.mark.slow


def graph_of(twins: Twins) -> onnx.ModelProto:
    """The graph as the file holds it."""
    return onnx.load(twins.exported.path / "model.onnx")


def test_a_cache_fed_by_hand_gives_the_logits_of_one_forward(twins: Twins) -> None:
    """Prefill without a cache, two tokens at once, then one: as torch over the whole text."""
    ids = np.arange(3, 33, dtype=np.int64).reshape(3, 10)
    mask = np.ones_like(ids)
    mask[0, :3] = 0
    positions = np.maximum(mask.cumsum(1) - 1, 0)
    with torch.inference_mode():
        wanted = twins.torch.model(
            input_ids=torch.tensor(ids), attention_mask=torch.tensor(mask),
            position_ids=torch.tensor(positions),
        ).logits.numpy()  # fmt: skip
    session = ort.InferenceSession(
        str(twins.exported.path / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    cache = {f"past.{layer}.{part}": np.zeros((3, 2, 0, 8), np.float32)
             for layer in range(2) for part in ("key", "value")}  # fmt: skip
    for start, end in ((0, 7), (7, 9), (9, 10)):
        names = [value.name for value in session.get_outputs()]
        feeds = {"input_ids": ids[:, start:end], "attention_mask": mask[:, :end],
                 "position_ids": positions[:, start:end], **cache}  # fmt: skip
        found = dict(zip(names, session.run(names, feeds), strict=True))
        kept = mask[:, start:end].astype(bool)
        apart = np.abs(found["logits"] - wanted[:, start:end])[kept]
        assert apart.max() <= 1e-4
        cache = {name: found[name.replace("past", "present")] for name in cache}
    assert {value.shape for value in cache.values()} == {(3, 2, 10, 8)}


def test_the_report_names_the_folder_and_what_was_compared(twins: Twins) -> None:
    """Digests of both folders, the size, and differences within the bound, none of them zero."""
    found = twins.exported
    written = read_onnx_folder(found.path)
    assert (found.digest, found.size) == (written.digest, written.size)
    assert found.source == twins.torch.folder.digest
    assert [each.name for each in found.differences] == [
        "the traced shape", "another shape, no cache", "the cache, token by token", "one token",
    ]  # fmt: skip
    assert 0 < found.largest_share <= TOLERANCE
    assert found.largest_difference == max(each.largest for each in found.differences)
    assert all(each.share == each.largest / each.scale for each in found.differences)


def test_the_source_is_as_it_was(twins: Twins) -> None:
    """Exporting writes nothing to it."""
    assert read_folder(twins.torch.folder.path).digest == twins.exported.source


def test_the_graph_tells_modules_and_source_but_no_paths(twins: Twins) -> None:
    """Every note of the exporter but the modules' names is gone; they name where code lies."""
    graph = graph_of(twins)
    keys = {each.key for node in graph.graph.node for each in node.metadata_props}
    assert keys == {SCOPES}
    assert {each.key: each.value for each in graph.metadata_props} == {
        SOURCE: twins.torch.folder.digest
    }
    content = (twins.exported.path / "model.onnx").read_bytes()
    assert [part for part in (b".py", b"site-packages", b"/home", b"/tmp") if part in content] == []


def test_configuration_tokenizer_and_ends_of_text_come_along(twins: Twins) -> None:
    """All files but the weights, byte for byte."""
    source, made = twins.torch.folder.path, twins.exported.path
    copied = set(twins.torch.folder.files) - {"model.safetensors"}
    assert set(twins.onnx.folder.files) == copied | {"model.onnx"}
    assert all((source / name).read_bytes() == (made / name).read_bytes() for name in copied)


@pytest.mark.parametrize("twins", ["qwen3_moe"], indirect=True)
def test_routers_keep_their_names_and_every_expert_is_in_the_graph(twins: Twins) -> None:
    """Routers by name, TopK by its module, experts by value, also those that no token reached."""
    graph, weights = graph_of(twins).graph, twins.torch.model.state_dict()
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for layer in range(2):
        router = f"model.layers.{layer}.mlp.gate.weight"
        assert np.array_equal(stored[f"model.{router}"], weights[router].numpy())
        for part in ("gate_up_proj", "down_proj"):
            wanted = weights[f"model.layers.{layer}.mlp.experts.{part}"].numpy()
            assert any(np.array_equal(value, wanted) for value in stored.values())
    scopes = [each.value for node in graph.node if node.op_type == "TopK"
              for each in node.metadata_props]  # fmt: skip
    assert [f"model.model.layers.{layer}.mlp.gate" in text for layer, text in enumerate(scopes)] \
        == [True, True]  # fmt: skip


def test_differences_are_measured_against_large_logits(twins: Twins) -> None:
    """The scale is torch's largest logit that is no padding; NaN is never within a bound."""
    [asked, *_] = plan_comparisons(twins.torch)
    shifted = replace(asked, wanted=asked.wanted + 0.5)
    found = compare(twins.onnx.network, shifted)
    assert found.largest == pytest.approx(0.5, abs=1e-4)
    kept = shifted.wanted[shifted.mask.bool()]
    assert found.scale == kept.abs().max().item() > 1
    shifted.wanted[0, -1, 0] = float("nan")
    assert not compare(twins.onnx.network, shifted).share <= 1e9


def test_a_comparison_with_another_model_fails(twins: Twins, tmp_path: Path) -> None:
    """What is compared tells the graph from a model whose last weights differ a little."""
    other = CausalLM.open(twins.torch.folder.path)
    with torch.no_grad():
        other.model.lm_head.weight[7, 3] += 0.01
    found = [compare(twins.onnx.network, each).share for each in plan_comparisons(other)]
    assert all(each > TOLERANCE for each in found)


def test_weights_may_stand_in_a_file_of_their_own(tmp_path: Path) -> None:
    """Above the limit they do, and the folder is opened and completes all the same."""
    source = save_folder(tmp_path / "source", random_model("gpt2"), word_tokenizer())
    found = export_causal_lm(source, tmp_path / "new", inline_bytes=0)
    opened = OnnxCausalLM.open(tmp_path / "new", expected_digest=found.digest)
    assert "model.onnx.data" in opened.folder.files
    wanted = CausalLM.open(source).generate(["the cat"], max_new_tokens=5)
    assert opened.generate(["the cat"], max_new_tokens=5) == wanted


def test_a_window_is_compared_beyond_its_end(tmp_path: Path) -> None:
    """Layers that see few tokens keep all of them in the graph, and the mask hides the old."""
    model = MistralForCausalLM(MistralConfig(
        vocab_size=len(VOCABULARY), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
        sliding_window=5, initializer_range=0.3, bos_token_id=1, eos_token_id=2,
    ))  # fmt: skip
    source = save_folder(tmp_path / "source", model, word_tokenizer())
    found = export_causal_lm(source, tmp_path / "new")
    assert [each.tokens for each in found.differences if "window" in each.name] == [8]
    prompts = ["the cat", "a small old fish finds the house and the river"]
    assert OnnxCausalLM.open(tmp_path / "new").generate(prompts, max_new_tokens=20) == \
        CausalLM.open(source).generate(prompts, max_new_tokens=20)  # fmt: skip


def test_logits_that_differ_leave_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the bound, here below every difference, neither the folder nor a half of it stays."""
    source = save_folder(tmp_path / "source", random_model("gpt2"), word_tokenizer())
    monkeypatch.setattr(onnx_export, "TOLERANCE", 0.0)
    with pytest.raises(UnsupportedModel, match="other logits than torch") as caught:
        export_causal_lm(source, tmp_path / "new")
    assert "\n" not in str(caught.value)
    assert [each.name for each in tmp_path.iterdir()] == ["source"]


def _name_code(folder: Path) -> None:
    path = folder / "config.json"
    named = {"auto_map": {"AutoModelForCausalLM": "modeling.Model"}}
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | named), "utf-8")


def _pickle_weights(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": 1.0}))


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (_name_code, RefusedModel, "custom-code"),
        (_pickle_weights, RefusedModel, "pickle-content"),
        (lambda folder: (folder.parent / "new").mkdir(), OutputNotWritable, "it exists"),
        (lambda folder: (folder.parent / "new").symlink_to("there"), OutputNotWritable, "exists"),
    ],
)
def test_what_must_not_be_opened_or_written_is_refused(
    tmp_path: Path, spoil: Callable[[Path], None], error: type[AuditorError], message: str
) -> None:
    """One line, and nothing is written."""
    source = save_folder(tmp_path / "source", random_model("gpt2"), word_tokenizer())
    spoil(source)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(error, match=message) as caught:
        export_causal_lm(source, tmp_path / "new")
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("family", "changed", "message"),
    [
        ("mamba", {}, "keeps a state"),
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}},
         "dynamic RoPE"),
        ("llama", {"max_position_embeddings": 3}, "it sees 3 tokens"),
    ],
)  # fmt: skip
def test_what_a_graph_cannot_express_is_refused(
    tmp_path: Path, family: Family, changed: dict[str, Any], message: str
) -> None:
    """One line with the way out, and nothing is written."""
    source = save_folder(tmp_path / "source", random_model(family), word_tokenizer())
    path = source / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changed), "utf-8")
    with pytest.raises(UnsupportedModel, match=rf"{message}.*; audit the folder itself") as caught:
        export_causal_lm(source, tmp_path / "new")
    assert "\n" not in str(caught.value)
    assert [each.name for each in tmp_path.iterdir()] == ["source"]


def test_what_the_exporter_refuses_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Here control flow on a position; its pages of advice do not reach the terminal."""
    monkeypatch.setattr(onnx_export, "_STRETCHED", frozenset())
    test_what_a_graph_cannot_express_is_refused(
        tmp_path, "llama",
        {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}},
        "the exporter refuses it",
    )  # fmt: skip
    assert capfd.readouterr() == ("", "")
