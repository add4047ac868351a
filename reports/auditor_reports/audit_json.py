"""`audit.json`: the whole report, the single source of every other format.

Sorted keys, ASCII only, no NaN or Infinity literals: non-finite numbers are the
strings "NaN", "Infinity" and "-Infinity", which reading turns back into numbers.
The written specification is `specs/audit-json.md`.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from pydantic import JsonValue

from auditor.errors import InvalidText
from auditor.findings import SCHEMA_VERSION, AuditReport
from auditor_reports.plain_json import fit_record, plain_json, plain_json_parts, read_json
from auditor_reports.published_schema import published_schema

MAX_BYTES = 512 * 1024 * 1024


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
    return published_schema(AuditReport, f"audit:{SCHEMA_VERSION}")
