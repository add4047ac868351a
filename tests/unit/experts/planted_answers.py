"""Answers of planted models, as if they had been asked; what they say follows by construction."""

from __future__ import annotations

from auditor.experts.answers import Asked
from auditor.language.causal_lm import CausalLM
from auditor.language.prompts import Prompt
from auditor.language.refusal import Behaviour
from tests.models.planted_moe import PlantedMoe, PlantedPrompt
from tests.models.planted_moe_record import IDS


def answered(
    moe: PlantedMoe, model: CausalLM, prompt: PlantedPrompt, group: str = "", line: int = 0
) -> Asked:
    """The prompt with the answer of the untouched model."""
    said = moe.answer(prompt)
    behaviour = Behaviour.REFUSED if moe.refused(prompt) else Behaviour.ANSWERED
    ids = tuple(IDS[word] for word in said.split())
    where = Prompt(prompt.text, group=group, line=line)
    return Asked(where, model.chat(prompt.text), ids, said, behaviour)


def answered_pairs(moe: PlantedMoe, model: CausalLM, pairs: int = 72) -> list[Asked]:
    """Both prompts of each of the first pairs, which share a group."""
    return [
        answered(moe, model, prompt, f"pair {number}")
        for number, pair in enumerate(moe.pairs[:pairs]) for prompt in pair
    ]  # fmt: skip
