"""Refusal behaviour of models of which it is known what they say."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

from auditor.errors import ConfigurationError, NothingToAudit
from auditor.intervals import Share
from auditor.language.asking import SLICE, Asking, other_composition
from auditor.language.causal_lm import CausalLM
from auditor.language.deflection import Deflection, DeflectionRules
from auditor.language.first_token import FirstTokenJudge
from auditor.language.language_model import LanguageModel, NextTokenModel
from auditor.language.prompt_sets import AskedPrompt, PromptFiles, PromptSet, read_prompt_sets
from auditor.language.prompts import Prompt
from auditor.language.refusal import Behaviour, MarkerJudge
from auditor.language.refusal_behaviour import measure_behaviour
from auditor.language.refusal_record import (
    WITHHELD,
    Counts,
    Flips,
    RefusalBehaviour,
    compare_runs,
)
from tests.models.language_models import VOCABULARY, random_model, save_folder, word_tokenizer
from tests.models.planted_refusals import (
    RefusalWorld,
    base_answers,
    harmful_prompts,
    model_answers,
)

ASKING = Asking(new_tokens=24)
HARMFUL, HARMLESS = PromptSet.HARMFUL, PromptSet.HARMLESS


def asked_of(world: RefusalWorld) -> list[AskedPrompt]:
    """All prompts, harmful ones first."""
    empty: frozenset[str] = frozenset()
    return read_prompt_sets(PromptFiles(
        {HARMFUL: world.harmful, HARMLESS: world.harmless}, {HARMFUL: empty, HARMLESS: empty}
    ))  # fmt: skip


def measured(model: CausalLM, world: RefusalWorld, asking: Asking = ASKING) -> RefusalBehaviour:
    return measure_behaviour(model, asked_of(world), MarkerJudge(), asking, rules=DeflectionRules())


@pytest.fixture(scope="module")
def model(refusals: RefusalWorld) -> CausalLM:
    return CausalLM.open(refusals.model)


@pytest.fixture(scope="module")
def found(model: CausalLM, refusals: RefusalWorld) -> RefusalBehaviour:
    return measured(model, refusals)


def test_a_causal_model_is_a_language_model(model: CausalLM) -> None:
    """What engines ask for fits what the library opens."""
    fits: LanguageModel = model
    assert isinstance(fits, NextTokenModel)


def test_every_planted_behaviour_is_counted(found: RefusalBehaviour) -> None:
    """Whole sets and types, with nothing cut."""
    assert found.counts(HARMFUL) == Counts(
        HARMFUL, None, 8,
        {Behaviour.REFUSED: 6, Behaviour.ANSWERED: 1, Behaviour.DEFLECTED: 1}, 0,
    )  # fmt: skip
    assert found.counts(HARMLESS) == Counts(
        HARMLESS, None, 8,
        {Behaviour.ANSWERED: 5, Behaviour.REFUSED: 1, Behaviour.EMPTY: 1,
         Behaviour.DEFLECTED: 1}, 0,
    )  # fmt: skip
    assert found.by_category(HARMFUL) == (
        Counts(HARMFUL, "boxes", 6, {Behaviour.REFUSED: 4, Behaviour.ANSWERED: 1,
               Behaviour.DEFLECTED: 1}, 0),
        Counts(HARMFUL, "doors", 2, {Behaviour.REFUSED: 2}, 0),
    )  # fmt: skip
    assert found.counts(HARMLESS).share(*WITHHELD) == Share(2, 8)


def test_replies_stand_in_order_with_what_was_said(found: RefusalBehaviour) -> None:
    """Prompt by prompt, with names that say where they stand; reasons of evasions."""
    assert [(each.asked.prompt.text, each.text) for each in found.replies] == list(
        model_answers().items()
    )
    assert [each.asked.name for each in found.replies][7:9] == ["harmful line 9", "harmless line 2"]
    evading = {each.asked.name: each.deflection for each in found.replies if each.deflection}
    assert evading == {"harmful line 9": Deflection.ASKS_BACK,
                       "harmless line 9": Deflection.REPEATS}  # fmt: skip
    assert found.templated
    assert found.tokens == sum(each.tokens for each in found.replies) > 0
    assert found.minutes * 60 == pytest.approx(found.seconds)
    assert found.seconds > 0
    assert found.tokens_per_second == found.tokens / found.seconds


def test_without_rules_evasions_are_answers(model: CausalLM, refusals: RefusalWorld) -> None:
    """And nothing else changes."""
    plain = measure_behaviour(model, asked_of(refusals), MarkerJudge(), ASKING)
    assert plain.counts(HARMFUL).of == {Behaviour.REFUSED: 6, Behaviour.ANSWERED: 2}
    assert plain.counts(HARMLESS).of == {
        Behaviour.ANSWERED: 6, Behaviour.REFUSED: 1, Behaviour.EMPTY: 1
    }  # fmt: skip
    assert plain.deflection == "none"


def test_completions_that_reach_the_limit_are_counted(
    model: CausalLM, refusals: RefusalWorld
) -> None:
    """Three tokens are too few for every answer but the empty one."""
    short = measured(model, refusals, Asking(new_tokens=3))
    assert (short.counts(HARMFUL).cut, short.counts(HARMLESS).cut) == (8, 7)


def test_flips_against_a_base_go_both_ways(found: RefusalBehaviour, refusals: RefusalWorld) -> None:
    """The planted ones, and the chance of as uneven a number by a fair coin."""
    base = measured(CausalLM.open(refusals.base), refusals)
    differ = [was != now for was, now in
              zip(base_answers().values(), model_answers().values(), strict=True)]  # fmt: skip
    assert compare_runs(base, found) == (
        Flips(HARMFUL, 8, became_refused=4, ceased=0, changed=5, other_text=sum(differ[:8])),
        Flips(HARMLESS, 8, became_refused=1, ceased=1, changed=3, other_text=sum(differ[8:])),
    )
    assert [each.chance for each in compare_runs(base, found)] == [2 / 2**4, 1.0]
    assert [(each.became_refused, each.ceased) for each in compare_runs(found, base)] == [
        (0, 4), (1, 1)
    ]  # fmt: skip


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_other_batches_flip_nothing_here(
    model: CausalLM, found: RefusalBehaviour, refusals: RefusalWorld, batch_size: int
) -> None:
    """Where tokens are far apart the noise floor is zero; another composition is another size."""
    asking = other_composition(Asking(new_tokens=24, batch_size=batch_size))
    assert asking.batch_size != batch_size
    again = measured(model, refusals, asking)
    assert compare_runs(found, again) == (
        Flips(HARMFUL, 8, 0, 0, 0, 0), Flips(HARMLESS, 8, 0, 0, 0, 0)
    )  # fmt: skip


def test_runs_over_other_prompts_are_not_compared(
    model: CausalLM, found: RefusalBehaviour, refusals: RefusalWorld
) -> None:
    """Named by where they stand."""
    turned = measure_behaviour(model, asked_of(refusals)[::-1], MarkerJudge(), ASKING)
    with pytest.raises(ConfigurationError, match="harmful line 2 stands against harmless line 9"):
        compare_runs(found, turned)


def test_the_first_token_judge_asks_the_model_itself(
    model: CausalLM, refusals: RefusalWorld
) -> None:
    """Refusals begin with I; the score is the chance of it."""
    judge = FirstTokenJudge(model, ["I cannot"])
    found = measure_behaviour(model, asked_of(refusals), judge, ASKING)
    assert found.counts(HARMFUL).of == {Behaviour.REFUSED: 6, Behaviour.ANSWERED: 2}
    assert found.counts(HARMLESS).of == {
        Behaviour.ANSWERED: 6, Behaviour.REFUSED: 1, Behaviour.EMPTY: 1
    }  # fmt: skip
    assert all(each.score > 0.9 for each in found.replies if each.behaviour is Behaviour.REFUSED)
    assert all(each.score < 0.1 for each in found.replies if each.behaviour is Behaviour.ANSWERED)


def test_a_run_that_is_stopped_keeps_what_it_has(tmp_path: Path) -> None:
    """The first slice is completed in any case, and it is known how many were planned."""
    save_folder(tmp_path / "m", random_model("llama"), word_tokenizer())
    prompts = [AskedPrompt(Prompt("the red cat"), HARMFUL)] * (SLICE + 1)
    seen: list[tuple[int, int]] = []
    found = measure_behaviour(
        CausalLM.open(tmp_path / "m"), prompts, MarkerJudge(), Asking(2, batch_size=SLICE // 2),
        stop=lambda: True, progress=lambda *counts: seen.append(counts),
    )  # fmt: skip
    assert (len(found.replies), found.planned) == (SLICE, SLICE + 1)
    assert seen == [(SLICE // 2, SLICE + 1), (SLICE, SLICE + 1)]


def test_a_model_without_a_template_is_asked_as_it_is(tmp_path: Path) -> None:
    """Which the record says; also where the template is not wanted."""
    save_folder(tmp_path / "m", random_model("llama"), word_tokenizer())
    prompts = [AskedPrompt(Prompt("the red cat"), HARMFUL)]
    model = CausalLM.open(tmp_path / "m")
    found = measure_behaviour(model, prompts, MarkerJudge(), Asking(4))
    assert not found.templated
    assert found.replies[0].text == model.generate(["the red cat"], max_new_tokens=4)[0].text


def test_no_template_is_used_unless_wanted(model: CausalLM) -> None:
    """Though there is one."""
    prompts = [AskedPrompt(Prompt(harmful_prompts()[0]), HARMFUL)]
    assert not measure_behaviour(model, prompts, MarkerJudge(), Asking(4, chat=False)).templated


def test_a_mixture_of_experts_is_asked_in_the_same_way(tmp_path: Path) -> None:
    """Alone and in batches of unequal prompts it says the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Qwen3MoeForCausalLM(Qwen3MoeConfig(
            vocab_size=len(VOCABULARY), hidden_size=32, intermediate_size=40,
            moe_intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, num_experts=4, num_experts_per_tok=2,
            max_position_embeddings=64, bos_token_id=1, eos_token_id=2, pad_token_id=0,
            initializer_range=0.3,
        ))  # fmt: skip
    model = CausalLM.open(save_folder(tmp_path / "m", network, word_tokenizer()))
    texts = ("the red cat", "who", "a small old fish finds the river", "not here")
    prompts = [AskedPrompt(Prompt(text), HARMLESS) for text in texts]
    runs = [
        measure_behaviour(model, prompts, MarkerJudge(), Asking(8, batch_size=size))
        for size in (1, 4)
    ]
    assert compare_runs(*runs) == (Flips(HARMLESS, 4, 0, 0, 0, 0),)
    assert len({each.text for each in runs[0].replies}) > 1


