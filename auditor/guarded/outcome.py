"""How a guarded child ended, and what really held it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class GuardStatus(StrEnum):
    """How a child ended."""

    DONE = "done"
    REJECTED = "rejected"
    CRASHED = "crashed"
    OUT_OF_TIME = "out-of-time"
    OUT_OF_MEMORY = "out-of-memory"
    FLOODED = "flooded"
    NOT_RUN = "not-run"


@dataclass(frozen=True)
class Protections:
    """What was in force, as the child found after asking for it.

    Attributes:
        limits: Resource limits the system took, such as `memory` and `processor time`.
        network: `none (...)` with the means, or `open`.
        processes: `none (...)`, or `open` if the child could start others.
        writing: `none (...)`, `own folder (...)`, `attributes of files alone (...)`, or `open`.
        reading: `what it was given (...)`, or `open`.
    """

    limits: tuple[str, ...] = ()
    network: str = "open"
    processes: str = "open"
    writing: str = "open"
    reading: str = "open"

    def __str__(self) -> str:
        return (
            f"limits: {', '.join(self.limits) or 'none'}; network: {self.network}; "
            f"processes: {self.processes}; writing: {self.writing}; reading: {self.reading}"
        )


@dataclass(frozen=True)
class GuardOutcome:
    """What became of a guarded call.

    Attributes:
        status: How it ended.
        stage: The step that ended it, empty when all were passed.
        problem: What was said, one line; of a crash, the signal's name.
        stages: Steps that were passed, in order.
        skipped: Steps that could not be taken, each as (step, why).
        protections: What was in force; None if the child did not get that far.
        peak_memory_mb: Most resident memory that was seen.
        cpu_seconds: Processor time of the child; 0 where the system does not tell.
    """

    status: GuardStatus
    stage: str = ""
    problem: str = ""
    stages: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    protections: Protections | None = None
    peak_memory_mb: float = 0.0
    cpu_seconds: float = 0.0
