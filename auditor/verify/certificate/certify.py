"""From a `holds` to a `holds` with a certificate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from auditor.errors import Unsupported
from auditor.findings import Verdict
from auditor.verify.certificate.producer import WrittenCertificate, write_certificate
from auditor.verify.outcome import Outcome
from auditor.verify.property import Property


def certify(
    outcome: Outcome,
    model: Path,
    property_file: Path,
    prop: Property,
    target: Path,
    *,
    time_limit_s: float,
    progress: Callable[[float, str], None] | None = None,
) -> tuple[Outcome, WrittenCertificate | None]:
    """Write the certificate of an outcome that holds; other outcomes are returned as they are.

    A certificate was asked for, so without one the outcome becomes `unknown`, and its
    reason says that the search itself found the property to hold.

    Args:
        outcome: What `verify` found.
        model: The ONNX file it was about.
        property_file: The property's file.
        prop: The property read from it.
        target: Where to write.
        time_limit_s: Wall-clock seconds for the certificate alone.
        progress: Called with (proved share, text).
    """
    if outcome.verdict is not Verdict.HOLDS:
        return outcome, None
    written: WrittenCertificate | None = None
    try:
        written = write_certificate(
            model, property_file, prop, target, time_limit_s=time_limit_s, progress=progress
        )
        stopped = written.stopped
    except Unsupported as refusal:
        stopped = str(refusal)
    if written is not None and not stopped:
        return outcome, written
    reason = f"no certificate: {stopped}; the search itself found: {outcome.reason}"
    return replace(outcome, verdict=Verdict.UNKNOWN, reason=reason), None
