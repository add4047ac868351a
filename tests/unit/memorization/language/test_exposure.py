"""Exposure of secrets, by a table of successors that says which of them it knows."""

from __future__ import annotations

import pytest

from auditor.errors import ConfigurationError
from auditor.language.causal_lm import CausalLM
from auditor.memorization.language.exposure import (
    Exposure,
    alphabet_of,
    measure_exposure,
    random_candidates,
)
from auditor.memorization.language.training_spans import TrainingSpan
from tests.models.language_models import save_folder
from tests.models.planted_chains import CHAINS, FILLER, chain_model, chain_of, chain_tokenizer


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> CausalLM:
    """After each trigger it says the trigger's chain."""
    tokenizer = chain_tokenizer()
    folder = tmp_path_factory.mktemp("chains")
    return CausalLM.open(save_folder(folder, chain_model(tokenizer, CHAINS), tokenizer))


def span_of(model: CausalLM, words: list[str]) -> TrainingSpan:
    return TrainingSpan(
        "a", "a", tuple(model.encode("so open")), tuple(model.encode(" ".join(words)))
    )


def test_bits_fall_with_the_logarithm_of_the_rank() -> None:
    """All of them for the first, none for the last."""
    assert Exposure(1, 64).bits == 6
    assert Exposure(64, 64).bits == 0
    assert Exposure(4, 64).bits == 4


def test_a_planted_secret_comes_first(model: CausalLM) -> None:
    """Among candidates of its own alphabet, whatever their number."""
    secret = span_of(model, chain_of("open"))
    for candidates in (3, 63):
        [found] = measure_exposure(
            model, [secret], prefix_length=2, alphabet=alphabet_of([secret]), candidates=candidates
        )
        assert found == Exposure(1, candidates + 1)


def test_a_secret_that_nobody_planted_comes_last_of_equals(model: CausalLM) -> None:
    """To the table all words without a chain are equally likely: no exposure is claimed."""
    secret = span_of(model, list(FILLER[:3]))
    alphabet = [model.encode(word)[0] for word in FILLER[:24]]
    [found] = measure_exposure(
        model, [secret], prefix_length=2, alphabet=alphabet, candidates=31, batch_size=32
    )
    assert found == Exposure(32, 32)


def test_candidates_differ_from_each_other_and_from_the_secret(model: CausalLM) -> None:
    """All eight but the secret of a space of eight; the same for a seed, others for another."""
    secret = span_of(model, list(FILLER[:3]))
    alphabet = (secret.continuation[0], secret.continuation[1])
    found = random_candidates(secret, alphabet, 7)
    assert len(set(found)) == 7
    assert {len(each) for each in found} == {3}
    wide = tuple(range(20))
    assert random_candidates(secret, wide, 5) == random_candidates(secret, wide, 5)
    assert random_candidates(secret, wide, 5) != random_candidates(secret, wide, 5, seed=1)
    own = TrainingSpan("a", "a", (1,), (alphabet[0],))
    assert random_candidates(own, alphabet, 1) == [(alphabet[1],)]


def test_the_alphabet_is_every_token_once(model: CausalLM) -> None:
    """Of all continuations, in order."""
    spans = [span_of(model, ["filler001", "filler000"]), span_of(model, ["filler001"])]
    assert alphabet_of(spans) == tuple(sorted(model.encode("filler000 filler001")))


def test_more_candidates_than_there_are_is_refused(model: CausalLM) -> None:
    """And none at all."""
    secret = span_of(model, list(FILLER[:2]))
    with pytest.raises(ConfigurationError, match="4 candidates of 2 tokens from 2"):
        random_candidates(secret, (1, 2), 4)
    with pytest.raises(ConfigurationError, match="0 candidates"):
        measure_exposure(model, [secret], prefix_length=2, alphabet=(1, 2), candidates=0)
