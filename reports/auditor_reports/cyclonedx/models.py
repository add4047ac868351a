"""The part of CycloneDX 1.6 that auditor writes, as strict models.

Source: Ecma-424 (CycloneDX 1.6), JSON schema bom-1.6. Field names follow it through an
alias. `conformance` of an attestation and `affirmation` are left out on purpose: an audit
says what was found, a person says what follows from it.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

SPEC_VERSION: Literal["1.6"] = "1.6"
CDX_SCHEMA = "http://cyclonedx.org/schema/bom-1.6.schema.json"

ComponentType = Literal["application", "library", "machine-learning-model"]


def _outer_name(name: str) -> str:
    """Camel case, but for the one name that the format writes with a hyphen."""
    return "bom-ref" if name == "bom_ref" else to_camel(name)


class CdxRecord(BaseModel):
    """Base: frozen, strict, camel case on the outside."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=_outer_name, populate_by_name=True
    )


class CdxProperty(CdxRecord):
    """A name and a value that the format has no field for."""

    name: str
    value: str


class CdxHash(CdxRecord):
    """A digest."""

    alg: Literal["SHA-256"] = "SHA-256"
    content: str


class ExternalReference(CdxRecord):
    """A file beside the BOM."""

    url: str
    type: Literal["evidence", "configuration"]
    comment: str | None = None
    hashes: tuple[CdxHash, ...] | None = None


class ConfidenceInterval(CdxRecord):
    """The ends of an interval, as text."""

    lower_bound: str
    upper_bound: str


class PerformanceMetric(CdxRecord):
    """A number; `slice` names its check and what it was measured on."""

    type: str
    value: str
    slice: str
    confidence_interval: ConfidenceInterval | None = None


class QuantitativeAnalysis(CdxRecord):
    """Numbers."""

    performance_metrics: tuple[PerformanceMetric, ...]


class Considerations(CdxRecord):
    """What a user of the model should know."""

    technical_limitations: tuple[str, ...]


class ModelParameters(CdxRecord):
    """How the model is built, as far as the audit was told."""

    model_architecture: str


class ModelCard(CdxRecord):
    """What is known of a model."""

    model_parameters: ModelParameters | None = None
    quantitative_analysis: QuantitativeAnalysis | None = None
    considerations: Considerations | None = None


class CdxComponent(CdxRecord):
    """A model, a library of the environment, or the tool."""

    type: ComponentType
    bom_ref: str | None = None
    name: str
    version: str | None = None
    description: str | None = None
    scope: Literal["required", "excluded"] | None = None
    hashes: tuple[CdxHash, ...] | None = None
    purl: str | None = None
    model_card: ModelCard | None = None
    properties: tuple[CdxProperty, ...] | None = None


class Tools(CdxRecord):
    """What made the BOM."""

    components: tuple[CdxComponent, ...]


class CdxMetadata(CdxRecord):
    """About the BOM."""

    timestamp: str
    tools: Tools
    properties: tuple[CdxProperty, ...]


class Organization(CdxRecord):
    """Whoever assessed; here the tool, because the report names no person."""

    name: str


class Assessor(CdxRecord):
    """Who assessed. Whether it is a third party is not known to the tool."""

    bom_ref: str
    organization: Organization


class Confidence(CdxRecord):
    """In words only: a score would be invented."""

    rationale: str


class MapEntry(CdxRecord):
    """A check with the claims that speak for it and those that speak against it."""

    requirement: str
    claims: tuple[str, ...] | None = None
    counter_claims: tuple[str, ...] | None = None
    confidence: Confidence | None = None


class CdxAttestation(CdxRecord):
    """What the assessor found, check by check."""

    summary: str
    assessor: str
    map: tuple[MapEntry, ...]


class Claim(CdxRecord):
    """What one check found in one subject."""

    bom_ref: str
    target: str | None = None
    predicate: str
    reasoning: str
    evidence: tuple[str, ...] | None = None
    counter_evidence: tuple[str, ...] | None = None


class DataContents(CdxRecord):
    """Where data is found."""

    url: str


class EvidenceData(CdxRecord):
    """A piece of evidence."""

    name: str
    contents: DataContents


class CdxEvidence(CdxRecord):
    """The evidence of one result."""

    bom_ref: str
    description: str
    data: tuple[EvidenceData, ...]
    created: str


class Declarations(CdxRecord):
    """Who found what, and on what evidence."""

    assessors: tuple[Assessor, ...]
    attestations: tuple[CdxAttestation, ...]
    claims: tuple[Claim, ...]
    evidence: tuple[CdxEvidence, ...]


class Requirement(CdxRecord):
    """A check."""

    bom_ref: str
    identifier: str
    title: str
    text: str
    descriptions: tuple[str, ...] | None = None


class Standard(CdxRecord):
    """The format's word for a list of requirements: here the checks, no published standard."""

    bom_ref: str
    name: str
    version: str
    description: str
    requirements: tuple[Requirement, ...]


class Definitions(CdxRecord):
    """What attestations refer to."""

    standards: tuple[Standard, ...]


class Composition(CdxRecord):
    """How complete the BOM is."""

    aggregate: Literal["incomplete", "unknown"]
    assemblies: tuple[str, ...]


class Bom(CdxRecord):
    """The file."""

    schema_uri: str = Field(default=CDX_SCHEMA, alias="$schema")
    bom_format: Literal["CycloneDX"] = "CycloneDX"
    spec_version: Literal["1.6"] = SPEC_VERSION
    serial_number: str
    version: int = 1
    metadata: CdxMetadata
    components: tuple[CdxComponent, ...]
    external_references: tuple[ExternalReference, ...]
    compositions: tuple[Composition, ...] | None = None
    declarations: Declarations | None = None
    definitions: Definitions | None = None
