"""What a library raises at data that it cannot use, turned into an error that says so.

Libraries written in Rust panic, and their panics are no `Exception`; others raise whatever was
at hand. Memory that runs out, and interrupts, are nobody's fault and pass through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from auditor.errors import AuditorError

_NO_FAULT: Final = (AuditorError, MemoryError, KeyboardInterrupt, SystemExit, GeneratorExit)


@contextmanager
def faults_told(told: Callable[[str], AuditorError]) -> Iterator[None]:
    """Raise what `told` makes of the first words of whatever a library raises in the block.

    Args:
        told: Takes one line of at most 200 characters.
    """
    try:
        yield
    except _NO_FAULT:
        raise
    except BaseException as error:
        line = " ".join(str(error).split())[:200] or type(error).__name__
        raise told(line) from error
