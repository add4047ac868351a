"""Exemplar scorers: parts of sentences, heads, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.errors import ConfigurationError
from auditor.trace.content_policy import Clause
from auditor.trace.stance import LEAST_EXEMPLARS, RIDGE, ExemplarScorer, fit_head, sentence_parts
from tests.models.table_stance import word_vectors

BREAKING = tuple(f"take off the guard of machine{n}" for n in range(LEAST_EXEMPLARS))
KEEPING = tuple(f"leave on the cover of machine{n}" for n in range(LEAST_EXEMPLARS))
GUARDS = Clause(id="guards", statement="Guards stay.", violation="The text removes one.",
                violating=BREAKING, compliant=KEEPING)  # fmt: skip


def test_a_sentence_is_cut_at_its_joints() -> None:
    """Parts of fewer than three words say nothing of their own."""
    assert sentence_parts("Go home, take off the guard and bridge the interlock.") == [
        "take off the guard", "bridge the interlock."
    ]  # fmt: skip


@pytest.mark.parametrize(
    "negated",
    [
        "Do not take off the guard and bridge the interlock",
        "Don't take off the guard, or bridge the interlock",
        "Don\N{RIGHT SINGLE QUOTATION MARK}t take off the guard, or bridge the interlock",
        "None of you may take off the guard, or bridge the interlock",
        "I refuse to say how to take off the guard, and how to bridge it",
        "Never take off the guard; leave the interlock as it is",
    ],
)
def test_negated_sentences_are_not_cut(negated: str) -> None:
    """Their parts would say the opposite of what they say."""
    assert sentence_parts(negated) == [negated]


@given(st.text(alphabet="ab ,;:nortd'", max_size=50))
@settings(deadline=None)
def test_every_sentence_has_a_part(sentence: str) -> None:
    """Nothing is judged by no vector at all."""
    assert sentence_parts(sentence)


def test_the_worst_part_counts() -> None:
    """Of a sentence of two statements the score is that of the one that breaks the clause."""
    scorer = ExemplarScorer(word_vectors, [GUARDS])
    bad, good = "take off the guard of machine7", "leave on the cover of machine7"
    single = scorer.score([bad, good], [GUARDS])
    both = scorer.score([f"{good}, {bad}"], [GUARDS])
    assert both[0, 0] == pytest.approx(single.max(), abs=1e-9)
    assert single[0, 0] > 0.5 > single[1, 0]


def test_scores_of_a_text_do_not_depend_on_the_others() -> None:
    """Each row is that of its text alone."""
    scorer = ExemplarScorer(word_vectors, [GUARDS])
    texts = ["take off the guard, leave on the cover", "x", "leave on the cover of it"]
    together = scorer.score(texts, [GUARDS])
    assert together.tolist() == [scorer.score([text], [GUARDS])[0].tolist() for text in texts]


def test_no_texts_or_clauses_are_no_scores() -> None:
    """The shape is kept."""
    scorer = ExemplarScorer(word_vectors, [GUARDS])
    assert scorer.score([], [GUARDS]).shape == (0, 1)
    assert scorer.score(["a"], []).shape == (1, 0)


@pytest.mark.parametrize("kind", ["violating", "compliant"])
def test_too_few_exemplars_are_refused(kind: str) -> None:
    """With the clause, the number and the way out."""
    few = GUARDS.model_copy(update={kind: BREAKING[:49]})
    with pytest.raises(
        ConfigurationError, match=rf"'guards' has 49 {kind} .* needs 50; add some, or give an NLI"
    ):
        ExemplarScorer(word_vectors, [few])


def test_a_clause_without_head_is_refused() -> None:
    """It is not scored by another clause's head."""
    scorer = ExemplarScorer(word_vectors, [GUARDS])
    other = GUARDS.model_copy(update={"id": "fire"})
    with pytest.raises(ConfigurationError, match="no exemplars were given for the clause 'fire'"):
        scorer.score(["a"], [other])


@given(st.integers(0, 10_000))
@settings(deadline=None, max_examples=20)
def test_a_head_is_the_minimum_of_its_loss(seed: int) -> None:
    """The gradient of the weighted logistic loss with its ridge is 0 there."""
    source = np.random.default_rng(seed)
    vectors = source.normal(size=(30, 4))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    labels = np.array([1.0] * 10 + [0.0] * 20)
    head = fit_head(vectors, labels)
    weight = np.where(labels > 0, 1.5, 0.75)
    error = weight * (head.score(vectors) - labels)
    assert vectors.T @ error * 2 + RIDGE * head.weights / 2 == pytest.approx(0, abs=1e-6)
    assert error.sum() == pytest.approx(0, abs=1e-4)


def test_far_vectors_have_chances_all_the_same() -> None:
    """No overflow, whatever the embedder gives."""
    head = fit_head(np.array([[1e3], [-1e3]]), np.array([1.0, 0.0]))
    assert head.score(np.array([[1e9], [-1e9]])).tolist() == [1.0, 0.0]
