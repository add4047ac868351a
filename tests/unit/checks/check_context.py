"""What a check needs to run in a test: a subject, and a context without surroundings."""

from __future__ import annotations

import hashlib
from pathlib import Path

from auditor.check import CheckContext, EvidenceStore, Subject
from auditor.findings import BlobRef
from auditor.models.subject_files import ModelKind, look_at


class NoEvidence:
    """A store for checks that keep no files; keeping one is an error."""

    def put(self, content: bytes, media_type: str, name: str = "") -> BlobRef:
        """Refuse."""
        raise AssertionError(f"unexpected evidence file {name!r}")


class KeptEvidence:
    """A store that keeps files in memory, in order."""

    def __init__(self) -> None:
        self.files: list[bytes] = []

    def put(self, content: bytes, media_type: str, name: str = "") -> BlobRef:
        """Keep the content."""
        self.files.append(content)
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        return BlobRef(digest=digest, media_type=media_type, size=len(content), name=name)


def make_context(
    device: str = "cpu", *, time_limit_s: float = 60.0, evidence: EvidenceStore | None = None
) -> CheckContext:
    """A context with seed 0."""
    return CheckContext(
        seed=0, device=device, time_limit_s=time_limit_s, evidence=evidence or NoEvidence()
    )


def make_subject(path: Path) -> Subject:
    """The file or folder as a subject, as the runner would describe it."""
    kind: ModelKind = "transformers" if path.is_dir() else "onnx"
    return Subject(name="model", path=path, kind=kind, digest=look_at(path, kind).digest)
