"""Rankings are of the model's own answers: in pairs of named groups, or with topics mixed."""

from __future__ import annotations

import numpy as np
import pytest

from auditor.errors import NothingToAudit
from auditor.experts.contrasted import LEAST_PAIRS, contrast_experts
from auditor.experts.divergence import measure_divergences
from auditor.experts.ranking import Score
from auditor.experts.routers import RoutedModel, find_routers
from auditor.experts.routing_maps import Expert, TokenSet
from auditor.language.causal_lm import CausalLM
from auditor.language.refusal import Behaviour
from tests.models.planted_moe import PlantedMoe, write_planted_moe
from tests.unit.experts.planted_answers import answered, answered_pairs

World = tuple[PlantedMoe, CausalLM, RoutedModel]
CARRIER, FOLLOWER = Expert(1, 3), Expert(1, 5)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    moe = write_planted_moe(tmp_path_factory.mktemp("planted"))
    model = CausalLM.open(moe.folder)
    return moe, model, find_routers(model.model)


def test_prompts_of_a_group_are_pairs(world: World) -> None:
    """All of them, the refused one first; the planted experts lean to refusal alone."""
    moe, model, routed = world
    asked = answered_pairs(moe, model, 20)
    found = contrast_experts(model, routed, asked[::-1], TokenSet.LAST)
    assert found.basis == "20 topic-matched pairs"
    assert found.pairs == tuple((2 * number + 1, 2 * number) for number in range(20))
    assert found.topics == tuple(f"pair {number}" for number in reversed(range(20)))
    assert found.ranking.score is Score.PAIRED_T
    leaning = found.ranking.leaning(refused=True)
    assert [each.expert for each in leaning] == [CARRIER, FOLLOWER]
    assert all(each.p_fwe <= 0.05 and each.stability == 1 for each in leaning)


def test_differences_are_those_of_the_construction(world: World) -> None:
    """On the last token each expert is chosen always or never."""
    moe, model, routed = world
    found = contrast_experts(model, routed, answered_pairs(moe, model, 20), TokenSet.LAST)
    expected = np.zeros((moe.layers, moe.experts))
    for layer in range(moe.layers):
        expected[layer, list(moe.chosen_in(layer, disallowed=True))] += 1
        expected[layer, list(moe.chosen_in(layer, disallowed=False))] -= 1
    assert np.array_equal(found.differences, expected)


def test_too_few_pairs_are_not_ranked_by(world: World) -> None:
    """The topics are said to be mixed, and what needs pairs is not said."""
    moe, model, routed = world
    found = contrast_experts(
        model, routed, answered_pairs(moe, model, LEAST_PAIRS - 1), TokenSet.LAST
    )
    assert found.basis == "unpaired prompts, whose topics may be mixed"
    assert (found.pairs, found.ranking.score) == ((), Score.MOTE_SHARES)
    assert found.divergences(2) is None
    assert [each.expert for each in found.ranking.leaning(refused=True)] == [CARRIER, FOLLOWER]


def test_lines_of_two_files_are_no_pairs(world: World) -> None:
    """Prompts without a group carry the number of their line, which says nothing of the topic."""
    moe, model, routed = world
    asked = [
        answered(moe, model, prompt, f"line {number}", number)
        for number, pair in enumerate(moe.pairs[:20], 2) for prompt in pair
    ]  # fmt: skip
    assert contrast_experts(model, routed, asked, TokenSet.LAST).pairs == ()


def test_a_group_gives_as_many_pairs_as_it_has_of_both(world: World) -> None:
    """Two refused and three answered ones: two pairs."""
    moe, model, routed = world
    asked = answered_pairs(moe, model, 20)
    asked += [answered(moe, model, moe.pairs[20][0], "pair 0")]
    asked += [answered(moe, model, pair[1], "pair 0") for pair in moe.pairs[20:22]]
    found = contrast_experts(model, routed, asked, TokenSet.LAST)
    assert [pair for pair, topic in zip(found.pairs, found.topics, strict=True)
            if topic == "pair 0"] == [(0, 1), (40, 41)]  # fmt: skip


def test_what_neither_refuses_nor_answers_is_left_out(world: World) -> None:
    """Silence and halves of refusals are in no class; their partners lose their pair."""
    moe, model, routed = world
    asked = answered_pairs(moe, model, 20)
    asked[1] = asked[1]._replace(behaviour=Behaviour.EMPTY)
    asked[2] = asked[2]._replace(behaviour=Behaviour.PARTIAL)
    found = contrast_experts(model, routed, asked, TokenSet.LAST)
    assert len(found.pairs) == 18
    assert len(found.maps.tokens) == 38


def test_divergences_are_those_of_the_pairs(world: World) -> None:
    """Each group is a topic of its own. A bit in the planted layer, nothing in the other."""
    moe, model, routed = world
    found = contrast_experts(model, routed, answered_pairs(moe, model, 20), TokenSet.LAST)
    told = found.divergences(2)
    assert told is not None
    again = measure_divergences(found.maps, found.pairs, found.topics, 2)
    assert told.within_pair.value == again.within_pair.value == 0.5
    assert told.within_pair.by_layer.tolist() == [0.0, 1.0]
    assert told.top_overlap.value == 1.0
    assert told.between_topics is not None
    assert told.between_topics.value == 0.0


def test_all_tokens_dilute_what_the_last_one_tells(world: World) -> None:
    moe, model, routed = world
    asked = answered_pairs(moe, model, 20)
    last, every = (
        contrast_experts(model, routed, asked, token_set)
        for token_set in (TokenSet.LAST, TokenSet.PROMPT)
    )
    tokens = [len(model.encode(each.text)) for each in asked[::2]]
    assert last.differences[1, CARRIER.expert] == 1.0
    assert every.differences[1, CARRIER.expert] == pytest.approx(np.mean([1 / n for n in tokens]))


@pytest.mark.parametrize("refused", [1, 19])
def test_one_prompt_of_a_class_is_too_few(world: World, refused: int) -> None:
    moe, model, routed = world
    disallowed = [answered(moe, model, pair[0]) for pair in moe.pairs[:refused]]
    allowed = [answered(moe, model, pair[1]) for pair in moe.pairs[: 20 - refused]]
    with pytest.raises(NothingToAudit) as caught:
        contrast_experts(model, routed, [*disallowed, *allowed], TokenSet.LAST)
    assert str(caught.value) == (
        f"{refused} of 20 prompts to rank on are refused and {20 - refused} answered; at least 2 "
        "of each are needed"
    )


def test_silent_answers_alone_are_nothing(world: World) -> None:
    moe, model, routed = world
    asked = [each._replace(behaviour=Behaviour.EMPTY) for each in answered_pairs(moe, model, 20)]
    with pytest.raises(NothingToAudit, match=r"0 of 40 prompts .* refused and 0 answered"):
        contrast_experts(model, routed, asked, TokenSet.LAST)
