"""Small random mixture-of-experts models of many families, hidden and inner sizes different."""

from __future__ import annotations

from typing import Any, Final

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

EXPERTS: Final = 6
CHOSEN: Final = 2
VOCABULARY: Final = 64

_BUILD: Final[Any] = AutoModelForCausalLM.from_config  # has no types

_COMMON: Final[dict[str, Any]] = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 24,
    "moe_intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "num_experts": EXPERTS,
    "num_local_experts": EXPERTS, "n_routed_experts": EXPERTS, "num_experts_per_tok": CHOSEN,
    "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "shared_expert_intermediate_size": 24, "n_shared_experts": 1, "first_k_dense_replace": 1,
    "n_group": 2, "topk_group": 1, "kv_lora_rank": 8, "q_lora_rank": 8, "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8, "v_head_dim": 8, "decoder_sparse_step": 1, "mlp_only_layers": [],
}  # fmt: skip
_SPECIAL: Final[dict[str, dict[str, Any]]] = {
    "aria_text": {"moe_num_experts": EXPERTS, "moe_topk": CHOSEN},
    "gemma4_text": {
        "vocab_size_per_layer_input": VOCABULARY, "hidden_size_per_layer_input": 8,
        "enable_moe_block": True, "top_k_experts": CHOSEN, "num_kv_shared_layers": 0,
    },
}  # fmt: skip


GROUPED: Final[dict[str, Any]] = {
    "num_experts": 8, "num_local_experts": 8, "n_routed_experts": 8, "n_group": 2, "topk_group": 1,
    "num_experts_per_tok": 3,
}  # fmt: skip
"""For families that choose groups first: two of four experts, of one of which a token gets three.
With two of a group masked, no expert is left to be its third."""


def small_config(family: str, **changed: Any) -> Any:
    """A configuration of a family; what it does not know of the common settings is left out."""
    kind: Any = CONFIG_MAPPING[family]
    known = {*kind.__dataclass_fields__, *kind.attribute_map}
    latent = {"num_key_value_heads": 4} if "kv_lora_rank" in known else {}
    wanted = {**_COMMON, **latent, **_SPECIAL.get(family, {}), **changed}
    return kind(**{name: value for name, value in wanted.items() if name in known})


def small_moe(family: str, seed: int = 0, **changed: Any) -> Any:
    """A random model of a family in evaluation mode, its routers' numbers spread wide."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = _BUILD(small_config(family, **changed)).eval()
        with torch.no_grad():
            for name, weight in (*model.named_parameters(), *model.named_buffers()):
                # Routers start at zero in some families, and all experts alike in others.
                if weight.is_floating_point() and "inv_freq" not in name and "norm" not in name:
                    weight.copy_(torch.randn_like(weight) * 0.2)
    return model
