"""What an OSCAL document defines: objectives, the models, the tool, and files it speaks of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from auditor.findings import AuditReport, CheckCard, SubjectRecord
from auditor_reports.audit_places import AUDIT_JSON, sha256_of
from auditor_reports.oscal.models import (
    AssessmentAssets,
    Component,
    ComponentStatus,
    ControlSelection,
    Hash,
    LocalObjective,
    ObjectiveSelection,
    Part,
    Platform,
    Prop,
    Resource,
    ResourceLink,
    ResultDefinitions,
    ReviewedControls,
    SelectedControl,
    SelectedObjective,
    UsedComponent,
    some,
)
from auditor_reports.oscal.text import Identity, markup, objective_id, plain, prop, token
from auditor_reports.sarif.log import relative_uri

NOTHING_REVIEWED = "none"
_LIBRARIES_SHOWN, _FACTS_SHOWN = 100, 50
_NOT_ASSESSED = ComponentStatus(remarks="The audit does not know the state of operation.")


def objective(card: CheckCard) -> LocalObjective:
    """What a check asks, how, and what a pass does not mean."""
    parts = [Part(id=objective_id(card.code), name="assessment-objective",
                  prose=markup(card.question))]  # fmt: skip
    if card.method:
        parts.append(Part(name="assessment-method", prose=markup(card.method, 1_000)))
    limits = card.pass_does_not_mean
    return LocalObjective(
        control_id=token(card.code),
        description=markup(card.title, 200),
        parts=tuple(parts),
        remarks=f"What a pass does not mean: {markup(limits)}" if limits else None,
    )


def reviewed_controls(cards: Sequence[CheckCard]) -> ReviewedControls:
    """The checks that the document tells of; the format asks for at least one."""
    controls = tuple(SelectedControl(control_id=token(card.code)) for card in cards)
    objectives = tuple(SelectedObjective(objective_id=objective_id(card.code)) for card in cards)
    text = "The checks of this run." if cards else "Nothing was reviewed."
    return ReviewedControls(
        control_selections=(
            ControlSelection(
                description=text,
                include_controls=controls or (SelectedControl(control_id=NOTHING_REVIEWED),),
            ),
        ),
        control_objective_selections=(
            (ObjectiveSelection(include_objectives=objectives),) if objectives else None
        ),
        remarks="Control identifiers are codes of auditor's checks, of no control catalogue.",
    )


def definitions(
    report: AuditReport, identity: Identity, subjects: Sequence[SubjectRecord]
) -> ResultDefinitions:
    """The models as components; the tool and the machine as assets of the assessment."""
    environment = report.environment
    tool = Component(
        uuid=identity.uuid("tool"),
        title="auditor",
        description="The tool that ran the checks.",
        props=(Prop(name="version", value=plain(environment.auditor)),),
        status=_NOT_ASSESSED,
    )
    platform = Platform(
        uuid=identity.uuid("platform"),
        title=markup(environment.platform, 200),
        props=(
            prop("python", environment.python),
            prop("device", environment.device),
            prop("threads", str(environment.threads)),
            *(prop("library", f"{name} {found}") for name, found in
              sorted(environment.libraries.items())[:_LIBRARIES_SHOWN]),
        ),
        uses_components=(UsedComponent(component_uuid=tool.uuid),),
    )  # fmt: skip
    return ResultDefinitions(
        components=some(_subject(identity, number, each) for number, each in enumerate(subjects)),
        assessment_assets=AssessmentAssets(components=(tool,), assessment_platforms=(platform,)),
    )


def _subject(identity: Identity, number: int, subject: SubjectRecord) -> Component:
    return Component(
        uuid=identity.uuid(f"subjects/{number}"),
        title=markup(subject.name, 200),
        description=markup(f"Model under audit, kind {subject.kind}", 200),
        props=(
            prop("asset-type", "machine-learning-model"),
            prop("kind", subject.kind),
            prop("path", relative_uri(subject.path)),
            prop("digest", subject.digest),
            prop("size-in-bytes", str(subject.size)),
            *(prop("fact", f"{name}: {value}") for name, value in
              sorted(subject.facts.items())[:_FACTS_SHOWN]),
        ),
        status=_NOT_ASSESSED,
    )  # fmt: skip


def resources(report: AuditReport, identity: Identity) -> Iterator[Resource]:
    """The plan, which the document imports, and the report that it was made from."""
    plan = sha256_of(report.plan_digest)
    yield Resource(
        uuid=identity.uuid("plan"),
        title="Plan of the audit",
        rlinks=(
            ResourceLink(href=relative_uri(report.plan_file), media_type="application/yaml",
                         hashes=(Hash(value=plan),) if plan else None),
        ),
    )  # fmt: skip
    yield Resource(
        uuid=identity.uuid("audit"),
        title=AUDIT_JSON,
        description="The whole report; every piece of evidence is named by its place in it.",
        rlinks=(
            ResourceLink(
                href=AUDIT_JSON, media_type="application/json",
                hashes=(Hash(value=identity.fingerprint.removeprefix("sha256:")),),
            ),
        ),
    )  # fmt: skip
