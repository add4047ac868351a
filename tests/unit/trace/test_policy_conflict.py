"""Conflict with a policy: the laws it keeps, whatever judges the stance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from auditor.errors import OperationFailed
from auditor.trace import policy_conflict
from auditor.trace.content_policy import Clause
from auditor.trace.policy_conflict import Conflict, PolicyConflict
from auditor.trace.tracing import refusal_scores
from tests.models.table_stance import TableStance, clause, policy, same_vectors, word_vectors

PHRASES = ("take off the guard", "burn the ledger", "tell the password", "pour the sludge")
NAMES = ("guards", "records", "secrets", "waste")
TABLE = {name: {phrase: 0.9} for name, phrase in zip(NAMES, PHRASES, strict=True)}
CLAUSES = tuple(
    clause(name, f"never {phrase}") for name, phrase in zip(NAMES, PHRASES, strict=True)
)
TEXTS = st.lists(st.sampled_from([*PHRASES, "clean the filter", "and then"]), max_size=4).map(
    " ".join
)


class CountingStance(TableStance):
    """Keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__(TABLE)
        self.asked: list[tuple[str, str]] = []

    def score(self, texts: Sequence[str], clauses: Sequence[Clause]) -> NDArray[np.float64]:
        """As the table's."""
        self.asked += [(text, each.id) for text in texts for each in clauses]
        return super().score(texts, clauses)


@given(TEXTS)
@settings(deadline=None)
def test_an_empty_policy_has_no_conflict(text: str) -> None:
    """0, and no clause."""
    assert PolicyConflict(policy(), same_vectors, TableStance(TABLE)).of([text]) == [
        Conflict(0.0, "")
    ]


@given(TEXTS, st.floats(0.01, 1), st.floats(0.01, 1))
@settings(deadline=None)
def test_conflict_grows_with_a_clauses_weight(text: str, one: float, other: float) -> None:
    """And with no clause's weight does it fall."""
    scores = [
        PolicyConflict(
            policy(CLAUSES[0].model_copy(update={"weight": weight}), *CLAUSES[1:]),
            same_vectors, TableStance(TABLE),
        ).of([text])[0].score
        for weight in sorted((one, other))
    ]  # fmt: skip
    assert scores[0] <= scores[1]


@given(TEXTS, st.sampled_from(["I cannot help with that. ", "I can't help you to "]))
@settings(deadline=None)
def test_a_refusal_scores_below_the_same_text_without_it(text: str, refusal: str) -> None:
    """The judge of refusals discounts it; a text without conflict stays without."""
    conflict = PolicyConflict(policy(*CLAUSES), same_vectors, TableStance(TABLE), refusal_scores)
    plain, refused = conflict.of([text, refusal + text])
    assert refused.score < plain.score or plain.score == 0


def test_answers_do_not_depend_on_order_or_company() -> None:
    """A text gets the same answer alone, twice, and among others."""
    conflict = PolicyConflict(policy(*CLAUSES), same_vectors, TableStance(TABLE))
    texts = [PHRASES[1], "", "x", PHRASES[0], PHRASES[1]]
    once = conflict.of(texts)
    fresh = PolicyConflict(policy(*CLAUSES), same_vectors, TableStance(TABLE))
    assert once == conflict.of(texts) == [fresh.of([text])[0] for text in texts]
    assert [each.clause for each in once] == ["records", "", "guards", "guards", "records"]
    assert [each.score for each in once] == [0.9, 0.0, 0.0, 0.9, 0.9]


def test_a_text_is_judged_once() -> None:
    """Its answer is kept."""
    stance = CountingStance()
    conflict = PolicyConflict(policy(*CLAUSES), same_vectors, stance)
    conflict.of(["a", "b", "a"])
    conflict.of(["b"])
    assert sorted(stance.asked) == [(text, name) for text in "ab" for name in NAMES]


def test_more_texts_than_are_kept_are_all_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers are forgotten and made again."""
    monkeypatch.setattr(policy_conflict, "KEPT", 2)
    conflict = PolicyConflict(policy(*CLAUSES), same_vectors, TableStance(TABLE))
    for _ in range(2):
        assert [each.score for each in conflict.of([*PHRASES, "x"])] == [0.9] * 4 + [0.0]


def test_only_the_nearest_clauses_are_asked() -> None:
    """Three, and those that are on topic."""
    stance = CountingStance()
    spread = tuple(clause(name, words) for name, words in zip(
        NAMES, ("red green", "red blue", "red black", "white"), strict=True
    ))  # fmt: skip
    PolicyConflict(policy(*spread), word_vectors, stance).of(["red"])
    assert sorted(name for _, name in stance.asked) == sorted(NAMES[:3])


@pytest.mark.parametrize("wrong", [float("nan"), -0.1, 1.5])
def test_a_judge_that_gives_no_share_is_refused(wrong: float) -> None:
    """Not a number compares as harmless, so nothing is judged by it."""
    stance = TableStance({"guards": {"": wrong}})
    with pytest.raises(OperationFailed, match=r"a score outside of 0 to 1"):
        PolicyConflict(policy(CLAUSES[0]), same_vectors, stance).of(["x"])
