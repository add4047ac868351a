"""Refusals counted without generating: by the first token of the answer.

The tokens that refusals of a model begin with are taken from its own answers, judged as whole
texts. What the first token misses (refusals that come later, answers that are garbage) is why its
agreement with the judge stands beside every count, and why a repair is judged on whole answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auditor.errors import NothingToAudit
from auditor.intervals import Share
from auditor.language.language_model import NextTokenModel

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Answer:
    """A model's answer to a prompt.

    Attributes:
        token_ids: What it wrote.
        refused: Whether the judge calls it a refusal.
    """

    token_ids: tuple[int, ...]
    refused: bool

    @property
    def first(self) -> int | None:
        """Its first token; none if it is empty."""
        return self.token_ids[0] if self.token_ids else None


@dataclass(frozen=True, eq=False)
class RefusalMeter:
    """Counts first-token refusals of a model, under whatever intervention is in force.

    Attributes:
        model: The model.
        tokens: The first tokens of its refusals.
        agreement: Of the answers it is made of: how many the first token tells as the
            judge does.
        batch_size: Prompts at once.
    """

    model: NextTokenModel
    tokens: tuple[int, ...]
    agreement: Share
    batch_size: int = 64

    def refused(self, prompts: Sequence[str]) -> Bools:
        """Whether the likeliest first token of each answer is one of a refusal, [prompts].

        Args:
            prompts: As the model is asked, up to where the answer begins.
        """
        if not prompts:
            return np.zeros(0, dtype=np.bool_)
        logs = self.model.next_token_log_probabilities(prompts, batch_size=self.batch_size)
        return np.isin(logs.argmax(axis=1), self.tokens)

    def told(self, answers: Sequence[Answer]) -> tuple[Share, Share]:
        """Of refusals and of other answers, how many the first token tells as the judge does.

        The shares stand apart: where refusals are rare, missing all of them is nearly agreeing.
        """
        hits, totals = Counter[bool](), Counter[bool]()
        for each in answers:
            totals[each.refused] += 1
            hits[each.refused] += (each.first in self.tokens) == each.refused
        return Share(hits[True], totals[True]), Share(hits[False], totals[False])


def learn_meter(
    model: NextTokenModel, answers: Sequence[Answer], batch_size: int = 64
) -> RefusalMeter:
    """A meter whose tokens begin a larger share of refusals than of other answers.

    Where no token does, the meter has none and tells no refusal: `RefusalMeter.told` shows it.

    Args:
        model: The model that answered.
        answers: Judged; at least one refusal and one other answer, empty ones count as others.
        batch_size: Prompts at once.

    Raises:
        NothingToAudit: No refusals, or nothing else: there is no behaviour to study.
    """
    refusals = sum(each.refused for each in answers)
    if not 0 < refusals < len(answers):
        raise NothingToAudit(
            f"{refusals} of {len(answers)} answers refuse; both refusals and other answers are "
            "needed, or there is no behaviour to study"
        )
    said = Counter(each.first for each in answers if each.refused)
    else_said = Counter(each.first for each in answers if not each.refused)
    # Shares within each side, so that the rarer side is not outvoted.
    tokens = tuple(sorted(
        token for token, count in said.items()
        if token is not None and count / refusals > else_said[token] / (len(answers) - refusals)
    ))  # fmt: skip
    right = sum((each.first in tokens) == each.refused for each in answers)
    return RefusalMeter(model, tokens, Share(right, len(answers)), batch_size)
