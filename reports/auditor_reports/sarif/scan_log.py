"""SARIF 2.1.0 of a scan of model files: one result per problem, one artifact per file.

Places inside a file are logical locations: code scanning shows lines of text, and most of these
files have none. The written specification is `specs/model-scan.md`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final

from auditor.models.scan.answer import PathScan
from auditor.models.scan.decision import Decision, Problem
from auditor.models.scan.rules import describe_rule
from auditor_reports.aliased_json import aliased_json
from auditor_reports.audit_places import render_within
from auditor_reports.number_text import iso_moment
from auditor_reports.sanitise import one_line
from auditor_reports.sarif.log import FINGERPRINT, MAX_RESULTS, relative_uri
from auditor_reports.sarif.models import (
    Artifact,
    ArtifactLocation,
    AutomationDetails,
    Invocation,
    LogicalLocation,
    Message,
    Notification,
    PhysicalLocation,
    Region,
    ReportingConfiguration,
    ReportingDescriptor,
    Run,
    SarifLocation,
    SarifLog,
    SarifResult,
    Tool,
    ToolComponent,
)

MAX_ARTIFACTS: Final = 2_000
_LEVELS: Final = {Decision.REFUSED: "error", Decision.INCONCLUSIVE: "warning"}
_SECURITY_SEVERITY: Final = "9.5"


@dataclass(frozen=True)
class ScanRun:
    """What a log says of the scan besides its result: the tool, its exit code, and when it ran."""

    version: str
    exit_code: int
    started: datetime
    finished: datetime


def render_scan(scans: Sequence[PathScan], run: ScanRun) -> bytes:
    """The log of one command that scanned some files and folders."""
    entries = [(scan, name, problem) for scan in scans for name, problem in scan.all_problems()]
    entries.sort(key=lambda entry: entry[2].decision is not Decision.REFUSED)
    return render_within(partial(_render, scans, entries, run), MAX_RESULTS)


_Entries = list[tuple[PathScan, str, Problem]]


def _render(scans: Sequence[PathScan], entries: _Entries, run: ScanRun, most: int) -> bytes:
    kept = entries[:most]
    rules = sorted({problem.rule for _, _, problem in kept})
    left_out = len(entries) - len(kept)
    note = f"{left_out} less severe results were left out; the JSON of the scan has all."
    log = SarifLog(runs=(Run(
        tool=Tool(driver=ToolComponent(
            name="auditor", version=one_line(run.version, 100),
            rules=tuple(_rule(rule, kept) for rule in rules),
        )),
        automation_details=AutomationDetails(id="auditor/model-scan/"),
        invocations=(Invocation(
            execution_successful=True, exit_code=run.exit_code,
            start_time_utc=iso_moment(run.started), end_time_utc=iso_moment(run.finished),
            tool_execution_notifications=(
                (Notification(level="warning", message=Message(text=note)),) if left_out else ()
            ),
        ),),
        artifacts=_artifacts(scans),
        results=tuple(_result(rules.index(entry[2].rule), *entry) for entry in kept),
        properties={"resultsLeftOut": left_out},
    ),))  # fmt: skip
    return aliased_json(log)


def _rule(rule: str, entries: _Entries) -> ReportingDescriptor:
    decisions = {problem.decision for _, _, problem in entries if problem.rule == rule}
    text = describe_rule(rule)
    refuses = Decision.REFUSED in decisions
    return ReportingDescriptor(
        id=one_line(rule, 100),
        name=one_line(rule, 100),
        short_description=Message(text=text),
        full_description=Message(text=text),
        help=Message(text="Nothing of the file was executed. specs/model-scan.md lists all rules."),
        default_configuration=ReportingConfiguration(level="error" if refuses else "warning"),
        properties={
            "tags": ["model-scan", "security"],
            **({"security-severity": _SECURITY_SEVERITY} if refuses else {}),
        },
    )


def _result(number: int, scan: PathScan, name: str, problem: Problem) -> SarifResult:
    uri = _uri(scan, name)
    mark = hashlib.sha256(f"{problem.rule}\0{uri}\0{problem.place}".encode(errors="replace"))
    logical: tuple[LogicalLocation, ...] = ()
    if problem.place:
        place = one_line(problem.place, 200)
        logical = (LogicalLocation(name=place, fully_qualified_name=place, kind="object"),)
    return SarifResult(
        rule_id=one_line(problem.rule, 100),
        rule_index=number,
        level="error" if problem.decision is Decision.REFUSED else "warning",
        message=Message(text=one_line(f"{problem.problem}; {problem.way_out}", 1_000)),
        locations=(SarifLocation(
            physical_location=PhysicalLocation(
                artifact_location=ArtifactLocation(uri=uri), region=Region(start_line=1)
            ),
            logical_locations=logical,
        ),),
        partial_fingerprints={FINGERPRINT: mark.hexdigest()},
        properties={"decision": str(problem.decision)},
    )  # fmt: skip


def _artifacts(scans: Sequence[PathScan]) -> tuple[Artifact, ...]:
    files = [(scan, file) for scan in scans for file in scan.files][:MAX_ARTIFACTS]
    return tuple(
        Artifact(
            location=ArtifactLocation(uri=_uri(scan, file.name)),
            length=file.size,
            hashes={"sha-256": file.sha256} if file.sha256 else None,
            roles=("analysisTarget",),
        )
        for scan, file in files
    )


def _uri(scan: PathScan, name: str) -> str:
    """A file's address: below a scanned folder, or the scanned file itself."""
    base = relative_uri(scan.path.as_posix())
    if not scan.is_folder or not name:
        return base
    # What lies in a folder keeps its path there, wherever the folder is.
    below = "/".join(relative_uri(part) for part in name.split("/"))
    return below if base == "unnamed" else f"{base}/{below}"
