"""The words of an answer: verdicts and severities.

Apart from `findings`, so that a command that only answers a question need not load the
records of an audit.
"""

from __future__ import annotations

from enum import StrEnum


class Verdict(StrEnum):
    """The answer to one check. Only `HOLDS` is ever a pass."""

    HOLDS = "holds"
    VIOLATED = "violated"
    UNKNOWN = "unknown"
    SKIPPED = "skipped"
    ERROR = "error"

    @property
    def is_open(self) -> bool:
        """Whether the question was left without an answer."""
        return self not in (Verdict.HOLDS, Verdict.VIOLATED)


class Severity(StrEnum):
    """How bad a finding is, worst first."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"

    @property
    def rank(self) -> int:
        """0 for the worst severity, growing as severity falls."""
        return list(Severity).index(self)

    def at_least(self, other: Severity) -> bool:
        """Whether this severity is as bad as `other` or worse."""
        return self.rank <= other.rank
