"""Records of a foreign format as JSON: their own field names, sorted, ASCII only."""

from __future__ import annotations

import json

from pydantic import BaseModel


def aliased_json(record: BaseModel) -> bytes:
    """The record as JSON text with a newline at its end; fields that are None are left out.

    Raises:
        ValueError: It holds a number that JSON has no literal for.
    """
    plain = record.model_dump(mode="json", by_alias=True, exclude_none=True)
    return (json.dumps(plain, sort_keys=True, indent=1, allow_nan=False) + "\n").encode("ascii")
