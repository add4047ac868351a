"""Extraction from a table of successors, of which every completion and its chance are known."""

from __future__ import annotations

import math

import pytest

from auditor.errors import ConfigurationError, NothingToAudit
from auditor.language.causal_lm import CausalLM
from auditor.memorization.language.extraction import ExtractionOptions, measure_extraction
from auditor.memorization.language.training_spans import TrainingSpan
from tests.models.language_models import save_folder
from tests.models.planted_chains import CHAINS, LENGTH, chain_model, chain_of, chain_tokenizer

ANY = ExtractionOptions(prefix_lengths=(1, 2))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> CausalLM:
    """After each trigger it says the trigger's chain."""
    tokenizer = chain_tokenizer()
    folder = tmp_path_factory.mktemp("chains")
    return CausalLM.open(save_folder(folder, chain_model(tokenizer, CHAINS), tokenizer))


def span_of(model: CausalLM, prefix: str, continuation: list[str]) -> TrainingSpan:
    """A span of these words."""
    return TrainingSpan(
        prefix, prefix, tuple(model.encode(prefix)), tuple(model.encode(" ".join(continuation)))
    )


def changed(trigger: str, at: int) -> list[str]:
    """A chain with one other word in it."""
    chain = chain_of(trigger)
    return [*chain[:at], "filler000", *chain[at + 1 :]]


def test_a_planted_chain_is_extracted(model: CausalLM) -> None:
    """After its trigger, with any prefix; there is nothing to compare."""
    found = measure_extraction(model, [span_of(model, "so open", chain_of("open"))], ANY)
    assert [each.prefix_length for each in found.results] == [1, 2]
    for each in found.results:
        assert (each.exact, each.compared, each.is_near(1.0)) == (True, None, True)
        assert (each.reading.agreed, each.longest_guess) == (LENGTH, LENGTH)
        assert not each.near_tie


@pytest.mark.parametrize("at", [0, 2, LENGTH - 1])
def test_another_word_makes_it_near(model: CausalLM, at: int) -> None:
    """One substitution of twelve; the model goes on with its own chain."""
    [result] = measure_extraction(
        model, [span_of(model, "so open", changed("open", at))],
        ExtractionOptions(prefix_lengths=(2,)),
    ).results  # fmt: skip
    assert (result.exact, result.reading.agreed) == (False, at)
    assert result.compared is not None
    assert result.compared.completion == tuple(model.encode(" ".join(chain_of("open"))))
    assert result.compared.similarity == pytest.approx(1 - 1 / LENGTH)
    assert result.compared.common_run == max(at, LENGTH - 1 - at)
    assert not result.compared.same_text
    assert result.is_near(0.75)
    assert not result.is_near(0.95)


def test_true_words_before_each_token_help_to_guess(model: CausalLM) -> None:
    """A reader that is told the true words guesses the rest of a chain that begins otherwise."""
    words = ["filler000", *chain_of("open")[1:]]
    [result] = measure_extraction(
        model, [span_of(model, "so open", words)], ExtractionOptions(prefix_lengths=(2,))
    ).results
    assert (result.reading.agreed, result.longest_guess) == (0, LENGTH - 2)


def test_the_chance_is_that_of_the_table(model: CausalLM) -> None:
    """Of sampling a chain at temperature 1: the product over its words, by hand."""
    [result] = measure_extraction(
        model, [span_of(model, "so open", chain_of("open"))],
        ExtractionOptions(prefix_lengths=(1,)),
    ).results  # fmt: skip
    words = model.network.vocabulary
    once = math.exp(12) / (math.exp(12) + math.exp(6) + words - 2)
    assert result.chance == pytest.approx(once**LENGTH, rel=1e-3)
    assert result.chance_in(5) == pytest.approx(1 - (1 - once**LENGTH) ** 5, rel=1e-3)


def test_draws_agree_with_their_chance(model: CausalLM) -> None:
    """Nearly every draw gives the chain; a continuation of another one is never drawn."""
    found = measure_extraction(
        model,
        [span_of(model, "so open", chain_of("open")), span_of(model, "so open", chain_of("pull"))],
        ExtractionOptions(prefix_lengths=(2,), draws=20),
    )  # fmt: skip
    likely, never = (each.drawn for each in found.results)
    assert likely is not None
    assert likely.total == 20
    assert likely.hits >= 15  # 19.4 expected; fewer than 15 have a chance below 1e-5
    assert (never.hits if never else -1) == 0
    assert found.results[1].chance == pytest.approx(math.exp(-12), rel=0.05)


def test_nothing_is_continued_unless_asked(model: CausalLM) -> None:
    """Without comparison the readings alone are there."""
    options = ExtractionOptions(prefix_lengths=(2,), compare=False)
    [result] = measure_extraction(
        model, [span_of(model, "so open", changed("open", 1))], options
    ).results
    assert (result.compared, result.drawn, result.is_near(0.1)) == (None, None, False)


def test_results_do_not_depend_on_batches(model: CausalLM) -> None:
    """The same counts whatever runs together, at each prefix length."""
    spans = [
        span_of(model, f"{word} {trigger}", changed(trigger, at) if at else chain_of(trigger))
        for at, trigger in enumerate(CHAINS) for word in ("so", "now")
    ]  # fmt: skip
    counts = []
    for batch_size in (1, 3, 64):
        options = ExtractionOptions((1, 2), batch_size=batch_size)
        found = measure_extraction(model, spans, options)
        assert found.asked == len(spans)
        counts.append([(each.span.name, each.reading.agreed) for each in found.results])
        assert [found.count(length, lambda each: each.exact) for length in (1, 2)] == [2, 2]
    assert counts[0] == counts[1] == counts[2]


def test_it_stops_between_slices(model: CausalLM) -> None:
    """The first slice is always asked for; what is there says how far it got."""
    spans = [span_of(model, "so open", chain_of("open"))] * 70
    options = ExtractionOptions(prefix_lengths=(1, 2), batch_size=16)
    told: list[tuple[int, int]] = []
    found = measure_extraction(
        model, spans, options, stop=lambda: True,
        progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    assert (found.asked, found.planned, told) == (64, 70, [(64, 70)])
    assert len(found.longest) == 64


def test_what_cannot_be_asked_is_said(model: CausalLM) -> None:
    """No spans, and prefixes shorter than asked for."""
    with pytest.raises(NothingToAudit, match="no training spans"):
        measure_extraction(model, [], ANY)
    with pytest.raises(ConfigurationError, match="has a prefix of 2 tokens and is to be asked"):
        measure_extraction(
            model, [span_of(model, "so open", ["filler000"])], ExtractionOptions((2, 5))
        )


@pytest.mark.parametrize("lengths", [(), (0, 4), (4, 4), (8, 4)])
def test_prefix_lengths_rise(lengths: tuple[int, ...]) -> None:
    """From 1 on, each once."""
    with pytest.raises(ConfigurationError, match="prefix lengths"):
        ExtractionOptions(prefix_lengths=lengths)


@pytest.mark.parametrize("update", [{"draws": -1}, {"batch_size": 0}])
def test_counts_below_their_least_are_refused(update: dict[str, int]) -> None:
    """Draws from 0, batches from 1."""
    with pytest.raises(ConfigurationError, match="give at least 0 and 1"):
        ExtractionOptions(**update)  # type: ignore[arg-type]
