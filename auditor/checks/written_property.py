"""AUD201: a written property (VNN-LIB or YAML) holds."""

from __future__ import annotations

import tempfile
from fractions import Fraction
from pathlib import Path

from pydantic import Field

from auditor.check import Check, CheckContext, CheckParams, Subject
from auditor.findings import (
    Answer,
    BlobEvidence,
    Evidence,
    Finding,
    ImageEvidence,
    Location,
    Severity,
    Verdict,
)
from auditor.verify.certificate.certify import certify
from auditor.verify.evidence import (
    check_image_shape,
    gray_image,
    statistics_metrics,
    witness_evidence,
)
from auditor.verify.onnx_subject import OnnxSubject, open_subject, read_property
from auditor.verify.outcome import Limits, Outcome
from auditor.verify.proof import Proof
from auditor.verify.property import Property
from auditor.verify.search import verify
from auditor.verify.semantics import Semantics
from auditor.verify.traits import VERIFIER_TRAITS

_MEANING = {
    Semantics.REAL: "real arithmetic of the stored weights; bounds rounded outward",
    Semantics.FLOAT32: "float32 as executed, whatever the order of summation",
}


class Params(CheckParams):
    """Parameters of AUD201."""

    property: Path
    """The property: a YAML or VNN-LIB file."""
    severity: Severity = Severity.HIGH
    """How bad a violation is."""
    max_boxes: int = Field(default=2_000_000, ge=0)
    """Sub-problems the search may look at."""
    semantics: Semantics = Semantics.REAL
    """`real`: the exact function; `float32`: as runtimes execute it, in any order."""
    image_shape: tuple[int, int] | None = None
    """Height and width, for models whose input is a grey-scale picture in [0, 1]."""
    certificate: bool = False
    """Whether a `holds` needs a certificate, kept as evidence; else it is `unknown`."""


def prepare(subject: Subject, params: Params) -> None:
    """Find out before the run whether model and property fit each other."""
    opened = open_subject(subject.path)
    read_property(params.property, opened.network)
    check_image_shape(params.image_shape, opened.network.num_inputs)


def run(subject: Subject, params: Params, context: CheckContext) -> Answer:
    """Verify the property; a violation counts only when it was replayed."""
    opened = open_subject(subject.path, context.device, expected_digest=subject.digest)
    prop = read_property(params.property, opened.network)
    proofs: list[Proof] | None = [] if params.certificate else None
    outcome = verify(
        opened.network,
        prop,
        limits=Limits(time_s=context.time_limit_s, max_boxes=params.max_boxes),
        seed=context.seed,
        progress=context.progress,
        replay=opened.replayers,
        semantics=params.semantics,
        proofs=proofs,
    )
    kept: tuple[Evidence, ...] = ()
    if proofs is not None:
        outcome, kept = _certified(subject, prop, outcome, proofs, params, context)
    answer = _answer(opened, prop, outcome, params)
    return answer.model_copy(update={"evidence": answer.evidence + kept}) if kept else answer


def _certified(
    subject: Subject,
    prop: Property,
    outcome: Outcome,
    proofs: list[Proof],
    params: Params,
    context: CheckContext,
) -> tuple[Outcome, tuple[Evidence, ...]]:
    """The outcome with its certificate stored, or `unknown` where none could be written."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "certificate.audcert"
        outcome, written = certify(
            outcome, subject.path, params.property, prop, proofs, target, params.semantics
        )  # fmt: skip
        if written is None:
            return outcome, ()
        blob = context.evidence.put(
            target.read_bytes(), "application/octet-stream", "certificate.audcert"
        )
    title = f"Certificate of {prop.name}, for `auditor verify --check`"
    return outcome, (BlobEvidence(title=title, blob=blob),)


def _answer(opened: OnnxSubject, prop: Property, outcome: Outcome, params: Params) -> Answer:
    evidence = _evidence(opened, prop, outcome, params)
    finding = _finding(prop, outcome, params, evidence)
    verdict, reason = outcome.verdict, outcome.reason
    if finding and verdict is Verdict.HOLDS:
        # Proved of the reals and broken as executed: neither answer alone would be true.
        verdict = Verdict.UNKNOWN
        reason = f"proved in real arithmetic, and violated as executed; {reason}"
    return Answer(
        verdict=verdict,
        summary=prop.text,
        reason=reason if verdict.is_open else "",
        metrics=statistics_metrics(outcome.statistics),
        findings=(finding,) if finding else (),
        evidence=() if finding else evidence,
        facts={
            "property": prop.text,
            "violated where": prop.violation_text,
            "semantics": _MEANING[params.semantics],
            "reason": outcome.reason,
            **VERIFIER_TRAITS,
        },
    )


def _finding(
    prop: Property, outcome: Outcome, params: Params, evidence: tuple[Evidence, ...]
) -> Finding | None:
    """What is wrong: a violation, or arithmetic and runtime that disagree about one."""
    witness = outcome.witness
    if outcome.verdict is Verdict.VIOLATED:
        title = f"{prop.name} is violated"
        description = f"Shown by a replayed input: {prop.violation_text}"
    elif witness is not None and any(replay.violates for replay in witness.replays):
        title = f"{prop.name} is violated as executed, and not in exact arithmetic"
        description = witness.disagreement
    elif witness is not None and witness.exact_violates:
        title = f"{prop.name} is violated in exact arithmetic, and not as executed"
        description = witness.disagreement
    else:
        return None
    return Finding(
        title=title,
        severity=params.severity,
        description=description,
        remedy="Look at the witness; retrain, restrict the input, or correct the property.",
        location=Location(property_id=prop.name),
        evidence=evidence,
    )


def _evidence(
    opened: OnnxSubject, prop: Property, outcome: Outcome, params: Params
) -> tuple[Evidence, ...]:
    witness = outcome.witness
    if witness is None:
        return ()
    title = "Witness" if witness.confirmed else "Candidate that did not count"
    records: list[Evidence] = [witness_evidence(title, prop, witness, opened)]
    if params.image_shape:
        point = [Fraction(float(x)) for x in witness.inputs]
        # An input may lie beside its interval where that holds no float32.
        box = next((case for case in prop.cases if case.contains(point)), prop.cases[0])
        middle = [float((low + high) / 2) for low, high in zip(box.lower, box.upper, strict=True)]
        change = witness.inputs.astype(float) - middle
        stretched = 0.5 + 0.5 * change / max(float(abs(change).max()), 1e-12)
        records.append(
            ImageEvidence(
                title="The witness as a picture",
                images=(
                    gray_image(middle, params.image_shape, "middle of the input region"),
                    gray_image(witness.inputs, params.image_shape, "witness"),
                    gray_image(stretched, params.image_shape, "difference, stretched"),
                ),
                description=f"The witness satisfies: {prop.violation_text}",
            )
        )
    return tuple(records)


CHECK = Check(
    code="AUD201",
    title="A written property holds",
    version=2,
    question="Does the stated property hold for every input it speaks of?",
    method=(
        "Falsification by descent and corners, then sound linear bounds with outward "
        "rounding and branch and bound, then Z3 in exact rationals on what is left small. "
        "A violation counts only when exact arithmetic and onnxruntime confirm it."
    ),
    pass_does_not_mean=(
        "The statement is proved in real arithmetic for the stored weights; a runtime that "
        "rounds may differ by its rounding error near a tie. Nothing is said about inputs "
        "outside the stated region."
    ),
    kinds=("onnx",),
    params=Params,
    run=run,
    estimate_s=lambda params: 1.0,
    prepare=prepare,
)
