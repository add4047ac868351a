"""The part of SARIF 2.1.0 that auditor writes, as strict models.

Source: OASIS SARIF 2.1.0, sections named beside each model. Field names follow the
specification through an alias, so a misspelt field is an error here and not a
property that a reader silently ignores.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic.alias_generators import to_camel

SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"

Level = Literal["error", "warning", "note", "none"]
Properties = dict[str, JsonValue]


class SarifRecord(BaseModel):
    """Base: frozen, strict, camel case on the outside."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True
    )


class Message(SarifRecord):
    """Section 3.11."""

    text: str


class ArtifactLocation(SarifRecord):
    """Section 3.4; the address is always relative."""

    uri: str = Field(min_length=1)
    index: int | None = None


class Region(SarifRecord):
    """Section 3.30."""

    start_line: int = Field(ge=1)


class PhysicalLocation(SarifRecord):
    """Section 3.29."""

    artifact_location: ArtifactLocation
    region: Region


class LogicalLocation(SarifRecord):
    """Section 3.33."""

    name: str
    fully_qualified_name: str
    kind: str


class SarifLocation(SarifRecord):
    """Section 3.28."""

    physical_location: PhysicalLocation
    logical_locations: tuple[LogicalLocation, ...] = ()


class Suppression(SarifRecord):
    """Section 3.35; without a status it counts as accepted.

    The text of the standard calls the field `status`, its early schema `state`.
    """

    kind: Literal["external"] = "external"
    justification: str


class SarifResult(SarifRecord):
    """Section 3.27."""

    rule_id: str
    rule_index: int
    level: Level
    kind: Literal["pass"] | None = None
    message: Message
    locations: tuple[SarifLocation, ...]
    partial_fingerprints: dict[str, str]
    suppressions: tuple[Suppression, ...] | None = None
    properties: Properties


class ReportingConfiguration(SarifRecord):
    """Section 3.50."""

    level: Level


class ReportingDescriptor(SarifRecord):
    """Section 3.49: a rule."""

    id: str
    name: str
    short_description: Message
    full_description: Message
    help: Message
    default_configuration: ReportingConfiguration
    properties: Properties


class ToolComponent(SarifRecord):
    """Section 3.19."""

    name: str
    version: str
    rules: tuple[ReportingDescriptor, ...]


class Tool(SarifRecord):
    """Section 3.18."""

    driver: ToolComponent


class Artifact(SarifRecord):
    """Section 3.24."""

    location: ArtifactLocation
    length: int | None = None
    hashes: dict[str, str] | None = None
    roles: tuple[str, ...] = ()


class Notification(SarifRecord):
    """Section 3.58."""

    level: Level
    message: Message


class Invocation(SarifRecord):
    """Section 3.20."""

    execution_successful: bool
    exit_code: int
    start_time_utc: str
    end_time_utc: str
    tool_execution_notifications: tuple[Notification, ...] = ()


class AutomationDetails(SarifRecord):
    """Section 3.17; code scanning takes the part before the last slash as the category."""

    id: str


class Run(SarifRecord):
    """Section 3.14."""

    tool: Tool
    automation_details: AutomationDetails
    invocations: tuple[Invocation, ...]
    artifacts: tuple[Artifact, ...]
    results: tuple[SarifResult, ...]
    properties: Properties


class SarifLog(SarifRecord):
    """Section 3.13."""

    schema_uri: str = Field(default=SARIF_SCHEMA, alias="$schema")
    version: Literal["2.1.0"] = "2.1.0"
    runs: tuple[Run, ...]
