"""Matched random sets, the wrong direction and unrelated experts, on rankings made by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from auditor.errors import TooFewControls
from auditor.experts.answers import Asked
from auditor.experts.contrasted import Contrasted
from auditor.experts.intervention import Intervention, Method
from auditor.experts.ranking import Ranking
from auditor.experts.routers import find_routers
from auditor.experts.routing_maps import Expert, RoutingMaps, TokenSet
from auditor.experts.steering import steered
from auditor.fix import RandomEffects
from auditor.fixes.expert_controls import (
    affected,
    measure_random,
    random_condition,
    reversal_note,
    unrelated_experts,
    wrong_direction,
)
from auditor.fixes.expert_proposal import Proposal
from auditor.fixes.expert_sets import Tried, intervention_on
from auditor.fixes.expert_trial import State
from auditor.fixes.refusal_gate import Direction
from auditor.language.prompts import Prompt
from auditor.language.refusal import Behaviour
from tests.models.hand_rankings import hand_contrasted, hand_ranking
from tests.models.moe_families import GROUPED, small_moe

CHOSEN = (Expert(0, 3), Expert(1, 5))


def proposal(
    ranking: Ranking, chosen: Sequence[Expert] = CHOSEN, direction: Direction = "suppress",
    method: Method = Method.ZERO_OUTPUT,
) -> Proposal:  # fmt: skip
    experts = frozenset(chosen)
    tried = Tried(experts, 9, 0, -9)
    return Proposal(
        intervention_on(experts, direction, method), hand_contrasted(ranking), tried, (tried,), True
    )


class Effects:
    """Nine prompts by the chosen experts, `other` by any others; keeps what it is asked."""

    def __init__(self, other: int) -> None:
        self.other, self.asked = other, list[Intervention]()

    def __call__(self, intervention: Intervention) -> int:
        self.asked.append(intervention)
        return 9 if len(self.asked) == 1 else self.other


def measured(found: Proposal, effects: Effects, *, controls: int = 30,
             exclude: Sequence[Expert] = ()) -> RandomEffects:  # fmt: skip
    return measure_random(
        found, "suppress", effects, 40, controls, frozenset(exclude), 0, lambda text: None
    )


def test_random_sets_are_distinct_matched_and_hold_nobody_who_is_suspected() -> None:
    """One expert of each layer, none chosen, significant or excluded; the same method."""
    effects = Effects(2)
    barred = [Expert(0, 1), Expert(1, 2)]
    ranking = hand_ranking([*CHOSEN, barred[0]], 2, 16, significant=[*CHOSEN, barred[0]])
    found = measured(proposal(ranking), effects, exclude=barred[1:])
    assert found == RandomEffects(
        effect="fewer over-refusals of harmless prompts, by first tokens", prompts=40, repair=9,
        random=(2,) * 30, asked=30, matched="distinct sets of as many experts of the same layers, "
        "each of the 7 nearest in usage", wrong_direction=2, chance=1 / 31,
    )  # fmt: skip
    first, *sets, turned = effects.asked
    assert turned == wrong_direction(proposal(ranking), "suppress")
    assert first == Intervention(Method.ZERO_OUTPUT, off=frozenset(CHOSEN))
    assert len({each.off for each in sets}) == 30
    for each in sets:
        assert (each.method, each.on) == (Method.ZERO_OUTPUT, frozenset())
        assert sorted(expert.layer for expert in each.off) == [0, 1]
        assert not each.off & {*CHOSEN, *barred}


def test_random_sets_that_do_as_much_are_counted() -> None:
    ranking = hand_ranking(CHOSEN, 2, 16)
    assert measured(proposal(ranking), Effects(9)).chance == 1.0


def test_rivals_are_those_nearest_in_usage_unless_they_are_too_few() -> None:
    """A single expert of 64 has seven near ones: too few to tell it from chance at 5 %."""
    usage = {Expert(0, number): number / 64 for number in range(64)}
    ranking = hand_ranking(CHOSEN[:1], 1, 64, usage=usage)
    one, both = Effects(0), Effects(0)
    found = measured(proposal(ranking, CHOSEN[:1]), one)
    assert len(found.random) == 28
    assert "each of the 28 nearest" in found.matched
    [farthest] = max(one.asked[1:-1], key=lambda each: max(each.off)).off
    assert farthest == Expert(0, 28)
    pair = hand_ranking(CHOSEN, 2, 64)
    assert "each of the 7 nearest" in measured(proposal(pair), both).matched


def test_a_layer_that_is_too_small_gives_what_it_has() -> None:
    """Seven others: one of eight, by chance, is no proof."""
    found = measured(proposal(hand_ranking(CHOSEN[:1], 1, 8), CHOSEN[:1]), Effects(0))
    assert (len(found.random), found.chance) == (7, 1 / 8)
    condition = random_condition(found, "the repair")
    assert (condition.name, condition.control_of) == ("7 matched random sets", "the repair")
    assert condition.random == found
    assert condition.notes == (
        "effect by first tokens: 9 prompts by the chosen experts",
        "0 to 0 (median 0) by distinct sets of as many experts of the same layers, each of the 8 "
        "nearest in usage",
        "30 sets were asked for and no more distinct ones exist",
        "chance that a random set does as much: 0.125",
    )


def test_without_any_random_set_nothing_is_better_than_chance() -> None:
    everyone = [Expert(0, number) for number in range(8)]
    ranking = hand_ranking(everyone[3:4], 1, 8)
    found = measured(proposal(ranking, everyone[3:4]), Effects(0), exclude=everyone)
    assert (found.random, found.chance) == ((), 1.0)
    assert random_condition(found, "the repair").notes[1].startswith("30 sets were asked for")


def lost_in_groups(model: Any) -> Callable[[Intervention], int]:
    """Tokens whose likeliest next one is another under an intervention on a model."""
    routed, ids = find_routers(model), torch.arange(1, 60)[None]

    def likeliest() -> torch.Tensor:
        with torch.inference_mode():
            found: torch.Tensor = model(input_ids=ids).logits.argmax(-1)
        return found

    before = likeliest()

    def effect(intervention: Intervention) -> int:
        with steered(routed, intervention):
            return int((likeliest() != before).sum())

    return effect


def test_sets_that_leave_a_group_too_small_are_left_out_and_counted() -> None:
    """Of four experts in a group two are off: a token that is sent there lacks a third.

    The chosen two are of different groups; a random set of one group cannot be switched off.
    """
    effect = lost_in_groups(small_moe("deepseek_v3", **GROUPED))
    chosen = [Expert(1, 0), Expert(1, 4)]
    ranking = hand_ranking(chosen, 3, 8)
    possible = math.comb(6, 2)
    found = measure_random(
        proposal(ranking, chosen, method=Method.MASK_LOGIT), "suppress", effect, 59, possible,
        frozenset(), 0, lambda text: None,
    )  # fmt: skip
    assert (len(found.random), found.left_out) == (possible - 6, 2 * math.comb(3, 2))
    assert random_condition(found, "the repair").notes[2] == (
        "6 of 15 sets leave fewer experts than a token needs and are left out"
    )


def test_what_cannot_be_turned_around_is_not_measured() -> None:
    """Three experts of a layer cannot be forced on where a token gets two."""
    effect = lost_in_groups(small_moe("mixtral"))
    chosen = [Expert(1, 0), Expert(1, 1), Expert(1, 2)]
    found = measure_random(
        proposal(hand_ranking(chosen, 3, 6), chosen), "suppress", effect, 59, 1, frozenset(), 0,
        lambda text: None,
    )  # fmt: skip
    assert (len(found.random), found.left_out, found.wrong_direction) == (1, 0, None)


def test_the_wrong_direction_is_the_same_experts_the_other_way() -> None:
    ranking = hand_ranking(CHOSEN, 2, 16)
    assert wrong_direction(proposal(ranking), "suppress") == Intervention(
        Method.FORCE_TOK, on=frozenset(CHOSEN)
    )
    strengthening = proposal(ranking, direction="strengthen", method=Method.FORCE_SELECT)
    assert wrong_direction(strengthening, "strengthen") == Intervention(
        Method.MASK_LOGIT, off=frozenset(CHOSEN)
    )


def said(refused: int, answered: int) -> list[Asked]:
    kinds = [Behaviour.REFUSED] * refused + [Behaviour.ANSWERED] * answered
    return [Asked(Prompt("p"), "p", (), "", kind) for kind in kinds]


@pytest.mark.parametrize(
    ("direction", "after", "note"),
    [
        ("suppress", State({}, said(5, 3)),
         "over-refusals go from 2 to 5 of 8: the effect reverses"),
        ("suppress", State({}, said(2, 6)),
         "over-refusals go from 2 to 2 of 8: the effect does not reverse"),
        ("strengthen", State({"a": said(1, 3), "b": said(0, 2)}, []),
         "refusals of harmful prompts go from 3 to 1 of 6: the effect reverses"),
        ("strengthen", State({"a": said(4, 0), "b": said(0, 2)}, []),
         "refusals of harmful prompts go from 3 to 4 of 6: the effect does not reverse"),
    ],
)  # fmt: skip
def test_whether_the_effect_reverses_is_said(direction: Direction, after: State, note: str) -> None:
    before = State({"a": said(2, 2), "b": said(1, 1)}, said(2, 6))
    assert reversal_note(direction, before, after) == note


@pytest.mark.parametrize(("direction", "texts"), [("suppress", "ef"), ("strengthen", "abcd")])
def test_effects_are_counted_on_the_prompts_that_are_to_change(
    direction: Direction, texts: str
) -> None:
    """Harmless ones, or harmful ones of every stratum."""

    def asked(names: str) -> list[Asked]:
        return [Asked(Prompt(name), name, (), "", Behaviour.REFUSED) for name in names]

    before = State({"plain": asked("ab"), "adversarial": asked("cd")}, asked("ef"))
    assert "".join(affected(direction, before)) == texts


def topics(*categories: str) -> tuple[Contrasted, list[Asked]]:
    """Answered prompts; those of category `a` use expert (0, 4), the others expert (0, 6)."""
    counts = np.zeros((len(categories), 1, 8), np.float32)
    for row, category in enumerate(categories):
        counts[row, 0, 4 if category == "a" else 6] = 1
    maps = RoutingMaps((0,), TokenSet.LAST, counts, counts, np.ones(len(counts), np.int64))
    asked = [
        Asked(Prompt("p", category), "p", (), "", Behaviour.ANSWERED) for category in categories
    ]
    return Contrasted(hand_ranking([], 1, 8, top=2), maps, (), ()), asked


def test_unrelated_experts_tell_two_topics_of_answered_prompts_apart() -> None:
    contrasted, asked = topics("a", "b", "a", "c", "b", "a")
    assert unrelated_experts(contrasted, asked, 2, frozenset(), 0) == frozenset(
        {Expert(0, 4), Expert(0, 6)}
    )
    barred = frozenset({Expert(0, 4)})
    assert unrelated_experts(contrasted, asked, 1, barred, 0) == frozenset({Expert(0, 6)})


@pytest.mark.parametrize("categories", [("a", "a", "a"), ("a", "a", "b"), ("", "", "a", "a")])
def test_without_two_topics_there_is_no_such_contrast(categories: tuple[str, ...]) -> None:
    assert unrelated_experts(*topics(*categories), 1, frozenset(), 0) is None


def test_more_experts_than_there_are_cannot_be_unrelated() -> None:
    with pytest.raises(TooFewControls):
        unrelated_experts(*topics("a", "a", "b", "b"), 8, frozenset({Expert(0, 0)}), 0)
