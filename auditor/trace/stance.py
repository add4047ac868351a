"""Whether a text breaks a clause of a policy: scorers of the stance a text takes.

An embedding's cosine says what a text is about and not whose side it takes, so stance needs a
model of its own: `NliScorer` with a cross-encoder that the user brings, `ExemplarScorer` where
there is none. Both see the text alone, never the prompt.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from auditor.errors import ConfigurationError
from auditor.trace.content_policy import Clause

Float64 = NDArray[np.float64]
Embed = Callable[[Sequence[str]], NDArray[np.float32]]
"""Unit vectors of texts, [texts, width]."""

LEAST_EXEMPLARS: Final = 50
"""Sentences of each kind that a clause needs before a head is trained on them."""
RIDGE: Final = 1.0
LEAST_PART: Final = 3
"""Words of a part of a sentence that is judged by itself."""
_JOINT: Final = re.compile(r"[,;:]|\b(?:and|then|or)\b", re.IGNORECASE)
_NEGATION: Final = re.compile(
    r"\b(?:not|no|none|never|nobody|nothing|neither|nor|without|cannot|avoid|refuse\w*|instead)\b"
    r"|n['\N{RIGHT SINGLE QUOTATION MARK}]t\b",
    re.IGNORECASE,
)


class StanceScorer(Protocol):
    """What judges whether texts break clauses.

    Attributes:
        name: For reports: the backend, and which weights.
    """

    name: str

    def score(self, texts: Sequence[str], clauses: Sequence[Clause]) -> Float64:
        """How far each text breaks each clause, [texts, clauses], in [0, 1]."""
        ...


@dataclass(frozen=True)
class _Head:
    weights: Float64
    bias: float

    def score(self, vectors: Float64) -> Float64:
        found: Float64 = expit(vectors @ self.weights + self.bias)
        return found


class ExemplarScorer:
    """A logistic head on frozen sentence vectors for each clause, trained on its exemplars.

    Args:
        embed: Unit vectors of texts.
        clauses: Each with at least `LEAST_EXEMPLARS` sentences that break and that keep it.
        embedder: Name of the weights behind `embed`.

    Raises:
        ConfigurationError: A clause has too few exemplars.
    """

    def __init__(self, embed: Embed, clauses: Sequence[Clause], embedder: str = "") -> None:
        self.embed = embed
        self.name = f"exemplar, {embedder}" if embedder else "exemplar"
        self._heads: dict[str, _Head] = {}
        require_exemplars(clauses)
        for clause in clauses:
            texts = [*clause.violating, *clause.compliant]
            labels = np.array([1.0] * len(clause.violating) + [0.0] * len(clause.compliant))
            self._heads[clause.id] = fit_head(np.asarray(embed(texts), np.float64), labels)

    def score(self, texts: Sequence[str], clauses: Sequence[Clause]) -> Float64:
        """As `StanceScorer.score`.

        Raises:
            ConfigurationError: A clause that no head was trained for.
        """
        for clause in clauses:
            if clause.id not in self._heads:
                raise ConfigurationError(f"no exemplars were given for the clause '{clause.id}'")
        if not texts or not clauses:
            return np.zeros((len(texts), len(clauses)))
        parts = [sentence_parts(text) for text in texts]
        vectors = np.asarray(self.embed([each for group in parts for each in group]), np.float64)
        scores = np.stack([self._heads[clause.id].score(vectors) for clause in clauses], axis=1)
        begins = np.cumsum([0, *(len(group) for group in parts[:-1])])
        return np.maximum.reduceat(scores, begins, axis=0)


def require_exemplars(clauses: Sequence[Clause]) -> None:
    """Refuse clauses that no head can be trained on.

    Raises:
        ConfigurationError: A clause has too few exemplars.
    """
    for clause in clauses:
        for kind, sentences in (("violating", clause.violating), ("compliant", clause.compliant)):
            if len(sentences) < LEAST_EXEMPLARS:
                raise ConfigurationError(
                    f"clause '{clause.id}' has {len(sentences)} {kind} exemplars and the "
                    f"exemplar scorer needs {LEAST_EXEMPLARS}; add some, or give an NLI model"
                )


def sentence_parts(sentence: str) -> list[str]:
    """The parts of a sentence that say something of their own; the sentence itself if it has none.

    Exemplars are short, and a vector of many statements is near to none of them. A sentence with
    a negation stays whole: its parts would say the opposite.
    """
    if _NEGATION.search(sentence):
        return [sentence]
    parts = [part.strip() for part in _JOINT.split(sentence)]
    return [part for part in parts if len(part.split()) >= LEAST_PART] or [sentence]


def fit_head(vectors: Float64, labels: Float64) -> _Head:
    """Logistic regression by Newton steps, classes weighted alike, weights with a ridge.

    Args:
        vectors: [samples, width].
        labels: 0 or 1, [samples].
    """
    # Vectors of unit norm are small: without scaling the ridge would hold the weights near 0.
    scale = np.sqrt(vectors.shape[1])
    inputs = np.concatenate([vectors * scale, np.ones((len(vectors), 1))], axis=1)
    share = labels.mean()
    weight = np.where(labels > 0, 0.5 / share, 0.5 / (1 - share)) if 0 < share < 1 else 1.0
    ridge = np.full(inputs.shape[1], RIDGE)
    ridge[-1] = 1e-6
    found = np.zeros(inputs.shape[1])
    for _ in range(50):
        chance = expit(inputs @ found)
        slope = inputs.T @ (weight * (chance - labels)) + ridge * found
        curve = (inputs * (weight * chance * (1 - chance))[:, None]).T @ inputs + np.diag(ridge)
        step = np.linalg.solve(curve, slope)
        found -= step
        if np.abs(step).max() < 1e-9:
            break
    return _Head(found[:-1] * scale, float(found[-1]))
