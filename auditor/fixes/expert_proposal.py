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
from auditor.fixes.expert_sets import Trials, Tried, intervention_on
from auditor.fixes.refusal_gate import Direction
from auditor.paired import tango_interval

SIZES: Final = (1, 2, 5, 10, 20)
THINNED: Final = 5
"""Sets of so many experts or fewer are also tried without some of their members."""
GROWN: Final = 20
"""Sets are grown of so many experts, the first of the ranking by the size of their score: that
takes 210 trials at most. Where a token gets two experts of a layer, one that leans to answers can
keep it from all others beside one that leans to refusals."""
ENOUGH: Final = 0.98
"""A smaller set is chosen that does at least this share of what the best one does."""


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
        left_out: How many first experts were to be tried and cannot be switched together.
    """

    intervention: Intervention
    contrasted: Contrasted
    chosen: Tried
    tried: tuple[Tried, ...]
    convincing: bool
    left_out: tuple[int, ...] = ()

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


def propose(
    routed: RoutedModel, contrasted: Contrasted, direction: Direction, method: Method,
    harmful: Sequence[str], harmless: Sequence[str], meter: RefusalMeter,
    distance: Callable[[Intervention], float], *, sizes: Sequence[int] = SIZES,
    margin: float = 0.02,
    progress: Callable[[str], None] = lambda text: None,
) -> Proposal:  # fmt: skip
    """The smallest set of first-ranked experts that does nearly as much as the best one.

    Growing sets of those that lean most to refusal are tried, and small ones thinned out. To
    strengthen, sets are also grown by what helps most at each step, and a set has to leave answers
    to harmless prompts nearly as they are. What cannot be switched is left out.

    Args:
        routed: The model.
        contrasted: A ranking on other prompts.
        direction: What for.
        method: How experts are switched.
        harmful: Prompts to choose on, as the model is asked.
        harmless: Likewise.
        meter: Counts first-token refusals.
        distance: Divergence of an intervention from the base on harmless prompts, in nats.
        sizes: How many experts to try, growing; no set has more than the last.
        margin: What over-refusal may rise by when strengthening.
        progress: Told what is tried.

    Raises:
        NothingToAudit: No expert leans to refusal.
        ConfigurationError: No set can be switched, even the smallest being too large for a layer.
    """
    leaning = [each.expert for each in contrasted.ranking.leaning(refused=True, count=max(sizes))]
    if not leaning:
        raise NothingToAudit("no expert leans to refusal; there is nothing to switch")
    trials = Trials(routed, direction, method, harmful, harmless, meter, distance, progress)
    first, others, left_out = list[Tried](), list[Tried](), list[int]()
    for size in dict.fromkeys(min(size, len(leaning)) for size in sizes):
        tried = trials.measure(frozenset(leaning[:size]))
        if tried is None:
            left_out.append(size)
            continue
        first.append(tried)
        others += trials.thinned(tried) if size <= THINNED else []
    if direction == "strengthen":
        candidates = [each.expert for each in contrasted.ranking.first(GROWN)]
        others += trials.grown(candidates, max(sizes))
    if not first and not others:
        raise ConfigurationError(
            f"{min(sizes)} experts are more than {method} can switch in one layer, of whose "
            f"{routed.expert_count} a token gets {routed.routers[0].chosen}; try fewer"
        )

    def fitting(sets: Sequence[Tried]) -> list[Tried]:
        return [each for each in sets
                if _fits(each, direction, len(harmful), len(harmless), margin)]  # fmt: skip

    first, others = [*map(trials.placed, first)], [*map(trials.placed, others)]
    # What is thinned out or grown counts where it fits; else the first ones are reported on.
    every = sorted(
        dict.fromkeys((*first, *fitting(others)) or others),
        key=lambda each: (len(each.experts), -each.effect),
    )
    fit = fitting(every)
    chosen = _choose(fit, every, direction)
    return Proposal(
        intervention_on(chosen.experts, direction, method), contrasted, chosen, tuple(every),
        bool(fit), tuple(left_out),
    )  # fmt: skip


def _choose(fit: Sequence[Tried], tried: Sequence[Tried], direction: Direction) -> Tried:
    """The smallest that does nearly as much as the best; without any, what costs least."""
    if fit:
        best = max(each.effect for each in fit)
        return next(each for each in fit if each.effect >= ENOUGH * best)
    if direction == "suppress":
        return min(tried, key=lambda each: (each.lost, -each.effect))
    return max(tried, key=lambda each: each.gain)


def _fits(tried: Tried, direction: Direction, harmful: int, harmless: int, margin: float) -> bool:
    """Whether a set does something, within its constraint."""
    if direction == "suppress":
        return tried.effect > 0 and tried.lost == 0
    gained = tried.effect + tried.lost
    certain = -tango_interval(tried.lost, gained, harmful).upper
    return certain > 0 and tried.near and tried.rise <= margin * max(1, harmless)
