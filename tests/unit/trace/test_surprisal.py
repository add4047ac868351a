"""The published Belief Conflict Index, and what it must satisfy."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.errors import ConfigurationError
from auditor.trace.surprisal import UNSEEN, SurprisalScorer, UnigramCounts
from auditor.trace.tokens import tokens_of

TEXTS = [b"the cat sat on the mat.", b"The dog, the cat!"]
SEEN = {token for text in TEXTS for token in tokens_of(text)}
COUNTS = UnigramCounts.of(TEXTS)
words = st.lists(
    st.sampled_from([b"the", b"cat", b"sat", b"dog", b",", b"unseen", b"zebra"]), max_size=20
)


def scorer(tokens: list[bytes]) -> SurprisalScorer:
    return SurprisalScorer(tokens, COUNTS.published())


def test_the_score_is_that_of_the_formula() -> None:
    """Of 13 tokens 4 are `the` and 2 `cat`; `zebra` was never seen."""
    assert COUNTS.total == 13
    found = scorer([b"the", b"cat", b"zebra"]).span()
    expected = -math.log(4 / 13) - math.log(2 / 13) - math.log(UNSEEN)
    assert found.bci == pytest.approx(expected, abs=1e-12)
    assert found.density == pytest.approx(expected / 3, abs=1e-12)
    assert scorer([b"the", b"zebra"]).max_token_risk() == pytest.approx(20.723, abs=1e-3)


def test_chance_occurrences_are_the_length_over_the_score() -> None:
    """Two tokens of probability 1/10 stand 10 times by chance in 1,000."""
    found = SurprisalScorer([b"a", b"b"], lambda token: 0.1).span()
    assert found.log10_e_value(1_000) == pytest.approx(1.0)


@settings(deadline=None)
@given(words, words)
def test_scores_of_joined_spans_add_up(first: list[bytes], second: list[bytes]) -> None:
    whole = scorer(first + second)
    parts = scorer(first).span().bci + scorer(second).span().bci
    assert whole.span().bci == pytest.approx(parts, abs=1e-9)
    assert whole.span(len(first)).bci == pytest.approx(scorer(second).span().bci, abs=1e-9)


@settings(deadline=None)
@given(words.filter(bool))
def test_kl_is_the_divergence_from_the_training_text(tokens: list[bytes]) -> None:
    shares = {token: tokens.count(token) / len(tokens) for token in tokens}
    probability = COUNTS.published()
    divergence = sum(p * math.log(p / probability(token)) for token, p in shares.items())
    found = scorer(tokens).span()
    assert found.kl == pytest.approx(divergence, abs=1e-9)
    assert found.kl <= found.density + 1e-12 <= found.bci + 1e-9


@settings(deadline=None)
@given(words.filter(bool), st.integers(0, 1_000))
def test_the_order_of_tokens_does_not_matter(tokens: list[bytes], seed: int) -> None:
    shuffled = random.Random(seed).sample(tokens, len(tokens))
    one, other = scorer(tokens), scorer(shuffled)
    assert one.span().bci == pytest.approx(other.span().bci, abs=1e-9)
    assert one.span().kl == pytest.approx(other.span().kl, abs=1e-9)
    assert one.max_token_risk() == other.max_token_risk()


def test_an_empty_span_scores_nothing_and_has_no_rarest_token() -> None:
    found = scorer([]).span()
    assert (found.tokens, found.bci, found.density, found.kl) == (0, 0.0, 0.0, 0.0)
    with pytest.raises(ConfigurationError, match="an empty span has no rarest token"):
        scorer([b"the"]).max_token_risk(1, 1)


@pytest.mark.parametrize("smoother", [COUNTS.add_k(0.5), COUNTS.witten_bell()])
def test_smoothed_probabilities_sum_to_one(smoother: object) -> None:
    """Over the tokens seen, and one that stands for all others."""
    assert callable(smoother)
    total = sum(smoother(token) for token in SEEN) + smoother(b"never seen")
    assert total == pytest.approx(1.0)


def test_what_is_no_probability_is_refused() -> None:
    for wrong in (0.0, 1.5, math.nan):
        with pytest.raises(ConfigurationError, match="of the token b'a'"):
            SurprisalScorer([b"a"], {b"a": wrong}.__getitem__)
    with pytest.raises(ConfigurationError, match="k 0"):
        COUNTS.add_k(0)
    with pytest.raises(ConfigurationError, match="no token to count"):
        UnigramCounts.of([b"  ", b""])
    with pytest.raises(ConfigurationError, match="tokens 0 to 3 of a text of 1 tokens"):
        scorer([b"the"]).span(0, 3)
