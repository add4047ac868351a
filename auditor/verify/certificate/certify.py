"""From a `holds` to a `holds` with a certificate."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from auditor.errors import OutputNotWritable, Unsupported
from auditor.findings import Verdict
from auditor.verify.certificate.checker import check_certificate
from auditor.verify.certificate.producer import WrittenCertificate, write_certificate
from auditor.verify.outcome import Outcome
from auditor.verify.proof import Proof
from auditor.verify.property import Property
from auditor.verify.semantics import Semantics


def certify(
    outcome: Outcome,
    model: Path,
    property_file: Path,
    prop: Property,
    proofs: Sequence[Proof],
    target: Path,
    semantics: Semantics = Semantics.REAL,
) -> tuple[Outcome, WrittenCertificate | None]:
    """Write the certificate of an outcome that holds; other outcomes are returned as they are.

    It is checked before it gets its name. A certificate was asked for, so without one the
    outcome becomes `unknown`, and its reason says that the search found the property to hold.

    Args:
        outcome: What `verify` found.
        model: The ONNX file it was about.
        property_file: The property's file.
        prop: The property read from it.
        proofs: What `verify` noted on the way.
        target: Where to write.
        semantics: The arithmetic of the verdict.

    Raises:
        OutputNotWritable: The place cannot be written.
    """
    if outcome.verdict is not Verdict.HOLDS:
        return outcome, None
    unchecked = target.with_name(f".{target.name}.unchecked")
    try:
        written = write_certificate(model, property_file, prop, proofs, unchecked, semantics)
        started = time.perf_counter()
        checked = check_certificate(unchecked, model, property_file)
        seconds = time.perf_counter() - started
        if checked.accepted:
            unchecked.replace(target)
            return outcome, written._replace(path=target, check_s=seconds)
        stopped = f"the checker rejects it ({checked.reason})"
    except Unsupported as refusal:
        stopped = str(refusal)
    except OSError as error:
        raise OutputNotWritable(target, error.strerror or str(error)) from None
    finally:
        with contextlib.suppress(OSError):
            unchecked.unlink(missing_ok=True)
    reason = f"no certificate: {stopped}; the search itself found: {outcome.reason}"
    return replace(outcome, verdict=Verdict.UNKNOWN, reason=reason), None
