"""OSCAL risks: findings, missed thresholds and refused subjects, worst first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from auditor.findings import AuditReport, CheckResult, Finding, GateRow, Severity, WaiverUse
from auditor_reports.audit_places import NumberedResult
from auditor_reports.oscal.models import (
    Characterization,
    Facet,
    Prop,
    RelatedObservation,
    Response,
    Risk,
    RiskStatus,
    some,
)
from auditor_reports.oscal.text import Identity, markup, prop
from auditor_reports.standing import (
    STATUS_WORDS,
    WORST_FIRST,
    Standings,
    Status,
    finding_fingerprint,
    loose_points,
)


@dataclass(frozen=True)
class RiskDraft:
    """A risk to be, before it is known whether there is room for it.

    Attributes:
        place: Where in the run it stands; its UUID is made of it.
        owner: Place of the result that it belongs to.
    """

    place: str
    owner: str
    title: str
    statement: str
    status: Status
    severity: Severity | None
    mark: str = ""
    where: str = ""
    remedy: str = ""
    waiver: WaiverUse | None = None

    @property
    def rank(self) -> tuple[int, int]:
        """Sorts the worst first; a threshold without a severity counts as high."""
        severity = self.severity or Severity.HIGH
        return WORST_FIRST.index(self.status), severity.rank


def draft_risks(standings: Standings, numbered: NumberedResult) -> Iterator[RiskDraft]:
    """What is wrong with a result: its findings, and what the gate adds to them."""
    number, result = numbered
    owner = f"results/{number}"
    for index, finding in enumerate(result.answer.findings):
        yield _of_finding(standings, result, finding, owner, index)
    for index, row in enumerate(standings.beyond_findings(result)):
        if row.status in ("fail", "waived"):
            yield _of_row(row, owner, f"{owner}/rows/{index}", standings.waiver_of(row))


def draft_loose_risks(report: AuditReport) -> Iterator[RiskDraft]:
    """What fails and belongs to no result, such as a subject that was refused."""
    for index, row in enumerate(loose_points(report)):
        if row.status == "fail":
            yield _of_row(row, f"loose/{index}", f"loose/{index}/risk", None)


def make_risk(draft: RiskDraft, identity: Identity, observation: str | None) -> Risk:
    """The risk, related to the observation where there is one."""
    return Risk(
        uuid=identity.uuid(draft.place),
        title=markup(draft.title, 200),
        description=markup(draft.title),
        statement=markup(draft.statement),
        props=tuple(_props(draft)),
        status=_STATUS.get(draft.status, "open"),
        characterizations=_characterizations(draft, identity),
        remediations=_remediations(draft, identity),
        related_observations=some(
            [RelatedObservation(observation_uuid=observation)] if observation else []
        ),
    )


_STATUS: dict[Status, RiskStatus] = {"waived": "deviation-approved"}


def _of_finding(
    standings: Standings, result: CheckResult, finding: Finding, owner: str, index: int
) -> RiskDraft:
    return RiskDraft(
        place=f"{owner}/findings/{index}",
        owner=owner,
        title=finding.title,
        statement=finding.description,
        status=standings.of_finding(result, finding),
        severity=finding.severity,
        mark=finding_fingerprint(result, finding),
        where=finding.location.path,
        remedy=finding.remedy,
        waiver=standings.waiver(result, finding),
    )


def _of_row(row: GateRow, owner: str, place: str, waiver: WaiverUse | None) -> RiskDraft:
    return RiskDraft(
        place=place,
        owner=owner,
        title=row.text,
        statement=f"{row.code}: {row.text}",
        status=row.status,
        severity=row.severity,
        mark=row.fingerprint,
        waiver=waiver,
    )


def _props(draft: RiskDraft) -> Iterator[Prop]:
    yield prop("gate-status", STATUS_WORDS[draft.status])
    if draft.mark:
        yield prop("fingerprint", draft.mark)
    if draft.where:
        yield prop("location", draft.where)
    if draft.waiver:
        text = f"{draft.waiver.reason}; approved by {draft.waiver.approved_by}"
        yield prop("waived-until", draft.waiver.expires, text)


def _characterizations(draft: RiskDraft, identity: Identity) -> tuple[Characterization, ...] | None:
    if draft.severity is None:
        return None
    facet = Facet(name="severity", value=draft.severity.value)
    return (Characterization(origin=identity.origin, facets=(facet,)),)


def _remediations(draft: RiskDraft, identity: Identity) -> tuple[Response, ...] | None:
    if not draft.remedy:
        return None
    where = f"{draft.place}/remedy"
    return (Response(uuid=identity.uuid(where), title="Remedy", description=markup(draft.remedy)),)
