"""Which experts are chosen, on a model whose one carrier refuses every disallowed prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.errors import ConfigurationError, NothingToAudit
from auditor.experts.intervention import SWITCHES_ON, Intervention, Method
from auditor.experts.refusal_meter import Answer, RefusalMeter, learn_meter
from auditor.experts.routers import RoutedModel, find_routers
from auditor.experts.routing_maps import Expert
from auditor.fixes.expert_proposal import Proposal, _choose, _fits, propose, require_method
from auditor.fixes.expert_sets import Trials, Tried
from auditor.fixes.refusal_gate import Direction
from auditor.language.causal_lm import CausalLM
from tests.models.hand_rankings import hand_contrasted, hand_ranking
from tests.models.planted_moe import write_planted_moe

CARRIER, FOLLOWER, OTHER, IN_LAYER = Expert(1, 3), Expert(1, 5), Expert(0, 2), Expert(1, 0)


class Planted(NamedTuple):
    """The model, and prompts as it is asked: 24 of each kind."""

    routed: RoutedModel
    meter: RefusalMeter
    refused: list[str]
    answered: list[str]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    moe = write_planted_moe(tmp_path_factory.mktemp("moe"))
    model = CausalLM.open(moe.folder)
    sides = [[model.chat(pair[side].text) for pair in moe.pairs[::3]] for side in (0, 1)]
    answers = [
        Answer(each.token_ids, refused) for refused, side in zip((True, False), sides, strict=True)
        for each in model.generate(side, max_new_tokens=2)
    ]  # fmt: skip
    return Planted(find_routers(model.model), learn_meter(model, answers), *sides)


def proposed(
    planted: Planted, direction: Direction, method: Method, order: list[Expert],
    harmful: list[str], harmless: list[str], sizes: tuple[int, ...] = (1, 2),
    distance: Callable[[Intervention], float] = lambda change: 0.0,
) -> Proposal:  # fmt: skip
    return propose(
        planted.routed, hand_contrasted(hand_ranking(order, 2, 8)), direction, method, harmful,
        harmless, planted.meter, distance, sizes=sizes,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("order", "sizes"),
    [([CARRIER, FOLLOWER], [1, 2]), ([FOLLOWER, CARRIER], [1, 1, 2])],
)
def test_the_smallest_set_that_does_as_much_is_chosen(
    planted: Planted, order: list[Expert], sizes: list[int]
) -> None:
    """The carrier alone, though its follower ranks as high: a larger set is thinned out.

    Harmless prompts are refused through the carrier, harmful ones are not refused here.
    """
    found = proposed(
        planted, "suppress", Method.ZERO_OUTPUT, order, planted.answered, planted.refused
    )
    assert set(found.intervention.off) == {CARRIER}
    assert (found.chosen.effect, found.chosen.lost, found.convincing) == (24, 0, True)
    assert [len(each.experts) for each in found.tried] == sizes
    assert found.reason == (
        "kept: on the prompts to choose on 0 refusals are lost and 24 prompts change as they should"
    )


def test_a_set_that_loses_a_harmful_refusal_is_never_chosen_to_suppress(planted: Planted) -> None:
    """The carrier does most and costs most: what costs nothing is reported on, and not accepted."""
    found = proposed(
        planted, "suppress", Method.MASK_LOGIT, [OTHER, CARRIER],
        planted.refused[:12], [*planted.refused[12:], *planted.answered],
    )  # fmt: skip
    assert found.tried == (
        Tried(frozenset({OTHER}), 0, 0, 0), Tried(frozenset({OTHER, CARRIER}), 12, 12, -12)
    )  # fmt: skip
    assert (set(found.intervention.off), found.convincing) == ({OTHER}, False)
    assert found.reason.startswith("missed: none of 2 sets of experts did anything without a cost")


def test_where_every_set_costs_refusals_none_is_convincing(planted: Planted) -> None:
    found = proposed(
        planted, "suppress", Method.ZERO_WEIGHT, [CARRIER, OTHER],
        planted.refused[:12], planted.refused[12:],
    )  # fmt: skip
    assert (found.chosen.lost, found.convincing) == (12, False)
    assert found.reason.startswith("missed: ")
    assert "loses 12 refusals" in found.reason


def test_strengthening_forces_what_leans_to_refusal(planted: Planted) -> None:
    """Harmful prompts that are answered are refused; harmless ones are refused already."""
    found = proposed(
        planted, "strengthen", Method.FORCE_TOK, [CARRIER], planted.answered, planted.refused
    )
    assert (set(found.intervention.on), set(found.intervention.off)) == ({CARRIER}, set())
    assert (found.chosen.effect, found.chosen.rise, found.convincing) == (24, 0, True)


def test_strengthening_that_refuses_everything_is_not_convincing(planted: Planted) -> None:
    found = proposed(
        planted, "strengthen", Method.FORCE_TOK, [CARRIER], planted.answered[:12],
        planted.answered[12:],
    )  # fmt: skip
    assert (found.chosen.effect, found.chosen.rise, found.convincing) == (12, 12, False)


@pytest.mark.parametrize(
    ("direction", "method", "order", "tried"),
    [
        # Two experts of a layer are chosen: no third can be forced on, a set grows by other layers.
        ("strengthen", Method.FORCE_TOK, [CARRIER, FOLLOWER, IN_LAYER], [1, 2, 3]),
        ("suppress", Method.MASK_LOGIT, [Expert(1, at) for at in range(7)], [1]),
        ("suppress", Method.FORCE_TOK, [Expert(1, at) for at in range(7)], [1]),
        ("suppress", Method.ZERO_WEIGHT, [Expert(1, at) for at in range(7)], [1, 7]),
    ],
)
def test_sets_that_are_too_large_for_a_layer_are_not_tried(
    planted: Planted, direction: Direction, method: Method, order: list[Expert], tried: list[int]
) -> None:
    """And how many were to be tried is said."""
    sides = planted.answered[:4], planted.refused[:4]
    found = proposed(planted, direction, method, order, *sides, sizes=(1, len(order)))
    assert [len(each.experts) for each in found.tried] == tried
    assert found.left_out == (() if method is Method.ZERO_WEIGHT else (len(order),))


def test_where_no_set_can_be_switched_it_is_an_error(planted: Planted) -> None:
    with pytest.raises(ConfigurationError, match=r"7 experts are more than mask_logit .* fewer"):
        proposed(planted, "suppress", Method.MASK_LOGIT, [Expert(1, at) for at in range(7)],
                 planted.answered, planted.refused, sizes=(7,))  # fmt: skip


def test_strengthening_grows_a_set_past_those_that_rank_before(planted: Planted) -> None:
    """Three of a layer cannot be on together; the third alone does it all and is chosen."""
    order = [IN_LAYER, Expert(1, 1), CARRIER, OTHER]
    found = proposed(planted, "strengthen", Method.FORCE_TOK, order, planted.answered,
                     planted.refused, sizes=(1, 4))  # fmt: skip
    assert set(found.intervention.on) == {CARRIER}
    assert found.tried[:2] == (
        Tried(frozenset({CARRIER}), 24, 0, 0, 0.0), Tried(frozenset({IN_LAYER}), 0, 0, 0, 0.0)
    )  # fmt: skip
    assert found.left_out == (4,)


def test_a_set_grows_by_experts_of_either_sign(planted: Planted) -> None:
    """Where an expert that leans to answers does more, it is taken; no set has more than asked."""
    order = [OTHER, IN_LAYER]
    ranking = hand_ranking(order, 2, 8)
    ranking.scores[CARRIER] = -0.5
    found = propose(
        planted.routed, hand_contrasted(ranking), "strengthen", Method.FORCE_TOK, planted.answered,
        planted.refused, planted.meter, lambda change: 0.0, sizes=(1, 2),
    )  # fmt: skip
    assert set(found.intervention.on) == {CARRIER}
    assert max(len(each.experts) for each in found.tried) == 2


def test_a_set_grows_by_the_best_at_each_step(planted: Planted) -> None:
    """Of equals by the first, also where that does not help, and while a layer has room."""
    steps = [{CARRIER}, {CARRIER, OTHER}, {CARRIER, OTHER, FOLLOWER}]
    everyone = (OTHER, CARRIER, FOLLOWER, IN_LAYER)
    assert grown(planted, everyone, 4) == steps
    assert grown(planted, everyone, 2) == steps[:2]
    assert grown(planted, (), 4) == []


def test_a_set_that_moves_answers_too_far_is_not_grown_further(planted: Planted) -> None:
    """The next best takes its place; where none is near enough, that was all."""

    def far(change: Intervention) -> float:
        return 0.2 if OTHER in change.on or len(change.on) > 2 else 0.1

    steps = [{CARRIER}, {CARRIER, FOLLOWER}]
    assert grown(planted, (OTHER, CARRIER, FOLLOWER), 4, far) == steps
    assert grown(planted, (OTHER,), 4, far) == []


def test_a_set_that_moves_answers_too_far_is_not_convincing(planted: Planted) -> None:
    """It is reported on with its divergence, or without a number where an answer has no room."""

    def far(change: Intervention) -> float:
        return 0.1001

    def no_room(change: Intervention) -> float:
        raise ConfigurationError("no room")

    for distance, said in ((far, "0.1 nats"), (no_room, "inf nats")):
        found = proposed(planted, "strengthen", Method.FORCE_TOK, [CARRIER], planted.answered,
                         planted.refused, distance=distance)  # fmt: skip
        assert (found.chosen.effect, found.convincing) == (24, False)
        assert str(found.chosen) == f"1: effect 24, lost 0, rise 0, {said}"
        assert found.reason.startswith("missed: ")


def grown(
    planted: Planted, candidates: Sequence[Expert], most: int,
    distance: Callable[[Intervention], float] = lambda change: 0.0,
) -> list[set[Expert]]:  # fmt: skip
    """The sets that a strengthening grows by, in order."""
    trials = Trials(planted.routed, "strengthen", Method.FORCE_TOK, planted.answered,
                    planted.refused, planted.meter, distance, lambda text: None)  # fmt: skip
    return [set(each.experts) for each in trials.grown(candidates, most)]


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9), st.integers(-9, 9)), min_size=1))
def test_what_is_chosen_to_strengthen_does_nearly_as_much_as_the_best(
    rows: list[tuple[int, int, int]],
) -> None:
    """Among those that fit, where any does; else over-refusals are taken off."""
    tried = [
        Tried(frozenset({Expert(0, at)}), gained - lost, lost, rise)
        for at, (gained, lost, rise) in enumerate(rows)
    ]
    fit = [each for each in tried if _fits(each, "strengthen", 50, 200, 0.02)]
    chosen = _choose(fit, tried, "strengthen")
    assert chosen in (fit or tried)
    if fit:
        assert chosen.effect >= 0.98 * max(each.effect for each in fit) > 0
    else:
        assert chosen.gain == max(each.effect - max(0, each.rise) for each in tried)
    assert not fit or chosen.rise <= 4


def test_there_are_no_more_sizes_than_experts_that_lean_to_refusal(planted: Planted) -> None:
    found = proposed(planted, "suppress", Method.ZERO_OUTPUT, [OTHER, CARRIER],
                     planted.refused[:4], planted.answered[:4], sizes=(1, 5, 20))  # fmt: skip
    assert [len(each.experts) for each in found.tried] == [1, 2]


def test_without_an_expert_that_leans_to_refusal_there_is_nothing_to_switch(
    planted: Planted,
) -> None:
    with pytest.raises(NothingToAudit, match="no expert leans to refusal"):
        proposed(planted, "suppress", Method.ZERO_OUTPUT, [], planted.refused, planted.answered)


@pytest.mark.parametrize("method", Method)
def test_only_a_method_that_can_switch_on_strengthens(method: Method) -> None:
    require_method("suppress", method)
    if method in SWITCHES_ON:
        require_method("strengthen", method)
    else:
        with pytest.raises(ConfigurationError, match=f"{method} .* strengthen by force_select or"):
            require_method("strengthen", method)


@given(st.lists(st.tuples(*[st.integers(0, 9)] * 2, st.integers(-9, 9)), min_size=1, max_size=6))
def test_no_choice_to_suppress_costs_refusals_while_one_does_not(
    rows: list[tuple[int, int, int]],
) -> None:
    """And what is chosen as convincing has an effect and costs none at all."""
    tried = [Tried(frozenset({Expert(0, at)}), *row) for at, row in enumerate(rows)]
    fit = [each for each in tried if _fits(each, "suppress", 50, 50, 0.02)]
    chosen = _choose(fit, tried, "suppress")
    assert chosen.lost == min(each.lost for each in tried)
    if fit:
        assert (chosen.lost, chosen.effect > 0) == (0, True)
        assert chosen.effect >= 0.9 * max(each.effect for each in fit)
