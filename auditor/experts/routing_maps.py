"""Routing maps: which experts the tokens of each prompt went to, and with what weight.

The "functional token resonance image" of Mixture of Tunable Experts (arXiv 2502.11096): one map
of decoder layers by experts for each prompt. Counts are raw; shares divide by the tokens counted,
so that longer prompts do not weigh more.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]


class TokenSet(StrEnum):
    """Which tokens of a prompt are counted; padding never is."""

    PROMPT = "prompt"
    LAST = "last"
    ANSWER = "answer"


class Expert(NamedTuple):
    """A routed expert: the number of its decoder layer, and its number in that layer."""

    layer: int
    expert: int

    def __str__(self) -> str:
        return f"{self.layer}:{self.expert}"


@dataclass(frozen=True, eq=False)
class RoutingMaps:
    """Routing of every prompt, float32 [prompts, layers, experts].

    Attributes:
        layers: Numbers of the decoder layers with experts, in order: axis 1.
        token_set: Which tokens are counted.
        counts: Tokens whose chosen experts hold the expert.
        mass: Sum over these tokens of the weight the expert was mixed in with.
        tokens: How many tokens are counted, int64 [prompts].
    """

    layers: tuple[int, ...]
    token_set: TokenSet
    counts: Float32
    mass: Float32
    tokens: NDArray[np.int64]

    @property
    def shares(self) -> Float32:
        """Share of the counted tokens that reached each expert, [prompts, layers, experts]."""
        return self.counts / np.maximum(self.tokens, 1).astype(np.float32)[:, None, None]

    @property
    def mean_mass(self) -> Float32:
        """Mean weight over the counted tokens, [prompts, layers, experts]."""
        return self.mass / np.maximum(self.tokens, 1).astype(np.float32)[:, None, None]

    @property
    def usage(self) -> NDArray[np.float64]:
        """Share of all counted tokens that reached each expert, [layers, experts]."""
        total = max(1, int(self.tokens.sum()))
        return np.asarray(self.counts.sum(axis=0, dtype=np.float64) / total)

    def expert_at(self, position: int) -> Expert:
        """The expert at a flat position of a [layers, experts] table."""
        layer, expert = divmod(position, self.counts.shape[2])
        return Expert(self.layers[layer], expert)

    def position_of(self, expert: Expert) -> int:
        """The flat position of an expert in a [layers, experts] table."""
        return self.layers.index(expert.layer) * int(self.counts.shape[2]) + expert.expert

    def take(self, prompts: NDArray[np.intp]) -> RoutingMaps:
        """The maps of some prompts, in the order given."""
        return RoutingMaps(
            self.layers, self.token_set, self.counts[prompts], self.mass[prompts],
            self.tokens[prompts],
        )  # fmt: skip
