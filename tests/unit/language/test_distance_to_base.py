"""Divergences against sums by hand, from a network that is a table of logits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from auditor.errors import UnsupportedModel
from auditor.language.distance_to_base import Answered, measure_distances

VOCABULARY = 7
BASE = torch.randn(VOCABULARY, VOCABULARY, generator=torch.Generator().manual_seed(0))
OTHER = BASE + torch.randn(VOCABULARY, VOCABULARY, generator=torch.Generator().manual_seed(1))
ANSWERED = (Answered([3, 1], [4, 5, 6]), Answered([2], []), Answered([1, 2, 3, 4, 5], [6]))


class Table:
    """Logits that depend on the last token alone; padding would read the row of token 0."""

    device = torch.device("cpu")
    vocabulary = VOCABULARY
    keeps_state = False

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits

    def read(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.logits[ids]

    def step(self, ids: Tensor, mask: Tensor, cache: Any) -> tuple[Tensor, Any]:
        raise NotImplementedError

    @contextmanager
    def changed(self, logits: Tensor) -> Iterator[None]:
        old, self.logits = self.logits, logits
        try:
            yield
        finally:
            self.logits = old


def by_hand(token: int, base: Tensor = BASE, other: Tensor = OTHER) -> float:
    """KL of the next token after a token, in float64, what is impossible left out."""
    p = np.exp(base[token].double().numpy())
    q = np.exp(other[token].double().numpy())
    p, q = p / p.sum(), q / q.sum()
    kept = p > 0
    return float((p[kept] * np.log(p[kept] / q[kept])).sum())


def measured(
    other: Tensor, base: Tensor = BASE, **options: Any
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    table = Table(base)
    found = measure_distances(table, ANSWERED, lambda: table.changed(other), **options)
    assert table.logits is base
    return found.first, found.answer


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_first_token_and_answer_are_those_of_the_definition(batch_size: int) -> None:
    """After the last token of the prompt, and after it and every token of the answer."""
    first, answer = measured(OTHER, batch_size=batch_size)
    assert first == pytest.approx([by_hand(1), by_hand(2), by_hand(5)], abs=1e-6)
    expected = [np.mean([by_hand(token) for token in rows]) for rows in ([1, 4, 5, 6], [2], [5, 6])]
    assert answer == pytest.approx(expected, abs=1e-6)


def test_so_many_tokens_of_an_answer_and_no_more() -> None:
    """Of two tokens the second stands after the first token of the answer."""
    _, answer = measured(OTHER, tokens=2)
    expected = [np.mean([by_hand(1), by_hand(4)]), by_hand(2), np.mean([by_hand(5), by_hand(6)])]
    assert answer == pytest.approx(expected, abs=1e-6)


def test_no_change_is_no_distance() -> None:
    table = Table(BASE)
    found = measure_distances(table, ANSWERED, nullcontext)
    assert found.first.tolist() == found.answer.tolist() == [0.0, 0.0, 0.0]


def test_it_tells_the_base_from_the_changed_model() -> None:
    """KL(base || changed), which is not KL(changed || base)."""
    forth, back = measured(OTHER)[0], measured(BASE, OTHER)[0]
    assert back == pytest.approx([by_hand(token, OTHER, BASE) for token in (1, 2, 5)], abs=1e-6)
    assert not np.allclose(forth, back, atol=1e-3)


def test_what_is_impossible_under_both_counts_nothing() -> None:
    base, other = BASE.clone(), OTHER.clone()
    base[:, 3] = other[:, 3] = -torch.inf
    expected = [by_hand(token, base, other) for token in (1, 2, 5)]
    assert measured(other, base)[0] == pytest.approx(expected, abs=1e-6)


def test_what_the_base_rules_out_may_become_possible() -> None:
    base = BASE.clone()
    base[:, 3] = -torch.inf
    expected = [by_hand(token, base) for token in (1, 2, 5)]
    assert measured(OTHER, base)[0] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("value", [-torch.inf, torch.nan, torch.inf])
def test_a_distance_that_is_not_finite_is_an_error(value: float) -> None:
    """A token that the base may say and the changed model cannot, and logits that are none."""
    other = OTHER.clone()
    other[5, 3] = value
    with pytest.raises(UnsupportedModel, match=r"next-token logits: a divergence of .* finite"):
        measured(other)


def test_rounding_never_makes_it_negative() -> None:
    """A model that adds the same to every logit is the same model."""
    first, answer = measured(BASE + 1000.0)
    assert (first >= 0).all()
    assert (answer >= 0).all()
    assert first.max() < 1e-6
