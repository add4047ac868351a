"""A dossier as JSON, and the JSON schemas of dossiers and of the files they are made with."""

from __future__ import annotations

from pydantic import BaseModel, JsonValue
from pydantic.json_schema import JsonSchemaMode

from auditor_reports.dossier.mapping import Applicability, FrameworkMapping
from auditor_reports.dossier.record import Dossier
from auditor_reports.plain_json import plain_json
from auditor_reports.published_schema import published_schema

# What is read from a user is described as it is given, what is written as it is written.
_PUBLISHED: dict[str, tuple[type[BaseModel], JsonSchemaMode]] = {
    "applicability": (Applicability, "validation"),
    "dossier": (Dossier, "serialization"),
    "framework-mapping": (FrameworkMapping, "validation"),
}
SCHEMA_NAMES = tuple(_PUBLISHED)


def render_dossier_json(dossier: Dossier) -> bytes:
    """The record of a dossier as JSON text with a newline at its end."""
    return plain_json(dossier)


def dossier_schema(name: str) -> dict[str, JsonValue]:
    """The JSON schema with this name, one of `SCHEMA_NAMES`."""
    model, mode = _PUBLISHED[name]
    return published_schema(model, f"{name}:1", mode)
