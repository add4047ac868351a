"""A capability proxy: multiple-choice accuracy, each choice scored by its mean log-likelihood.

It says whether a change broke what the model could do, on questions the user brings; it is no
benchmark of a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from auditor.errors import InvalidText, NothingToAudit
from auditor.json_lines import read_json_lines


class Scores(Protocol):
    """A model that says how likely the tokens of texts are."""

    def encode(self, text: str) -> list[int]:
        """Token ids."""

    def token_nll(self, texts: Sequence[str]) -> list[NDArray[np.float64]]:
        """Nats of each token of each text."""


@dataclass(frozen=True)
class Question:
    """A question, its choices, and the position of the right one."""

    text: str
    choices: tuple[str, ...]
    right: int


def read_questions(path: Path) -> list[Question]:
    """Questions of a JSON-lines file: `question`, `choices` (a list of texts), `answer` (position).

    Raises:
        FileMissing: There is no such file.
        InvalidText: A line is not such a question; names it.
        NothingToAudit: There are no lines.
    """
    found = []
    for line in read_json_lines(path, "questions"):
        choices, right = line.fields.get("choices"), line.fields.get("answer")
        if not isinstance(choices, list) or len(choices) < 2 or not all(
            isinstance(each, str) and each for each in choices
        ):  # fmt: skip
            raise InvalidText(line.place, "no field 'choices' with a list of two texts or more")
        if type(right) is not int or not 0 <= right < len(choices):
            raise InvalidText(
                line.place,
                f"no field 'answer' with the position of a choice, 0 to {len(choices) - 1}",
            )
        if not line.text("question").strip():
            raise InvalidText(line.place, "field 'question' is empty")
        found.append(Question(line.text("question"), tuple(choices), right))
    if not found:
        raise NothingToAudit(f"{path} holds no questions")
    return found


def answer_questions(model: Scores, questions: Sequence[Question]) -> list[bool]:
    """Whether the likeliest choice by mean nats of its tokens is the right one, in order."""
    start = len(model.encode(""))  # the token before every text, which has no nats
    texts = [f"{each.text} {choice}" for each in questions for choice in each.choices]
    nats = iter(model.token_nll(texts))
    found = []
    for each in questions:
        asked = len(model.encode(each.text)) - start
        scores = [float(np.nanmean(_tail(next(nats), asked))) for _ in each.choices]
        found.append(int(np.argmin(scores)) == each.right)
    return found


def _tail(nats: NDArray[np.float64], asked: int) -> NDArray[np.float64]:
    """The tokens of the choice; the last one where the tokenizer joins it with the question."""
    return nats[min(asked, len(nats) - 1) :]
