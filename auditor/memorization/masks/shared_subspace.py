"""Is there one subspace that all memorised items share? Masks of disjoint halves, against a null.

The prompts of each kind are split in two; a mask is made of each half alone. Where one subspace
carries them all, the two masks overlap more than when memorised and ordinary prompts are swapped at
random within their pairs, and more than two random masks do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from auditor.errors import ConfigurationError
from auditor.memorization.masks.weight_masks import WeightMasks, overlap, overlap_by_chance

MakeMasks = Callable[[Sequence[int], Sequence[int]], WeightMasks]
"""Masks of memorised and ordinary prompts, by their numbers."""
SPLITS: Final = 20
SHUFFLES: Final = 199
LEAST_PAIRS: Final = 4


@dataclass(frozen=True)
class SharedSubspace:
    """How much masks of disjoint prompts overlap.

    Attributes:
        overlaps: Intersection over union for each split, memorised prompts in both halves.
        shuffled: The same for each shuffle of labels within pairs, one split each.
        chance: What two random masks of the same densities have.
        p_value: Share of shuffles, the observed one among them, that overlap as much.
    """

    overlaps: tuple[float, ...]
    shuffled: tuple[float, ...]
    chance: float
    p_value: float

    @property
    def mean(self) -> float:
        """Mean overlap over the splits."""
        return float(np.mean(self.overlaps))


def measure_shared_subspace(
    make: MakeMasks, pairs: Sequence[tuple[int, int]], *,
    splits: int = SPLITS, shuffles: int = SHUFFLES, seed: int = 0,
) -> SharedSubspace:  # fmt: skip
    """Overlap of masks made from disjoint halves, with a permutation null.

    Args:
        make: Makes masks.
        pairs: A memorised prompt and an ordinary one of the same topic, by their numbers.
        splits: How many ways the pairs are halved.
        shuffles: How often labels are swapped at random within pairs; every shuffle is measured on
            one split, the first of its own.
        seed: Of all chance.

    Raises:
        ConfigurationError: Fewer than four pairs, or no split or shuffle.
    """
    if len(pairs) < LEAST_PAIRS or splits < 1 or shuffles < 1:
        raise ConfigurationError(
            f"{len(pairs)} pairs, {splits} splits, {shuffles} shuffles; give at least "
            f"{LEAST_PAIRS} pairs and one of each"
        )
    source = np.random.default_rng(seed)
    observed, densities = [], []
    for _ in range(splits):
        first, second = _masks_of_halves(make, pairs, source)
        observed.append(overlap(first, second))
        densities.append(overlap_by_chance(first.density, second.density))
    null = []
    for _ in range(shuffles):
        swapped = [
            (low, high) if swap else (high, low)
            for (high, low), swap in zip(pairs, source.random(len(pairs)) < 0.5, strict=True)
        ]
        null.append(overlap(*_masks_of_halves(make, swapped, source)))
    # One split against one split: the mean of many would be held against a wider spread.
    as_much = sum(each >= float(np.median(observed)) for each in null)
    return SharedSubspace(
        tuple(observed), tuple(null), float(np.mean(densities)), (1 + as_much) / (1 + shuffles)
    )


def _masks_of_halves(
    make: MakeMasks, pairs: Sequence[tuple[int, int]], source: np.random.Generator
) -> tuple[WeightMasks, WeightMasks]:
    order = source.permutation(len(pairs))
    half = len(pairs) // 2
    first, second = ([pairs[at] for at in part] for part in (order[:half], order[half:]))
    return _made(make, first), _made(make, second)


def _made(make: MakeMasks, pairs: Sequence[tuple[int, int]]) -> WeightMasks:
    return make([high for high, _ in pairs], [low for _, low in pairs])
