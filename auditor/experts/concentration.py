"""How few experts carry refusals: the smallest set found whose removal loses half of them.

A ranking proposes experts in order; growing prefixes of it are removed until half of the refusals
are gone, then members that are not needed are put back. Random sets of the same size and as much
used are removed beside it. "Carried by" is said only where removing the experts' outputs does it,
too: masking alone also pushes tokens to other experts, and a significant rank alone says no more
than that the router reads the decision.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from auditor.errors import (
    ConfigurationError,
    NothingToAudit,
    UnsupportedModel,
)
from auditor.experts.controls import chance_of_effect, random_sets
from auditor.experts.intervention import Intervention, Method
from auditor.experts.ranking import SIGNIFICANT, Ranking
from auditor.experts.refusal_meter import RefusalMeter
from auditor.experts.removal_search import HALF, Removal, halved, nearest, search_removals
from auditor.experts.routers import RoutedModel
from auditor.experts.routing_maps import Expert
from auditor.experts.steering import steered
from auditor.intervals import wilson_interval

SIZES: Final = (1, 2, 3, 5, 8, 13, 20, 32, 50)
REMOVALS: Final = (Method.ZERO_OUTPUT, Method.ZERO_WEIGHT, Method.MASK_LOGIT)

_Without = Callable[[frozenset[Expert], Method], int]


class Standing(StrEnum):
    """What may be said of refusals and experts.

    Half of them are lost where the whole 95 % interval of what is left lies below half.
    """

    CARRIED = "carried"
    """A few experts carry them: without their outputs half are lost, and random sets do less."""
    MOVED = "moved"
    """A few experts move them, and removing their outputs alone does not."""
    LESS = "less than half"
    """Removing experts loses some, but no set that was tried loses half; random sets do less."""
    NO_EFFECT = "no effect"
    """No set that was tried loses half, and random sets do as much as the one that loses most."""
    UNTOLD = "untold"
    """Too few prompts to tell half, too few random sets to tell chance, random sets that do as
    much, another method that loses half where the search's does not, sets that could not be
    switched off, or no time left."""


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
        anywhere: Whether random sets are of any layers, because the experts' own have too few.
        stopped: Whether time was up before all was tried.
        untried: Sizes of prefixes that cannot be switched off by the method; they are left out.
        unasked: How many random sets cannot be, and are left out.
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
    anywhere: bool = False
    stopped: bool = False
    untried: tuple[int, ...] = ()
    unasked: int = 0

    @property
    def largest_loss(self) -> Removal:
        """The smallest set that loses half, or what came nearest; of equals the largest."""
        return self.smallest or nearest(self.tried)

    @property
    def standing(self) -> Standing:
        """What may be said."""
        if self.doubt:
            return Standing.UNTOLD
        if self.smallest is None:
            return Standing.LESS if self.chance <= SIGNIFICANT else Standing.NO_EFFECT
        outputs = self.by_method[Method.ZERO_OUTPUT]
        carried = outputs is not None and halved(outputs, self.prompts)
        return Standing.CARRIED if carried else Standing.MOVED

    @property
    def doubt(self) -> str:
        """Why nothing may be said; empty if something may."""
        if self.stopped:
            return "time was up before all was tried"
        left = wilson_interval(self.largest_loss.refused, self.prompts)
        if self.smallest is None:
            if left.lower <= HALF:
                return f"{self.prompts} refused prompts are too few to tell whether half are lost"
            return self._lost_otherwise or self._larger_untried
        if self.chance <= SIGNIFICANT:
            return ""
        as_much = sum(each <= self.smallest.refused for each in self.random)
        if as_much:
            return f"{as_much} of {len(self.random)} matched random sets lose as many"
        few = "exist" if not self.unasked else f"can be switched off by {self.method}"
        return (
            f"only {len(self.random)} matched random sets {few}, none of which loses as many: too "
            "few to tell it from chance"
        )

    @property
    def _lost_otherwise(self) -> str:
        """Which methods lose half with the very experts by which the search did not."""
        named = [
            str(method) for method, left in self.by_method.items()
            if left is not None and halved(left, self.prompts)
        ]  # fmt: skip
        if not named:
            return ""
        does = "does" if len(named) == 1 else "do"
        return (
            f"{self.method} does not lose half, {' and '.join(named)} {does} without the same "
            "experts; search by that"
        )

    @property
    def _larger_untried(self) -> str:
        """That a size was not looked at, where what was looked at does not lose half."""
        if not self.untried:
            return ""
        return (
            f"the first {_in_words(self.untried)} experts cannot be switched off by {self.method} "
            "together; search by zero_output, or try fewer"
        )

    @property
    def random_left_out(self) -> str:
        """How many random sets could not be switched off, as a sentence; empty if all could."""
        if not self.unasked:
            return ""
        return (
            f"{self.unasked} of {len(self.random) + self.unasked} random sets cannot be switched "
            f"off by {self.method} and are left out."
        )

    @property
    def said(self) -> str:
        """One sentence for reports."""
        count = len(self.largest_loss.experts)
        few = f"{count} routed expert{'' if count == 1 else 's'}"
        they = "it" if count == 1 else "them"
        rest = f"{self.largest_loss.refused} of {self.prompts}"
        outputs = self.by_method[Method.ZERO_OUTPUT]
        if self.standing is Standing.CARRIED:
            return f"refusals are carried by {few}: {rest} are left without {they}{self._others}"
        if self.standing is Standing.MOVED:
            instead = "it cannot be measured" if outputs is None else f"{outputs} are left"
            return (
                f"refusals are moved, and not shown to be carried, by {few}: {rest} are left "
                f"without {they} by {self.method}; without outputs alone {instead}"
            )
        if self.standing is Standing.UNTOLD:
            return f"{rest} refusals are left without {few}; {self.doubt}"
        rank = "a significant rank" if self.significant else "no significant rank"
        effect = "no effect" if self.standing is Standing.NO_EFFECT else "less than half lost"
        return (
            f"{rank}, {effect}: {rest} refusals are left without {few}; attention, shared experts "
            "and the residual stream can carry refusals, too"
        )

    @property
    def _others(self) -> str:
        """What the methods leave that the search did not go by."""
        return "".join(
            f", {'not applicable' if left is None else left} by {method}"
            for method, left in self.by_method.items()
            if method is not self.method and left != self.largest_loss.refused
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
    stop: Callable[[], bool] = lambda: False,
) -> Concentration:
    """Remove experts and count what is left of refusals.

    Sets that the method cannot switch off, because fewer are left than a token needs, are left out
    and counted.

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
        stop: Asked between removals; the first is always made.

    Raises:
        NothingToAudit: The model refuses none of the prompts, or no expert leans to refusal.
        ConfigurationError: Not one of the sets to try can be switched off.
        UnsupportedModel: The method cannot be applied to this family.
    """
    refused = [text for text, no in zip(prompts, meter.refused(prompts), strict=True) if no]
    leaning = [each.expert for each in ranking.leaning(refused=True, count=max(sizes))]
    if not refused or not leaning:
        raise NothingToAudit(
            f"{len(refused)} of {len(prompts)} prompts are refused and {len(leaning)} experts lean "
            "to refusal; there is no behaviour to study"
        )
    stopped = False

    def time_is_up() -> bool:
        nonlocal stopped
        stopped = stopped or stop()
        return stopped

    def without(experts: frozenset[Expert], by: Method = method) -> int:
        progress(f"without {len(experts)} experts by {by}")
        with steered(routed, Intervention(by, experts)):
            return int(meter.refused(refused).sum())

    search = search_removals(leaning, sizes, len(refused), without, time_is_up)
    chosen = search.smallest or nearest(search.tried)
    found = random_sets(
        chosen.experts, ranking.usage, ranking.layers, controls, seed, ranking.significant
    )
    asked = [
        _if_applicable(without, experts, method) for experts in found.sets if not time_is_up()
    ]  # fmt: skip
    left = [count for count in asked if count is not None]
    return Concentration(
        prompts=len(refused), method=method, tried=search.tried, smallest=search.smallest,
        by_method={each: _if_applicable(without, chosen.experts, each) for each in REMOVALS},
        random=tuple(left), possible=found.possible,
        chance=chance_of_effect(
            len(refused) - chosen.refused, [len(refused) - each for each in left]
        ),
        significant=bool((ranking.p_fwe <= SIGNIFICANT).any()), anywhere=found.anywhere,
        stopped=stopped, untried=search.untried, unasked=len(asked) - len(left),
    )  # fmt: skip


def _if_applicable(without: _Without, experts: frozenset[Expert], by: Method) -> int | None:
    try:
        return without(experts, by)
    except (ConfigurationError, UnsupportedModel):
        return None


def _in_words(sizes: Sequence[int]) -> str:
    """Numbers in words: 5, 8 and 10."""
    *first, last = map(str, sizes)
    return f"{', '.join(first)} and {last}" if first else last
