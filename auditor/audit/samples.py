"""The full texts of traced completions, read back from a run's evidence folder.

A report holds them shortened (`auditor.redaction`). Nothing here writes: what is read
goes to a reader who asked for it.
"""

from __future__ import annotations

from auditor.audit.ledger import EvidenceFolder
from auditor.errors import AuditorError
from auditor.findings import AuditReport, BlobRef, TracedTextEvidence
from auditor.redaction import read_full_record

MAX_BYTES = 64 * 1024 * 1024


def read_samples(
    report: AuditReport, folder: EvidenceFolder
) -> dict[str, TracedTextEvidence | str]:
    """For each digest that a traced completion names, the full record.

    Where the file is missing, altered, too large or no such record, the line that says so.
    """
    found: dict[str, TracedTextEvidence | str] = {}
    for result in report.results:
        for evidence in result.answer.every_evidence():
            if isinstance(evidence, TracedTextEvidence) and evidence.blob is not None:
                digest = evidence.blob.digest
                if digest not in found:
                    found[digest] = _read(evidence.blob, folder)
    return found


def _read(reference: BlobRef, folder: EvidenceFolder) -> TracedTextEvidence | str:
    try:
        return read_full_record(folder.get(reference, MAX_BYTES))
    except AuditorError as error:
        return str(error)
