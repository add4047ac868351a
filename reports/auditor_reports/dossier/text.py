"""Words that every format of a dossier uses."""

from __future__ import annotations

from typing import Final

from auditor_reports.dossier.record import CellStatus, FrameworkHead

# The statuses that the first page lists, in this order.
GAP_STATUSES: Final[tuple[CellStatus, ...]] = (
    "evidence fail", "partial", "not assessed", "not applicable",
)  # fmt: skip


def review_age(head: FrameworkHead) -> str:
    """How long before the run's end the mapping was reviewed, in words."""
    days = head.review_age_days
    if days == 0:
        return "on the day the run ended"
    when = "before" if days > 0 else "after"
    return f"{abs(days):,} day{'s' if abs(days) != 1 else ''} {when} the run ended"
