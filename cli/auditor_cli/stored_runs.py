"""A run as it was decided: from its `audit.json` where that is up to date, else its ledger.

`audit.json` holds the gate with the waivers and the baseline that were in force; the ledger
alone knows of a run that is still going on or was interrupted.
"""

from __future__ import annotations

import stat
from pathlib import Path

from auditor.audit.run_directory import LEDGER, REPORT
from auditor.audit.runs import own_report
from auditor.findings import AuditReport
from auditor_reports.audit_json import load_report


def read_stored_run(path: Path) -> AuditReport:
    """The report of a run's folder, or of an `audit.json`.

    Raises:
        FileMissing: There is neither.
        InvalidText, ConfigurationError, LedgerDamaged: It cannot be read.
    """
    if not path.is_dir():
        return load_report(path)
    if not is_plain_file(path / REPORT):
        return own_report(path)
    report = load_report(path / REPORT)
    if not is_behind(path):
        return report
    now = own_report(path)
    same = [each.key for each in report.results] == [each.key for each in now.results]
    return report if same and report.complete else now


def is_behind(folder: Path) -> bool:
    """Whether the ledger was written to after `audit.json`; a copy may look like it too."""
    if not is_plain_file(folder / LEDGER):
        return False
    return (folder / LEDGER).stat().st_mtime_ns > (folder / REPORT).stat().st_mtime_ns


def is_plain_file(path: Path) -> bool:
    """Whether the path itself, no link, is a regular file."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False
