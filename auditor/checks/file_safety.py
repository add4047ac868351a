"""AUD101: the model is safe to open, and what it holds are numbers."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from auditor.check import Check, CheckContext, CheckParams, Subject
from auditor.errors import RefusedModel
from auditor.findings import Answer, Finding, Location, Metric, Severity, TextEvidence, Verdict
from auditor.models.onnx_folder import OnnxFolder
from auditor.models.onnx_model import NonFinite, OnnxModel
from auditor.models.preflight import inspect_file
from auditor.models.subject_files import FOLDER_KINDS, read_kind
from auditor.models.transformers_folder import TransformersFolder
from auditor.models.trial import TrialOutcome, TrialStatus, trial_load
from auditor.models.weight_numbers import find_nonfinite

_CLEAN = (
    "Nothing in the structure, the data files and the numbers matched a known danger; "
    "the ONNX checker, shape inference and onnxruntime load the model"
)
_CLEAN_FOLDER = (
    "Nothing in the names, links, configuration, weight headers and numbers matched a known "
    "danger; the model was not loaded"
)
_INCONCLUSIVE = (TrialStatus.OUT_OF_TIME, TrialStatus.NOT_RUN)


class Params(CheckParams):
    """Parameters of AUD101."""

    trial_seconds: float = Field(default=60.0, gt=0)
    """Wall-clock limit of the first load in a child process."""
    trial_memory_mb: int = Field(default=16_384, ge=256)
    """Limit of the child's address space, where the system has one."""


def run(subject: Subject, params: Params, context: CheckContext) -> Answer:
    """Inspect the bytes and look at the numbers of a model, whichever kind it is."""
    if subject.kind in FOLDER_KINDS:
        return _run_folder(subject, context)
    return _run_file(subject, params, context)


def _run_folder(subject: Subject, context: CheckContext) -> Answer:
    """A folder is checked and its numbers are read; no library loads it."""
    facts = {"format": subject.kind}
    try:
        folder = read_kind(subject.path, subject.kind, subject.digest)
    except RefusedModel as refusal:
        return _refused(refusal, facts)
    facts |= {"model_type": folder.model_type, "files": ", ".join(folder.files)}
    parameters, nonfinite = 0, tuple[NonFinite, ...]()
    if isinstance(folder, OnnxFolder):
        parameters, nonfinite = folder.graph.parameter_count, folder.graph.nonfinite
        facts["format"] = "transformers, with an ONNX graph"
    elif isinstance(folder, TransformersFolder):
        parameters = folder.parameter_count
        facts["types"] = ", ".join(f"{dtype} x{count}" for dtype, count in folder.dtypes.items())
        nonfinite = find_nonfinite(
            folder, lambda share: context.progress(0.3 + 0.7 * share, "reading the weights")
        )
    facts["parameters"] = str(parameters)
    findings = tuple(_nonfinite_finding(entry) for entry in nonfinite)
    return Answer(
        verdict=Verdict.VIOLATED if findings else Verdict.HOLDS,
        summary="; ".join(finding.title for finding in findings[:3]) or _CLEAN_FOLDER,
        metrics=_metrics(parameters, nonfinite),
        findings=findings,
        facts=facts,
    )


def _run_file(subject: Subject, params: Params, context: CheckContext) -> Answer:
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
    metrics = _metrics(model.parameter_count, model.nonfinite)
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


def _metrics(parameters: int, nonfinite: Sequence[NonFinite]) -> tuple[Metric, ...]:
    return (
        Metric(name="parameters", value=parameters, unit="numbers"),
        Metric(
            name="nonfinite_parameters",
            value=sum(entry.count for entry in nonfinite),
            unit="numbers",
            sample_size=parameters,
            better="lower",
        ),
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
        title=f"The model must not be opened: {refusal.rule}",
        severity=Severity.CRITICAL,
        description=f"Rule {refusal.rule}: {refusal.problem}. Nothing of it was executed.",
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
    title="The model is safe to open",
    version=1,
    question="Can the model be opened without running anything, and are all its weights numbers?",
    method=(
        "A walk over the file's bytes before any library opens them (allow-list of formats, "
        "fields and operator domains; limits in unbounded integers; external data by "
        "descriptor), then the ONNX checker, a scan for NaN and infinity, and a first load in "
        "a child process. For a folder: an allow-list of files, links, configuration keys and "
        "weight headers, and the scan; no library loads it."
    ),
    pass_does_not_mean=(
        "That the model is harmless or honest: a network may have been trained to misbehave, "
        "and the runtimes that load it may have faults not known here."
    ),
    kinds=("onnx", *FOLDER_KINDS),
    params=Params,
    run=run,
    estimate_s=lambda params: 2.0,
)
