"""What a front end is told while an audit runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from auditor.findings import CheckResult


class Observer(Protocol):
    """What a front end is told while an audit runs."""

    def planned(self, total: int, reused: int, estimate_s: float) -> None:
        """Before the first check: how many, how many are known already, rough seconds."""
        ...

    def noticed(self, text: str) -> None:
        """Something the user should know before the run, one line."""
        ...

    def progressed(self, unit_id: str, share: float, text: str) -> None:
        """A check reports how far it is."""
        ...

    def finished(self, result: CheckResult) -> None:
        """A check has its answer, and it is committed."""
        ...


class SilentObserver:
    """An observer that ignores everything."""

    def planned(self, total: int, reused: int, estimate_s: float) -> None:
        """Ignored."""

    def noticed(self, text: str) -> None:
        """Ignored."""

    def progressed(self, unit_id: str, share: float, text: str) -> None:
        """Ignored."""

    def finished(self, result: CheckResult) -> None:
        """Ignored."""
