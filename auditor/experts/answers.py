"""Judged answers with their tokens, and sets of prompts that never meet.

Experts are ranked on some prompts, chosen or removed on others, and a repair is reported on a
third, held-out set. Halves are split by a hash of each prompt's group, so that pairs stay whole and
another run splits alike; prompts without a group by their words, so that none is in both halves.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from auditor.errors import ConfigurationError
from auditor.language.asking import Asking, as_asked, complete
from auditor.language.causal_lm import CausalLM
from auditor.language.prompts import Prompt
from auditor.language.refusal import Behaviour, RefusalJudge

_WORDS: Final = re.compile(r"\w+")


class Asked(NamedTuple):
    """A prompt and what became of it.

    Attributes:
        prompt: As it stands in the file.
        text: As the model was asked.
        answer: Its tokens.
        said: The answer as text.
        behaviour: By the judge.
    """

    prompt: Prompt
    text: str
    answer: tuple[int, ...]
    said: str
    behaviour: Behaviour

    @property
    def refused(self) -> bool:
        """Whether the judge calls it a refusal; an empty answer is none."""
        return self.behaviour is Behaviour.REFUSED


def ask(
    model: CausalLM, prompts: Sequence[Prompt], judge: RefusalJudge, asking: Asking
) -> list[Asked]:
    """Greedy answers to prompts, judged, in order; under whatever intervention is in force."""
    texts = [as_asked(model, each.text, asking) for each in prompts]
    answers = complete(model, texts, asking)
    judged = judge.judge([each.text for each in answers])
    return [
        Asked(prompt, text, answer.token_ids, answer.text, verdict.behaviour)
        for prompt, text, answer, verdict in zip(prompts, texts, answers, judged, strict=True)
    ]


def refusals(asked: Sequence[Asked]) -> NDArray[np.bool_]:
    """Whether each was refused, [prompts]."""
    return np.array([each.refused for each in asked], dtype=np.bool_)


def split_halves(prompts: Sequence[Prompt]) -> tuple[list[Prompt], list[Prompt]]:
    """Prompts to rank on and prompts to choose on; groups and repeated prompts stay whole."""
    halves: tuple[list[Prompt], list[Prompt]] = ([], [])
    for prompt in prompts:
        key = prompt.topic or _plain(prompt.text)
        halves[hashlib.sha256(key.encode()).digest()[0] % 2].append(prompt)
    return halves


def refuse_overlap(
    known: Mapping[str, Sequence[Prompt]], held_out: Mapping[str, Sequence[Prompt]]
) -> None:
    """Refuse a prompt that stands in two sets, or twice in a held-out one.

    Prompts that differ in case and punctuation alone are one. Held-out prompts are counted, so
    that one that stands there twice would pass for more evidence than there is.

    Args:
        known: Prompts to rank and choose on, by the name of their set.
        held_out: Prompts to report on, likewise.

    Raises:
        ConfigurationError: Names both places.
    """
    seen: dict[str, tuple[str, str]] = {}
    for sets, once in ((known, False), (held_out, True)):
        for name, prompts in sets.items():
            for number, each in enumerate(prompts, 1):
                place = f"line {each.line}" if each.line else f"prompt {number}"
                first = seen.setdefault(_plain(each.text), (name, place))
                if first[0] != name or (once and first[1] != place):
                    raise ConfigurationError(
                        f"{place} of {name} is also {first[1]} of {first[0]}; take it out of one "
                        "of them"
                    )


def _plain(text: str) -> str:
    return " ".join(_WORDS.findall(text.lower())) or text
