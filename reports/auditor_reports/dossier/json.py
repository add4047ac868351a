"""A dossier as JSON, and the JSON schemas of dossiers and of the files they are made with."""

from __future__ import annotations

import json

from pydantic import BaseModel, JsonValue
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue
from pydantic_core import core_schema

from auditor_reports.audit_json import SCHEMA_DIALECT
from auditor_reports.dossier.mapping import Applicability, FrameworkMapping
from auditor_reports.dossier.record import Dossier
from auditor_reports.plain_json import plain_json

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
    body = model.model_json_schema(mode=mode, schema_generator=_SpeltNumbers)
    return {"$schema": SCHEMA_DIALECT, "$id": f"urn:auditor:schema:{name}:1", **body}


def dossier_schema_text(name: str) -> str:
    """The JSON schema as text, sorted and indented, as it is published."""
    return json.dumps(dossier_schema(name), sort_keys=True, indent=2) + "\n"


class _SpeltNumbers(GenerateJsonSchema):
    """Numbers may be the strings that `plain_json` writes for what is not finite."""

    def float_schema(self, schema: core_schema.FloatSchema) -> JsonSchemaValue:
        return {"anyOf": [super().float_schema(schema), {"enum": ["NaN", "Infinity", "-Infinity"]}]}
