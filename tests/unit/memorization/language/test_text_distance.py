"""Edit distance, similarity and common runs, beside slower ways to find them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import pytest

from auditor.memorization.language.text_distance import common_run, edit_distance, similarity


def by_table(first: Sequence[int], second: Sequence[int]) -> int:
    """Levenshtein's distance by the table of all prefixes."""
    above = list(range(len(second) + 1))
    for at, symbol in enumerate(first, 1):
        row = [at]
        for other, before in zip(second, above, strict=False):
            place = len(row)
            row.append(min(row[-1] + 1, above[place] + 1, before + (symbol != other)))
        above = row
    return above[-1]


def by_trying(first: Sequence[int], second: Sequence[int]) -> int:
    """The longest run of the first that stands in the second."""
    return max(
        (length for length in range(1, len(first) + 1) for begin in range(len(first) - length + 1)
         if any(first[begin : begin + length] == second[at : at + length]
                for at in range(len(second) - length + 1))),
        default=0,
    )  # fmt: skip


def pairs() -> Iterator[tuple[list[int], list[int]]]:
    """Short random sequences of few symbols, empty ones too, and some beyond 64 symbols."""
    source = random.Random(0)
    for number in range(400):
        most = 12 if number < 380 else 150
        kinds = source.choice((1, 2, 3, 9))
        yield (
            [source.randrange(kinds) for _ in range(source.randint(0, most))],
            [source.randrange(kinds) for _ in range(source.randint(0, most))],
        )


def test_the_distance_is_that_of_the_table() -> None:
    """And the same both ways."""
    for first, second in pairs():
        assert edit_distance(first, second) == by_table(first, second)
        assert edit_distance(second, first) == edit_distance(first, second)


def test_the_common_run_is_the_longest() -> None:
    """Whatever its places in both."""
    for first, second in pairs():
        if len(first) <= 12:
            assert common_run(first, second) == by_trying(first, second)


@pytest.mark.parametrize(
    ("first", "second", "alike"),
    [("", "", 1.0), ("", "ab", 0.0), ("kitten", "sitting", 1 - 3 / 7), ("same", "same", 1.0)],
)
def test_similarity_is_one_less_the_share_of_edits(first: str, second: str, alike: float) -> None:
    """Of the longer sequence; characters serve as well as tokens."""
    assert similarity(first, second) == pytest.approx(alike)
