"""Attacks do to a prefix what they say, find what there is to find, and leave the model alone."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from auditor.errors import ConfigurationError, UnsupportedModel
from auditor.language.causal_lm import CausalLM
from auditor.memorization.language.attack import (
    RelearningOptions,
    SoftPromptOptions,
    chance_of_draws,
    find_soft_prompt,
    recited,
    recited_behind,
    relearn,
    require_room,
    shifted,
    without_rarest,
)
from auditor.memorization.language.subspace import read_spans
from auditor.memorization.language.training_spans import TrainingSpan
from auditor.memorization.masks.weight_masks import WeightMasks, pruned
from auditor.memorization.masks.weight_sites import find_sites
from tests.models.language_models import VOCABULARY, random_model, save_folder, word_tokenizer
from tests.models.recital_folder import RecitalFolder, write_recital

SPAN = TrainingSpan("a", "a", (7, 13, 9), (20, 10, 8, 6))
OTHER = TrainingSpan("b", "b", (11, 12), (17, 8))


@pytest.fixture(scope="module")
def recital(tmp_path_factory: pytest.TempPathFactory) -> RecitalFolder:
    """Chains that run through known weights; nothing here changes it."""
    return write_recital(tmp_path_factory.mktemp("recital") / "model")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> CausalLM:
    """Random weights, a token before every text; nothing here changes it."""
    folder = tmp_path_factory.mktemp("random") / "model"
    return CausalLM.open(save_folder(folder, random_model("llama"), word_tokenizer(start=True)))


def _state(model: CausalLM) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.model.state_dict().items()}


def _untouched(model: CausalLM, before: dict[str, torch.Tensor]) -> bool:
    after = model.model.state_dict()
    return all(each.grad is None for each in model.model.parameters()) and all(
        torch.equal(value, after[name]) for name, value in before.items()
    )


@given(by=st.integers(-2, 3))
def test_a_shift_moves_the_end_of_the_prefix_and_keeps_the_text(by: int) -> None:
    [found] = shifted([SPAN], by)
    assert (*found.prefix, *found.continuation) == (*SPAN.prefix, *SPAN.continuation)
    assert len(found.prefix) == len(SPAN.prefix) + by
    assert (found.name, found.group) == (SPAN.name, SPAN.group)


@pytest.mark.parametrize("by", [-3, 4])
def test_a_shift_that_leaves_nothing_on_one_side_is_refused(by: int) -> None:
    said = re.escape(f"a has 3 tokens and 4 after them; a shift by {by:+d} leaves none")
    with pytest.raises(ConfigurationError, match=said):
        shifted([SPAN], by)


def test_the_rarest_token_of_a_prefix_gives_way_to_a_common_one() -> None:
    counts = [0] * len(VOCABULARY)
    counts[7], counts[13], counts[9], counts[30] = 5, 0, 2, 9
    found = [without_rarest([SPAN], counts, seed)[0] for seed in range(20)]
    assert {each.prefix[0] for each in found} == {7}
    assert {each.prefix[2] for each in found} == {9}
    assert {each.prefix[1] for each in found} <= {7, 9, 30}
    assert len({each.prefix[1] for each in found}) > 1
    assert all(each.continuation == SPAN.continuation for each in found)
    with pytest.raises(ConfigurationError, match="fewer than two tokens"):
        without_rarest([SPAN], [0, 3, 0])


def test_a_token_is_never_replaced_by_itself() -> None:
    """Though all but one other token are far rarer."""
    counts = [0] * len(VOCABULARY)
    counts[7], counts[13], counts[9], counts[30] = 10**9, 10**9, 10**9, 1
    assert {without_rarest([SPAN], counts, seed)[0].prefix[0] for seed in range(5)} <= {13, 9}


def test_the_chance_of_draws_is_that_of_sampling(model: CausalLM) -> None:
    """Of continuations of one token, whose chances over all tokens make 1."""
    spans = [TrainingSpan(str(at), "", (7, 13), (at,)) for at in range(len(VOCABULARY))]
    once = chance_of_draws(model, spans, 1)
    assert once.sum() == pytest.approx(1.0)
    assert chance_of_draws(model, spans, 3) == pytest.approx(1 - (1 - once) ** 3)
    with pytest.raises(ConfigurationError, match="0 draws"):
        chance_of_draws(model, spans, 0)


def test_a_chance_below_rounding_still_grows_with_the_draws(recital: RecitalFolder) -> None:
    [one], [many] = (chance_of_draws(recital.model, recital.unseen[:1], draws)
                     for draws in (1, 1_000))  # fmt: skip
    [reading] = read_spans(recital.model, recital.unseen[:1])
    assert one == pytest.approx(np.exp(reading.log_probability))
    assert many == pytest.approx(1_000 * one)
    assert 0 < one < 1e-14


def test_a_certain_continuation_is_drawn_for_certain(model: CausalLM) -> None:
    sure = CausalLM.open(model.folder.path)

    def only_the_true(module: object, inputs: object, logits: torch.Tensor) -> torch.Tensor:
        return torch.full_like(logits, -1e4).index_fill(-1, torch.tensor([9]), 1e4)

    sure.model.lm_head.register_forward_hook(only_the_true)
    assert chance_of_draws(sure, [TrainingSpan("", "", (7,), (9, 9))], 5).tolist() == [1.0]


def test_no_virtual_token_changes_nothing(model: CausalLM) -> None:
    """Batches of spans of other lengths, too."""
    spans = [SPAN, OTHER]
    greedy = [
        TrainingSpan(each.name, "", each.prefix, tuple(model.continue_tokens(
            [(model.start or 0, *each.prefix)], max_new_tokens=count)[0].token_ids))
        for each, count in zip(spans, (4, 2), strict=True)
    ]  # fmt: skip
    asked = [each for each in (*spans, *greedy) if each.continuation]
    none = torch.zeros(0, model.model.config.hidden_size)
    assert recited_behind(model, none, asked).tolist() == recited(model, asked).tolist()
    assert recited(model, asked).sum() > 0


def test_virtual_tokens_that_are_real_ones_act_as_these(model: CausalLM) -> None:
    """Between the beginning of text and the prefix."""
    table = model.model.get_input_embeddings().weight.detach()
    longer = TrainingSpan("", "", (14, 22, *SPAN.prefix), (0,))
    [said] = model.continue_tokens([(model.start or 0, *longer.prefix)], max_new_tokens=1)
    asked = [TrainingSpan("", "", SPAN.prefix, said.token_ids)]
    assert recited_behind(model, table[[14, 22]], asked).tolist() == [1.0]
    assert recited_behind(model, table[[22, 14]], [SPAN]).tolist() == recited(
        model, [TrainingSpan("", "", (22, 14, *SPAN.prefix), SPAN.continuation)]
    ).tolist()  # fmt: skip


def test_a_soft_prompt_is_found_where_there_is_one(model: CausalLM) -> None:
    """It makes one short text likely, and leaves no trace in the model."""
    before, asked = _state(model), [OTHER]
    assert recited(model, asked).tolist() == [0.0]
    options = SoftPromptOptions(tokens=4, steps=60, rate=0.1, batch=1)
    done: list[tuple[int, int]] = []
    soft = find_soft_prompt(model, asked, options, lambda *each: done.append(each))
    assert soft.shape == (4, model.model.config.hidden_size)
    assert recited_behind(model, soft, asked).tolist() == [1.0]
    assert (done[0], done[-1], len(done)) == ((1, 60), (60, 60), 60)
    assert _untouched(model, before)
    assert torch.equal(soft, find_soft_prompt(model, asked, options))


def test_no_soft_prompt_brings_back_what_attention_cannot_see(recital: RecitalFolder) -> None:
    """In the planted recital every token is told by the one before it alone."""
    sites = find_sites(recital.model.model)
    soft = find_soft_prompt(recital.model, recital.memorised, SoftPromptOptions(steps=3))
    assert recited_behind(recital.model, soft, recital.memorised).tolist() == [1.0] * 8
    with pruned(sites, WeightMasks(recital.planted.carried_by)):
        soft = find_soft_prompt(recital.model, recital.memorised, SoftPromptOptions(steps=3))
        assert not recited_behind(recital.model, soft, recital.memorised).any()
        assert recited_behind(recital.model, soft, recital.ordinary).all()


def test_relearning_brings_back_what_it_trains_on_and_leaves_the_model_alone(
    recital: RecitalFolder,
) -> None:
    sites = find_sites(recital.model.model)
    half, other = recital.memorised[:4], recital.memorised[4:]
    with pruned(sites, WeightMasks(recital.planted.carried_by)):
        before = _state(recital.model)
        learner = relearn(recital.model, half, RelearningOptions(steps=60, rate=1e-2))
        assert recited(learner, half).all()
        assert not recited(learner, other).any()
        assert not recited(recital.model, half).any()
        assert _untouched(recital.model, before)
    assert recited(recital.model, recital.memorised).all()


def test_relearning_is_the_same_again(model: CausalLM) -> None:
    options = RelearningOptions(steps=3, rate=1e-3, batch=2)
    first, second = (read_spans(relearn(model, [SPAN, OTHER], options), [SPAN, OTHER])
                     for _ in range(2))  # fmt: skip
    assert all(np.array_equal(a.nats, b.nats) for a, b in zip(first, second, strict=True))
    base = read_spans(model, [SPAN, OTHER])
    assert sum(each.nats.sum() for each in first) < sum(each.nats.sum() for each in base)


@pytest.mark.parametrize(
    "options", [SoftPromptOptions(tokens=0), SoftPromptOptions(steps=0), SoftPromptOptions(rate=0)]
)
def test_soft_prompts_that_cannot_be_are_refused(
    model: CausalLM, options: SoftPromptOptions
) -> None:
    with pytest.raises(ConfigurationError, match="give at least one of each"):
        find_soft_prompt(model, [SPAN], options)


@pytest.mark.parametrize("options", [RelearningOptions(steps=0), RelearningOptions(rate=-1.0)])
def test_training_that_cannot_be_is_refused(model: CausalLM, options: RelearningOptions) -> None:
    with pytest.raises(ConfigurationError, match="give at least one of each"):
        relearn(model, [SPAN], options)
    with pytest.raises(ConfigurationError, match="0 spans"):
        relearn(model, [])


def test_spans_without_room_for_virtual_tokens_are_refused(model: CausalLM) -> None:
    """The beginning of text counts."""
    room = model.max_tokens - 1 - 7
    require_room(model, [SPAN], room)
    with pytest.raises(ConfigurationError, match=r"a behind 57 virtual tokens needs 65 .* sees 64"):
        require_room(model, [SPAN], room + 1)
    with pytest.raises(ConfigurationError, match="give fewer virtual tokens"):
        find_soft_prompt(model, [SPAN], SoftPromptOptions(tokens=room + 1))


def test_a_loss_that_is_none_is_refused(tmp_path: Path) -> None:
    spoiled = CausalLM.open(save_folder(tmp_path / "m", random_model("llama"), word_tokenizer()))
    with torch.no_grad():
        spoiled.model.model.norm.weight.fill_(torch.nan)
    with pytest.raises(UnsupportedModel, match="the loss of step 0 is nan"):
        relearn(spoiled, [SPAN])
    with pytest.raises(UnsupportedModel, match="the loss of step 0 is nan"):
        find_soft_prompt(spoiled, [SPAN])
