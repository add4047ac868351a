"""Unfinished evidence that a killed audit left in its run's folder."""

from __future__ import annotations

import contextlib
from pathlib import Path

from auditor.audit.run_directory import EVIDENCE


def remove_unfinished(folder: Path) -> None:
    """Remove files that were being written into the evidence of a run when it was killed.

    The caller holds the run's ledger, so that no other audit writes there. A worker of the killed
    one may still do so for a moment; what it has not finished, no ledger will speak of.

    Args:
        folder: The run's.
    """
    for path in (folder / EVIDENCE).glob("*/.*.tmp"):
        with contextlib.suppress(OSError):  # what cannot be removed is in nobody's way
            path.unlink()
