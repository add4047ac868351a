"""AUD102: is this the model it is said to be, by bytes and by function?"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from auditor.check import Check, CheckContext, CheckParams, Subject
from auditor.errors import Unsupported, UnsupportedModel
from auditor.findings import Answer, Finding, Location, Metric, Severity, Verdict
from auditor.models.digest import functional_digest
from auditor.models.functional_digest import FunctionComparison, compare_functions
from auditor.models.onnx_model import OnnxModel
from auditor.models.subject_files import FOLDER_KINDS, read_kind

_FILE = r"sha256:[0-9a-f]{64}"
_FUNCTION = r"fn1:[0-9a-f]{64}"


class Params(CheckParams):
    """Parameters of AUD102."""

    expected_file_digest: str | None = Field(default=None, pattern=f"^{_FILE}$")
    """`sha256:<hex>` that the file must have, data files included; of a folder, its digest."""
    expected_functional_digest: str | None = Field(default=None, pattern=f"^{_FUNCTION}$")
    """`fn1:<hex>` that the function must have."""
    reference: Path | None = None
    """An ONNX model that must compute the same function within `tolerance`."""
    tolerance: float = Field(default=1e-6, ge=0)
    """Largest difference from `reference`, relative to the largest output of each probe."""


def _no_function(kind: str) -> UnsupportedModel:
    # Many model types compute parts of a layer in float32 whatever the weights are, and one such
    # rounding is larger than a cell of the functional digest.
    return UnsupportedModel(
        f"the function of a {kind} folder has no digest and is not compared",
        way_out="give expected_file_digest, or export the model to ONNX and audit that",
    )


def run(subject: Subject, params: Params, context: CheckContext) -> Answer:
    """Compute the digests and compare what there is to compare with."""
    if subject.kind in FOLDER_KINDS:
        return _run_folder(subject, params)
    return _run_file(subject, params, context)


def _run_folder(subject: Subject, params: Params) -> Answer:
    """Compare the digest of a folder; of its function there is no digest."""
    folder = read_kind(subject.path, subject.kind, subject.digest)
    findings: list[Finding] = []
    compared: list[str] = []
    if params.expected_file_digest is not None:
        compared.append("the digest of the folder")
        if params.expected_file_digest != folder.digest:
            findings.append(_mismatch("file", params.expected_file_digest, folder.digest))
    facts = {
        "file_digest": folder.digest,
        "functional_digest": "not available",
        "model_type": folder.model_type,
        "files": ", ".join(folder.files),
    }
    wanted = bool(params.expected_functional_digest or params.reference)
    missing = str(_no_function(subject.kind)) if wanted else ""
    return _answer(findings, compared, missing, (), facts, open_question=wanted)


def _run_file(subject: Subject, params: Params, context: CheckContext) -> Answer:
    """Compute both digests of an ONNX file and compare what there is to compare with."""
    model = OnnxModel.open(subject.path, expected_digest=subject.digest)
    facts = {"file_digest": model.digest}
    findings: list[Finding] = []
    compared: list[str] = []
    missing = ""
    if params.expected_file_digest is not None:
        compared.append("the file digest")
        if params.expected_file_digest != model.digest:
            findings.append(_mismatch("file", params.expected_file_digest, model.digest))
    context.progress(0.3, "functional digest")
    try:
        facts["functional_digest"] = functional_digest(model)
    except Unsupported as error:
        missing = f"no functional digest: {error}"
        facts["functional_digest"] = "not available"
    if params.expected_functional_digest is not None and not missing:
        compared.append("the functional digest")
        if params.expected_functional_digest != facts["functional_digest"]:
            findings.append(
                _mismatch(
                    "functional", params.expected_functional_digest, facts["functional_digest"]
                )
            )
    metrics: tuple[Metric, ...] = ()
    if params.reference is not None and not missing:
        context.progress(0.6, "comparison with the reference")
        reference = OnnxModel.open(params.reference)
        facts["reference_digest"] = reference.digest
        try:
            comparison = compare_functions(model, reference)
        except Unsupported as error:
            missing = f"not comparable with the reference: {error}"
        else:
            compared.append(f"the function of {params.reference.name}")
            metrics = _metrics(comparison)
            if not comparison.relative <= params.tolerance:
                findings.append(_other_function(params, comparison))
    wanted = bool(params.expected_functional_digest or params.reference)
    return _answer(findings, compared, missing, metrics, facts, open_question=wanted)


def _answer(
    findings: list[Finding],
    compared: list[str],
    missing: str,
    metrics: tuple[Metric, ...],
    facts: dict[str, str],
    *,
    open_question: bool,
) -> Answer:
    if findings:
        verdict, summary = Verdict.VIOLATED, "; ".join(finding.title for finding in findings)
    elif missing and open_question:
        verdict, summary = Verdict.UNKNOWN, "The function could not be compared"
    elif compared:
        verdict, summary = Verdict.HOLDS, f"As expected: {', '.join(compared)}"
    else:
        verdict = Verdict.HOLDS
        summary = "Digests recorded; nothing was expected, so nothing was compared"
    return Answer(
        verdict=verdict,
        summary=summary,
        reason=missing if verdict is Verdict.UNKNOWN else "",
        metrics=metrics,
        findings=tuple(findings),
        limits_hit=(missing,) if missing else (),
        facts=facts | {"compared": ", ".join(compared) or "nothing"},
    )


def _metrics(comparison: FunctionComparison) -> tuple[Metric, ...]:
    return (
        Metric(
            name="largest_relative_difference",
            value=comparison.relative,
            unit="of the probe's largest output",
            sample_size=comparison.probes,
            better="lower",
        ),
        Metric(
            name="largest_absolute_difference",
            value=comparison.absolute,
            sample_size=comparison.probes,
            better="lower",
        ),
    )


def _mismatch(kind: str, expected: str, actual: str) -> Finding:
    return Finding(
        title=f"The {kind} digest is not the expected one",
        severity=Severity.HIGH,
        description=f"Expected {expected}, found {actual}: this is another "
        f"{'file' if kind == 'file' else 'function'}.",
        remedy=(
            "Fetch the released model again, or update the expectation after a reviewed change."
            if kind == "file"
            else "If the model was only rewritten (for example batch normalisation folded), name "
            "the original as `reference` and compare within a tolerance."
        ),
        location=Location(property_id=f"{kind}-digest"),
    )


def _other_function(params: Params, comparison: FunctionComparison) -> Finding:
    return Finding(
        title="The model computes another function than the reference",
        severity=Severity.HIGH,
        description=(
            f"On {comparison.probes} canonical probes outputs differ by up to "
            f"{comparison.relative:.3g} of the largest output; allowed are {params.tolerance:g}."
        ),
        remedy="Find out which training or conversion step changed the weights.",
        location=Location(property_id="reference-function"),
    )


def prepare(subject: Subject, params: Params) -> None:
    """Say before the run what cannot be compared."""
    if subject.kind in FOLDER_KINDS and (params.expected_functional_digest or params.reference):
        raise _no_function(subject.kind)


CHECK = Check(
    code="AUD102",
    title="The model is the one it is said to be",
    version=1,
    question="Are the file and the function it computes the expected ones?",
    method=(
        "SHA-256 over the model file and its data files, or over the names and contents of a "
        "folder's files; for ONNX a digest of the outputs on canonical "
        "probes, evaluated in float64 and cut to a grid; on request the largest difference from "
        "a reference model on the same probes."
    ),
    pass_does_not_mean=(
        "That two models with one functional digest agree everywhere: the probes are few and "
        "public. Only the file digest withstands somebody who wants to deceive. Without an "
        "expectation nothing is compared, digests are only recorded."
    ),
    kinds=("onnx", *FOLDER_KINDS),
    params=Params,
    run=run,
    estimate_s=lambda params: 3.0,
    prepare=prepare,
)
