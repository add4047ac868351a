"""JSON schemas of records as they are published: sorted, indented, with the dialect and a name."""

from __future__ import annotations

import json
from typing import Final

from pydantic import BaseModel, JsonValue
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue
from pydantic_core import core_schema

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def published_schema(
    record: type[BaseModel], name: str, mode: JsonSchemaMode = "serialization"
) -> dict[str, JsonValue]:
    """The schema of a record.

    Args:
        record: What it describes.
        name: With its version, for example `audit:1`.
        mode: `serialization` for what is written, `validation` for what is read.
    """
    body = record.model_json_schema(mode=mode, schema_generator=_SpeltNumbers)
    return {"$schema": DIALECT, "$id": f"urn:auditor:schema:{name}", **body}


def schema_text(schema: dict[str, JsonValue]) -> str:
    """A schema as its file."""
    return json.dumps(schema, sort_keys=True, indent=2) + "\n"


class _SpeltNumbers(GenerateJsonSchema):
    """Admits the strings that stand for non-finite numbers wherever a number may stand."""

    def float_schema(self, schema: core_schema.FloatSchema) -> JsonSchemaValue:
        return {"anyOf": [super().float_schema(schema), {"enum": ["NaN", "Infinity", "-Infinity"]}]}
