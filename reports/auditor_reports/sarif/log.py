"""SARIF 2.1.0 for code scanning: what fails and what is open, worst first.

Every result points at the line of the plan that asked for the check, because code
scanning refuses a file with a result that has only a logical location; layer, neuron
and the like are logical locations, and models are artifacts with their digests.
The written specification is `specs/sarif.md`.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from auditor.findings import (
    AuditReport,
    CheckCard,
    Location,
    Severity,
)
from auditor_reports.aliased_json import aliased_json
from auditor_reports.audit_places import render_within
from auditor_reports.number_text import iso_moment
from auditor_reports.sanitise import one_line
from auditor_reports.sarif.entries import Entry, sarif_entries
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
    Suppression,
    Tool,
    ToolComponent,
)
from auditor_reports.standing import (
    check_cards,
    gaps,
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
    entries = sarif_entries(
        report, include_suppressed=include_suppressed, include_passed=include_passed
    )

    def render(most: int) -> bytes:
        return aliased_json(SarifLog(runs=(_run(report, entries[:most], len(entries)),)))

    return render_within(render, MAX_RESULTS)


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


def _run(report: AuditReport, entries: list[Entry], total: int) -> Run:
    rules = _rules(report, entries)
    numbers = {rule.id: number for number, rule in enumerate(rules)}
    artifacts = _artifacts(report)
    places = {artifact.location.uri: number for number, artifact in enumerate(artifacts)}
    left_out = total - len(entries)
    note = f"{left_out} less severe results were left out; audit.json has all {total}."
    return Run(
        tool=Tool(
            driver=ToolComponent(
                name="auditor", version=one_line(report.environment.auditor, 100), rules=rules
            )
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
        results=tuple(
            _result(entry, numbers[one_line(entry.rule, 200)], places) for entry in entries
        ),
        properties={
            "gateVerdict": report.gate.verdict,
            "notAssessed": [one_line(text, 300) for text in gaps(report)[:200]],
            "policyDigest": one_line(report.gate.policy_digest, 100),
            "resultsLeftOut": left_out,
        },
    )


def _result(entry: Entry, rule_index: int, places: Mapping[str, int]) -> SarifResult:
    uri = relative_uri(entry.origin.place.file)
    physical = PhysicalLocation(
        artifact_location=ArtifactLocation(uri=uri, index=places.get(uri)),
        region=Region(start_line=max(entry.origin.place.line, 1)),
    )
    suppressed = entry.status == "waived"
    return SarifResult(
        rule_id=one_line(entry.rule, 200),
        rule_index=rule_index,
        level=entry.level,
        kind="pass" if entry.passes else None,
        message=Message(text=one_line(entry.text, 1_000) or one_line(entry.rule, 200)),
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


def _rules(report: AuditReport, entries: list[Entry]) -> tuple[ReportingDescriptor, ...]:
    cards = {card.code: card for card in check_cards(report)}
    used: dict[str, list[Entry]] = {}
    for entry in entries:
        used.setdefault(entry.rule, []).append(entry)
    return tuple(_rule(rule, cards[used[rule][0].origin.code], used[rule]) for rule in sorted(used))


def _rule(rule: str, card: CheckCard, entries: list[Entry]) -> ReportingDescriptor:
    suffix = {f"{card.code}-inconclusive": ": no answer", f"{card.code}-policy": ": policy missed"}
    family = one_line(card.code[:4], 20) + "xx"
    properties: dict[str, object] = {"tags": ["model-audit", family]}
    severities = [entry.severity for entry in entries if entry.severity]
    if severities:
        # One number per rule is all the format has; the worst finding decides it.
        worst = min(severities, key=lambda severity: severity.rank)
        properties["security-severity"] = _SECURITY_SEVERITY[worst]
        properties["tags"] = ["model-audit", family, "security"]
    return ReportingDescriptor(
        id=one_line(rule, 200),
        name=one_line(card.title, 200) or one_line(rule, 200),
        short_description=Message(text=one_line(card.title, 200) + suffix.get(rule, "")),
        full_description=Message(text=one_line(card.question, 1_000) or one_line(rule, 200)),
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
