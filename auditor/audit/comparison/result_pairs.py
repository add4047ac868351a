"""Which results of two runs answer the same question."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from auditor.findings import CheckResult

T = TypeVar("T")


@dataclass(frozen=True)
class Pairing:
    """The results of two runs, matched.

    Attributes:
        both: Old and new result of one question, by the id of the new one.
        only_old: Results the new run does not have, by id.
        only_new: Results the old run does not have, by id.
    """

    both: tuple[tuple[CheckResult, CheckResult], ...]
    only_old: tuple[CheckResult, ...]
    only_new: tuple[CheckResult, ...]


def pair_results(old: Sequence[CheckResult], new: Sequence[CheckResult]) -> Pairing:
    """Match results by id; what is left where it is the only one of its check and subject.

    A plan that gets a second subject calls `AUD202` `AUD202:digits`: it is the same question.
    """
    both, left_old, left_new = match(old, new, (lambda each: each.id,))
    alone_old, alone_new = _alone(left_old), _alone(left_new)
    renamed, _, _ = match(alone_old, alone_new, (lambda each: (each.code, each.subject),))
    taken = {id(each) for pair in renamed for each in pair}
    return Pairing(
        both=tuple(sorted((*both, *renamed), key=lambda pair: pair[1].id)),
        only_old=_rest(left_old, taken),
        only_new=_rest(left_new, taken),
    )


def match(
    old: Iterable[T], new: Iterable[T], keys: Sequence[Callable[[T], Hashable]]
) -> tuple[list[tuple[T, T]], list[T], list[T]]:
    """Pairs of equal key, the first key first, and what is left of each side.

    Where several have one key they are paired in their order, so that exchanging the sides
    exchanges the members of each pair and nothing else.
    """
    pairs: list[tuple[T, T]] = []
    left_old, left_new = list(old), list(new)
    for key in keys:
        waiting: dict[Hashable, deque[int]] = defaultdict(deque)
        for number, was in enumerate(left_old):
            waiting[key(was)].append(number)
        unmatched: list[T] = []
        gone: set[int] = set()
        for each in left_new:
            same = waiting.get(key(each))
            if same:
                number = same.popleft()
                gone.add(number)
                pairs.append((left_old[number], each))
            else:
                unmatched.append(each)
        left_old = [was for number, was in enumerate(left_old) if number not in gone]
        left_new = unmatched
    return pairs, left_old, left_new


def _alone(results: Sequence[CheckResult]) -> list[CheckResult]:
    """Those that no other of them shares check and subject with."""
    places = [(each.code, each.subject) for each in results]
    counted: dict[tuple[str, str], int] = defaultdict(int)
    for place in places:
        counted[place] += 1
    return [each for each, place in zip(results, places, strict=True) if counted[place] == 1]


def _rest(results: Sequence[CheckResult], taken: set[int]) -> tuple[CheckResult, ...]:
    left = (each for each in results if id(each) not in taken)
    return tuple(sorted(left, key=lambda each: each.id))
