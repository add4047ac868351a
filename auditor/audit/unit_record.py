"""What the ledger keeps of a unit.

Apart from `units`, so that gate and reports, which only read it, need not load every check.
"""

from __future__ import annotations

from pydantic import JsonValue

from auditor.findings import Record, SourceLine


class UnitRecord(Record):
    """What the ledger keeps of a unit: all that its result is stamped with."""

    id: str
    code: str
    title: str
    version: int
    subject: str
    subject_digest: str
    required: bool
    seed: int
    parameters: dict[str, JsonValue]
    data_digests: dict[str, str]
    declared_at: SourceLine
    key: str
