"""`audit.json`: the whole report, the single source of every other format.

Sorted keys, ASCII only, no NaN or Infinity literals: non-finite numbers are the
strings "NaN", "Infinity" and "-Infinity", which reading turns back into numbers.
The written specification is `specs/audit-json.md`.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any, NoReturn

from pydantic import JsonValue, ValidationError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from auditor.errors import FileMissing, InvalidText, Place
from auditor.findings import SCHEMA_VERSION, AuditReport

MAX_BYTES = 512 * 1024 * 1024
SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"
SCHEMA_ID = f"urn:auditor:schema:audit:{SCHEMA_VERSION}"


def render_json(report: AuditReport) -> bytes:
    """The report as JSON text with a newline at its end.

    Reading it gives back an equal report, but for lone surrogates in the keys of
    mappings, which become U+FFFD, and for non-finite cells of tables, which stay text.
    """
    plain = _spell_non_finite(report.model_dump(mode="json"))
    return (json.dumps(plain, sort_keys=True, indent=1, allow_nan=False) + "\n").encode("ascii")


def run_fingerprint(report: AuditReport) -> str:
    """`sha256:<hex>` of the bytes of `audit.json`."""
    return f"sha256:{hashlib.sha256(render_json(report)).hexdigest()}"


def load_report(path: Path) -> AuditReport:
    """Read an `audit.json`.

    Raises:
        FileMissing: There is no such file.
        InvalidText: The file is too large, not JSON, of another schema version, or
            does not fit the schema.
    """
    if not path.is_file():
        raise FileMissing(path, "audit report")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise InvalidText(str(path), f"{size:,} bytes; a report has at most {MAX_BYTES:,}")
    data = _parse(path)
    version = data.get("schema_version") if isinstance(data, dict) else None
    if version != SCHEMA_VERSION:
        raise InvalidText(
            str(path),
            f"schema version {version!r:.40}, this auditor reads {SCHEMA_VERSION!r}; "
            "write the report again with this version",
        )
    try:
        return AuditReport.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        more = error.error_count() - 1
        rest = f" (and {more} more problems)" if more else ""
        raise InvalidText(str(path), f"at {where}: {first['msg']}{rest}") from None


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


def _parse(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"), parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise InvalidText(
            Place(str(path), error.lineno, error.colno), f"not valid JSON: {error.msg}"
        ) from None
    except UnicodeDecodeError as error:
        raise InvalidText(str(path), f"not UTF-8 at byte {error.start}") from None
    except RecursionError:
        raise InvalidText(str(path), "nested too deeply for a report") from None
    except _Constant as error:
        raise InvalidText(
            str(path), f'{error} is not valid JSON; write it as the string "{error}"'
        ) from None


class _Constant(Exception):
    """A NaN or Infinity literal was met."""


def _refuse_constant(text: str) -> NoReturn:
    raise _Constant(text)


def _spell_non_finite(value: Any) -> Any:
    match value:
        case dict():
            return {key: _spell_non_finite(item) for key, item in value.items()}
        case list():
            return [_spell_non_finite(item) for item in value]
        case float() if math.isnan(value):
            return "NaN"
        case float() if math.isinf(value):
            return "Infinity" if value > 0 else "-Infinity"
        case _:
            return value
