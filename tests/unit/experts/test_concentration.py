"""How few experts carry refusals is found exactly where it is planted, and no more is said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pytest

from auditor.errors import ConfigurationError, NothingToAudit
from auditor.experts.concentration import (
    REMOVALS,
    Concentration,
    Standing,
    measure_concentration,
)
from auditor.experts.contrast import contrast_labels
from auditor.experts.contrasted import contrast_experts
from auditor.experts.controls import LEAST_SETS
from auditor.experts.intervention import Intervention, Method
from auditor.experts.ranking import Ranking, Score
from auditor.experts.refusal_meter import Answer, RefusalMeter, learn_meter
from auditor.experts.removal_search import Removal
from auditor.experts.routers import RoutedModel, find_routers
from auditor.experts.routing_maps import Expert, TokenSet
from auditor.intervals import Share
from auditor.language.causal_lm import CausalLM
from tests.models.hand_rankings import hand_ranking
from tests.models.language_models import save_folder, word_tokenizer
from tests.models.moe_dialogues import Request, Split, held_out
from tests.models.moe_families import GROUPED, VOCABULARY, small_moe
from tests.models.moe_fixture import REFUSAL_EXPERTS, answers, trained_moe
from tests.models.moe_switches import switched
from tests.models.planted_moe import PlantedMoe, write_planted_moe
from tests.models.planted_moe_record import HELP, IDS, REFUSAL
from tests.unit.experts.planted_answers import answered_pairs

FOLLOWER, CARRIER = Expert(1, 2), Expert(1, 5)
SIXTEEN: Final[dict[str, Any]] = {
    "experts": 16, "hidden": 72, "carriers": [CARRIER], "followers": [FOLLOWER],
}  # fmt: skip


class World(NamedTuple):
    """A planted model, opened, with a meter of its first tokens."""

    moe: PlantedMoe
    model: CausalLM
    routed: RoutedModel
    meter: RefusalMeter

    @property
    def prompts(self) -> list[str]:
        """All 144, of which 72 are refused."""
        return [self.model.chat(each.text) for each in self.moe.prompts]

    def left(self, method: Method, *off: Expert) -> int:
        """What the construction says is still refused."""
        change = Intervention(method, off=frozenset(off))
        return sum(self.moe.refused(each, change) for each in self.moe.prompts if each.disallowed)


def planted(folder: Path, **settings: Any) -> World:
    moe = write_planted_moe(folder, **(SIXTEEN | settings))
    model = CausalLM.open(folder)
    no, yes = (tuple(IDS[word] for word in text.split()) for text in (REFUSAL, HELP))
    meter = learn_meter(model, [Answer(no, True), Answer(yes, False)], batch_size=72)
    return World(moe, model, find_routers(model.model), meter)


def ranked(world: World, pairs: int = 30) -> Ranking:
    """By what the model does."""
    asked = answered_pairs(world.moe, world.model, pairs)
    return contrast_experts(world.model, world.routed, asked, TokenSet.LAST).ranking


def given(world: World, order: Sequence[Expert], p_fwe: float = 1.0) -> Ranking:
    """A ranking that says so, whatever the model does; all experts are used alike."""
    shape = (world.moe.layers, world.moe.experts)
    scores, chances = np.zeros(shape), np.ones(shape)
    for place, each in enumerate(order):
        scores[each.layer, each.expert] = len(order) - place
        chances[each.layer, each.expert] = p_fwe
    return Ranking(
        Score.RISK, tuple(range(world.moe.layers)), scores, np.zeros(shape), chances,
        np.full(shape, 0.1), 10, 1, 1, contrast_labels([True, True, False, False], 4),
    )  # fmt: skip


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> World:
    """One carrier, which a follower precedes in every ranking."""
    return planted(tmp_path_factory.mktemp("one"))


def test_one_carrier_is_found_and_its_follower_put_back(one: World) -> None:
    """The ranking cannot tell them apart, removal can; every count is the planted one."""
    found = measure_concentration(one.routed, ranked(one), one.prompts, one.meter)
    assert found.tried == (
        Removal(frozenset({FOLLOWER}), 72), Removal(frozenset({FOLLOWER, CARRIER}), 0),
    )  # fmt: skip
    assert found.smallest == Removal(frozenset({CARRIER}), 0)
    assert found.by_method == {method: one.left(method, CARRIER) for method in REMOVALS}
    assert set(found.by_method.values()) == {0}
    assert (found.prompts, found.standing, found.significant) == (72, Standing.CARRIED, True)
    assert found.said == ("refusals are carried by 1 routed expert: 0 of 72 are left without it")


def test_random_experts_are_counted_whole_and_the_chance_is_exact(one: World) -> None:
    """A layer has 7 rivals, so any layer serves: all but the carrier and what ranks with it."""
    ranking = ranked(one)
    barred = {each.expert for each in ranking.first() if each.p_fwe <= 0.05} | {CARRIER}
    found = measure_concentration(one.routed, ranking, one.prompts, one.meter, controls=99)
    assert found.anywhere
    assert found.possible == len(found.random) == 32 - len(barred)
    assert set(found.random) == {72}
    assert found.chance == 1 / (1 + len(found.random))


def test_sets_of_the_own_layers_come_first_where_they_are_enough(tmp_path: Path) -> None:
    """Two carriers in two layers have 49 sets; each carrier alone is enough to refuse."""
    carriers = [Expert(1, 3), Expert(2, 7)]
    world = planted(tmp_path, layers=3, carriers=carriers, followers=[], chosen=2)
    found = measure_concentration(
        world.routed, given(world, carriers), world.prompts, world.meter, controls=40
    )
    assert [each.refused for each in found.tried] == [72, 0]
    assert found.smallest == Removal(frozenset(carriers), 0)
    assert (found.anywhere, found.possible, found.random) == (False, None, (72,) * 40)
    assert (found.chance, found.standing) == (1 / 41, Standing.CARRIED)


def test_an_understudy_that_takes_the_place_of_a_masked_carrier_is_told(tmp_path: Path) -> None:
    """Without outputs refusals are gone; masked, another expert refuses, and both are said."""
    world = planted(tmp_path, carriers=[CARRIER], followers=[], understudy=Expert(1, 9))
    found = measure_concentration(world.routed, given(world, [CARRIER]), world.prompts, world.meter)
    assert found.by_method == {method: world.left(method, CARRIER) for method in REMOVALS}
    assert found.by_method[Method.MASK_LOGIT] == 72
    assert found.standing is Standing.CARRIED
    assert found.said == (
        "refusals are carried by 1 routed expert: 0 of 72 are left without it, 72 by mask_logit"
    )


def test_masking_alone_moves_what_the_residual_stream_refuses(tmp_path: Path) -> None:
    """An expert that helps takes the place of the masked one, whose outputs nobody needed."""
    world = planted(
        tmp_path, carriers=[], followers=[Expert(0, 2), CARRIER], understudy=Expert(1, 6),
        residual_refuses=True,
    )  # fmt: skip
    ranking = ranked(world)
    found = measure_concentration(
        world.routed, ranking, world.prompts, world.meter, method=Method.MASK_LOGIT
    )
    assert found.smallest == Removal(frozenset({CARRIER}), 0)
    assert found.by_method == {method: world.left(method, CARRIER) for method in REMOVALS}
    assert found.standing is Standing.MOVED
    assert found.said == (
        "refusals are moved, and not shown to be carried, by 1 routed expert: 0 of 72 are left "
        "without it by mask_logit; without outputs alone 72 are left"
    )
    outputs = measure_concentration(world.routed, ranking, world.prompts, world.meter)
    assert (outputs.smallest, outputs.standing) == (None, Standing.UNTOLD)
    assert outputs.said == (
        "72 of 72 refusals are left without 2 routed experts; zero_output does not lose half, "
        "mask_logit does without the same experts; search by that"
    )


def test_a_layer_with_few_experts_leaves_it_untold(tmp_path: Path) -> None:
    """Eight experts in two layers: fewer sets than a chance of 5 % needs, and it is said."""
    world = planted(tmp_path, experts=8, hidden=64)
    found = measure_concentration(world.routed, ranked(world), world.prompts, world.meter)
    assert found.smallest == Removal(frozenset({CARRIER}), 0)
    assert 0 < len(found.random) < LEAST_SETS
    assert set(found.random) == {72}
    assert found.standing is Standing.UNTOLD
    assert found.doubt == (
        f"only {len(found.random)} matched random sets exist, none of which loses as many: too few "
        "to tell it from chance"
    )


def test_a_ranking_that_misses_the_carrier_finds_nothing(one: World) -> None:
    """And says how much it tried."""
    others = [Expert(0, 1), Expert(1, 7), Expert(1, 8)]
    found = measure_concentration(
        one.routed, given(one, others), one.prompts, one.meter, sizes=(1, 3, 10)
    )
    assert [len(each.experts) for each in found.tried] == [1, 3]
    assert found.largest_loss == Removal(frozenset(others), 72)
    assert (found.standing, found.significant) == (Standing.NO_EFFECT, False)
    assert "no significant rank, no effect: 72 of 72 refusals are left" in found.said


def test_prompts_that_are_answered_anyway_are_left_out(one: World) -> None:
    """Harmful prompts that the model answers cannot lose their refusal."""
    refused = [one.model.chat(pair[0].text) for pair in one.moe.pairs[:5]]
    others = [one.model.chat(pair[1].text) for pair in one.moe.pairs[:9]]
    found = measure_concentration(
        one.routed, given(one, [CARRIER]), refused + others, one.meter, controls=19
    )
    assert (found.prompts, found.largest_loss.refused) == (5, 0)


def test_four_prompts_can_tell_half_and_three_cannot(one: World) -> None:
    """All lost: the interval of 0 of 3 reaches over half."""
    prompts = [one.model.chat(pair[0].text) for pair in one.moe.pairs]
    ranking = given(one, [CARRIER])
    told, untold = (
        measure_concentration(one.routed, ranking, prompts[:count], one.meter) for count in (4, 3)
    )
    assert (told.standing, untold.standing) == (Standing.CARRIED, Standing.UNTOLD)
    assert untold.doubt == "3 refused prompts are too few to tell whether half are lost"
    assert untold.said == f"0 of 3 refusals are left without 1 routed expert; {untold.doubt}"


def test_when_time_is_up_nothing_is_said(one: World) -> None:
    """The first removal is made; no more prefixes, no pruning, no random sets."""
    found = measure_concentration(
        one.routed, ranked(one), one.prompts, one.meter, stop=lambda: True
    )
    assert found.tried == (Removal(frozenset({FOLLOWER}), 72),)
    assert (found.random, found.stopped, found.standing) == ((), True, Standing.UNTOLD)
    assert found.doubt == "time was up before all was tried"


@pytest.mark.parametrize(
    ("take", "order", "problem"),
    [
        (1, [CARRIER], "0 of 72 prompts are refused and 1 experts lean"),
        (0, [], "72 of 72 prompts are refused and 0 experts lean"),
    ],
)
def test_without_refusals_or_experts_there_is_nothing_to_study(
    one: World, take: int, order: list[Expert], problem: str
) -> None:
    prompts = [one.model.chat(pair[take].text) for pair in one.moe.pairs]
    with pytest.raises(NothingToAudit, match=f"^{problem} .* no behaviour to study$"):
        measure_concentration(one.routed, given(one, order), prompts, one.meter)
    with pytest.raises(NothingToAudit, match="0 of 0 prompts"):
        measure_concentration(one.routed, given(one, order), [], one.meter)


def test_a_method_that_cannot_be_applied_is_an_error_or_a_gap(tmp_path: Path) -> None:
    """Three of four experts off leave no two to choose: zeroed they can be, masked they cannot.

    Of the ten random sets of three of the other five, six hold the carrier.
    """
    world = planted(tmp_path, experts=4, hidden=64, carriers=[Expert(1, 3)], followers=[])
    order = [Expert(1, 0), Expert(1, 1), Expert(1, 2)]
    found = measure_concentration(
        world.routed, given(world, order), world.prompts, world.meter, sizes=(3,)
    )
    assert found.by_method == {
        Method.ZERO_OUTPUT: 72, Method.ZERO_WEIGHT: 72, Method.MASK_LOGIT: None,
    }  # fmt: skip
    assert (sorted(found.random), found.possible) == ([0] * 6 + [72] * 4, 10)
    with pytest.raises(ConfigurationError, match="3 of 4 experts of layer 1 are off"):
        measure_concentration(
            world.routed, given(world, order), world.prompts, world.meter, sizes=(3,),
            method=Method.MASK_LOGIT,
        )  # fmt: skip


def test_prefixes_that_cannot_be_switched_off_are_left_out_and_said(tmp_path: Path) -> None:
    """Masked, three of four experts leave no two to choose; so do some of the random sets."""
    world = planted(tmp_path, experts=4, hidden=64, carriers=[Expert(1, 3)], followers=[])
    order = [Expert(1, 0), Expert(1, 1), Expert(1, 2)]
    found = measure_concentration(
        world.routed, given(world, order), world.prompts, world.meter, sizes=(1, 2, 3, 9),
        method=Method.MASK_LOGIT,
    )  # fmt: skip
    assert [len(each.experts) for each in found.tried] == [1, 2]
    assert (found.untried, found.smallest, found.standing) == ((3,), None, Standing.UNTOLD)
    assert found.doubt == (
        "the first 3 experts cannot be switched off by mask_logit together; search by zero_output, "
        "or try fewer"
    )
    carried = measure_concentration(
        world.routed, given(world, [Expert(1, 3), *order[:2]]), world.prompts, world.meter,
        sizes=(3, 1), method=Method.MASK_LOGIT,
    )  # fmt: skip
    assert (carried.untried, carried.smallest) == ((3,), Removal(frozenset({Expert(1, 3)}), 0))


def test_random_sets_that_leave_a_group_too_small_are_left_out_and_counted(tmp_path: Path) -> None:
    """Two masked experts of one group: what is sent there lacks a third.

    Two of different groups have fifteen random sets of their layer, six of them of one group.
    Every token begins a refusal here: which tokens come does not matter.
    """
    words = tuple(f"w{number}" for number in range(VOCABULARY - 4))
    tokenizer = word_tokenizer(vocabulary=("<pad>", "<s>", "</s>", "<unk>", *words))
    save_folder(tmp_path / "lm", small_moe("deepseek_v3", **GROUPED), tokenizer)
    model = CausalLM.open(tmp_path / "lm")
    found = measure_concentration(
        find_routers(model.model), hand_ranking([Expert(1, 0), Expert(1, 4)], 3, 8),
        [f"{one} {other}" for one in words[:8] for other in words[:8]],
        RefusalMeter(model, tuple(range(VOCABULARY)), Share(64, 64)), method=Method.MASK_LOGIT,
        sizes=(2,), controls=15,
    )  # fmt: skip
    assert (len(found.random), found.unasked) == (9, 6)
    assert found.random_left_out == (
        "6 of 15 random sets cannot be switched off by mask_logit and are left out."
    )


OFF = frozenset({Expert(1, 3), Expert(2, 5)})
BASE = Concentration(
    prompts=100, method=Method.MASK_LOGIT, tried=(Removal(OFF, 10),), smallest=Removal(OFF, 10),
    by_method={Method.ZERO_OUTPUT: 20, Method.ZERO_WEIGHT: 10, Method.MASK_LOGIT: 10},
    random=(90,) * 40, possible=None, chance=1 / 41, significant=True,
)  # fmt: skip
LOST_FEW: Final[Mapping[str, Any]] = {
    "tried": (Removal(OFF, 80),), "smallest": None, "by_method": dict.fromkeys(REMOVALS, 80),
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "standing", "said"),
    [
        ({}, Standing.CARRIED, "10 of 100 are left without them, 20 by zero_output"),
        ({"by_method": {Method.ZERO_OUTPUT: None}}, Standing.MOVED,
         "without outputs alone it cannot be measured"),
        ({"by_method": {Method.ZERO_OUTPUT: 45}}, Standing.MOVED,
         "without outputs alone 45 are left"),
        ({"random": (90,) * 39 + (10,), "chance": 2 / 41}, Standing.CARRIED, "carried by 2"),
        ({"random": (90,) * 38 + (10, 9), "chance": 3 / 41}, Standing.UNTOLD,
         "2 of 40 matched random sets lose as many"),
        ({"random": (90,) * 7, "possible": 7, "chance": 1 / 8}, Standing.UNTOLD,
         "only 7 matched random sets exist"),
        (LOST_FEW, Standing.LESS, "a significant rank, less than half lost: 80 of 100"),
        ({**LOST_FEW, "chance": 0.2}, Standing.NO_EFFECT, "a significant rank, no effect: 80 of"),
        ({**LOST_FEW, "significant": False, "chance": 0.2}, Standing.NO_EFFECT,
         "no significant rank, no effect"),
        ({"tried": (Removal(OFF, 45),), "smallest": None}, Standing.UNTOLD,
         "100 refused prompts are too few to tell whether half are lost"),
        ({**LOST_FEW, "by_method": {Method.ZERO_WEIGHT: 9, Method.ZERO_OUTPUT: 80}},
         Standing.UNTOLD, "mask_logit does not lose half, zero_weight does without the same"),
        ({"stopped": True}, Standing.UNTOLD, "time was up"),
        ({**LOST_FEW, "untried": (5, 8, 10)}, Standing.UNTOLD,
         "the first 5, 8 and 10 experts cannot be switched off by mask_logit together"),
        ({"untried": (1,)}, Standing.CARRIED, "carried by 2"),
        ({"random": (90,) * 7, "possible": 7, "chance": 1 / 8, "unasked": 3}, Standing.UNTOLD,
         "only 7 matched random sets can be switched off by mask_logit"),
        ({"unasked": 3}, Standing.CARRIED, "carried by 2"),
    ],
)  # fmt: skip
def test_no_more_is_said_than_is_known(
    change: Mapping[str, Any], standing: Standing, said: str
) -> None:
    """45 of 100 outputs left is not certainly half: the interval reaches 0.55."""
    found = replace(BASE, **change)
    assert found.standing is standing
    assert said in found.said
    assert bool(found.doubt) == (standing is Standing.UNTOLD)


def in_dialogues(variant: str) -> tuple[CausalLM, RoutedModel, RefusalMeter, Ranking]:
    """A trained model, ranked on one split by its own answers."""
    from auditor.experts.answers import ask
    from auditor.language.asking import Asking
    from auditor.language.prompts import Prompt
    from auditor.language.refusal import MarkerJudge

    model = CausalLM.open(trained_moe(variant))
    routed = find_routers(model.model)
    prompts = [
        Prompt(request.text, group=f"pair {number}")
        for number, pair in enumerate(held_out(Split.RANKING).pairs[:60]) for request in pair
    ]  # fmt: skip
    asked = ask(model, prompts, MarkerJudge(), Asking(new_tokens=14, batch_size=120))
    meter = learn_meter(model, [Answer(each.answer, each.refused) for each in asked], 100)
    return model, routed, meter, contrast_experts(model, routed, asked, TokenSet.LAST).ranking


def test_trained_refusals_are_carried_by_the_two_planted_experts() -> None:
    """Neither's outputs alone lose half; without the weight of the second one half are lost.

    The counts are those of the answers' first words under switches that are not the package's.
    What follows the first word may be no refusal any more, which no first token tells.
    """
    model, routed, meter, ranking = in_dialogues("planted")
    requests = [pair.refused for pair in held_out(Split.REPORT).pairs[:50]]
    prompts = [model.chat(request.text) for request in requests]
    found = measure_concentration(routed, ranking, prompts, meter)
    assert found.smallest == Removal(frozenset(REFUSAL_EXPERTS), 0)
    assert set(found.by_method.values()) == {0}
    assert (found.prompts, found.standing) == (50, Standing.CARRIED)
    assert min(found.random) == 50
    alone = [
        measure_concentration(routed, ranking_of(ranking, each), prompts, meter, controls=19)
        for each in REFUSAL_EXPERTS
    ]
    for expert, each in zip(REFUSAL_EXPERTS, alone, strict=True):
        assert each.by_method == {
            method: refused_by_hooks(model, requests, expert, method) for method in REMOVALS
        }
        assert each.smallest is None
    assert [each.standing for each in alone] == [Standing.LESS, Standing.UNTOLD]
    assert "zero_output does not lose half, zero_weight and mask_logit do" in alone[1].doubt


def refused_by_hooks(
    model: CausalLM, requests: Sequence[Request], off: Expert, method: Method
) -> int:
    """Answers that begin with the first word of the refusal of their request."""
    with switched(model.model, Intervention(method, off=frozenset({off}))):
        said = answers(model, requests)
    return sum(
        text.split()[:1] == request.refusal.split()[:1]
        for text, request in zip(said, requests, strict=True)
    )


def ranking_of(ranking: Ranking, expert: Expert) -> Ranking:
    """The same with one expert alone that leans to refusal."""
    scores = np.zeros_like(ranking.scores)
    scores[ranking.layers.index(expert.layer), expert.expert] = 1.0
    return replace(ranking, scores=scores)


def test_trained_refusals_without_a_plant_have_a_significant_rank_and_no_effect() -> None:
    """The router reads the decision, and ten experts off leave every refusal, by every method."""
    model, routed, meter, ranking = in_dialogues("unplanted")
    prompts = [model.chat(pair.refused.text) for pair in held_out(Split.REPORT).pairs[:50]]
    found = measure_concentration(routed, ranking, prompts, meter, sizes=(1, 2, 5, 10))
    assert ranking.leaning(refused=True)[0].p_fwe < 0.01
    assert [(len(each.experts), each.refused) for each in found.tried] == [
        (1, 50), (2, 50), (5, 50), (10, 50),
    ]  # fmt: skip
    assert (found.standing, found.chance) == (Standing.NO_EFFECT, 1.0)
    assert found.said == (
        "a significant rank, no effect: 50 of 50 refusals are left without 10 routed experts; "
        "attention, shared experts and the residual stream can carry refusals, too"
    )
