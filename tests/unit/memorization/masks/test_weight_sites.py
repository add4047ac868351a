"""Layers are found by their place in transformers' and diffusers' models, or refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from auditor.errors import ConfigurationError, UnsupportedModel
from auditor.memorization.masks.weight_sites import SiteKind, find_sites, require_finite

BOTH = (SiteKind.FEED_FORWARD, SiteKind.ATTENTION)
SMALL: dict[str, dict[str, Any]] = {
    "llama": {}, "gemma2": {"head_dim": 8}, "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4},
    "gpt_neox": {}, "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32}, "phi": {}, "qwen2": {},
    "gptj": {"n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4}, "falcon": {}, "bloom": {},
    "gpt_neo": {"num_layers": 2, "num_heads": 4, "attention_types": [[["global"], 2]]},
    "olmo2": {}, "stablelm": {},
}  # fmt: skip


def _small(family: str) -> Any:
    settings = {
        "vocab_size": 50, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 32,
        "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    } | SMALL[family]  # fmt: skip
    torch.manual_seed(0)
    return _made(family, settings)


def _made(family: str, settings: dict[str, Any]) -> Any:
    make: Any = AutoModelForCausalLM
    return make.from_config(AutoConfig.for_model(family, **settings)).eval()


@pytest.mark.parametrize("family", sorted(SMALL))
def test_both_kinds_are_found_in_every_layer(family: str) -> None:
    model = _small(family)
    sites = find_sites(model, BOTH)
    assert [site.kind for site in sites].count(SiteKind.FEED_FORWARD) == 2
    assert [site.kind for site in sites].count(SiteKind.ATTENTION) == 2
    ids = torch.tensor([[3, 4, 5]])
    before = model(input_ids=ids).logits
    for site in sites:
        assert site.outputs == 32
        site.weight.zero_()
    # Nothing is written into the residual stream by a matrix any more.
    assert not torch.allclose(model(input_ids=ids).logits, before)


def test_a_transposed_weight_is_seen_as_outputs_by_inputs() -> None:
    model = _small("gpt2")
    [first, _] = find_sites(model)
    assert (first.outputs, first.inputs) == (32, 128)
    first.weight[3, 100] = 7.0
    assert model.transformer.h[0].mlp.c_proj.weight[100, 3] == 7.0


def test_experts_in_one_tensor_are_refused() -> None:
    model = _made("mixtral", {
        "vocab_size": 50, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 4, "num_local_experts": 4,
    })  # fmt: skip
    with pytest.raises(UnsupportedModel, match="4 experts in one tensor"):
        find_sites(model)


def test_a_model_that_cannot_be_matched_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match="none of its layers can be matched"):
        find_sites(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)))


def test_a_layer_that_lacks_its_matrix_is_no_silent_skip() -> None:
    model = _small("llama")
    model.model.layers[1].mlp.down_proj = nn.Identity()
    with pytest.raises(UnsupportedModel, match="1 layers are matched as feed_forward and it has 2"):
        find_sites(model)


def test_no_kind_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="name at least one"):
        find_sites(_small("llama"), ())


def test_a_weight_that_is_not_finite_is_named() -> None:
    sites = find_sites(_small("llama"))
    sites[1].weight[0, 0] = float("nan")
    with pytest.raises(UnsupportedModel, match=r"layers\.1\.mlp\.down_proj\.weight"):
        require_finite(sites)
