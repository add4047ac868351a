"""Asking models of transformers folders the same prompts in the same way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from auditor.language.causal_lm import CausalLM
from auditor.trace.drift import Generate


@dataclass(frozen=True)
class Asking:
    """How prompts are put.

    Attributes:
        new_tokens: Of a completion at most.
        seed: Of sampling, the same for every model.
        temperature: 0 takes the likeliest token.
        chat: Whether the tokenizer's chat template is used where there is one.
    """

    new_tokens: int = 64
    seed: int = 0
    temperature: float = 0.0
    chat: bool = True


def asker(folder: Path, asking: Asking, device: str = "cpu") -> Generate:
    """Completions by the model of a folder, which is opened at once.

    Raises:
        As `CausalLM.open`.
    """
    model = CausalLM.open(folder, device)

    def ask(prompts: Sequence[str]) -> list[str]:
        texts = [model.chat(each) if asking.chat else each for each in prompts]
        found = model.generate(
            texts, max_new_tokens=asking.new_tokens, seed=asking.seed,
            temperature=asking.temperature,
        )  # fmt: skip
        return [each.text for each in found]

    return ask
