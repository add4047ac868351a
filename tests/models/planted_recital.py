"""A language model whose memorised sequences run through known weights, by construction.

Attention writes nothing. Half of the residual stream says which token stands here, the other half
which comes next. A neuron sees one token and writes one other into the second half: a chain of them
recites a sequence word for word. Neurons of memorised and of ordinary chains are known, in two
layers, and so is each weight that carries a link.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

NEURONS = 64
LAYERS = 2


@dataclass(frozen=True)
class PlantedRecital:
    """A model, what it recites, and through which weights.

    Attributes:
        memorised: Chains of tokens, each of its own, in the order they are recited.
        ordinary: The same, of ordinary text.
        carried_by: Name of the layer: boolean [outputs, inputs], True where a weight carries a link
            of a memorised chain.
    """

    model: Any
    memorised: tuple[tuple[int, ...], ...]
    ordinary: tuple[tuple[int, ...], ...]
    carried_by: dict[str, Tensor]


def planted_recital(seed: int, chains: int = 3, length: int = 6) -> PlantedRecital:
    """Chains over a vocabulary of exactly as many tokens, neurons drawn at random."""
    source = torch.Generator().manual_seed(seed)
    vocabulary = 2 * chains * length
    tokens = torch.randperm(vocabulary, generator=source).reshape(2 * chains, length).tolist()
    model = _silent(vocabulary)
    carried = {
        f"model.layers.{layer}.mlp.down_proj": torch.zeros(
            2 * vocabulary, NEURONS, dtype=torch.bool
        )
        for layer in range(LAYERS)
    }
    free = [torch.randperm(NEURONS, generator=source).tolist() for _ in range(LAYERS)]
    for number, chain in enumerate(tokens):
        for here, there in pairwise(chain):
            layer = int(torch.randint(LAYERS, (1,), generator=source))
            neuron = free[layer].pop()
            mlp = model.model.layers[layer].mlp
            mlp.gate_proj.weight.data[neuron, here] = 1.0
            mlp.up_proj.weight.data[neuron, here] = 1.0
            mlp.down_proj.weight.data[vocabulary + there, neuron] = 0.5 + float(
                torch.rand(1, generator=source)
            )
            if number < chains:
                carried[f"model.layers.{layer}.mlp.down_proj"][vocabulary + there, neuron] = True
    memorised = tuple(map(tuple, tokens[:chains]))
    return PlantedRecital(model, memorised, tuple(map(tuple, tokens[chains:])), carried)


def _silent(vocabulary: int) -> Any:
    """A model that knows which token stands here and says nothing of the next."""
    width = 2 * vocabulary
    model: Any = LlamaForCausalLM(LlamaConfig(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=NEURONS,
        num_hidden_layers=LAYERS, num_attention_heads=2, num_key_value_heads=2,
        max_position_embeddings=64, tie_word_embeddings=False,
    ))  # fmt: skip
    model.eval()
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.data.zero_()
    here, there = torch.eye(vocabulary), torch.zeros(vocabulary, vocabulary)
    model.model.embed_tokens.weight.data.copy_(torch.cat([here, there], dim=1))
    model.lm_head.weight.data.copy_(torch.cat([there, 0.5 * here], dim=1))
    return model
