"""AUD101: the model file is safe to open, and what it holds are numbers."""

from __future__ import annotations

from pydantic import Field

from auditor.check import Check, CheckContext, CheckParams, Subject
from auditor.errors import RefusedModel
from auditor.findings import Answer, Finding, Location, Metric, Severity, TextEvidence, Verdict
from auditor.models.onnx_model import NonFinite, OnnxModel
from auditor.models.preflight import inspect_file
from auditor.models.trial import TrialOutcome, TrialStatus, trial_load

_CLEAN = (
    "Nothing in the structure, the data files and the numbers matched a known danger; "
    "the ONNX checker, shape inference and onnxruntime load the model"
)
_INCONCLUSIVE = (TrialStatus.OUT_OF_TIME, TrialStatus.NOT_RUN)


class Params(CheckParams):
    """Parameters of AUD101."""

    trial_seconds: float = Field(default=60.0, gt=0)
    """Wall-clock limit of the first load in a child process."""
    trial_memory_mb: int = Field(default=16_384, ge=256)
    """Limit of the child's address space, where the system has one."""


def run(subject: Subject, params: Params, context: CheckContext) -> Answer:
    """Inspect the bytes, open the model, look at its numbers, load it in a child."""
    inspection = inspect_file(subject.path)
    facts = {"format": str(inspection.format), **inspection.facts}
    if inspection.refusal is not None:
        return _refused(inspection.refusal, facts)
    context.progress(0.2, "opening")
    try:
        model = OnnxModel.open(subject.path, expected_digest=subject.digest)
    except RefusedModel as refusal:
        return _refused(refusal, facts)
    facts |= _facts(model)
    context.progress(0.5, "first load in a child process")
    seconds = min(params.trial_seconds, context.time_limit_s)
    trial = trial_load(model, seconds=seconds, memory_mb=params.trial_memory_mb)
    facts["first_load"] = f"{trial.status} ({', '.join(trial.stages) or 'no stage'})"
    return _answer(model, trial, facts)


def _answer(model: OnnxModel, trial: TrialOutcome, facts: dict[str, str]) -> Answer:
    findings = tuple(_nonfinite_finding(entry) for entry in model.nonfinite)
    if trial.status in (TrialStatus.REJECTED, TrialStatus.CRASHED):
        findings += (_trial_finding(trial),)
    metrics = (
        Metric(name="parameters", value=model.parameter_count, unit="numbers"),
        Metric(
            name="nonfinite_parameters",
            value=sum(entry.count for entry in model.nonfinite),
            unit="numbers",
            sample_size=model.parameter_count,
            better="lower",
        ),
    )
    limits: tuple[str, ...] = ()
    if trial.status in _INCONCLUSIVE:
        limits = (f"first load: {trial.status} at '{trial.stage}' {trial.problem}".strip(),)
    if findings:
        verdict, summary = Verdict.VIOLATED, "; ".join(finding.title for finding in findings[:3])
    elif limits:
        verdict, summary = Verdict.UNKNOWN, "The file passed the inspection, the load did not end"
    else:
        verdict, summary = Verdict.HOLDS, _CLEAN
    return Answer(
        verdict=verdict,
        summary=summary,
        reason=limits[0] if verdict is Verdict.UNKNOWN else "",
        metrics=metrics,
        findings=findings,
        limits_hit=limits,
        facts=facts,
    )


def _facts(model: OnnxModel) -> dict[str, str]:
    return {
        "opset": str(model.opset),
        "producer": model.producer or "not stated",
        "operators": ", ".join(f"{name} x{n}" for name, n in sorted(model.operators.items())),
        "parameters": str(model.parameter_count),
        "inputs": "; ".join(map(str, model.inputs)),
        "outputs": "; ".join(map(str, model.outputs)),
    }


def _refused(refusal: RefusedModel, facts: dict[str, str]) -> Answer:
    finding = Finding(
        title=f"The file must not be opened: {refusal.rule}",
        severity=Severity.CRITICAL,
        description=f"Rule {refusal.rule}: {refusal.problem}. Nothing of the file was executed.",
        remedy=f"{refusal.way_out[:1].upper()}{refusal.way_out[1:]}.",
        location=Location(file=refusal.path.name, node=refusal.rule),
        evidence=(TextEvidence(title="Where", text=refusal.place),) if refusal.place else (),
    )
    return Answer(
        verdict=Verdict.VIOLATED,
        summary=f"Refused: {refusal.problem} [{refusal.rule}]",
        findings=(finding,),
        facts={**facts, "rule": refusal.rule},
    )


def _nonfinite_finding(entry: NonFinite) -> Finding:
    return Finding(
        title=f"Tensor '{entry.tensor}' holds numbers that are not finite",
        severity=Severity.HIGH,
        description=(
            f"{entry.count} entries are {' or '.join(entry.kinds)}, the first at flat positions "
            f"{', '.join(map(str, entry.indices))}. One of them can make every output NaN."
        ),
        remedy="Look for the training step that diverged and export a checkpoint before it.",
        location=Location(layer=entry.tensor),
    )


def _trial_finding(trial: TrialOutcome) -> Finding:
    crashed = trial.status is TrialStatus.CRASHED
    return Finding(
        title=f"Loading the model {'crashes' if crashed else 'fails'}: {trial.stage}",
        severity=Severity.CRITICAL if crashed else Severity.HIGH,
        description=f"A first load in a child process ended in '{trial.stage}': {trial.problem}.",
        remedy="Export the model again; check it with onnx.checker and with shape inference.",
        location=Location(layer=trial.stage),
    )


CHECK = Check(
    code="AUD101",
    title="The model file is safe to open",
    version=1,
    question="Can the file be opened without running anything, and are all its weights numbers?",
    method=(
        "A walk over the file's bytes before any library opens them (allow-list of formats, "
        "fields and operator domains; limits in unbounded integers; external data by "
        "descriptor), then the ONNX checker, a scan for NaN and infinity, and a first load in "
        "a child process."
    ),
    pass_does_not_mean=(
        "That the model is harmless or honest: a network may have been trained to misbehave, "
        "and the runtimes that load it may have faults not known here."
    ),
    kinds=("onnx",),
    params=Params,
    run=run,
    estimate_s=lambda params: 2.0,
)
