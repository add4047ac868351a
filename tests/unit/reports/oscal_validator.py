"""The official schema of OSCAL assessment results as a validator.

Its patterns name Unicode classes (`\\p{L}`) as ECMAScript does, which Python's own regular
expressions do not know.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import regex

SCHEMA = Path(__file__).parents[4] / "shared/data/schemas/oscal_assessment-results_schema.json"


def oscal_errors(content: bytes) -> list[str]:
    """What the official schema says against a document; skips where the schema is missing."""
    errors = _validator().iter_errors(json.loads(content))
    return [f"{error.json_path}: {error.message:.200}" for error in errors]


@cache
def _validator() -> Any:
    if not SCHEMA.is_file():
        pytest.skip(f"needs the official schema at {SCHEMA}")
    kind = jsonschema.validators.extend(jsonschema.Draft7Validator, {"pattern": _pattern})
    checker = jsonschema.Draft7Validator.FORMAT_CHECKER
    return kind(json.loads(SCHEMA.read_text("utf-8")), format_checker=checker)


def _pattern(_: Any, pattern: str, instance: Any, __: Any) -> Iterator[Any]:
    if isinstance(instance, str) and not regex.search(pattern, instance):
        yield jsonschema.ValidationError(f"{instance!r} does not match {pattern!r}")
