"""Experts that should not matter: random sets as much used, and sets of an unrelated contrast.

A repair has to do more than as many experts of the same layers that are used as often. Sets are
distinct: the same set drawn twice is one control, and one that holds a chosen expert is none.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from auditor.errors import ConfigurationError, TooFewControls
from auditor.experts.ranking import Ranking
from auditor.experts.routing_maps import Expert

Float64 = NDArray[np.float64]
LEAST_NEAREST: Final = 7
"""Rivals of each expert where a decile of its layer is fewer."""
LEAST_SETS: Final = 20
"""With fewer random sets a chance of 5 % is hardly reached, or not at all."""
NEAREST_ANYWHERE: Final = 40
"""Rivals of each expert where they may be of any layer."""
_ENUMERATED: Final = 20_000
"""Choices up to which all sets are listed; beyond, many more than asked for are drawn."""


def matched_sets(
    chosen: Collection[Expert], usage: Float64, layers: Sequence[int], count: int, seed: int = 0,
    exclude: Collection[Expert] = (), nearest: int | None = None,
) -> list[frozenset[Expert]]:  # fmt: skip
    """Distinct random sets of the size of the chosen one, layer by layer and as much used.

    Each chosen expert is replaced by one of the experts of its layer that are nearest in usage.

    Args:
        chosen: The experts to match.
        usage: Share of tokens that reach each expert, [layers, experts].
        layers: Numbers of the decoder layers: axis 0.
        count: How many sets.
        seed: Of the drawing.
        exclude: Experts that no set may hold, besides the chosen ones.
        nearest: How many rivals each chosen expert has; a tenth of the layer and at least
            `LEAST_NEAREST` if not given.

    Raises:
        TooFewControls: There are not so many sets; it says how many there are.
        ConfigurationError: Nothing is chosen, or it is not an expert of the table.
    """
    if not chosen:
        raise ConfigurationError("no expert is chosen; name at least one")
    near = _few(usage.shape[1]) if nearest is None else nearest
    source = np.random.default_rng(seed)
    barred = {*chosen, *exclude}
    pools = []
    for layer in sorted({each.layer for each in chosen}):
        here = sorted(each for each in chosen if each.layer == layer)
        rivals = [_rivals(each, usage, layers, barred, near) for each in here]
        pools.append(_pool(rivals, source, 20 * count))
    possible = math.prod(len(pool) for pool in pools)
    if possible < count:
        raise TooFewControls(count, possible, len(set(chosen)))
    return [
        frozenset(expert for pool, at in zip(pools, each, strict=True) for expert in pool[at])
        for each in _distinct([len(pool) for pool in pools], count, source)
    ]


def matched_anywhere(
    chosen: Collection[Expert], usage: Float64, layers: Sequence[int], count: int, seed: int = 0,
    exclude: Collection[Expert] = (),
) -> list[frozenset[Expert]]:  # fmt: skip
    """Distinct random sets as `matched_sets` has them, of any layers: a weaker match.

    A layer of few experts has too few sets of its own: with seven rivals of a single expert no
    chance is below 1 / 8.

    Args:
        chosen: The experts to match.
        usage: Share of tokens that reach each expert, [layers, experts].
        layers: Numbers of the decoder layers: axis 0.
        count: How many sets.
        seed: Of the drawing.
        exclude: Experts that no set may hold, besides the chosen ones.

    Raises:
        TooFewControls, ConfigurationError: As `matched_sets`.
    """
    width = usage.shape[1]

    def flat(experts: Collection[Expert]) -> list[Expert]:
        return [Expert(0, list(layers).index(each.layer) * width + each.expert) for each in experts]

    def whole(each: Expert) -> Expert:
        row, column = divmod(each.expert, width)
        return Expert(layers[row], column)

    found = matched_sets(
        flat(chosen), usage.reshape(1, -1), (0,), count, seed, flat(exclude),
        min(NEAREST_ANYWHERE, usage.size),
    )  # fmt: skip
    return [frozenset(map(whole, each)) for each in found]


class RandomSets(NamedTuple):
    """Matched random sets, and how closely they match.

    Attributes:
        sets: Distinct ones.
        possible: How many there are, if fewer than asked for; else None.
        rivals: How many experts, nearest in usage, could stand in for each chosen one.
        anywhere: Whether they are of any layers, because the experts' own have too few.
    """

    sets: list[frozenset[Expert]]
    possible: int | None
    rivals: int
    anywhere: bool

    @property
    def matched(self) -> str:
        """How they match, for reports."""
        layers = "any layers" if self.anywhere else "the same layers"
        return (
            f"distinct sets of as many experts of {layers}, each of the {self.rivals} nearest in "
            "usage"
        )


def random_sets(
    chosen: Collection[Expert], usage: Float64, layers: Sequence[int], count: int, seed: int = 0,
    exclude: Collection[Expert] = (),
) -> RandomSets:  # fmt: skip
    """As many matched random sets as there are, up to a count.

    Where near rivals give fewer than `LEAST_SETS`, which cannot tell chance apart, rivals further
    off in usage stand in, and where a layer has too few of any, experts of other layers.

    Args:
        chosen: The experts to match.
        usage: Share of tokens that reach each expert, [layers, experts].
        layers: Numbers of the decoder layers: axis 0.
        count: How many sets at most.
        seed: Of the drawing.
        exclude: Experts that no set may hold, besides the chosen ones.

    Raises:
        ConfigurationError: As `matched_sets`.
    """

    def near(rivals: int) -> RandomSets:
        own = _as_many(
            lambda few: matched_sets(chosen, usage, layers, few, seed, exclude, rivals), count
        )
        return RandomSets(*own, rivals, anywhere=False)

    width, enough = usage.shape[1], min(LEAST_SETS, count)
    found = near(min(width, _few(width)))
    while len(found.sets) < enough and found.rivals < width:
        found = near(min(width, 2 * found.rivals))
    if len(found.sets) >= enough:
        return found
    wider = _as_many(lambda few: matched_anywhere(chosen, usage, layers, few, seed, exclude), count)
    if len(wider[0]) <= len(found.sets):
        return found
    return RandomSets(*wider, min(NEAREST_ANYWHERE, usage.size), anywhere=True)


def _few(width: int) -> int:
    """How many rivals of an expert are near in usage, in a layer of so many experts."""
    return max(LEAST_NEAREST, math.ceil(width / 10))


def _as_many(
    draw: Callable[[int], list[frozenset[Expert]]], count: int
) -> tuple[list[frozenset[Expert]], int | None]:
    """So many sets, or all there are and how many."""
    wanted = count
    while wanted:
        try:
            found = draw(wanted)
        except TooFewControls as few:  # among more draws fewer may be found: ask again
            wanted = few.possible
        else:
            return found, None if wanted == count else wanted
    return [], 0


def harmless_set(
    unrelated: Ranking, size: int, exclude: Collection[Expert] = ()
) -> frozenset[Expert]:
    """The first experts of a ranking for a contrast that has nothing to do with refusal.

    Args:
        unrelated: For example of two topics of plain prompts.
        size: How many: as many as are chosen.
        exclude: Experts that are left out: the chosen ones.

    Raises:
        TooFewControls: There are not so many experts.
    """
    barred = set(exclude)
    order = (each.expert for each in unrelated.first(unrelated.scores.size))
    found = list(itertools.islice((each for each in order if each not in barred), size))
    if not 0 < size == len(found):
        raise TooFewControls(1, 0, size)
    return frozenset(found)


def chance_of_effect(observed: float, effects: Iterable[float]) -> float:
    """Chance that a random set does as much: `(1 + as large) / (1 + sets)`; 1 without any set.

    Args:
        observed: Effect of the chosen experts, larger being more.
        effects: Effects of the random sets, on the same prompts by the same method.
    """
    listed = list(effects)
    # What is not a number has not been shown to be less.
    return (1 + sum(not each < observed for each in listed)) / (1 + len(listed))


def _rivals(
    expert: Expert, usage: Float64, layers: Sequence[int], barred: Collection[Expert], near: int
) -> list[Expert]:
    """The experts of a layer nearest in usage; ties by number."""
    if expert.layer not in layers or not 0 <= expert.expert < usage.shape[1]:
        raise ConfigurationError(
            f"expert {expert} is none of {usage.shape[1]} in layers "
            f"{', '.join(map(str, layers))}; name it as layer:expert"
        )
    row = usage[list(layers).index(expert.layer)]
    order = np.argsort(np.abs(row - row[expert.expert]), kind="stable").tolist()
    others = (Expert(expert.layer, each) for each in order)
    return list(itertools.islice((each for each in others if each not in barred), near))


def _pool(
    rivals: Sequence[Sequence[Expert]], source: np.random.Generator, draws: int
) -> list[frozenset[Expert]]:
    """Distinct sets with a rival for each chosen expert of one layer: all, or those drawn."""
    if math.prod(len(each) for each in rivals) <= _ENUMERATED:
        found = {frozenset(choice) for choice in itertools.product(*rivals)}
    else:
        found = {_drawn(rivals, source) for _ in range(draws)}
    return sorted((each for each in found if len(each) == len(rivals)), key=sorted)


def _drawn(rivals: Sequence[Sequence[Expert]], source: np.random.Generator) -> frozenset[Expert]:
    """A rival for each, none twice; a smaller set where one is left without."""
    taken: set[Expert] = set()
    for position in source.permutation(len(rivals)).tolist():
        left = [each for each in rivals[position] if each not in taken]
        if left:
            taken.add(left[int(source.integers(len(left)))])
    return frozenset(taken)


def _distinct(
    sizes: Sequence[int], count: int, source: np.random.Generator
) -> list[tuple[int, ...]]:
    """So many different choices of one number below each size, of at least so many."""
    if math.prod(sizes) <= _ENUMERATED:
        every = list(itertools.product(*map(range, sizes)))
        return [every[each] for each in source.permutation(len(every))[:count]]
    found: dict[tuple[int, ...], None] = {}
    while len(found) < count:
        found[tuple(int(source.integers(size)) for size in sizes)] = None
    return list(found)
