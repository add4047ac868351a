"""The answer of a scan: accepted, refused, or not decided, each with what it rests on.

Nothing is accepted that was not looked at. What a reader cannot look at (encrypted, too long,
a format it does not know) is inconclusive, and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

from auditor.errors import RefusedModel

if TYPE_CHECKING:
    from auditor.models.scan.byte_source import ByteSource


class Decision(StrEnum):
    """Whether something may be opened."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class Problem:
    """Why something is not accepted.

    Attributes:
        rule: Stable rule id, for example `pickle-content`.
        problem: What is wrong, one line; texts from the file are shown shortened, by `repr`.
        place: Where: `byte 12`, `member 'data.pkl', byte 12`, `key 'auto_map'`; may be empty.
        way_out: What the user can do instead.
        decision: REFUSED, or INCONCLUSIVE where it could not be looked at.
    """

    rule: str
    problem: str
    place: str = ""
    way_out: str = ""
    decision: Decision = Decision.REFUSED

    @staticmethod
    def of(refusal: RefusedModel) -> Problem:
        """The same as a refusal that was raised."""
        return Problem(refusal.rule, refusal.problem, refusal.place, refusal.way_out)


@dataclass(frozen=True)
class Content:
    """What a reader found in one stream.

    Attributes:
        format: What it is, one word or two: `pickle`, `zip`, `gguf`.
        problems: In the order in which they were met; empty if it is accepted.
        parts: What was looked at, in words, for the answer's wording: `header`, `3 members`.
        facts: Small facts by name, for example `opcodes`, `tensors`.
    """

    format: str
    problems: tuple[Problem, ...] = ()
    parts: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def decision(self) -> Decision:
        """The worst of its problems."""
        return worst(problem.decision for problem in self.problems)


Inspector = Callable[["ByteSource", str, int], Content]
"""Looks at a member of an archive: its bytes, its name, and how many archives it lies in."""


def worst(decisions: Iterable[Decision]) -> Decision:
    """REFUSED before INCONCLUSIVE before ACCEPTED; ACCEPTED for nothing."""
    found = set(decisions)
    for decision in (Decision.REFUSED, Decision.INCONCLUSIVE):
        if decision in found:
            return decision
    return Decision.ACCEPTED
