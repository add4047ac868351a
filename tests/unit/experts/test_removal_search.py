"""The search on counts made by hand: what it tries, puts back, leaves out and stops at."""

from __future__ import annotations

from collections.abc import Callable, Collection

import pytest

from auditor.errors import ConfigurationError
from auditor.experts.removal_search import Removal, Search, halved, nearest, search_removals
from auditor.experts.routing_maps import Expert

FIRST, SECOND, THIRD, FOURTH = LEANING = [Expert(0, number) for number in range(4)]
PROMPTS = 100


def left(
    carriers: Collection[Expert], unfit: Callable[[frozenset[Expert]], bool] = lambda experts: False
) -> Callable[[frozenset[Expert]], int]:
    """All prompts are refused until every carrier is off; some sets cannot be switched off."""

    def without(experts: frozenset[Expert]) -> int:
        if unfit(experts):
            raise ConfigurationError(f"{len(experts)} experts leave no room")
        return 0 if experts >= set(carriers) else PROMPTS

    return without


def found(
    without: Callable[[frozenset[Expert]], int], sizes: tuple[int, ...] = (1, 2, 3, 4),
    stop: Callable[[], bool] = lambda: False,
) -> Search:  # fmt: skip
    return search_removals(LEANING, sizes, PROMPTS, without, stop)


def test_prefixes_grow_until_half_is_lost_and_the_rest_is_put_back() -> None:
    search = found(left([FIRST, THIRD]))
    assert [len(each.experts) for each in search.tried] == [1, 2, 3]
    assert search.smallest == Removal(frozenset({FIRST, THIRD}), 0)
    assert search.untried == ()


def test_what_cannot_be_switched_off_is_left_out_and_counted() -> None:
    """Larger sets are still tried: in groups they may leave room where smaller ones do not."""
    search = found(left([FOURTH], lambda experts: len(experts) in (2, 3)))
    assert [len(each.experts) for each in search.tried] == [1, 4]
    assert search.untried == (2, 3)
    assert search.smallest == Removal(frozenset(LEANING), 0)


def test_where_nothing_can_be_switched_off_the_first_reason_is_told() -> None:
    with pytest.raises(ConfigurationError, match=r"^2 experts leave no room$"):
        found(left([FIRST], lambda experts: True), sizes=(2, 3))


def test_nothing_is_tried_once_time_is_up() -> None:
    search = found(left([SECOND]), stop=lambda: True)
    assert search == Search((Removal(frozenset({FIRST}), PROMPTS),), None, ())


def test_sizes_beyond_what_leans_are_tried_once() -> None:
    assert len(found(left([Expert(1, 0)]), sizes=(4, 5, 9)).tried) == 1


def test_of_removals_that_leave_as_many_the_largest_is_the_nearest() -> None:
    tried = [Removal(frozenset(LEANING[:size]), count) for size, count in ((1, 9), (2, 7), (3, 7))]
    assert nearest(tried) == tried[2]


@pytest.mark.parametrize(("count", "lost"), [(40, True), (41, False), (50, False)])
def test_half_is_lost_where_the_whole_interval_says_so(count: int, lost: bool) -> None:
    """40 of 100: the 95 % Wilson interval reaches up to 0.498."""
    assert halved(count, PROMPTS) is lost
