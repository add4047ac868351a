"""Problems as a reader meets them: kept up to a number, and the one that ends its reading."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

from auditor.models.scan.decision import Decision, Problem
from auditor.models.scan.limits import ScanLimits

_KEPT: Final = 100
_SHOWN_CHARACTERS: Final = 80


class ReadingStopped(Exception):
    """What was met makes it useless to read on; never leaves the reader.

    Attributes:
        problem: Why.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(problem.problem)


class ProblemList:
    """The first problems of each decision, so that many of one kind never hide another.

    Attributes:
        left_out: How many more there were.
    """

    def __init__(self) -> None:
        self._found: list[Problem] = []
        self._counts = dict.fromkeys(Decision, 0)
        self.left_out = 0

    def add(self, problem: Problem) -> None:
        """Keep it, or count it where there are many of its decision."""
        if self._counts[problem.decision] >= _KEPT:
            self.left_out += 1
            return
        self._counts[problem.decision] += 1
        self._found.append(problem)

    def extend(self, problems: Iterable[Problem], place: str) -> None:
        """Keep the problems of a part, with its place before theirs."""
        for problem in problems:
            self.add(replace(problem, place=join_places(place, problem.place)))

    @contextmanager
    def ended_by_stop(self) -> Iterator[None]:
        """Keep the problem that ends the reading in this block."""
        try:
            yield
        except ReadingStopped as stop:
            self.add(stop.problem)

    def __iter__(self) -> Iterator[Problem]:
        return iter(self._found)

    def facts(self) -> dict[str, str]:
        """How many problems are not shown, where there are any."""
        return {"problems_left_out": str(self.left_out)} if self.left_out else {}


def nesting_problem(place: str, depth: int, limits: ScanLimits) -> Problem | None:
    """Why an archive that lies in so many others is not looked into."""
    if depth < limits.archive_depth:
        return None
    return Problem(
        "nesting-limit",
        f"an archive inside {depth} others; the limit is {limits.archive_depth} together",
        place.rstrip(", "),
        "unpack it and scan the folder",
        Decision.INCONCLUSIVE,
    )


def join_places(outer: str, inner: str) -> str:
    """`member 'a', byte 3`; either may be empty, and the outer may end with its comma."""
    outer = outer.rstrip(", ")
    return f"{outer}, {inner}" if outer and inner else outer or inner


def member_place(place: str, name: str) -> str:
    """The place of a member of an archive, its name shortened."""
    return join_places(place, f"member {shown(name)}")


def shown(text: str) -> str:
    """A text of a file as a message may hold it: one line, shortened."""
    return repr(text[:_SHOWN_CHARACTERS])
