"""SARIF 2.1.0 for code scanning: what fails and what is open, worst first.

Every result points at the line of the plan that asked for the check, because code
scanning refuses a file with a result that has only a logical location; layer, neuron
and the like are logical locations, and models are artifacts with their digests.
The written specification is `specs/sarif.md`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

from auditor.findings import (
    AuditReport,
    CheckCard,
    CheckResult,
    Finding,
    GateRow,
    Location,
    Severity,
    SourceLine,
)
from auditor_reports.number_text import iso_moment
from auditor_reports.sanitise import one_line
from auditor_reports.sarif_models import (
    Artifact,
    ArtifactLocation,
    AutomationDetails,
    Invocation,
    Level,
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
    Suppression,
    Tool,
    ToolComponent,
)
from auditor_reports.standing import (
    WORST_FIRST,
    Standings,
    Status,
    check_cards,
    derived_fingerprint,
    finding_fingerprint,
    gaps,
    loose_points,
)

# GitHub keeps 5,000 of 25,000 results and its text and behaviour disagree: stay below half.
MAX_RESULTS = 2_000
MAX_ARTIFACTS = 200
FINGERPRINT = "auditor/v1"
_SECURITY_SEVERITY = {
    Severity.CRITICAL: "9.5",
    Severity.HIGH: "8.0",
    Severity.MEDIUM: "5.5",
    Severity.LOW: "2.0",
}
_LOGICAL_KINDS = {"expert": "module", "layer": "module", "node": "function"}


@dataclass(frozen=True)
class _Origin:
    """Where a SARIF result comes from: a result of the report, or the plan as a whole."""

    code: str
    subject: str
    verdict: str
    id: str
    place: SourceLine


@dataclass(frozen=True)
class _Entry:
    """One SARIF result to be, before rules are numbered."""

    rule: str
    level: Level
    text: str
    origin: _Origin
    status: Status
    mark: str
    location: Location = field(default_factory=Location)
    severity: Severity | None = None
    justification: str = ""
    passes: bool = False


def render_sarif(
    report: AuditReport, *, include_suppressed: bool = False, include_passed: bool = False
) -> bytes:
    """The report as a SARIF log.

    Args:
        report: The report.
        include_suppressed: Also write waived findings, as suppressed results. Code
            scanning ignores suppressions and would open alerts for them.
        include_passed: Also write passed checks, with `kind: pass`.
    """
    entries = sorted(_entries(report, include_suppressed, include_passed), key=_rank)
    log = SarifLog(runs=(_run(report, entries[:MAX_RESULTS], len(entries)),))
    plain = log.model_dump(mode="json", by_alias=True, exclude_none=True)
    return (json.dumps(plain, sort_keys=True, indent=1, allow_nan=False) + "\n").encode("ascii")


def relative_uri(path: str) -> str:
    """A relative, percent-encoded, never empty address for a path of any system.

    An absolute path, or one that climbs out of its folder, is cut to its last part:
    a machine's folders say nothing to a reader of the log.
    """
    plain = path.replace("\\", "/")
    cleaned = (one_line(part, 255) for part in plain.split("/"))
    parts = [part for part in cleaned if part not in ("", ".")]
    if plain.startswith("/") or ".." in parts or (parts and ":" in parts[0]):
        parts = [part for part in parts[-1:] if part != ".."]
    return "/".join(quote(part, safe="") for part in parts) or "unnamed"


def _entries(
    report: AuditReport, include_suppressed: bool, include_passed: bool
) -> Iterator[_Entry]:
    """What is written: first what belongs to no result, then result by result."""
    standings = Standings(report)
    plan = SourceLine(file=report.plan_file, line=1)
    for row in loose_points(report):
        origin = _Origin(row.code, row.subject, row.status, row.result, plan)
        yield _row_entry(standings, origin, row)
    for result in standings.worst_first(report.results):
        origin = _Origin(result.code, result.subject, result.verdict, result.id, result.declared_at)
        entries = list(_entries_of(standings, result, origin))
        yield from (e for e in entries if e.status != "waived" or include_suppressed)
        status = standings.of_result(result)
        if status == "pass" and include_passed:
            text = result.answer.summary
            mark = _mark(origin, "pass")
            yield _Entry(result.code, "none", text, origin, status, mark, passes=True)


def _entries_of(standings: Standings, result: CheckResult, origin: _Origin) -> Iterator[_Entry]:
    """Findings, the open question, and rows of the gate beyond them."""
    for finding in result.answer.findings:
        yield _finding_entry(standings, result, finding, origin)
    if result.verdict.is_open:
        yield _Entry(
            rule=f"{result.code}-inconclusive",
            level="warning",
            text=f"No answer ({result.verdict}): {result.answer.reason}",
            origin=origin,
            status=standings.of_result(result),
            mark=_mark(origin, "inconclusive"),
        )
    for row in standings.beyond_findings(result):
        yield _row_entry(standings, origin, row)


def _rank(entry: _Entry) -> tuple[int, int]:
    """Sorts the worst first; entries of one rank keep the order of their results."""
    severity = entry.severity.rank if entry.severity else Severity.HIGH.rank
    return WORST_FIRST.index(entry.status), severity


def _finding_entry(
    standings: Standings, result: CheckResult, finding: Finding, origin: _Origin
) -> _Entry:
    waiver = standings.waiver(result, finding)
    status = standings.of_finding(result, finding)
    remedy = f" Remedy: {finding.remedy}" if finding.remedy else ""
    return _Entry(
        rule=result.code,
        level="error" if finding.severity.at_least(Severity.HIGH) else "warning",
        text=f"{finding.title}: {finding.description}{remedy}",
        origin=origin,
        status=status,
        mark=finding_fingerprint(result, finding),
        location=finding.location,
        severity=finding.severity,
        justification=f"{waiver.reason} (until {waiver.expires})" if waiver else status,
    )


def _row_entry(standings: Standings, origin: _Origin, row: GateRow) -> _Entry:
    """A row of the gate that is no finding: a missed threshold, or too little to tell."""
    unanswered = row.status in ("open", "warn")
    mild = row.severity is not None and not row.severity.at_least(Severity.HIGH)
    waiver = standings.waiver_of(row)
    return _Entry(
        rule=f"{row.code}-inconclusive" if unanswered else f"{row.code}-policy",
        level="warning" if mild or unanswered else "error",
        text=row.text,
        origin=origin,
        status=row.status,
        # Without a fingerprint: the words before the first number name the threshold.
        mark=row.fingerprint or _mark(origin, f"{row.status} {re.split('[0-9]', row.text)[0]}"),
        severity=row.severity,
        justification=f"{waiver.reason} (until {waiver.expires})" if waiver else row.status,
    )


def _mark(origin: _Origin, what: str) -> str:
    place = Location(property_id=origin.id)
    return derived_fingerprint(f"{origin.code}-{what}", origin.subject, place)


def _run(report: AuditReport, entries: list[_Entry], total: int) -> Run:
    rules = _rules(report, entries)
    numbers = {rule.id: number for number, rule in enumerate(rules)}
    artifacts = _artifacts(report)
    places = {artifact.location.uri: number for number, artifact in enumerate(artifacts)}
    left_out = total - len(entries)
    note = f"{left_out} less severe results were left out; audit.json has all {total}."
    return Run(
        tool=Tool(
            driver=ToolComponent(name="auditor", version=report.environment.auditor, rules=rules)
        ),
        automation_details=AutomationDetails(id=f"auditor/{one_line(report.plan, 100)}/"),
        invocations=(
            Invocation(
                execution_successful=report.complete,
                exit_code=report.gate.exit_code,
                start_time_utc=iso_moment(report.timing.started),
                end_time_utc=iso_moment(report.timing.finished),
                tool_execution_notifications=(
                    (Notification(level="warning", message=Message(text=note)),) if left_out else ()
                ),
            ),
        ),
        artifacts=artifacts,
        results=tuple(_result(entry, numbers[entry.rule], places) for entry in entries),
        properties={
            "gateVerdict": report.gate.verdict,
            "notAssessed": [one_line(text, 300) for text in gaps(report)[:200]],
            "policyDigest": report.gate.policy_digest,
            "resultsLeftOut": left_out,
        },
    )


def _result(entry: _Entry, rule_index: int, places: Mapping[str, int]) -> SarifResult:
    uri = relative_uri(entry.origin.place.file)
    physical = PhysicalLocation(
        artifact_location=ArtifactLocation(uri=uri, index=places.get(uri)),
        region=Region(start_line=max(entry.origin.place.line, 1)),
    )
    suppressed = entry.status == "waived"
    return SarifResult(
        rule_id=entry.rule,
        rule_index=rule_index,
        level=entry.level,
        kind="pass" if entry.passes else None,
        message=Message(text=one_line(entry.text, 1_000) or entry.rule),
        locations=(
            SarifLocation(
                physical_location=physical,
                logical_locations=_logical_locations(entry.origin.subject, entry.location),
            ),
        ),
        partial_fingerprints={FINGERPRINT: entry.mark},
        suppressions=(
            (Suppression(justification=one_line(entry.justification, 500)),) if suppressed else None
        ),
        properties={
            "gateStatus": entry.status,
            "result": one_line(entry.origin.id, 200),
            "severity": entry.severity,
            "subject": one_line(entry.origin.subject, 200),
            "verdict": entry.origin.verdict,
        },
    )


def _logical_locations(subject: str, location: Location) -> tuple[LogicalLocation, ...]:
    """Subject first, then each part of the location that names something in the model."""
    root = one_line(subject, 200) or "subject"
    found = [LogicalLocation(name=root, fully_qualified_name=root, kind="module")]
    for part, value in location.model_dump(exclude_none=True).items():
        if part in ("file", "line"):
            continue
        name = f"{part.replace('_id', '')} {one_line(str(value), 200)}"
        found.append(
            LogicalLocation(
                name=name,
                fully_qualified_name=f"{found[-1].fully_qualified_name}/{name}",
                kind=_LOGICAL_KINDS.get(part, "object"),
            )
        )
    return tuple(found)


def _rules(report: AuditReport, entries: list[_Entry]) -> tuple[ReportingDescriptor, ...]:
    cards = {card.code: card for card in check_cards(report)}
    used: dict[str, list[_Entry]] = {}
    for entry in entries:
        used.setdefault(entry.rule, []).append(entry)
    return tuple(_rule(rule, cards[used[rule][0].origin.code], used[rule]) for rule in sorted(used))


def _rule(rule: str, card: CheckCard, entries: list[_Entry]) -> ReportingDescriptor:
    suffix = {f"{card.code}-inconclusive": ": no answer", f"{card.code}-policy": ": policy missed"}
    properties: dict[str, object] = {"tags": ["model-audit", card.code[:4] + "xx"]}
    severities = [entry.severity for entry in entries if entry.severity]
    if severities:
        # One number per rule is all the format has; the worst finding decides it.
        worst = min(severities, key=lambda severity: severity.rank)
        properties["security-severity"] = _SECURITY_SEVERITY[worst]
        properties["tags"] = ["model-audit", card.code[:4] + "xx", "security"]
    return ReportingDescriptor(
        id=rule,
        name=one_line(card.title, 200) or rule,
        short_description=Message(text=one_line(card.title, 200) + suffix.get(rule, "")),
        full_description=Message(text=one_line(card.question, 1_000) or rule),
        help=Message(
            text=one_line(
                f"Method: {card.method} What a pass does not mean: {card.pass_does_not_mean}", 4_000
            )
        ),
        default_configuration=ReportingConfiguration(
            level="error" if any(entry.level == "error" for entry in entries) else "warning"
        ),
        properties=properties,  # type: ignore[arg-type]
    )


def _artifacts(report: AuditReport) -> tuple[Artifact, ...]:
    plan = Artifact(
        location=ArtifactLocation(uri=relative_uri(report.plan_file)),
        hashes=_hashes(report.plan_digest),
        roles=("policy",),
    )
    models = tuple(
        Artifact(
            location=ArtifactLocation(uri=relative_uri(subject.path)),
            length=max(subject.size, 0),
            hashes=_hashes(subject.digest),
            roles=("analysisTarget",),
        )
        for subject in report.subjects[:MAX_ARTIFACTS]
    )
    return (plan, *models)


def _hashes(digest: str) -> dict[str, str] | None:
    kind, _, value = digest.partition(":")
    return {"sha-256": value} if kind == "sha256" and value else None
