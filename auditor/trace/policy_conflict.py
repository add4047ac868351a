"""How far texts and the documents they match conflict with a written policy.

Ours, and not the published Belief Conflict Index, which knows no policy. The embedding only
chooses which clauses are asked about; a stance scorer answers. What a refusal says about a
forbidden thing is discounted by how much it refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from auditor.errors import OperationFailed
from auditor.trace.content_policy import ContentPolicy
from auditor.trace.stance import Embed, StanceScorer

NEAREST: Final = 3
"""Clauses that are always asked about, the nearest to the text."""
TOPIC: Final = 0.35
"""Cosine from which on a further clause is asked about."""
KEPT: Final = 100_000

Refuses = Callable[[Sequence[str]], Sequence[float]]
"""How far texts refuse, in [0, 1]."""


class Conflict(NamedTuple):
    """The clause that a text breaks most, and how far, in [0, 1]; 0 and "" if none was asked."""

    score: float
    clause: str


class PolicyConflict:
    """Conflict of texts with the clauses of a policy; answers are kept by text.

    Args:
        policy: The policy.
        embed: Unit vectors of texts, for the choice of clauses.
        stance: Judges the texts.
        refuses: How far texts refuse; nothing is discounted without it.
    """

    def __init__(
        self,
        policy: ContentPolicy,
        embed: Embed,
        stance: StanceScorer,
        refuses: Refuses | None = None,
    ) -> None:
        self.policy, self.embed, self.stance, self.refuses = policy, embed, stance, refuses
        clauses = policy.clauses
        self._topics = np.asarray(embed([each.statement for each in clauses])) if clauses else None
        self._kept: dict[str, Conflict] = {}

    def of(self, texts: Sequence[str]) -> list[Conflict]:
        """The conflict of each text.

        Raises:
            OperationFailed: A judge gives no number in [0, 1], which would compare as harmless.
        """
        new = [text for text in dict.fromkeys(texts) if text and text not in self._kept]
        if len(self._kept) + len(new) > KEPT:
            self._kept.clear()
            new = [text for text in dict.fromkeys(texts) if text]
        self._kept.update(zip(new, self._judge(new), strict=True))
        return [self._kept[text] if text else Conflict(0.0, "") for text in texts]

    def _judge(self, texts: list[str]) -> list[Conflict]:
        clauses = self.policy.clauses
        if not texts or self._topics is None:
            return [Conflict(0.0, "")] * len(texts)
        asked = self._on_topic(texts)
        scores = np.zeros(asked.shape)
        for number, clause in enumerate(clauses):
            rows = np.flatnonzero(asked[:, number])
            if len(rows):
                found = self.stance.score([texts[row] for row in rows], [clause])
                scores[rows, number] = clause.weight * found[:, 0]
        if self.refuses is not None:
            scores *= 1 - np.asarray(self.refuses(texts), dtype=np.float64)[:, None]
        if not ((scores >= 0) & (scores <= 1)).all():
            raise OperationFailed(
                f"{self.stance.name}: a score outside of 0 to 1; nothing is judged by such a model"
            )
        best = scores.argmax(axis=1)
        return [
            Conflict(float(row[at]), clauses[at].id) for row, at in zip(scores, best, strict=True)
        ]

    def _on_topic(self, texts: list[str]) -> NDArray[np.bool_]:
        """Which clauses each text is asked about, [texts, clauses]."""
        cosines = np.asarray(self.embed(texts)) @ np.asarray(self._topics).T
        nearest = np.argsort(-cosines, axis=1, kind="stable")[:, :NEAREST]
        asked: NDArray[np.bool_] = cosines >= TOPIC
        np.put_along_axis(asked, nearest, True, axis=1)
        return asked
