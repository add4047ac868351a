"""Sets of experts on the prompts to choose on: measured once, thinned out, or grown one by one.

First-ranked experts together are not the best set of them. Some fire as often as those that matter
and cost refusals, so sets are thinned out. And to strengthen, what a second expert adds depends on
the first: sets are grown by whichever does most beside those that are on. First tokens alone would
let a set spoil what comes after them: the divergence from the base on harmless prompts is limited
as where directions of refusal are chosen (Arditi et al. 2024, arXiv 2406.11717).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from auditor.errors import ConfigurationError
from auditor.experts.intervention import Intervention, Method
from auditor.experts.refusal_meter import RefusalMeter
from auditor.experts.routers import RoutedModel
from auditor.experts.routing_maps import Expert
from auditor.experts.steering import steered
from auditor.fixes.refusal_gate import Direction

MOST_FAR: Final = 0.1
"""Mean nats by which a set that strengthens may move answers to harmless prompts from the base's,
at the first token and over the first 32."""


@dataclass(frozen=True)
class Tried:
    """A set of experts on the prompts to choose on, by first tokens.

    Attributes:
        experts: The set.
        effect: Over-refusals less, or harmful refusals more.
        lost: Harmful prompts whose refusal is lost.
        rise: Over-refusals more.
        far: Divergence from the base on harmless prompts, in nats; None where it is not asked.
    """

    experts: frozenset[Expert]
    effect: int
    lost: int
    rise: int
    far: float | None = None

    @property
    def near(self) -> bool:
        """Whether harmless prompts are answered nearly as before; also where it is not asked."""
        return self.far is None or self.far <= MOST_FAR

    @property
    def gain(self) -> int:
        """The effect less what it costs in over-refusals."""
        return self.effect - max(0, self.rise)

    def __str__(self) -> str:
        far = "" if self.far is None else f", {self.far:.2g} nats"
        return f"{len(self.experts)}: effect {self.effect}, lost {self.lost}, rise {self.rise}{far}"


def intervention_on(
    experts: frozenset[Expert], direction: Direction, method: Method
) -> Intervention:
    """Experts off to suppress, on to strengthen."""
    if direction == "suppress":
        return Intervention(method, off=experts)
    return Intervention(method, on=experts)


class Trials:
    """Sets of experts on the prompts to choose on, each measured once.

    Args:
        routed: The model.
        direction: What for.
        method: How experts are switched.
        harmful: Prompts to choose on, as the model is asked.
        harmless: Likewise.
        meter: Counts first-token refusals.
        distance: Divergence of an intervention from the base; asked to strengthen only.
        progress: Told what is tried.
    """

    def __init__(
        self, routed: RoutedModel, direction: Direction, method: Method, harmful: Sequence[str],
        harmless: Sequence[str], meter: RefusalMeter, distance: Callable[[Intervention], float],
        progress: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.routed, self.direction, self.method = routed, direction, method
        self.harmful, self.harmless = harmful, harmless
        self.meter, self.distance, self.progress = meter, distance, progress
        self.before = meter.refused(harmful), meter.refused(harmless)
        self._tried: dict[frozenset[Expert], Tried | None] = {}

    def measure(self, experts: frozenset[Expert]) -> Tried | None:
        """What a set does; None where it cannot be switched: see `steered`."""
        if experts not in self._tried:
            self.progress(f"trying {len(experts)} experts")
            try:
                self._tried[experts] = self._measured(experts)
            except ConfigurationError:
                self._tried[experts] = None
        return self._tried[experts]

    def placed(self, tried: Tried) -> Tried:
        """The set with its divergence from the base, where that counts."""
        if self.direction == "suppress" or tried.far is not None:
            return tried
        change = intervention_on(tried.experts, self.direction, self.method)
        try:
            far = self.distance(change)
        except ConfigurationError:  # a token of an answer leaves them no room
            far = math.inf
        found = replace(tried, far=far)
        self._tried[tried.experts] = found
        return found

    def thinned(self, first: Tried) -> list[Tried]:
        """Sets without one expert after the other, as long as that makes them no worse."""
        best, found = first, list[Tried]()
        while len(best.experts) > 1:
            fewer = self._ranked(best.experts - {each} for each in sorted(best.experts))
            if not fewer or self._worth(fewer[0]) < self._worth(best):
                break
            best = fewer[0]
            found.append(best)
        return found

    def grown(self, candidates: Sequence[Expert], most: int) -> list[Tried]:
        """Sets with one expert after the other, at each step the best that stays near the base.

        It goes on where a step does not help, for two experts of a layer may do what neither does:
        a token that gets two then goes nowhere else.

        Args:
            candidates: Experts; of equals the first ones are taken.
            most: How many at most, and as many as can be switched.
        """
        found = list[Tried]()
        experts = frozenset[Expert]()
        while len(experts) < most:
            larger = self._ranked(experts | {each} for each in candidates if each not in experts)
            best = next((each for each in map(self.placed, larger) if each.near), None)
            if best is None:
                break
            found.append(best)
            experts = best.experts
        return found

    def _ranked(self, sets: Iterable[frozenset[Expert]]) -> list[Tried]:
        """The sets that can be switched, best first, equals in their order."""
        tried = [found for each in sets if (found := self.measure(each)) is not None]
        return sorted(tried, key=self._worth, reverse=True)

    def _measured(self, experts: frozenset[Expert]) -> Tried:
        with steered(self.routed, intervention_on(experts, self.direction, self.method)):
            after = self.meter.refused(self.harmful), self.meter.refused(self.harmless)
        lost = int((self.before[0] & ~after[0]).sum())
        gained = int((after[0] & ~self.before[0]).sum())
        rise = int(after[1].sum()) - int(self.before[1].sum())
        return Tried(experts, -rise if self.direction == "suppress" else gained - lost, lost, rise)

    def _worth(self, tried: Tried) -> tuple[int, int]:
        """Suppressing must cost no refusal of a harmful prompt before it counts for anything."""
        if self.direction == "suppress":
            return -tried.lost, tried.effect
        return tried.gain, -tried.lost
