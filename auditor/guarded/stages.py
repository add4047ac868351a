"""What a guarded child says while it works: one JSON line for each step, before it begins."""

from __future__ import annotations

import json
import re
from typing import Any, Final, TextIO

# What libraries say when an allocation fails and they make an exception of their own of it.
_NO_MEMORY: Final = re.compile(
    r"bad_?alloc|failed to allocate|not enough memory|memory allocation of \d+ bytes failed"
    r"|cannot allocate memory|out of memory|MemoryError", re.IGNORECASE,
)  # fmt: skip


class StageRejected(Exception):
    """A step ended because a library refuses the model, in an orderly way."""


class StageLog:
    """The steps of one child.

    Args:
        output: Where the lines go.
    """

    def __init__(self, output: TextIO) -> None:
        self._output = output
        self._stage = ""

    def begin(self, stage: str) -> None:
        """Say that a step begins; a step that begins has passed those before."""
        self._stage = stage
        self.say(stage=stage)

    def skip(self, why: str) -> None:
        """Say that the step could not be taken, for a reason that is not the model's fault."""
        self.say(stage=self._stage, skipped=one_line(why))

    def end(self, problem: str) -> None:
        """Say that the step ended the work: for lack of memory, or because of a rejection."""
        kind = "exhausted" if tells_of_memory(problem) else "rejected"
        self.say(stage=self._stage, **{kind: one_line(problem) or "no reason given"})

    def exhausted(self) -> None:
        """Say that the step ran out of memory."""
        self.say(stage=self._stage, exhausted="it asks for more memory than it may have")

    def say(self, **record: Any) -> None:
        """Write one line at once."""
        self._output.write(json.dumps(record) + "\n")
        self._output.flush()


def tells_of_memory(problem: str) -> bool:
    """Whether a message says that an allocation failed."""
    return _NO_MEMORY.search(problem) is not None


def one_line(text: str, length: int = 300) -> str:
    """Text without line breaks and control characters, cut to a length."""
    line = " ".join(text.split())[:length]
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in line)


def do_nothing(log: StageLog, arguments: dict[str, Any], content: bytes) -> None:
    """A guarded function whose child only tells what holds it."""
