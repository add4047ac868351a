"""The record of a repair as JSON, written and read; the specification is `specs/fix-record.md`."""

from __future__ import annotations

import hashlib
from pathlib import Path

from auditor.errors import InvalidText
from auditor.fix import FixResult
from auditor_reports.plain_json import fit_record, plain_json, read_json

MAX_BYTES = 64 * 1024 * 1024


def render_fix_json(result: FixResult) -> bytes:
    """The record as its file; reading it gives back an equal record."""
    return plain_json(result)


def fix_digest(result: FixResult) -> str:
    """`sha256:<hex>` of the record's file, as long as nobody has written to it since."""
    return f"sha256:{hashlib.sha256(render_fix_json(result)).hexdigest()}"


def load_fix(path: Path) -> FixResult:
    """Read the record of a repair.

    Raises:
        FileMissing: There is no such file.
        InvalidText: The file is too large, not JSON, something else than the record of a repair,
            or of another version.
    """
    data = read_json(path, "record of a repair", MAX_BYTES)
    told = (data.get("format"), data.get("version")) if isinstance(data, dict) else (None, None)
    if told[0] != "auditor-fix":
        raise InvalidText(
            str(path), "no record of a repair (its format is not 'auditor-fix'); name what "
            "auditor fix wrote with --out or --record"
        )  # fmt: skip
    if told[1] != 1:
        raise InvalidText(
            str(path), f"version {told[1]!r:.40}, this auditor reads 1; repair again with this one"
        )
    return fit_record(FixResult, data, path)
