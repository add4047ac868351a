"""What a verification was allowed to use, what it used, and what it found."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields

from auditor.errors import ConfigurationError
from auditor.verdicts import Verdict
from auditor.verify.witness import Witness


@dataclass(frozen=True)
class Limits:
    """What one verification may use; counts decide, the clock is only a safety net.

    Attributes:
        time_s: Wall-clock seconds; reaching it gives `unknown`.
        max_boxes: Sub-problems of branch and bound.
        z3_rlimit: Z3 resource units per query.
        z3_queries: Queries to Z3 on left-over sub-problems.
        falsifier_evaluations: Network evaluations of the falsifier.
        witness_attempts: Candidate inputs that are examined exactly.
    """

    time_s: float = 60.0
    max_boxes: int = 2_000_000
    z3_rlimit: int = 2_000_000
    z3_queries: int = 64
    falsifier_evaluations: int = 100_000
    witness_attempts: int = 16

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if not value >= 0:
                raise ConfigurationError(f"limit {each.name} is {value}; use 0 or more")


@dataclass
class Statistics:
    """How a verdict came about; all but `seconds` is the same in every equal run.

    Attributes:
        boxes: Sub-problems bounded.
        max_depth: Deepest split.
        splits: Splits made.
        falsifier_evaluations: Network evaluations spent on finding a witness.
        witness_attempts: Candidates examined exactly.
        z3_queries: Queries to Z3.
        z3_rlimit: Z3 resource units used.
        leaves: Leaves closed by each engine: bounds (undivided), branching, z3.
        open_leaves: Leaves nobody could close.
        decided_share: Share of the search space refuted, in [0, 1], by engine.
        seconds: Wall-clock seconds per stage.
    """

    boxes: int = 0
    max_depth: int = 0
    splits: int = 0
    falsifier_evaluations: int = 0
    witness_attempts: int = 0
    z3_queries: int = 0
    z3_rlimit: int = 0
    leaves: dict[str, int] = field(default_factory=dict)
    open_leaves: int = 0
    decided_share: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def how_far(self) -> str:
        """Progress in one line."""
        share = sum(self.decided_share.values())
        return (
            f"{self.boxes} sub-problems bounded to depth {self.max_depth}, "
            f"{100 * share:.4g} % of the search space refuted, "
            f"{self.falsifier_evaluations} points tried, {self.z3_queries} Z3 queries"
        )

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add what is spent inside to a stage's seconds."""
        started = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - started
            self.seconds[stage] = self.seconds.get(stage, 0.0) + spent

    def closed(self, engine: str, share: float) -> None:
        """Record a leaf refuted by an engine."""
        self.leaves[engine] = self.leaves.get(engine, 0) + 1
        self.decided_share[engine] = self.decided_share.get(engine, 0.0) + share


@dataclass(frozen=True)
class Outcome:
    """A verdict with its reason, its witness if there is one, and what it took.

    `reason` is never empty. A witness may come with `unknown`: then exact arithmetic
    and the replays disagree, or nothing was there to replay it.
    """

    verdict: Verdict
    reason: str
    witness: Witness | None
    statistics: Statistics
