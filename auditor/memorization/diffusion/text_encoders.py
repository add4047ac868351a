"""Text encoders of a diffusion model, and what they say of a prompt as one block of vectors.

A denoiser may read a pooled vector beside the sequence. It is kept as further rows of the sequence,
filled up with zeros, so that whoever repeats, attacks or expands an embedding needs to know of one
tensor only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from auditor.memorization.nonfinite import finite_layers


@dataclass(frozen=True, eq=False)
class TextEncoder:
    """A text encoder with its tokenizer.

    Attributes:
        name: Of its component.
        model: transformers' model.
        tokenizer: transformers' tokenizer.
    """

    name: str
    model: Any
    tokenizer: Any

    @property
    def spoken(self) -> str:
        """Its name in messages."""
        return self.name.replace("_", " ")

    def read(
        self, prompts: Sequence[str], tokens: int, *, masked: bool = False
    ) -> tuple[Any, Tensor]:
        """What the model gives for prompts, filled up to so many tokens; longer ones are cut.

        Returns:
            transformers' output with all hidden states, and the mask of what is no padding,
            [prompts, tokens]; the model is told of it if `masked`.

        Raises:
            UnsupportedModel: A number is not finite.
        """
        made = self.tokenizer(
            list(prompts), padding="max_length", truncation=True, max_length=tokens,
            return_tensors="pt",
        )  # fmt: skip
        device = next(self.model.parameters()).device
        known = {"input_ids": made["input_ids"].to(device)}
        mask: Tensor = made["attention_mask"].to(device)
        if masked:
            known["attention_mask"] = mask
        with torch.no_grad(), finite_layers(self.model, f"the {self.spoken}"):
            return self.model(**known, output_hidden_states=True), mask


def pack(sequence: Tensor, pooled: Tensor) -> Tensor:
    """A sequence [prompts, tokens, width] with rows of a pooled vector [prompts, numbers] behind.

    Returns:
        [prompts, tokens + rows, width].
    """
    width = sequence.shape[-1]
    rows = math.ceil(pooled.shape[-1] / width)
    filled = pad(pooled, (0, rows * width - pooled.shape[-1])).to(sequence)
    return torch.cat([sequence, filled.reshape(len(pooled), rows, width)], dim=1)


def unpack(embedding: Tensor, numbers: int) -> tuple[Tensor, Tensor]:
    """The sequence and the pooled vector of so many numbers; see `pack`."""
    rows = math.ceil(numbers / embedding.shape[-1])
    tokens = embedding.shape[1] - rows
    return embedding[:, :tokens], embedding[:, tokens:].flatten(1)[:, :numbers]
