"""The part of OSCAL 1.2.1 assessment results that auditor writes, as strict models.

Source: NIST, OSCAL assessment results model, JSON format reference for version 1.2.1.
Field names follow it through an alias. A list that would be empty is None and so left
out, because the format asks for at least one entry.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict

OSCAL_VERSION = "1.2.1"
NAMESPACE = "urn:auditor:oscal"

T = TypeVar("T")
State = Literal["satisfied", "not-satisfied"]
Reason = Literal["pass", "fail", "other"]
RiskStatus = Literal["open", "deviation-approved"]


def some(items: Iterable[T]) -> tuple[T, ...] | None:
    """The items, or None where there is none."""
    return tuple(items) or None


class OscalRecord(BaseModel):
    """Base: frozen, strict, hyphens on the outside."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=lambda name: name.replace("_", "-"),
        populate_by_name=True,
    )


class Prop(OscalRecord):
    """A named value; `value` is one line, neither empty nor with blanks at its ends."""

    name: str
    ns: str = NAMESPACE
    value: str
    remarks: str | None = None


class Link(OscalRecord):
    """A link to a part of the document (`#uuid`) or to a file of the run's folder."""

    href: str
    rel: str | None = None
    text: str | None = None


class Hash(OscalRecord):
    """A digest."""

    algorithm: Literal["SHA-256"] = "SHA-256"
    value: str


class ResourceLink(OscalRecord):
    """Where a resource is found."""

    href: str
    media_type: str | None = None
    hashes: tuple[Hash, ...] | None = None


class Resource(OscalRecord):
    """A file that the document speaks of."""

    uuid: str
    title: str
    description: str | None = None
    rlinks: tuple[ResourceLink, ...]


class BackMatter(OscalRecord):
    """The files that the document speaks of."""

    resources: tuple[Resource, ...]


class Metadata(OscalRecord):
    """What the document is."""

    title: str
    last_modified: str
    version: str
    oscal_version: str = OSCAL_VERSION
    props: tuple[Prop, ...] | None = None
    remarks: str


class ImportAp(OscalRecord):
    """The assessment plan: here a resource of the back matter."""

    href: str
    remarks: str


class Part(OscalRecord):
    """A part of an objective: its question or its method."""

    id: str | None = None
    name: str
    ns: str | None = None
    prose: str


class LocalObjective(OscalRecord):
    """What a check asks and how."""

    control_id: str
    description: str
    parts: tuple[Part, ...]
    remarks: str | None = None


class LocalDefinitions(OscalRecord):
    """Objectives that no catalogue defines."""

    objectives_and_methods: tuple[LocalObjective, ...]


class ComponentStatus(OscalRecord):
    """The format asks for a state; an audit does not know it."""

    state: Literal["other"] = "other"
    remarks: str


class Component(OscalRecord):
    """A model under audit, or the tool."""

    uuid: str
    type: Literal["software"] = "software"
    title: str
    description: str
    props: tuple[Prop, ...] | None = None
    status: ComponentStatus


class UsedComponent(OscalRecord):
    """What a platform runs."""

    component_uuid: str


class Platform(OscalRecord):
    """The machine on which the audit ran."""

    uuid: str
    title: str
    props: tuple[Prop, ...] | None = None
    uses_components: tuple[UsedComponent, ...]


class AssessmentAssets(OscalRecord):
    """With what the assessment was done."""

    components: tuple[Component, ...]
    assessment_platforms: tuple[Platform, ...]


class ResultDefinitions(OscalRecord):
    """The models and the tool."""

    components: tuple[Component, ...] | None = None
    assessment_assets: AssessmentAssets


class SelectedControl(OscalRecord):
    """A control that was reviewed: the code of a check."""

    control_id: str


class ControlSelection(OscalRecord):
    """Controls that were reviewed."""

    description: str
    include_controls: tuple[SelectedControl, ...]


class SelectedObjective(OscalRecord):
    """An objective that was reviewed."""

    objective_id: str


