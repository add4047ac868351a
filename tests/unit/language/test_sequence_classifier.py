"""What classifiers of text have in common: labels, limits, chances, batches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.errors import ConfigurationError, UnsupportedModel
from auditor.language.sequence_classifier import (
    BATCH,
    MAX_TOKENS,
    Classified,
    classified,
    in_batches,
    most_tokens,
    read_labels,
    refuse_long,
)

HERE = Path("model")


def test_labels_stand_in_the_order_of_the_outputs() -> None:
    """Whatever the order in the file."""
    table = {str(n): f"l{n}" for n in (10, 2, 0, 1, 3, 4, 5, 6, 7, 8, 9)}
    assert read_labels(HERE, {"id2label": table}) == tuple(f"l{n}" for n in range(11))


@pytest.mark.parametrize(
    ("config", "limit", "tokens"),
    [
        ({}, 10**30, MAX_TOKENS), ({"max_position_embeddings": 64}, 10**30, 62),
        ({"max_position_embeddings": 64}, 32, 32), ({"max_position_embeddings": -1}, 512, 512),
        ({"max_position_embeddings": 4096}, 10**30, MAX_TOKENS),
        ({"max_position_embeddings": "64"}, 100, 100),
    ],
)  # fmt: skip
def test_a_model_is_given_what_it_can_read(
    config: dict[str, object], limit: int, tokens: int
) -> None:
    """The least of its positions, its tokenizer's limit and ours."""
    assert most_tokens(config, limit) == tokens


def test_long_hypotheses_are_refused() -> None:
    """From more than half of what the model reads on."""
    refuse_long(HERE, ["a b", "a b"], lambda text: len(text.split()), 4)
    with pytest.raises(ConfigurationError, match="model reads 4 tokens at once and 'a b c' has 3"):
        refuse_long(HERE, ["a b c"], lambda text: len(text.split()), 4)


@given(st.lists(st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=3), min_size=1, max_size=4))
def test_chances_sum_to_one_and_keep_the_order(logits: list[list[float]]) -> None:
    """Also of large logits."""
    values = np.array(logits)
    found = classified(HERE, values, np.zeros(len(values), dtype=bool), 3).chances
    assert found.sum(axis=1) == pytest.approx(1)
    assert (np.diff(np.take_along_axis(found, values.argsort(axis=1), axis=1), axis=1) >= 0).all()


@pytest.mark.parametrize(
    ("logits", "problem"),
    [(np.zeros((2, 2)), r"outputs of shape \[2, 2\] for 3 labels"), (np.zeros(3), "shape"),
     (np.array([[0, np.nan, 0]]), "not finite"), (np.array([[0, -np.inf, 0]]), "not finite")],
)  # fmt: skip
def test_other_outputs_are_refused(logits: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
                                   problem: str) -> None:  # fmt: skip
    """Of another shape, or no numbers."""
    with pytest.raises(UnsupportedModel, match=problem):
        classified(HERE, logits, np.zeros(len(logits), dtype=bool), 3)


@given(st.integers(1, 3 * BATCH + 1))
def test_batches_are_one_behind_another(count: int) -> None:
    """No text is lost or comes twice, and none is asked for more than fit."""
    sizes = []

    def classify(texts: Sequence[str], hypotheses: Sequence[str] | None = None) -> Classified:
        sizes.append(len(texts))
        assert hypotheses is not None
        assert [f"h{text}" for text in texts] == list(hypotheses)
        return Classified(np.array([[float(text)] for text in texts]), np.ones(len(texts), bool))

    texts = [str(number) for number in range(count)]
    found = in_batches(classify)(texts, [f"h{text}" for text in texts])
    assert found.chances[:, 0].tolist() == list(range(count))
    assert len(found.cut) == count
    assert max(sizes) <= BATCH
