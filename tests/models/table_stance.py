"""Stance without a model: what breaks which clause is written in a table of phrases."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from auditor.trace.content_policy import Clause, ContentPolicy
from auditor.trace.policy_conflict import PolicyConflict, Refuses
from tests.models.planted_phrases import CLAUSES

WIDTH = 64


class TableStance:
    """A text breaks a clause as far as the worst phrase of it that the text holds.

    Args:
        table: For each clause's id the phrases that break it, with how far.
    """

    def __init__(self, table: Mapping[str, Mapping[str, float]]) -> None:
        self.table = table
        plain = json.dumps({key: dict(row) for key, row in table.items()}, sort_keys=True)
        self.name = f"table {hashlib.sha256(plain.encode()).hexdigest()[:8]}"

    def score(self, texts: Sequence[str], clauses: Sequence[Clause]) -> NDArray[np.float64]:
        """As `StanceScorer.score`."""
        return np.array([
            [max((far for phrase, far in self.table.get(clause.id, {}).items() if phrase in text),
                 default=0.0) for clause in clauses]
            for text in texts
        ]).reshape(len(texts), len(clauses))  # fmt: skip


def word_vectors(texts: Sequence[str]) -> NDArray[np.float32]:
    """Unit vectors that are near where texts share words, [texts, `WIDTH`]."""
    found = np.zeros((len(texts), WIDTH), dtype=np.float32)
    for row, text in enumerate(texts):
        for word in text.lower().split() or [""]:
            found[row, hashlib.sha256(word.encode()).digest()[0] % WIDTH] += 1.0
    unit: NDArray[np.float32] = found / np.linalg.norm(found, axis=1, keepdims=True)
    return unit


def clause(name: str, statement: str, weight: float = 1.0) -> Clause:
    """A clause that forbids what `statement` says."""
    return Clause(id=name, statement=statement, violation=f"the text says: {statement}",
                  weight=weight)  # fmt: skip


def policy(*clauses: Clause) -> ContentPolicy:
    """A policy of these clauses."""
    return ContentPolicy(version=1, name="test", clauses=clauses)


def same_vectors(texts: Sequence[str]) -> NDArray[np.float32]:
    """One vector for all texts, by which every clause is on topic, [texts, 1]."""
    return np.ones((len(texts), 1), dtype=np.float32)


def workshop_conflict(refuses: Refuses | None = None) -> PolicyConflict:
    """The planted corpus's policy, all of its clauses asked, judged by the acts it lists."""
    clauses = tuple(
        Clause(id=each.id, statement=each.statement, violation=each.hypothesis) for each in CLAUSES
    )
    table = {each.id: dict.fromkeys(each.breaking, 1.0) for each in CLAUSES}
    return PolicyConflict(policy(*clauses), same_vectors, TableStance(table), refuses)
