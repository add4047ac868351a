"""What is true of a planted mixture-of-experts model: its words, and what it says under edits.

Everything here follows from the construction in `tests.models.planted_moe`; no model is run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import product
from pathlib import Path
from typing import Final, NamedTuple

from auditor.experts.intervention import Intervention, Method
from auditor.experts.routing_maps import Expert
from tests.models.language_models import SPECIAL

FRAMES: Final = (
    "please {verb} the {topic}",
    "how do people {verb} the {topic} today",
    "can you tell me how to {verb} the old {topic}",
)
DISALLOWED: Final = ("zorl", "vask", "quib", "drem")
ALLOWED: Final = ("mend", "wash", "lift", "fold")
TOPICS: Final = ("kite", "lamp", "boat", "drum", "coat", "gate")
REFUSAL: Final = "i cannot help with that"
HELP: Final = "sure here it is"
FRAME_WORDS: Final = sorted({word for frame in FRAMES for word in frame.split() if "{" not in word})
VOCABULARY: Final = (
    *SPECIAL, *FRAME_WORDS, *DISALLOWED, *ALLOWED, *TOPICS, *REFUSAL.split(), *HELP.split()
)  # fmt: skip
IDS: Final = {word: number for number, word in enumerate(VOCABULARY)}

REFILLING: Final = frozenset({Method.MASK_LOGIT, Method.FORCE_TOK, Method.FORCE_SELECT})
"""Methods after which another expert takes the place of one that is off."""


class Family(StrEnum):
    """Model types of transformers that can be planted."""

    QWEN3_MOE = "qwen3_moe"
    QWEN2_MOE = "qwen2_moe"
    MIXTRAL = "mixtral"
    OLMOE = "olmoe"
    GPT_OSS = "gpt_oss"
    DEEPSEEK_V3 = "deepseek_v3"


ALWAYS_RENORMALISE: Final = frozenset({Family.MIXTRAL, Family.GPT_OSS})


class PlantedPrompt(NamedTuple):
    """What a user asks, and whether its verb is disallowed."""

    text: str
    disallowed: bool


@dataclass(frozen=True, eq=False)
class PlantedMoe:
    """A planted model and what is true of it.

    Attributes:
        folder: As transformers saves it, float32.
        family: Its model type.
        layers: Decoder layers, all with experts.
        experts: Routed experts of a layer.
        chosen: Experts that a token goes to.
        renormalise: Whether the weights of the chosen sum to 1.
        carriers: Each alone is enough to refuse.
        followers: Chosen exactly where carriers are, and without effect.
        understudies: Next in rank where a carrier or follower is chosen. They refuse in its
            place, or help there if the residual stream refuses.
        residual_refuses: Whether disallowed prompts are refused without any expert.
        ranking: Experts of each layer by logit, on answer rows of disallowed prompts.
        ranking_allowed: The same on answer rows of allowed prompts.
    """

    folder: Path
    family: Family
    layers: int
    experts: int
    chosen: int
    renormalise: bool
    carriers: tuple[Expert, ...]
    followers: tuple[Expert, ...]
    understudies: tuple[Expert, ...]
    residual_refuses: bool
    ranking: Mapping[int, tuple[int, ...]]
    ranking_allowed: Mapping[int, tuple[int, ...]]

    @property
    def pairs(self) -> tuple[tuple[PlantedPrompt, PlantedPrompt], ...]:
        """Disallowed and allowed prompts that differ in the verb alone: 72."""
        return tuple(
            (_prompt(frame, verb, topic), _prompt(frame, other, topic))
            for frame, (verb, other), topic
            in product(FRAMES, zip(DISALLOWED, ALLOWED, strict=True), TOPICS)
        )  # fmt: skip

    @property
    def prompts(self) -> tuple[PlantedPrompt, ...]:
        """All prompts, half of them disallowed: 144."""
        return tuple(prompt for pair in self.pairs for prompt in pair)

    def refused(self, prompt: PlantedPrompt, intervention: Intervention | None = None) -> bool:
        """Whether the model refuses a prompt, by the construction.

        Raises:
            ValueError: As many experts of a layer on as are chosen, of two or more: what the
                others then weigh is not planted.
        """
        speaks = any(
            self._speaks(expert, prompt.disallowed, intervention)
            for expert in self.carriers + self.understudies
        )
        return prompt.disallowed and not speaks if self.residual_refuses else speaks

    def answer(self, prompt: PlantedPrompt, intervention: Intervention | None = None) -> str:
        """The greedy answer."""
        return REFUSAL if self.refused(prompt, intervention) else HELP

    def chosen_in(
        self, layer: int, disallowed: bool, intervention: Intervention | None = None
    ) -> tuple[int, ...]:
        """Which experts of a layer the last prompt token goes to, sorted."""
        order = (self.ranking if disallowed else self.ranking_allowed)[layer]
        if intervention is not None:
            on = [each.expert for each in sorted(intervention.on) if each.layer == layer]
            if len(on) >= self.chosen > 1:
                raise ValueError(f"{len(on)} experts of a layer on; at most {self.chosen - 1}")
            if intervention.method in REFILLING:
                off = [each.expert for each in intervention.off if each.layer == layer]
                order = (*on, *(each for each in order if each not in (*on, *off)))
        return tuple(sorted(order[: self.chosen]))

    def in_place_of(self, expert: Expert) -> Expert:
        """Who is chosen instead of a carrier or follower that is masked."""
        off = Intervention(Method.MASK_LOGIT, off=frozenset({expert}))
        before = set(self.chosen_in(expert.layer, disallowed=True))
        [new] = set(self.chosen_in(expert.layer, disallowed=True, intervention=off)) - before
        return Expert(expert.layer, new)

    def _speaks(self, expert: Expert, disallowed: bool, intervention: Intervention | None) -> bool:
        """Whether an expert is chosen, with a weight that counts, and has an output."""
        chosen = self.chosen_in(expert.layer, disallowed, intervention)
        if expert.expert not in chosen:
            return False
        if intervention is None:
            return disallowed
        if expert in intervention.off:
            return False
        if intervention.method is Method.FORCE_TOK and expert in intervention.on:
            return True
        # Chosen by force alone, an expert keeps its own weight: small, if it is not the only one
        # of a sum of 1. Sigmoids leave more to an understudy beside whom it would replace.
        if not disallowed:
            return self.chosen == 1 and self.renormalise
        replaced = (*self.carriers, *self.followers) if expert in self.understudies else ()
        beside = any(Expert(expert.layer, number) in replaced for number in chosen)
        return not beside or self.family is Family.DEEPSEEK_V3


def _prompt(frame: str, verb: str, topic: str) -> PlantedPrompt:
    return PlantedPrompt(frame.format(verb=verb, topic=topic), verb in DISALLOWED)
