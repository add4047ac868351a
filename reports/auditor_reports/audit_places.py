"""Where a part of a run stands in its folder: in `audit.json`, and in `evidence/`.

Formats that link instead of copying use these addresses. All are relative to the run's
folder, so that the folder can be moved as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from auditor.findings import AuditReport, BlobRef, CheckResult, blob_of
from auditor_reports.standing import Standings

AUDIT_JSON: Final = "audit.json"
# What code scanning, registries and reviewers still open without trouble.
MAX_BYTES: Final = 10_000_000
_SHA256 = re.compile(r"sha256:([0-9a-f]{64})")


class NumberedResult(NamedTuple):
    """A result and its number in `audit.json`, counted from 0."""

    number: int
    result: CheckResult

    @property
    def address(self) -> str:
        """Its place in `audit.json`, a JSON pointer (RFC 6901) as the fragment."""
        return f"{AUDIT_JSON}#/results/{self.number}"


@dataclass(frozen=True)
class Selection:
    """Results worst first, as many as a format holds, and how many that leaves out."""

    results: tuple[NumberedResult, ...]
    left_out: int

    def note(self, what: str = "results") -> str:
        """A sentence about what is missing; empty where nothing is."""
        if not self.left_out:
            return ""
        return f"{self.left_out} less severe {what} were left out; {AUDIT_JSON} has all."


class Piece(NamedTuple):
    """A piece of evidence: its title, kind, address, and the file that belongs to it."""

    title: str
    kind: str
    address: str
    blob: BlobRef | None


def select_worst(report: AuditReport, standings: Standings, most: int) -> Selection:
    """The `most` results that a reader must see first, with their numbers in `audit.json`."""
    numbers = {id(result): number for number, result in enumerate(report.results)}
    ordered = standings.worst_first(report.results)
    chosen = tuple(NumberedResult(numbers[id(result)], result) for result in ordered[:most])
    return Selection(chosen, len(ordered) - len(chosen))


def evidence_of(numbered: NumberedResult) -> Iterator[Piece]:
    """Every piece of evidence of a result and of its findings."""
    answer = numbered.result.answer
    places = [(f"{numbered.address}/answer/evidence", answer.evidence)]
    for number, finding in enumerate(answer.findings):
        place = f"{numbered.address}/answer/findings/{number}/evidence"
        places.append((place, finding.evidence))
    for place, pieces in places:
        for number, piece in enumerate(pieces):
            yield Piece(piece.title, piece.kind, f"{place}/{number}", blob_of(piece))


def blob_address(blob: BlobRef) -> str | None:
    """`evidence/ab/abc...` of a file in the run's folder; None where the digest names no file."""
    hexadecimal = sha256_of(blob.digest)
    return f"evidence/{hexadecimal[:2]}/{hexadecimal}" if hexadecimal else None


def sha256_of(digest: str) -> str | None:
    """The 64 hexadecimal digits of a `sha256:` digest; None for anything else."""
    match = _SHA256.fullmatch(digest)
    return match[1] if match else None


def render_within(render: Callable[[int], bytes], most: int, most_bytes: int = MAX_BYTES) -> bytes:
    """What `render` makes of a limit at which the file fits the bytes.

    Args:
        render: Makes the file with at most so many results; it must say what it left out.
        most: Where to begin. A file that is too large is made again with as many results as
            would fit if all were alike, and at most half as many.
        most_bytes: Of the file. One result is written whatever its size.
    """
    while len(content := render(most)) > most_bytes and most > 1:
        most = max(min(most // 2, most * most_bytes // len(content)), 1)
    return content
