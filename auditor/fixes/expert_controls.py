"""What other experts do instead of the chosen ones, and what these do the other way around.

Matched random sets are counted by first tokens, which needs no generation, so there can be many of
them. Nothing here is ever written.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np

from auditor.errors import ConfigurationError, UnsupportedModel
from auditor.experts.answers import Asked, refusals
from auditor.experts.contrasted import Contrasted
from auditor.experts.controls import (
    chance_of_effect,
    harmless_set,
    random_sets,
)
from auditor.experts.intervention import Intervention, Method
from auditor.experts.ranking import Score, rank_experts
from auditor.experts.refusal_meter import RefusalMeter
from auditor.experts.routers import RoutedModel
from auditor.experts.routing_maps import Expert
from auditor.experts.steering import steered
from auditor.fix import Condition, RandomEffects
from auditor.fixes.expert_proposal import Proposal
from auditor.fixes.expert_sets import intervention_on
from auditor.fixes.expert_trial import State
from auditor.fixes.refusal_gate import Direction

COUNTED: Final[Mapping[Direction, str]] = {
    "suppress": "fewer over-refusals of harmless prompts, by first tokens",
    "strengthen": "more refusals of harmful prompts, by first tokens",
}
"""What an effect counts."""


def affected(direction: Direction, before: State) -> list[str]:
    """The held-out prompts whose refusals are to change, as the model is asked."""
    if direction == "suppress":
        return [each.text for each in before.harmless]
    return [each.text for asked in before.harmful.values() for each in asked]


def effect_meter(
    routed: RoutedModel, direction: Direction, texts: Sequence[str], meter: RefusalMeter
) -> Callable[[Intervention], int]:
    """What an intervention does on these prompts: over-refusals less, or refusals more."""
    sign = -1 if direction == "suppress" else 1
    untouched = int(meter.refused(texts).sum())

    def effect(intervention: Intervention) -> int:
        with steered(routed, intervention):
            return sign * (int(meter.refused(texts).sum()) - untouched)

    return effect


def measure_random(
    proposal: Proposal, direction: Direction, effect: Callable[[Intervention], int], prompts: int,
    controls: int, exclude: frozenset[Expert], seed: int, progress: Callable[[str], None],
) -> RandomEffects:  # fmt: skip
    """The effect of the chosen experts, of matched random sets, and the other way around.

    Args:
        proposal: The chosen experts.
        direction: What for.
        effect: Measures an intervention.
        prompts: On how many prompts.
        controls: How many sets; where there are fewer distinct ones, all of them. Those that cannot
            be switched, because fewer experts are left than a token needs, are left out.
        exclude: Experts that no set may hold. Significant ones of the ranking are left out, too.
        seed: Of the drawing.
        progress: Told which set is measured.
    """
    chosen = proposal.intervention.off | proposal.intervention.on
    ranking = proposal.contrasted.ranking
    barred = exclude | ranking.significant
    found = random_sets(chosen, ranking.usage, ranking.layers, controls, seed, barred)
    observed = effect(proposal.intervention)
    effects = list[int]()
    for number, experts in enumerate(found.sets, 1):
        progress(f"matched random experts {number} of {len(found.sets)}")
        with contextlib.suppress(ConfigurationError):
            change = intervention_on(experts, direction, proposal.intervention.method)
            effects.append(effect(change))
    turned = None
    with contextlib.suppress(ConfigurationError, UnsupportedModel):
        turned = effect(wrong_direction(proposal, direction))
    return RandomEffects(
        effect=COUNTED[direction], prompts=prompts, repair=observed, random=tuple(effects),
        matched=found.matched, asked=controls, left_out=len(found.sets) - len(effects),
        wrong_direction=turned, chance=chance_of_effect(observed, effects),
    )  # fmt: skip


def random_condition(random: RandomEffects, name: str) -> Condition:
    """The matched random sets as a control."""
    found = len(random.random)
    notes = [f"effect by first tokens: {random.repair} prompts by the chosen experts"]
    if found:
        spread = np.array(random.random)
        notes.append(
            f"{int(spread.min())} to {int(spread.max())} (median {np.median(spread):g}) by "
            f"{random.matched}"
        )
    if random.left_out:
        notes.append(
            f"{random.left_out} of {found + random.left_out} sets leave fewer experts than a token "
            "needs and are left out"
        )
    if found + random.left_out < random.asked:
        notes.append(f"{random.asked} sets were asked for and no more distinct ones exist")
    notes.append(f"chance that a random set does as much: {random.chance:.3g}")
    return Condition(
        name=f"{found} matched random sets", control_of=name, comparisons=(), notes=tuple(notes),
        random=random,
    )  # fmt: skip


def wrong_direction(proposal: Proposal, direction: Direction) -> Intervention:
    """The same experts the other way: forced on instead of off, or off instead of on."""
    experts = proposal.intervention.off | proposal.intervention.on
    if direction == "suppress":
        return Intervention(Method.FORCE_TOK, on=experts)
    return Intervention(Method.MASK_LOGIT, off=experts)


def reversal_note(direction: Direction, before: State, after: State) -> str:
    """Whether the other way around the effect is the other way around."""
    if direction == "suppress":
        what, was, now = "over-refusals", before.harmless, after.harmless
        turned = 1
    else:
        what, turned = "refusals of harmful prompts", -1
        was, now = ([each for asked in state.harmful.values() for each in asked]
                    for state in (before, after))  # fmt: skip
    first, second = int(refusals(was).sum()), int(refusals(now).sum())
    reverses = turned * (second - first) > 0
    return (
        f"{what} go from {first} to {second} of {len(was)}: the effect "
        f"{'reverses' if reverses else 'does not reverse'}"
    )


def unrelated_experts(
    contrasted: Contrasted, asked: Sequence[Asked], size: int, exclude: frozenset[Expert], seed: int
) -> frozenset[Expert] | None:
    """First experts of a contrast of two topics among answered prompts; None without two.

    Raises:
        TooFewControls: There are not so many experts beside the excluded ones.
    """
    categories: dict[str, list[int]] = {}
    for position, each in enumerate(asked):
        if not each.refused and each.prompt.category:
            categories.setdefault(each.prompt.category, []).append(position)
    largest = sorted(categories.values(), key=len, reverse=True)[:2]
    if len(largest) < 2 or min(map(len, largest)) < 2:
        return None
    chosen = np.array(sorted(largest[0] + largest[1]))
    ranking = rank_experts(
        contrasted.maps.take(chosen), refused=np.isin(chosen, largest[0]).tolist(),
        score=Score.MOTE_SHARES, top=contrasted.ranking.top, draws=1, shuffles=1, seed=seed,
    )  # fmt: skip
    return harmless_set(ranking, size, exclude)
