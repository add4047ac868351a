"""Routers are found by what they do, in every family that transformers can build small."""

from __future__ import annotations

from typing import Any, Final

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from auditor.errors import UnsupportedModel
from auditor.experts.routers import Form, find_routers
from tests.models.moe_families import CHOSEN, EXPERTS, small_moe

FAMILIES = (
    "afmoe", "aria_text", "axk1", "axk2", "bailing_hybrid", "cohere2_moe", "deepseek_v2",
    "deepseek_v3", "deepseek_v32", "deepseek_v4", "dots1", "ernie4_5_moe", "exaone_moe",
    "flex_olmo", "gemma4_text", "glm4_moe", "glm4_moe_lite", "glm_moe_dsa", "gpt_oss",
    "granitemoe", "granitemoeshared", "hunyuan_v1_moe", "hy_v3", "jamba", "kimi_linear", "laguna",
    "llama4_text", "mellum", "mimo_v2_flash", "minimax", "minimax_m2", "mixtral", "nemotron_h",
    "olmoe", "phimoe", "qwen2_moe", "qwen3_5_moe_text", "qwen3_moe", "qwen3_next", "solar_open",
)  # fmt: skip

LONGCAT: Final = {"num_layers": 2, "expert_ffn_hidden_size": 24, "ffn_hidden_size": 24,
                  "moe_topk": CHOSEN}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_every_layer_with_experts_is_matched(family: str) -> None:
    model = small_moe(family)
    routed = find_routers(model)
    assert {(each.expert_count, each.chosen) for each in routed.routers} == {(EXPERTS, CHOSEN)}
    assert routed.coverage.layers == routed.coverage.expected_layers == len(routed.layers) >= 1
    held = sum(
        weight.numel() for name, weight in model.named_parameters()
        if ".experts." in name and "shared" not in name
    )  # fmt: skip
    assert routed.coverage.expert_parameters == held > 0


def test_names_do_not_matter() -> None:
    """A router of another class and under another name is found all the same."""

    class Signpost(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.table = inner

        def forward(self, hidden: torch.Tensor) -> Any:
            return self.table(hidden)

    model = small_moe("mixtral")
    for layer in model.model.layers:
        layer.mlp.gate = Signpost(layer.mlp.gate)
    assert find_routers(model).layers == (0, 1, 2)


def test_how_the_scores_are_made_is_seen() -> None:
    softmax = {family: {each.softmax for each in find_routers(small_moe(family)).routers}
               for family in ("mixtral", "gpt_oss", "deepseek_v3", "llama4_text")}  # fmt: skip
    assert softmax == {
        "mixtral": {True}, "gpt_oss": {True}, "deepseek_v3": {False}, "llama4_text": {False}
    }  # fmt: skip
    assert {each.form for each in find_routers(small_moe("llama4_text")).routers} == {Form.DENSE}


def test_a_dense_model_has_no_routed_experts() -> None:
    model = GPT2LMHeadModel(GPT2Config(vocab_size=32, n_embd=8, n_layer=1, n_head=2))
    with pytest.raises(UnsupportedModel, match="no routed experts: it is a dense model"):
        find_routers(model)


def test_experts_that_cannot_be_counted_are_not_called_a_dense_model() -> None:
    """Two more experts without weights of their own: the tensors are of eight and of six."""
    with pytest.raises(
        UnsupportedModel,
        match=r"layers\.0\.mlp\.experts holds experts that cannot be counted: .* fits all of "
        r"gate_up_proj \[8, .*\], down_proj \[6, ",
    ):
        find_routers(small_moe("longcat_flash", zero_expert_num=2, **LONGCAT))
    assert find_routers(small_moe("longcat_flash", zero_expert_num=0, **LONGCAT)).layers == (0, 1)


def test_experts_in_a_layer_of_another_number_are_not_left_out() -> None:
    """Other layers are matched; that one is named, for nothing is measured of a part of a model."""
    model, other = small_moe("mixtral"), small_moe("mixtral", num_experts=5, num_local_experts=5)
    model.model.layers[1] = other.model.layers[1]
    with pytest.raises(
        UnsupportedModel, match=r"layers\.1\.mlp\.experts holds experts that cannot"
    ):
        find_routers(model)


def test_a_router_that_cannot_be_matched_is_an_error() -> None:
    class Mean(nn.Module):
        """Experts that are used without any choice."""

        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.experts = inner

        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            every: Any = self.experts
            return torch.einsum("bsh,eih->bsi", hidden, every.gate_up_proj)[..., : hidden.shape[2]]

    model = small_moe("mixtral")
    model.model.layers[1].mlp = Mean(model.model.layers[1].mlp.experts)
    with pytest.raises(UnsupportedModel, match=r"no router can be matched with .*layers\.1"):
        find_routers(model)


def test_fewer_layers_than_the_configuration_implies_is_an_error() -> None:
    model = small_moe("qwen3_moe")
    model.model.layers[2].mlp = nn.Identity()
    with pytest.raises(UnsupportedModel, match=r"2 layers .* implies 3"):
        find_routers(model)