class ObjectiveSelection(OscalRecord):
    """Objectives that were reviewed."""

    include_objectives: tuple[SelectedObjective, ...]


class ReviewedControls(OscalRecord):
    """What was reviewed."""

    control_selections: tuple[ControlSelection, ...]
    control_objective_selections: tuple[ObjectiveSelection, ...] | None = None
    remarks: str


class Actor(OscalRecord):
    """Who made an observation: the tool."""

    type: Literal["tool"] = "tool"
    actor_uuid: str


class Origin(OscalRecord):
    """The source of something."""

    actors: tuple[Actor, ...]


class SubjectReference(OscalRecord):
    """The model that was looked at."""

    subject_uuid: str
    type: Literal["component"] = "component"
    title: str


class RelevantEvidence(OscalRecord):
    """Evidence, by its place in the run's folder."""

    href: str
    description: str


class Observation(OscalRecord):
    """One check of one subject."""

    uuid: str
    title: str
    description: str
    props: tuple[Prop, ...]
    methods: tuple[Literal["TEST"], ...] = ("TEST",)
    types: tuple[Literal["control-objective"], ...] = ("control-objective",)
    origins: tuple[Origin, ...]
    subjects: tuple[SubjectReference, ...] | None = None
    relevant_evidence: tuple[RelevantEvidence, ...]
    collected: str
    remarks: str | None = None


class Facet(OscalRecord):
    """One measure of a risk."""

    name: str
    system: str = NAMESPACE
    value: str


class Characterization(OscalRecord):
    """How bad a risk is."""

    origin: Origin
    facets: tuple[Facet, ...]


class Response(OscalRecord):
    """A remedy."""

    uuid: str
    lifecycle: Literal["recommendation"] = "recommendation"
    title: str
    description: str


class RelatedObservation(OscalRecord):
    """The observation that a finding or a risk rests on."""

    observation_uuid: str


class Risk(OscalRecord):
    """A finding of a check, a missed threshold, or a refused subject."""

    uuid: str
    title: str
    description: str
    statement: str
    props: tuple[Prop, ...] | None = None
    status: RiskStatus
    characterizations: tuple[Characterization, ...] | None = None
    remediations: tuple[Response, ...] | None = None
    related_observations: tuple[RelatedObservation, ...] | None = None


class TargetStatus(OscalRecord):
    """Whether the objective was met; a question without an answer is not met."""

    state: State
    reason: Reason
    remarks: str


class Target(OscalRecord):
    """The objective that a finding is about."""

    type: Literal["objective-id"] = "objective-id"
    target_id: str
    title: str
    status: TargetStatus


class RelatedRisk(OscalRecord):
    """A risk that a finding gives rise to."""

    risk_uuid: str


class OscalFinding(OscalRecord):
    """What one check of one subject says about its objective."""

    uuid: str
    title: str
    description: str
    props: tuple[Prop, ...] | None = None
    target: Target
    related_observations: tuple[RelatedObservation, ...] | None = None
    related_risks: tuple[RelatedRisk, ...] | None = None


class LogEntry(OscalRecord):
    """When something was done."""

    uuid: str
    title: str
    description: str
    start: str
    end: str


class AssessmentLog(OscalRecord):
    """When the assessment was done."""

    entries: tuple[LogEntry, ...]


class Result(OscalRecord):
    """One run."""

    uuid: str
    title: str
    description: str
    start: str
    end: str
    props: tuple[Prop, ...]
    local_definitions: ResultDefinitions
    reviewed_controls: ReviewedControls
    assessment_log: AssessmentLog
    observations: tuple[Observation, ...] | None = None
    risks: tuple[Risk, ...] | None = None
    findings: tuple[OscalFinding, ...] | None = None
    remarks: str


class AssessmentResults(OscalRecord):
    """The document."""

    uuid: str
    metadata: Metadata
    import_ap: ImportAp
    local_definitions: LocalDefinitions | None = None
    results: tuple[Result, ...]
    back_matter: BackMatter


class OscalDocument(OscalRecord):
    """The file."""

    assessment_results: AssessmentResults
