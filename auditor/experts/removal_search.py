"""The smallest set of first-ranked experts whose removal loses half of the refusals.

Growing prefixes of a ranking are removed, then members that are not needed are put back. What
cannot be switched off, because fewer experts are left than a token needs, is left out and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, NamedTuple

from auditor.errors import ConfigurationError
from auditor.experts.routing_maps import Expert
from auditor.intervals import wilson_interval

HALF: Final = 0.5

_Without = Callable[[frozenset[Expert]], int]


@dataclass(frozen=True)
class Removal:
    """What is left of refusals without some experts.

    Attributes:
        experts: Those switched off.
        refused: Prompts that are still refused.
    """

    experts: frozenset[Expert]
    refused: int


class Search(NamedTuple):
    """What a search found.

    Attributes:
        tried: Growing prefixes of the ranking.
        smallest: The smallest set found that loses half; None if none does.
        untried: Sizes of prefixes that cannot be switched off.
    """

    tried: tuple[Removal, ...]
    smallest: Removal | None
    untried: tuple[int, ...]


def search_removals(
    leaning: Sequence[Expert], sizes: Sequence[int], prompts: int, without: _Without,
    stop: Callable[[], bool],
) -> Search:  # fmt: skip
    """Remove growing prefixes until half of the refusals are gone, then put back what can be.

    Args:
        leaning: Experts, those first that lean most to refusal.
        sizes: Of the prefixes, growing.
        prompts: How many are refused as long as nothing is removed.
        without: How many are still refused without some experts; raises `ConfigurationError` where
            these cannot be switched off together.
        stop: Asked between removals; the first is always made.

    Raises:
        ConfigurationError: No prefix can be switched off; that of the smallest.
    """
    tried: list[Removal] = []
    unfit: dict[int, ConfigurationError] = {}
    for size in dict.fromkeys(min(size, len(leaning)) for size in sizes):
        if tried and stop():
            break
        experts = frozenset(leaning[:size])
        try:
            tried.append(Removal(experts, without(experts)))
        except ConfigurationError as error:
            unfit[size] = error
            continue
        if halved(tried[-1].refused, prompts):
            pruned = _pruned(tried[-1], leaning, prompts, without, stop)
            return Search(tuple(tried), pruned, tuple(unfit))
    if not tried:
        raise next(iter(unfit.values()))
    return Search(tuple(tried), None, tuple(unfit))


def halved(left: int, prompts: int) -> bool:
    """Whether half are lost for certain: a count that is just below half could not decide."""
    return wilson_interval(left, prompts).upper <= HALF


def nearest(tried: Sequence[Removal]) -> Removal:
    """The removal that leaves fewest; of equals the largest, of which most is then known."""
    return min(tried, key=lambda each: (each.refused, -len(each.experts)))


def _pruned(
    removal: Removal, leaning: Sequence[Expert], prompts: int, without: _Without,
    stop: Callable[[], bool],
) -> Removal:  # fmt: skip
    """Put back, weakest first, every expert without whose removal half are still gone."""
    kept = removal
    for expert in reversed([each for each in leaning if each in removal.experts]):
        fewer = kept.experts - {expert}
        if not fewer or stop():
            continue
        # With one back its group may be chosen, which then holds too few that are not off.
        with suppress(ConfigurationError):
            left = without(fewer)
            kept = Removal(fewer, left) if halved(left, prompts) else kept
    return kept
