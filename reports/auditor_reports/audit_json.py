"""`audit.json`: the whole report, the single source of every other format.

Sorted keys, ASCII only, no NaN or Infinity literals: non-finite numbers are the
strings "NaN", "Infinity" and "-Infinity", which reading turns back into numbers.
The written specification is `specs/audit-json.md`.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from pydantic import JsonValue
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from auditor.errors import InvalidText
from auditor.findings import SCHEMA_VERSION, AuditReport
from auditor_reports.plain_json import fit_record, plain_json, plain_json_parts, read_json

MAX_BYTES = 512 * 1024 * 1024
SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"
SCHEMA_ID = f"urn:auditor:schema:audit:{SCHEMA_VERSION}"


def render_json(report: AuditReport) -> bytes:
    """The report as JSON text with a newline at its end.

    Reading it gives back an equal report, but for lone surrogates in the keys of
    mappings, which become U+FFFD, and for non-finite cells of tables, which stay text.
    """
    return plain_json(report)


def run_fingerprint(report: AuditReport) -> str:
    """`sha256:<hex>` of the bytes of `audit.json`."""
    digest = hashlib.sha256()
    for part in plain_json_parts(report):
        digest.update(part)
    return f"sha256:{digest.hexdigest()}"


def load_report(path: Path) -> AuditReport:
    """Read an `audit.json`.

    Raises:
        FileMissing: There is no such file.
        InvalidText: The file is too large, not JSON, of another schema version, or
            does not fit the schema.
    """
    data = read_json(path, "audit report", MAX_BYTES)
    version = data.get("schema_version") if isinstance(data, dict) else None
    if version != SCHEMA_VERSION:
        raise InvalidText(
            str(path),
            f"schema version {version!r:.40}, this auditor reads {SCHEMA_VERSION!r}; "
            "write the report again with this version",
        )
    return fit_record(AuditReport, data, path)


def schema() -> dict[str, JsonValue]:
    """The JSON schema of `audit.json` as it is written."""
    body = AuditReport.model_json_schema(mode="serialization", schema_generator=_Generator)
    return {"$schema": SCHEMA_DIALECT, "$id": SCHEMA_ID, **body}


def schema_text() -> str:
    """The JSON schema as text, sorted and indented, as it is published."""
    return json.dumps(schema(), sort_keys=True, indent=2) + "\n"


class _Generator(GenerateJsonSchema):
    """Admits the strings that stand for non-finite numbers wherever a number may stand."""

    def float_schema(self, schema: core_schema.FloatSchema) -> JsonSchemaValue:
        return {"anyOf": [super().float_schema(schema), {"enum": ["NaN", "Infinity", "-Infinity"]}]}
