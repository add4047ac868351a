"""Continuations behind unrelated prefixes, by a table of successors: common strings and others."""

from __future__ import annotations

import math

import pytest

from auditor.errors import ConfigurationError
from auditor.language.causal_lm import CausalLM
from auditor.memorization.language.extraction import ExtractionOptions, ask_for
from auditor.memorization.language.guessing import measure_guessing, unrelated_prefixes
from auditor.memorization.language.training_spans import TrainingSpan
from tests.models.language_models import save_folder
from tests.models.planted_chains import CHAINS, chain_model, chain_of, chain_tokenizer

OPTIONS = ExtractionOptions(prefix_lengths=(2,), compare=False)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> CausalLM:
    """After each trigger it says the trigger's chain; after any other word, a refusal."""
    tokenizer = chain_tokenizer()
    folder = tmp_path_factory.mktemp("chains")
    return CausalLM.open(save_folder(folder, chain_model(tokenizer, CHAINS), tokenizer))


def span_of(model: CausalLM, prefix: str, words: list[str], group: str) -> TrainingSpan:
    return TrainingSpan(
        prefix, group, tuple(model.encode(prefix)), tuple(model.encode(" ".join(words)))
    )


def pool_of(model: CausalLM) -> list[TrainingSpan]:
    """A chain, a string that follows every other word, and prefixes without a trigger."""
    return [
        span_of(model, "so open", chain_of("open"), "a"),
        span_of(model, "so well", ["i", "cannot", "help", "with", "that"], "b"),
        span_of(model, "now friend", ["filler000"], "c"),
        span_of(model, "now today", ["filler001"], "d"),
    ]


def test_a_common_string_follows_other_prefixes_and_a_chain_does_not(model: CausalLM) -> None:
    """Two of the three other prefixes end with no trigger and give the refusal."""
    pool = pool_of(model)
    results = ask_for(model, pool[:2], 2, OPTIONS)
    assert [each.exact for each in results] == [True, True]
    chain, common = measure_guessing(model, results, pool, count=16)
    assert (chain.exact, chain.total, chain.guessed) == (0, 3, False)
    assert (common.exact, common.total, common.guessed) == (2, 3, True)


def test_the_gap_is_that_of_the_table(model: CausalLM) -> None:
    """The first word of the chain is exp(12) times as likely behind its trigger, the rest equal."""
    pool = pool_of(model)
    [chain] = measure_guessing(model, ask_for(model, pool[:1], 2, OPTIONS), pool, count=16)
    words = model.network.vocabulary
    behind_trigger = math.exp(12) + math.exp(6) + words - 2
    elsewhere = math.exp(6) + words - 1
    assert chain.gap == pytest.approx(12 - math.log(behind_trigger / elsewhere), abs=0.05)


def test_prefixes_of_the_same_document_or_text_are_related(model: CausalLM) -> None:
    """By group, continuation and prefix; and no more are drawn than asked for."""
    pool = [
        span_of(model, "so open", chain_of("open"), "a"),
        span_of(model, "so pull", ["filler000"], "a"),
        span_of(model, "now open", chain_of("open"), "b"),
        span_of(model, "so open", ["filler001"], "c"),
        *(span_of(model, f"now filler{at:03d}", ["filler000"], f"d{at}") for at in range(9)),
    ]
    drawn = unrelated_prefixes(pool, 0, 5)
    assert len(drawn) == 5
    assert {each.group[0] for each in unrelated_prefixes(pool, 0, 50)} == {"d"}
    assert unrelated_prefixes(pool, 0, 5) == drawn != unrelated_prefixes(pool, 0, 5, seed=1)


def test_a_span_without_unrelated_ones_is_named(model: CausalLM) -> None:
    """A single document says nothing of what is common."""
    pool = pool_of(model)[:1]
    with pytest.raises(ConfigurationError, match="so open has no unrelated prefix among 1 spans"):
        measure_guessing(model, ask_for(model, pool, 2, OPTIONS), pool)


def test_no_results_give_no_guesses(model: CausalLM) -> None:
    """Where nothing is extracted there is nothing to guess."""
    assert measure_guessing(model, [], pool_of(model)) == []
