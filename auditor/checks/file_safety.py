"""AUD101: the model is safe to open, and what it holds are numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from pydantic import Field

from auditor.check import Check, CheckContext, CheckParams, Subject
from auditor.errors import RefusedModel
from auditor.findings import Answer, Finding, Location, Metric, Severity, TextEvidence, Verdict
from auditor.guarded.outcome import GuardOutcome, GuardStatus
from auditor.models.folder_trial import trial_folder
from auditor.models.onnx_folder import OnnxFolder
from auditor.models.onnx_model import NonFinite, OnnxModel
from auditor.models.preflight import inspect_file
from auditor.models.subject_files import FOLDER_KINDS, read_kind
from auditor.models.transformers_folder import TransformersFolder
from auditor.models.trial import trial_load
from auditor.models.weight_numbers import find_nonfinite

_CLEAN = (
    "Nothing in the structure, the data files and the numbers matched a known danger; "
    "the ONNX checker, shape inference and onnxruntime load the model"
)
_CLEAN_FOLDER = (
    "Nothing in the names, links, configuration, weight headers and numbers matched a known "
    "danger; no weights were loaded, and the libraries took these steps with the rest: "
)
_BROKEN = (GuardStatus.REJECTED, GuardStatus.CRASHED)


class Params(CheckParams):
    """Parameters of AUD101."""

    trial_seconds: float = Field(default=60.0, gt=0)
    """Limit of the first load in a child process, in wall clock and in processor time."""
    trial_memory_mb: int = Field(default=16_384, ge=256)
    """Limit of the child's address space, where the system has one."""


def run(subject: Subject, params: Params, context: CheckContext) -> Answer:
    """Inspect the bytes and look at the numbers of a model, whichever kind it is."""
    if subject.kind in FOLDER_KINDS:
        return _run_folder(subject, params, context)
    return _run_file(subject, params, context)


def _run_folder(subject: Subject, params: Params, context: CheckContext) -> Answer:
    """A folder is checked and its numbers are read; only what is small in it is loaded."""
    facts = {"format": subject.kind}
    try:
        folder = read_kind(subject.path, subject.kind, subject.digest)
    except RefusedModel as refusal:
        return _refused(refusal, facts)
    facts |= {"model_type": folder.model_type, "files": ", ".join(folder.files)}
    parameters, nonfinite = 0, tuple[NonFinite, ...]()
    limits = _trial_limits(params, context)
    context.progress(0.1, "first load of what is small in a child process")
    trials = [trial_folder(folder, **limits)]
    if isinstance(folder, OnnxFolder):
        parameters, nonfinite = folder.graph.parameter_count, folder.graph.nonfinite
        facts["format"] = "transformers, with an ONNX graph"
        trials.append(trial_load(folder.graph, **limits))
    elif isinstance(folder, TransformersFolder):
        parameters = folder.parameter_count
        facts["types"] = ", ".join(f"{dtype} x{count}" for dtype, count in folder.dtypes.items())
        nonfinite = find_nonfinite(
            folder, lambda share: context.progress(0.3 + 0.7 * share, "reading the weights")
        )
    facts["parameters"] = str(parameters)
    clean = _CLEAN_FOLDER + _told(trials)
    return _answer(parameters, nonfinite, trials, clean, facts)


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
    trial = trial_load(model, **_trial_limits(params, context))
    return _answer(model.parameter_count, model.nonfinite, [trial], _CLEAN, facts)


class _TrialLimits(TypedDict):
    seconds: float
    memory_mb: int


def _trial_limits(params: Params, context: CheckContext) -> _TrialLimits:
    seconds = min(params.trial_seconds, context.time_limit_s)
    return {"seconds": seconds, "memory_mb": params.trial_memory_mb}


def _told(trials: Sequence[GuardOutcome]) -> str:
    """The steps that were passed, and those that could not be taken."""
    passed = "; ".join(", ".join(trial.stages) or "no stage" for trial in trials)
    skipped = ", ".join(step for trial in trials for step, _ in trial.skipped)
    return f"{passed}; not tried: {skipped}" if skipped else passed


def _answer(
    parameters: int,
    nonfinite: Sequence[NonFinite],
    trials: Sequence[GuardOutcome],
    clean: str,
    facts: dict[str, str],
) -> Answer:
    findings = tuple(_nonfinite_finding(entry) for entry in nonfinite)
    findings += tuple(_trial_finding(trial) for trial in trials if trial.status in _BROKEN)
    open_ended = [t for t in trials if t.status not in (*_BROKEN, GuardStatus.DONE)]
    limits = tuple(
        f"first load: {trial.status} at '{trial.stage or 'start'}': {trial.problem}"
        for trial in open_ended
    )
    if findings:
        verdict, summary = Verdict.VIOLATED, "; ".join(finding.title for finding in findings[:3])
    elif limits:
        verdict, summary = Verdict.UNKNOWN, "The model passed the inspection, the load did not end"
    else:
        verdict, summary = Verdict.HOLDS, clean
    return Answer(
        verdict=verdict,
        summary=summary,
        reason="; ".join(limits) if verdict is Verdict.UNKNOWN else "",
        metrics=_metrics(parameters, nonfinite),
        findings=findings,
        limits_hit=limits,
        facts=facts | _trial_facts(trials),
    )


def _trial_facts(trials: Sequence[GuardOutcome]) -> dict[str, str]:
    told = (
        f"{'loaded' if trial.status is GuardStatus.DONE else trial.status} "
        f"({', '.join(trial.stages) or 'no stage'})" for trial in trials
    )  # fmt: skip
    facts = {"first_load": "; ".join(told)}
    skipped = [f"{step}: {why}" for trial in trials for step, why in trial.skipped]
    if skipped:
        facts["first_load_not_tried"] = "; ".join(skipped)
    held = dict.fromkeys(str(trial.protections or "not reached") for trial in trials)
    return {**facts, "first_load_protections": " / ".join(held)}


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


def _trial_finding(trial: GuardOutcome) -> Finding:
    crashed = trial.status is GuardStatus.CRASHED
    return Finding(
        title=f"Loading the model {'crashes' if crashed else 'fails'}: {trial.stage}",
        severity=Severity.CRITICAL if crashed else Severity.HIGH,
        description=f"A first load in a child process ended in '{trial.stage}': {trial.problem}.",
        remedy=(
            "Export or save the model again; try an ONNX file with onnx.checker and shape "
            "inference, a folder with transformers, in a container without network."
        ),
        location=Location(layer=trial.stage),
    )


CHECK = Check(
    code="AUD101",
    title="The model is safe to open",
    version=2,
    question="Can the model be opened without running anything, and are all its weights numbers?",
    method=(
        "A walk over the file's bytes before any library opens them (allow-list of formats, "
        "fields and operator domains; limits in unbounded integers; external data by "
        "descriptor), then the ONNX checker, a scan for NaN and infinity, and a first load in "
        "a child process. For a folder: an allow-list of files, links, configuration keys and "
        "weight headers, the scan, and a first load of configuration, tokenizer and chat "
        "templates in such a child; no weights are loaded. The child has no network, starts no "
        "process and writes no file where the system can see to that; the facts say what did."
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