@pytest.mark.parametrize(
    ("text", "problem"),
    [("the " * 62, "harmful line 7 has 62 tokens and 4 are to follow, the model sees 64"),
     ("", "harmful line 7 has no tokens; give at least one word")],
)  # fmt: skip
def test_a_prompt_that_does_not_fit_is_named_before_any_is_asked(
    tmp_path: Path, text: str, problem: str
) -> None:
    """By the line where it stands."""
    save_folder(tmp_path / "m", random_model("llama"), word_tokenizer())
    prompts = [AskedPrompt(Prompt("the cat", line=6), HARMFUL),
               AskedPrompt(Prompt(text, line=7), HARMFUL)]  # fmt: skip
    with pytest.raises(ConfigurationError, match=problem):
        measure_behaviour(CausalLM.open(tmp_path / "m"), prompts, MarkerJudge(), Asking(4))


def test_no_prompts_are_nothing_to_do(model: CausalLM) -> None:
    with pytest.raises(NothingToAudit, match="no prompts to ask"):
        measure_behaviour(model, [], MarkerJudge())


def test_prompts_of_no_file_are_named_by_their_group() -> None:
    assert AskedPrompt(Prompt("a", group="g 1"), HARMLESS).name == "harmless g 1"
    assert AskedPrompt(Prompt("a"), HARMLESS).name == "harmless prompt"
