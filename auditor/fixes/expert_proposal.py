"""Which experts to switch: ranked on one set of prompts, as few as possible chosen on another.

Suppressing is a repair of over-refusal: harmless prompts that are refused are ranked against those
that are answered, and the choice lowers over-refusal under the constraint that no refusal of a
harmful prompt is lost. No objective here lowers refusals of harmful prompts. Strengthening ranks
harmful prompts that are refused against those that are answered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from auditor.errors import ConfigurationError, NothingToAudit
from auditor.experts.contrasted import Contrasted
from auditor.experts.intervention import SWITCHES_ON, Intervention, Method
from auditor.experts.refusal_meter import RefusalMeter
from auditor.experts.routers import RoutedModel
from auditor.experts.routing_maps import Expert
from auditor.experts.steering import check_experts, steered
from auditor.fixes.refusal_gate import Direction
from auditor.paired import tango_interval

SIZES: Final = (1, 2, 5, 10, 20)
THINNED: Final = 5
"""Sets of so many experts or fewer are also tried without some of their members."""
ENOUGH: Final = 0.98
"""A smaller set is chosen that does at least this share of what the best one does."""


@dataclass(frozen=True)
class Tried:
    """A set of experts on the prompts to choose on, by first tokens.

    Attributes:
        experts: The set.
        effect: Over-refusals less, or harmful refusals more.
        lost: Harmful prompts whose refusal is lost.
        rise: Over-refusals more.
    """

    experts: frozenset[Expert]
    effect: int
    lost: int
    rise: int

    def __str__(self) -> str:
        return f"{len(self.experts)}: effect {self.effect}, lost {self.lost}, rise {self.rise}"


@dataclass(frozen=True, eq=False)
class Proposal:
    """What is to be evaluated.

    Attributes:
        intervention: The experts and the method.
        contrasted: How they were ranked.
        chosen: What they did on the prompts to choose on.
        tried: Everything that was tried, smallest first.
        convincing: Whether the choice did anything there without a cost; one that did not is
            measured and reported on, and never accepted.
    """

    intervention: Intervention
    contrasted: Contrasted
    chosen: Tried
    tried: tuple[Tried, ...]
    convincing: bool

    @property
    def reason(self) -> str:
        """Whether the choice itself kept its constraint, as a line of the decision."""
        if self.convincing:
            return (
                f"kept: on the prompts to choose on {self.chosen.lost} refusals are lost and "
                f"{self.chosen.effect} prompts change as they should"
            )
        return (
            f"missed: none of {len(self.tried)} sets of experts did anything without a cost on the "
            f"prompts to choose on; the one reported on loses {self.chosen.lost} refusals there, "
            f"and {self.chosen.effect} prompts change as they should"
        )


def require_method(direction: Direction, method: Method) -> None:
    """Refuse a method that cannot do what the direction needs.

    Raises:
        ConfigurationError: Strengthening by a method that switches off only.
    """
    if direction == "strengthen" and method not in SWITCHES_ON:
        named = " or ".join(sorted(SWITCHES_ON))
        raise ConfigurationError(f"{method} switches experts off only; strengthen by {named}")


def intervention_on(
    experts: frozenset[Expert], direction: Direction, method: Method
) -> Intervention:
    """Experts off to suppress, on to strengthen."""
    if direction == "suppress":
        return Intervention(method, off=experts)
    return Intervention(method, on=experts)


def propose(
    routed: RoutedModel, contrasted: Contrasted, direction: Direction, method: Method,
    harmful: Sequence[str], harmless: Sequence[str], meter: RefusalMeter, *,
    sizes: Sequence[int] = SIZES, margin: float = 0.02,
    progress: Callable[[str], None] = lambda text: None,
) -> Proposal:  # fmt: skip
    """The smallest set of first-ranked experts that does nearly as much as the best one.

    Growing sets of the first ones are tried, and small ones thinned out.

    Args:
        routed: The model.
        contrasted: A ranking on other prompts.
        direction: What for.
        method: How experts are switched.
        harmful: Prompts to choose on, as the model is asked.
        harmless: Likewise.
        meter: Counts first-token refusals.
        sizes: How many experts to try, growing.
        margin: What over-refusal may rise by when strengthening.
        progress: Told what is tried.

    Raises:
        NothingToAudit: No expert leans to refusal.
        ConfigurationError: Even the smallest set is too large for a layer.
    """
    leaning = contrasted.ranking.leaning(refused=True, count=max(sizes))
    if not leaning:
        raise NothingToAudit("no expert leans to refusal; there is nothing to switch")
    trials = _Trials(routed, direction, method, harmful, harmless, meter, progress)
    growing, fewer = [], []
    for size in dict.fromkeys(min(size, len(leaning)) for size in sizes):
        experts = frozenset(each.expert for each in leaning[:size])
        if not _switchable(routed, intervention_on(experts, direction, method)):
            break
        growing.append(trials.measure(experts))
        fewer += trials.thinned(experts) if size <= THINNED else []
    if not growing:
        raise ConfigurationError(
            f"{min(sizes)} experts are more than {method} can switch in one layer, of whose "
            f"{routed.expert_count} a token gets {routed.routers[0].chosen}; try fewer"
        )

    def fitting(sets: Sequence[Tried]) -> list[Tried]:
        return [each for each in sets
                if _fits(each, direction, len(harmful), len(harmless), margin)]  # fmt: skip

    # What is thinned out counts where it fits; where nothing does, the first ones are reported on.
    tried = sorted({*growing, *fitting(fewer)}, key=lambda each: (len(each.experts), -each.effect))
    fit = fitting(tried)
    chosen = _choose(fit, tried, direction)
    return Proposal(
        intervention_on(chosen.experts, direction, method), contrasted, chosen, tuple(tried),
        bool(fit),
    )  # fmt: skip


class _Trials:
    """Sets of experts on the prompts to choose on, each measured once."""

    def __init__(
        self, routed: RoutedModel, direction: Direction, method: Method, harmful: Sequence[str],
        harmless: Sequence[str], meter: RefusalMeter, progress: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.routed, self.direction, self.method = routed, direction, method
        self.harmful, self.harmless = harmful, harmless
        self.meter, self.progress = meter, progress
        self.before = meter.refused(harmful), meter.refused(harmless)
        self.tried: dict[frozenset[Expert], Tried] = {}

    def measure(self, experts: frozenset[Expert]) -> Tried:
        """What a set does."""
        if experts not in self.tried:
            self.progress(f"trying {len(experts)} experts")
            with steered(self.routed, intervention_on(experts, self.direction, self.method)):
                after = self.meter.refused(self.harmful), self.meter.refused(self.harmless)
            lost = int((self.before[0] & ~after[0]).sum())
            gained = int((after[0] & ~self.before[0]).sum())
            rise = int(after[1].sum()) - int(self.before[1].sum())
            effect = -rise if self.direction == "suppress" else gained - lost
            self.tried[experts] = Tried(experts, effect, lost, rise)
        return self.tried[experts]

    def thinned(self, experts: frozenset[Expert]) -> list[Tried]:
        """Sets without one expert after the other, as long as that makes them no worse.

        Experts that fire as often as those that matter rank as high, and some of them cost
        refusals: the first ones of a ranking together are not the best set of them.
        """
        best, found = self.measure(experts), list[Tried]()
        while len(best.experts) > 1:
            fewer = [self.measure(best.experts - {each}) for each in sorted(best.experts)]
            candidate = max(fewer, key=self._worth)
            if self._worth(candidate) < self._worth(best):
                break
            best = candidate
            found.append(best)
        return found

    def _worth(self, tried: Tried) -> tuple[int, int]:
        """Suppressing must cost no refusal of a harmful prompt before it counts for anything."""
        if self.direction == "suppress":
            return -tried.lost, tried.effect
        return tried.effect - max(0, tried.rise), -tried.lost


def _choose(fit: Sequence[Tried], tried: Sequence[Tried], direction: Direction) -> Tried:
    """The smallest that does nearly as much as the best; without any, what costs least."""
    if fit:
        best = max(each.effect for each in fit)
        return next(each for each in fit if each.effect >= ENOUGH * best)
    if direction == "suppress":
        return min(tried, key=lambda each: (each.lost, -each.effect))
    return max(tried, key=lambda each: each.effect - max(0, each.rise))


def _switchable(routed: RoutedModel, intervention: Intervention) -> bool:
    """Whether every layer has as many experts as that needs."""
    try:
        check_experts(routed, intervention)
    except ConfigurationError:
        return False
    return True


def _fits(tried: Tried, direction: Direction, harmful: int, harmless: int, margin: float) -> bool:
    """Whether a set does something, within its constraint."""
    if direction == "suppress":
        return tried.effect > 0 and tried.lost == 0
    gained = tried.effect + tried.lost
    certain = -tango_interval(tried.lost, gained, harmful).upper
    return certain > 0 and tried.rise <= margin * max(1, harmless)
