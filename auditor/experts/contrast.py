"""Which prompts are set against which: topic-matched pairs, or refused against answered ones.

Pairs share topic, template, language and length and differ in what the model did, which is the
model's own answer and never the data set's intention. Labels alone leave the topics mixed: what
they find may be a topic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auditor.errors import ConfigurationError, NothingToAudit

Positions = NDArray[np.intp]
Float64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Contrast:
    """Prompts of two classes, and which of them are exchanged when labels are.

    Attributes:
        refused: Positions of the prompts that were refused, [refused].
        answered: Positions of the prompts that were answered, [answered].
        paired: Whether the nth of both are a pair: drawn together, and exchanged with each other.
    """

    refused: Positions
    answered: Positions
    paired: bool

    @property
    def prompts(self) -> Positions:
        """All positions, refused first: the columns of the weights below."""
        return np.concatenate([self.refused, self.answered])

    def observed(self) -> tuple[Float64, Float64]:
        """The classes as they are, a weight for each prompt: two of [1, prompts]."""
        first = np.arange(len(self.prompts)) < len(self.refused)
        return _weights(first[None]), _weights(~first[None])

    def resampled(self, draws: int, source: np.random.Generator) -> tuple[Float64, Float64]:
        """How often each prompt is drawn as either class, two of [draws, prompts]."""
        first = _times(len(self.refused), draws, source)
        second = first if self.paired else _times(len(self.answered), draws, source)
        return (
            np.concatenate([first, np.zeros((draws, len(self.answered)))], axis=1),
            np.concatenate([np.zeros((draws, len(self.refused))), second], axis=1),
        )

    def shuffled(self, shuffles: int, source: np.random.Generator) -> tuple[Float64, Float64]:
        """The classes with labels exchanged at random, two of [shuffles, prompts].

        Within each pair, or over all prompts where there are no pairs.
        """
        if self.paired:
            kept = source.random((shuffles, len(self.refused))) < 0.5
            first = np.concatenate([kept, ~kept], axis=1)
        else:
            labels = np.arange(len(self.prompts)) < len(self.refused)
            first = source.permuted(np.tile(labels, (shuffles, 1)), axis=1)
        return _weights(first), _weights(~first)


def contrast_pairs(pairs: Sequence[tuple[int, int]], prompts: int) -> Contrast:
    """A contrast of pairs.

    Args:
        pairs: Positions of the refused and of the answered prompt of each pair.
        prompts: How many prompts there are.

    Raises:
        NothingToAudit: There are fewer than two pairs.
        ConfigurationError: A position is not one of the prompts, or a pair is one prompt twice.
    """
    if len(pairs) < 2:
        raise NothingToAudit(
            f"{len(pairs)} pairs of a refused and an answered prompt; give at least 2"
        )
    table = np.asarray(pairs, dtype=np.intp)
    for number, (refused, answered) in enumerate(table.tolist()):
        if not (0 <= refused < prompts and 0 <= answered < prompts) or refused == answered:
            raise ConfigurationError(
                f"pair {number} is of prompts {refused} and {answered}; give two different ones "
                f"of 0 to {prompts - 1}"
            )
    return Contrast(table[:, 0], table[:, 1], paired=True)


def contrast_labels(refused: Sequence[bool], prompts: int) -> Contrast:
    """A contrast of labels.

    Args:
        refused: Whether each prompt was refused.
        prompts: How many prompts there are.

    Raises:
        NothingToAudit: Fewer than two prompts were refused, or answered: no behaviour to study.
        ConfigurationError: There is not one label for each prompt.
    """
    if len(refused) != prompts:
        raise ConfigurationError(f"{len(refused)} labels for {prompts} prompts; give one for each")
    labels = np.asarray(refused, dtype=bool)
    hits = int(labels.sum())
    if min(hits, prompts - hits) < 2:
        raise NothingToAudit(
            f"{hits} of {prompts} prompts are refused; give at least 2 refused and 2 answered"
        )
    return Contrast(np.flatnonzero(labels), np.flatnonzero(~labels), paired=False)


def _times(size: int, draws: int, source: np.random.Generator) -> Float64:
    """How often each of a class is drawn, as many as there are, [draws, size]."""
    return source.multinomial(size, np.full(size, 1 / size), size=draws).astype(np.float64)


def _weights(members: NDArray[np.bool_]) -> Float64:
    return members.astype(np.float64)
