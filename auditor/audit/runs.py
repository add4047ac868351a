"""The runs below a folder: listing them, and removing one that is really a run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path

from auditor.audit.acceptance import Acceptance
from auditor.audit.ledger import Ledger
from auditor.audit.run_directory import (
    EVIDENCE,
    LEDGER,
    PLAN,
    REPORT,
    assemble_report,
    open_run,
)
from auditor.errors import AuditorError, ConfigurationError, FileMissing, OperationFailed
from auditor.findings import AuditReport

# The last is what a report that was killed leaves behind.
_OWN = frozenset({LEDGER, PLAN, EVIDENCE, REPORT, ".*.tmp"})


@dataclass(frozen=True)
class RunLine:
    """A run as it stands in a list.

    Attributes:
        report: What it found, gated under its own policy; None when it cannot be read.
        problem: Why it cannot be read, or empty.
        size: Bytes of its files; links count as nothing.
    """

    folder: Path
    report: AuditReport | None
    problem: str
    size: int

    @property
    def started(self) -> datetime | None:
        """When the run began."""
        return self.report.timing.started if self.report else None


def list_runs(folder: Path) -> list[RunLine]:
    """The runs directly below a folder, or the folder itself, by name.

    Raises:
        FileMissing: There is no such folder.
    """
    if not folder.is_dir():
        raise FileMissing(folder, "folder of runs")
    if (folder / LEDGER).is_file():
        return [_line_of(folder)]
    found = sorted(path for path in folder.iterdir() if (path / LEDGER).is_file())
    return [_line_of(path) for path in found]


def _line_of(folder: Path) -> RunLine:
    size = sum(_size(path) for path in _files(folder))
    try:
        return RunLine(folder, own_report(folder), "", size)
    except AuditorError as error:
        return RunLine(folder, None, str(error), size)


def own_report(folder: Path) -> AuditReport:
    """A run's report under the policy it was gated under, without waivers and baseline.

    Raises:
        FileMissing: It is not the folder of a run.
        AuditorError: Its ledger cannot be read.
    """
    return assemble_report(folder, open_run(folder), Acceptance((), {}, datetime.min.date()))


def _files(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder, followlinks=False):
        yield from (Path(parent) / name for name in names)


def _size(path: Path) -> int:
    return 0 if path.is_symlink() else path.stat().st_size


def check_removable(folder: Path, reports: Collection[str]) -> None:
    """Refuse what must not be removed as a run.

    Args:
        folder: The folder.
        reports: Names of the files that reports are written to, or globs.

    Raises:
        FileMissing: It is not the folder of a run.
        ConfigurationError: It is a link, or holds what auditor does not write.
        AuditorError: Its ledger is damaged, or of another version.
    """
    if folder.is_symlink():
        raise ConfigurationError(f"{folder} is a link; name the run's own folder")
    own_report(folder)
    patterns = {*_OWN, *reports}
    strange = sorted(
        entry.name
        for entry in folder.iterdir()
        if not any(fnmatchcase(entry.name, pattern) for pattern in patterns)
    )
    if strange:
        shown = ", ".join(strange[:5]) + (", ..." if len(strange) > 5 else "")
        raise ConfigurationError(
            f"{folder} holds what auditor did not write: {shown}; move that away, or remove the "
            "folder yourself"
        )


def remove_run(folder: Path, reports: Collection[str]) -> None:
    """Remove a run's folder; a link in it is removed, never what it leads to.

    Raises:
        AuditorError: As `check_removable`; or the run is in use, or the disk refused.
    """
    check_removable(folder, reports)
    with Ledger(folder / LEDGER):
        try:
            shutil.rmtree(folder)
        except OSError as error:
            raise OperationFailed(
                f"cannot remove {error.filename or folder}: {error.strerror}; part of the run may "
                "be gone"
            ) from None
