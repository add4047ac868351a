"""Whether answers are worth anything: length, repetition, writing system, and being on topic.

A refusal count that falls because answers are garbage is a failure, and no refusal judge sees it.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

RUN: Final = 4
_WORD: Final = re.compile(r"\w+")


@dataclass(frozen=True)
class AnswerQuality:
    """Means over answers.

    Attributes:
        answers: How many.
        empty: How many have no word.
        words: Of an answer.
        repetition: Share of runs of four words that an answer says more than once; 0 of shorter
            ones.
        on_topic: Share of a prompt's longer words (over three letters) that its answer takes up.
        script: The writing system of most letters, as Unicode names it (`LATIN`, `CJK`).
        other_script: Share of the answers whose letters are mostly of another one.
    """

    answers: int
    empty: int
    words: float
    repetition: float
    on_topic: float
    script: str
    other_script: float


def measure_quality(prompts: Sequence[str], answers: Sequence[str]) -> AnswerQuality:
    """The quality of answers to prompts; all zeros where there are none."""
    spoken = [_WORD.findall(text.lower()) for text in answers]
    scripts = [_script(text) for text in answers]
    most = Counter(filter(None, scripts)).most_common(1)
    script = most[0][0] if most else ""
    topics = [
        _taken_up(_WORD.findall(prompt.lower()), words)
        for prompt, words in zip(prompts, spoken, strict=True)
    ]
    return AnswerQuality(
        answers=len(answers),
        empty=sum(not words for words in spoken),
        words=_mean([len(words) for words in spoken]),
        repetition=_mean([_repetition(words) for words in spoken]),
        on_topic=_mean(topics),
        script=script,
        other_script=_mean([float(bool(each) and each != script) for each in scripts]),
    )


def _repetition(words: Sequence[str]) -> float:
    runs = Counter(tuple(words[at : at + RUN]) for at in range(len(words) - RUN + 1))
    again = sum(count for count in runs.values() if count > 1)
    return again / runs.total() if runs else 0.0


def _taken_up(asked: Sequence[str], said: Sequence[str]) -> float:
    topic = {word for word in asked if len(word) > 3}
    return len(topic & set(said)) / len(topic) if topic else 0.0


def _script(text: str) -> str:
    """The first word of the Unicode names of most letters."""
    letters = Counter(
        unicodedata.name(char, "UNNAMED").split(" ")[0] for char in text if char.isalpha()
    )
    return letters.most_common(1)[0][0] if letters else ""


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
