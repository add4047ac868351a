"""Tiny mixture-of-experts models of six families, and their exports to ONNX.

Hidden size and the experts' inner size differ, so that a tensor taken the wrong way round fails.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
import onnx
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor

VOCABULARY: Final = 61
_COMMON: Final[dict[str, Any]] = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "num_experts_per_tok": 2,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
_QWEN: Final = {"intermediate_size": 40, "moe_intermediate_size": 24, "num_experts": 6}
_LOCAL: Final = {"intermediate_size": 24, "num_local_experts": 6}

FAMILIES: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "mixtral": ("MixtralConfig", _LOCAL),
    "olmoe": ("OlmoeConfig", {"intermediate_size": 24, "num_experts": 6}),
    "qwen2_moe": ("Qwen2MoeConfig", {**_QWEN, "shared_expert_intermediate_size": 20}),
    "qwen3_moe": ("Qwen3MoeConfig", {**_QWEN, "head_dim": 8, "norm_topk_prob": False}),
    "qwen3_moe_normalised": ("Qwen3MoeConfig", {**_QWEN, "head_dim": 8, "norm_topk_prob": True}),
    "gpt_oss": ("GptOssConfig", {**_LOCAL, "head_dim": 8, "sliding_window": 16}),
    "deepseek_v3": ("DeepseekV3Config", {
        "num_hidden_layers": 3, "num_key_value_heads": 4, "num_experts_per_tok": 3,
        "intermediate_size": 40, "moe_intermediate_size": 24, "n_routed_experts": 12, "n_group": 4,
        "topk_group": 2, "first_k_dense_replace": 1, "q_lora_rank": 16, "kv_lora_rank": 16,
        "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8,
        "routed_scaling_factor": 2.5,
    }),
}  # fmt: skip
"""Name of the configuration's class, and what it is given beside `_COMMON`."""


@dataclass(frozen=True, eq=False)
class Exported:
    """A random model and its export; do not change either."""

    model: Any
    proto: onnx.ModelProto

    @property
    def layers(self) -> list[int]:
        """The decoder layers that have experts."""
        return [number for number, _ in enumerate(self.model.model.layers)
                if self.router(number) is not None]  # fmt: skip

    def router(self, layer: int) -> Any:
        """The router of a decoder layer, or None."""
        block = self.model.model.layers[layer].mlp
        return getattr(block, "gate", getattr(block, "router", None))

    def logits(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """What the model says, [prompts, tokens, vocabulary]."""
        with torch.no_grad():
            return np.asarray(self.model(torch.from_numpy(ids), use_cache=False).logits)


class _Whole(torch.nn.Module):
    """Token ids and a mask in, logits out."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        found = self.model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)
        logits: Tensor = found.logits
        return logits


def random_routed(family: str, seed: int = 0) -> Any:
    """A model of a family with weights large enough that its choices differ between tokens."""
    torch.manual_seed(seed)
    name, own = FAMILIES[family]
    make: Any = transformers.AutoModelForCausalLM.from_config
    model = make(getattr(transformers, name)(**{**_COMMON, **own})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.2)
        for name, buffer in model.named_buffers():
            if name.endswith("e_score_correction_bias"):
                buffer.uniform_(0.0, 0.3)
    return model


@cache
def exported(family: str, dtype: torch.dtype = torch.float32, *, optimize: bool = True) -> Exported:
    """A random model and its export, with any number of prompts and tokens; made once."""
    model = random_routed(family).to(dtype)
    model.set_experts_implementation("batched_mm")
    return Exported(model, _export(model, optimize))


def _export(model: Any, optimize: bool) -> onnx.ModelProto:
    """Token ids and attention mask to logits, as a graph of standard operators."""
    ids = torch.ones((2, 7), dtype=torch.int64)
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("tokens")}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # of torch's own exporter, about itself
        program = torch.onnx.export(
            _Whole(model), (ids, torch.ones_like(ids)), dynamo=True, verbose=False,
            optimize=optimize,
            dynamic_shapes={"input_ids": axes, "attention_mask": axes},
        )  # fmt: skip
    assert program is not None
    proto: onnx.ModelProto = program.model_proto
    return proto


def random_ids(shape: Sequence[int], seed: int = 0) -> NDArray[np.int64]:
    """Token ids of prompts without padding."""
    return np.random.default_rng(seed).integers(3, VOCABULARY, tuple(shape))
