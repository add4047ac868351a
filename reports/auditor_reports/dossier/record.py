"""The record of a dossier: cells, formal properties, and the results they rest on.

It is what every format of a dossier is written from. Its JSON form is published and specified
under `specs/`.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime
from typing import Literal

from pydantic import Field

from auditor.findings import Interval, Record, SubjectRecord, Verdict

CellStatus = Literal[
    "evidence fail", "partial", "not assessed", "not applicable", "evidence pass"
]  # fmt: skip
SCHEMA_VERSION: Literal["1"] = "1"
NOT_RECORDED = "not recorded"


class SourceHead(Record):
    """A text the mapping was made from, and whether it was read itself."""

    title: str
    read: str


class FrameworkHead(Record):
    """The framework, its version and the review of its mapping.

    `review_age_days` is counted from the last review to the day the run ended; it is negative
    where the review came later. `mapping_digest` is the SHA-256 of the mapping as canonical JSON.
    """

    id: str
    title: str
    framework: str
    version: str
    sources: tuple[SourceHead, ...]
    last_reviewed: date
    reviewer_role: str
    review_age_days: int
    mapping_digest: str
    notes: tuple[str, ...] = ()


class RunHead(Record):
    """The run that the evidence is of; `fingerprint` is the digest of its `audit.json`."""

    plan: str
    plan_title: str
    plan_digest: str
    policy_digest: str
    gate: Literal["pass", "fail", "inconclusive"]
    gate_sentence: str
    complete: bool
    seed: int
    command: str
    started: datetime
    finished: datetime
    auditor: str
    fingerprint: str


class Fact(Record):
    """A recorded text with its name; `result` names the result it stands in, if any."""

    name: str
    value: str
    result: str = ""


class Number(Record):
    """A metric of a result: `origin` says whose number it is."""

    result: str
    name: str
    value: float
    unit: str = ""
    sample_size: int | None = None
    interval: Interval | None = None
    origin: Literal["measured"] = "measured"


class DeclaredRow(Record):
    """A user's word that a row does not apply; it never hides evidence that fails."""

    reason: str
    declared_by: str


class Cell(Record):
    """One slot of the framework and what the run says about it.

    `tested` is set where the row is a class of attacks. `results` are ids of `ResultEntry`.
    """

    row: str
    title: str
    source: str
    asks: str
    status: CellStatus
    reason: str
    derivation: str
    beyond: str = ""
    tested: bool | None = None
    results: tuple[str, ...] = ()
    facts: tuple[Fact, ...] = ()
    numbers: tuple[Number, ...] = ()
    declared: DeclaredRow | None = None


class DossierSection(Record):
    """Cells that belong together."""

    id: str
    title: str
    note: str = ""
    cells: tuple[Cell, ...]


class PropertyEntry(Record):
    """A formal property with the fields of ISO/IEC 24029-2, as far as the run recorded them."""

    result: str
    code: str
    name: str
    subject: str
    verdict: Verdict
    type: str
    type_reason: str
    domain: str
    criterion: str
    architecture: str
    data_type: str
    complete: str
    deterministic: str
    arithmetic: str
    method: str
    stage: str


class ResultEntry(Record):
    """A result that cells rest on, with what identifies its evidence.

    `key` is the digest of everything the answer depends on, `answer_digest` that of the answer
    as it stands in `audit.json`, `blobs` are digests of files in the run's `evidence` folder.
    """

    id: str
    code: str
    title: str
    version: int
    subject: str
    subject_digest: str
    verdict: Verdict
    gate: str
    summary: str
    reason: str = ""
    pass_does_not_mean: str = ""
    arithmetic: str = ""
    key: str
    answer_digest: str
    blobs: tuple[str, ...] = ()
    data_digests: dict[str, str] = Field(default={})
    waivers: tuple[str, ...] = ()


class Dossier(Record):
    """The evidence of one run, put into the slots of one framework.

    `dated_and_signed_by` stays empty: it is filled in by a person, outside of auditor.
    """

    schema_version: Literal["1"] = SCHEMA_VERSION
    framework: FrameworkHead
    run: RunHead
    warnings: tuple[str, ...] = ()
    subjects: tuple[SubjectRecord, ...]
    sections: tuple[DossierSection, ...]
    properties: tuple[PropertyEntry, ...] | None = None
    results: tuple[ResultEntry, ...]
    disclaimer: str
    dated_and_signed_by: Literal[""] = ""

    def cells(self) -> Iterator[Cell]:
        """Every cell, in order."""
        for section in self.sections:
            yield from section.cells

    def gaps(self, status: CellStatus) -> tuple[Cell, ...]:
        """The cells with this status."""
        return tuple(cell for cell in self.cells() if cell.status == status)
