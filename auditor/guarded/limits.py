"""What a guarded child may use."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

MEGABYTE: Final = 1024 * 1024


@dataclass(frozen=True)
class GuardLimits:
    """Limits of one child; all of them hold for the child and what it starts together.

    Attributes:
        seconds: Wall clock, and processor time where the system counts it.
        memory_mb: Address space; where that cannot be limited, memory in use. Threads are
            bounded by it, each takes 8 MB of address space for its stack.
        file_mb: Largest file it may write, into its own folder; 0 for none at all.
        open_files: Descriptors.
        output_bytes: What it may say on standard output, and on standard error.
    """

    seconds: float = 60.0
    memory_mb: int = 16 * 1024
    file_mb: int = 0
    open_files: int = 256
    output_bytes: int = MEGABYTE

    @property
    def cpu_seconds(self) -> int:
        """Processor time in whole seconds, at least one."""
        return max(1, math.ceil(self.seconds))
