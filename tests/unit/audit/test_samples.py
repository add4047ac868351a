"""Full texts come back from the evidence folder, or a line says why not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from auditor.audit import samples
from auditor.audit.ledger import EvidenceFolder, EvidenceUnusable
from auditor.audit.samples import read_samples
from auditor.findings import AuditReport, BlobRef, TracedTextEvidence
from auditor.redaction import full_record, redact
from tests.golden.sample_report import full_traced_text, sample_report

BLOB = next(
    evidence.blob
    for result in sample_report().results
    for evidence in result.answer.every_evidence()
    if isinstance(evidence, TracedTextEvidence) and evidence.blob
)


def stored(folder: Path, content: bytes | None = None) -> tuple[EvidenceFolder, BlobRef]:
    """An evidence folder with the sample's full record, or another content."""
    store = EvidenceFolder(folder / "evidence")
    content = full_record(full_traced_text()) if content is None else content
    return store, store.put(content, "application/json")


def naming(reference: BlobRef) -> AuditReport:
    """The sample report, its traced text in this file."""
    report = sample_report()
    evidence = redact(full_traced_text()).model_copy(update={"blob": reference})
    last = report.results[-1]
    answer = last.answer.model_copy(update={"evidence": (evidence,)})
    changed = last.model_copy(update={"answer": answer})
    return report.model_copy(update={"results": (*report.results[:-1], changed)})


def problem(report: AuditReport, store: EvidenceFolder) -> str:
    """The line in the place of the one full record."""
    (found,) = read_samples(report, store).values()
    assert isinstance(found, str)
    assert "\n" not in found
    return found


def test_full_records_are_read_by_their_digest(tmp_path: Path) -> None:
    """What the check stored is what a reader gets."""
    store, reference = stored(tmp_path)
    assert read_samples(sample_report(), store) == {reference.digest: full_traced_text()}


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """The line has the path and the way out."""
    store = EvidenceFolder(tmp_path / "evidence")
    line = problem(sample_report(), store)
    assert line == (
        f"{store.path(BLOB.digest)}: the file is missing; restore the run's evidence folder "
        "from a copy"
    )


def test_an_altered_file_is_not_shown(tmp_path: Path) -> None:
    """One byte of the same length is enough."""
    store, reference = stored(tmp_path)
    path = store.path(reference.digest)
    path.write_bytes(path.read_bytes().replace(b"Verdel", b"Werdel"))
    assert "its content does not fit its digest" in problem(sample_report(), store)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """Not even to the right content."""
    store, reference = stored(tmp_path)
    path = store.path(reference.digest)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert str(path) in problem(sample_report(), store)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """A reader is not held up by what is no file."""
    store = EvidenceFolder(tmp_path / "evidence")
    store.path(BLOB.digest).parent.mkdir(parents=True)
    os.mkfifo(store.path(BLOB.digest))
    assert "it is not a plain file" in problem(sample_report(), store)


@pytest.mark.parametrize("digest", ["sha256:../../../etc/passwd", "", "sha256:" + "A" * 64])
def test_a_digest_that_is_none_leads_nowhere(tmp_path: Path, digest: str) -> None:
    """It never becomes a path."""
    store = EvidenceFolder(tmp_path / "evidence")
    reference = BlobRef(digest=digest, media_type="application/json", size=1)
    assert "no file has the digest" in problem(naming(reference), store)
    with pytest.raises(EvidenceUnusable):
        store.get(reference, 10)


def test_a_file_that_is_too_large_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit holds before anything is read."""
    store, reference = stored(tmp_path)
    monkeypatch.setattr(samples, "MAX_BYTES", reference.size - 1)
    assert f"at most {reference.size - 1:,} are read" in problem(sample_report(), store)


def test_a_file_of_another_kind_is_no_sample(tmp_path: Path) -> None:
    """Its digest is right, and still it is no record of a traced text."""
    store, reference = stored(tmp_path, b'{"kind": "text"}')
    assert "no record of a traced text" in problem(naming(reference), store)
