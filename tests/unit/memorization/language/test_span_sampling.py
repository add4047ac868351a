"""Spans drawn with their copies: counted, different, and even over doublings if wanted."""

from __future__ import annotations

from collections import Counter

import pytest

from auditor.errors import ConfigurationError, NothingToAudit
from auditor.language.causal_lm import CausalLM
from auditor.memorization.language.span_sampling import sample_spans, with_copies
from auditor.memorization.language.training_spans import SpanShape, SpanSource, TrainingSpan
from tests.models.language_models import WORDS, random_model, save_folder, word_tokenizer

SHAPE = SpanShape(2, 2)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> CausalLM:
    folder = tmp_path_factory.mktemp("model")
    return CausalLM.open(save_folder(folder, random_model("gpt2"), word_tokenizer()))


def texts(count: int) -> list[str]:
    """Different texts of four words."""
    return [" ".join((WORDS[at % 30], WORDS[at // 30], "sees", "here")) for at in range(count)]


def sources(contents: list[str]) -> list[SpanSource]:
    return [SpanSource(f"{at}", f"{at}", f"{at}", text) for at, text in enumerate(contents)]


def test_each_doubling_takes_its_turn(model: CausalLM) -> None:
    """Of 50 single texts and few of many copies, as many of each as there are."""
    contents = texts(56)
    copies = dict.fromkeys(contents[:50], 1)
    copies |= dict(zip(contents[50:], (4, 5, 4, 70, 70, 127), strict=True))
    spans = sample_spans(model, sources(contents), SHAPE, 9, copies.__getitem__)
    assert Counter((each.copies or 0).bit_length() for each in spans) == {1: 3, 3: 3, 7: 3}
    plain = sample_spans(model, sources(contents), SHAPE, 9, copies.__getitem__, evenly=False)
    assert [each.copies for each in plain] == [1] * 9


def test_equal_spans_are_taken_once(model: CausalLM) -> None:
    """And texts without a copy, too short or changed by the tokenizer are passed over."""
    contents = ["the cat sees here"] * 3 + ["the cat", "the zebra sees here", "who sees who here"]
    found = sample_spans(
        model, sources(contents), SHAPE, 9, lambda text: 0 if text.startswith("who") else 3
    )
    assert [(each.name, each.copies) for each in found] == [("0", 3)]


def test_nothing_that_fits_is_nothing_to_audit(model: CausalLM) -> None:
    """Said with how many were tried."""
    with pytest.raises(NothingToAudit, match="none of 2 texts gives a span of 4 tokens"):
        sample_spans(model, sources(["the", "the cat"]), SHAPE, 9, lambda text: 1)


def test_a_shape_beyond_the_context_is_refused(model: CausalLM) -> None:
    """Not passed over as if texts were too short."""
    with pytest.raises(ConfigurationError, match="the model sees 64"):
        sample_spans(model, sources(["the cat"]), SpanShape(60, 5), 9, lambda text: 1)


def test_copies_are_counted_where_they_are_not_known(model: CausalLM) -> None:
    """By the text of the whole span; what was known stays."""
    ids = tuple(model.encode("the cat sees here"))
    spans = [
        TrainingSpan("a", "a", ids[:2], ids[2:]), TrainingSpan("b", "b", ids[:2], ids[2:], 7)
    ]  # fmt: skip
    asked: list[str] = []

    def copies_of(text: str) -> int:
        asked.append(text)
        return 5

    assert [each.copies for each in with_copies(model, spans, copies_of)] == [5, 7]
    assert asked == ["the cat sees here"]
