"""How few experts carry refusals: the smallest set found whose removal loses half of them.

A ranking proposes experts in order; growing prefixes of it are removed until half of the refusals
are gone, then members that are not needed are put back. Random sets of the same size, layer by
layer and as much used, are removed beside it. "Carried by" is said only where removing the experts'
outputs does it, too: masking alone also pushes tokens to other experts, and a significant rank
alone says no more than that the router reads the decision.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from auditor.errors import (
    ConfigurationError,
    NothingToAudit,
    TooFewControls,
    UnsupportedModel,
)
from auditor.experts.controls import chance_of_effect, matched_sets
from auditor.experts.intervention import Intervention, Method
from auditor.experts.ranking import Ranking
from auditor.experts.refusal_meter import RefusalMeter
from auditor.experts.routers import RoutedModel
from auditor.experts.routing_maps import Expert
from auditor.experts.steering import steered

HALF: Final = 0.5
SIZES: Final = (1, 2, 3, 5, 8, 13, 20, 32, 50)
REMOVALS: Final = (Method.ZERO_OUTPUT, Method.ZERO_WEIGHT, Method.MASK_LOGIT)
SIGNIFICANT: Final = 0.05


class Standing(StrEnum):
    """What may be said of refusals and experts."""

    CARRIED = "carried"
    """A few experts carry them: removed by any method half are gone, and random sets do less."""
    MOVED = "moved"
    """A few experts move them, and removing their outputs alone does not."""
    NO_EFFECT = "no effect"
    """No set that was tried loses half of them, or random ones do as much."""


@dataclass(frozen=True)
class Removal:
    """What is left of refusals without some experts.

    Attributes:
        experts: Those switched off.
        refused: Prompts that are still refused.
    """

    experts: frozenset[Expert]
    refused: int


@dataclass(frozen=True)
class Concentration:
    """What was found.

    Attributes:
        prompts: How many prompts the untouched model refuses: all that were looked at.
        method: What the search switched off by.
        tried: Growing prefixes of the ranking.
        smallest: The smallest set found that loses half; None if none does.
        by_method: What is left without that set (or what came nearest), by each method; None
            where the method cannot be applied to so many.
        random: What is left without each matched random set.
        possible: How many such sets there are where there were too few, else None.
        chance: That a random set does as much.
        significant: Whether any expert of the ranking has a family-wise chance of at most 5 %.
    """

    prompts: int
    method: Method
    tried: tuple[Removal, ...]
    smallest: Removal | None
    by_method: Mapping[Method, int | None]
    random: tuple[int, ...]
    possible: int | None
    chance: float
    significant: bool

    @property
    def largest_loss(self) -> Removal:
        """The smallest set that loses half, or what came nearest."""
        return self.smallest or min(self.tried, key=lambda each: each.refused)

    @property
    def standing(self) -> Standing:
        """What may be said."""
        if self.smallest is None or self.chance > SIGNIFICANT:
            return Standing.NO_EFFECT
        left = self.by_method[Method.ZERO_OUTPUT]
        carried = left is not None and _halved(left, self.prompts)
        return Standing.CARRIED if carried else Standing.MOVED

    @property
    def said(self) -> str:
        """One sentence for reports."""
        rank = "a significant rank" if self.significant else "no significant rank"
        count = len(self.largest_loss.experts)
        few = f"{count} routed expert{'' if count == 1 else 's'}"
        if self.standing is Standing.CARRIED:
            return (
                f"refusals are carried by {few}: {self.largest_loss.refused} of {self.prompts} are "
                f"left without them, {self.by_method[Method.ZERO_OUTPUT]} without their outputs"
            )
        if self.standing is Standing.MOVED:
            return (
                f"{few} move refusals by {self.method} ({self.largest_loss.refused} of "
                f"{self.prompts} left) and do not carry them: without their outputs "
                f"{self.by_method[Method.ZERO_OUTPUT]} are left"
            )
        beside = "" if self.smallest is None else ", and random experts do as much"
        return (
            f"{rank}, no effect: {self.largest_loss.refused} of {self.prompts} refusals are left "
            f"without {few}{beside}; attention, shared experts and the residual stream can carry "
            "refusals, too"
        )


def measure_concentration(
    routed: RoutedModel,
    ranking: Ranking,
    prompts: Sequence[str],
    meter: RefusalMeter,
    *,
    method: Method = Method.ZERO_OUTPUT,
    sizes: Sequence[int] = SIZES,
    controls: int = 99,
    seed: int = 0,
    progress: Callable[[str], None] = lambda text: None,
) -> Concentration:
    """Remove experts and count what is left of refusals.

    Args:
        routed: The model of the meter.
        ranking: Of other prompts than these.
        prompts: As the model is asked; those that it does not refuse are left out.
        meter: Counts first-token refusals.
        method: What to switch off by.
        sizes: How many of the first experts to remove, growing.
        controls: Matched random sets.
        seed: Of their drawing.
        progress: Told what is removed.

    Raises:
        NothingToAudit: The model refuses none of the prompts, or no expert leans to refusal.
    """
    refused = [text for text, no in zip(prompts, meter.refused(prompts), strict=True) if no]
    leaning = [each.expert for each in ranking.leaning(refused=True, count=max(sizes))]
    if not refused or not leaning:
        raise NothingToAudit(
            f"{len(refused)} of {len(prompts)} prompts are refused and {len(leaning)} experts lean "
            "to refusal; there is no behaviour to study"
        )

    def without(experts: frozenset[Expert], by: Method = method) -> int:
        progress(f"without {len(experts)} experts by {by}")
        with steered(routed, Intervention(by, experts)):
            return int(meter.refused(refused).sum())

    tried, smallest = _search(leaning, sizes, len(refused), without)
    chosen = (smallest or min(tried, key=lambda each: each.refused)).experts
    found, possible = _random_sets(chosen, ranking, controls, seed)
    left = tuple(without(each) for each in found)
    loss = [len(refused) - each for each in left]
    return Concentration(
        prompts=len(refused), method=method, tried=tried, smallest=smallest,
        by_method={each: _if_applicable(without, chosen, each) for each in REMOVALS},
        random=left, possible=possible,
        chance=chance_of_effect(len(refused) - without(chosen), loss),
        significant=bool((ranking.p_fwe <= SIGNIFICANT).any()),
    )  # fmt: skip


def _search(
    leaning: Sequence[Expert], sizes: Sequence[int], prompts: int,
    without: Callable[[frozenset[Expert]], int],
) -> tuple[tuple[Removal, ...], Removal | None]:  # fmt: skip
    """Growing prefixes until half of the refusals are gone, then without what is not needed."""
    tried: list[Removal] = []
    for size in dict.fromkeys(min(size, len(leaning)) for size in sizes):
        experts = frozenset(leaning[:size])
        tried.append(Removal(experts, without(experts)))
        if _halved(tried[-1].refused, prompts):
            return tuple(tried), _pruned(tried[-1], leaning, prompts, without)
    return tuple(tried), None


def _pruned(
    removal: Removal, leaning: Sequence[Expert], prompts: int,
    without: Callable[[frozenset[Expert]], int],
) -> Removal:  # fmt: skip
    """Put back, weakest first, every expert without whose removal half are still gone."""
    kept = removal
    for expert in reversed([each for each in leaning if each in removal.experts]):
        fewer = kept.experts - {expert}
        if fewer and _halved(left := without(fewer), prompts):
            kept = Removal(fewer, left)
    return kept


def _if_applicable(
    without: Callable[[frozenset[Expert], Method], int], experts: frozenset[Expert], by: Method
) -> int | None:
    try:
        return without(experts, by)
    except (ConfigurationError, UnsupportedModel):
        return None


def _halved(left: int, prompts: int) -> bool:
    return left <= HALF * prompts


def _random_sets(
    chosen: frozenset[Expert], ranking: Ranking, controls: int, seed: int
) -> tuple[list[frozenset[Expert]], int | None]:
    """Matched random sets without any expert that leans to refusal significantly."""
    exclude = {each.expert for each in ranking.first() if each.p_fwe <= SIGNIFICANT}
    try:
        return matched_sets(chosen, ranking.usage, ranking.layers, controls, seed, exclude), None
    except TooFewControls as few:
        if not few.possible:
            return [], 0
        return matched_sets(
            chosen, ranking.usage, ranking.layers, few.possible, seed, exclude
        ), few.possible  # fmt: skip
