"""AUD103: the runtimes agree with a float64 reference within a stated bound."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import Field

from auditor.activations.runtime_parity import (
    REFERENCE,
    Bound,
    Deviation,
    ParityReport,
    Sample,
    compare_runtimes,
)
from auditor.check import Check, CheckContext, CheckParams, Subject
from auditor.errors import DeviceUnavailable, Unsupported
from auditor.findings import (
    Answer,
    Control,
    Finding,
    Location,
    Metric,
    Severity,
    TableEvidence,
    Verdict,
)
from auditor.models.input_file import read_inputs, split_samples
from auditor.models.onnx_model import OnnxModel
from auditor.models.probes import probe_inputs
from auditor.models.session import cuda_works


class Params(CheckParams):
    """Parameters of AUD103."""

    inputs: Path | None = None
    """Samples: .npy, or .npz with `inputs` or with arrays named like the model's inputs.
    Without them canonical probes are used."""
    count: int = Field(default=64, ge=1)
    """How many samples or random probes."""
    absolute_tolerance: float = Field(default=1e-5, ge=0)
    """Part of the bound that does not depend on the outputs."""
    relative_tolerance: float = Field(default=1e-4, ge=0)
    """Part of the bound per unit of the sample's largest output."""
    severity: Severity = Severity.MEDIUM
    """How bad it is when a runtime leaves the bound."""


def run(subject: Subject, params: Params, context: CheckContext) -> Answer:
    """Run all samples in all runtimes and compare with float64."""
    deadline = time.monotonic() + context.time_limit_s
    model = OnnxModel.open(subject.path, expected_digest=subject.digest)
    cuda = context.device == "cuda"
    bound = Bound(params.absolute_tolerance, params.relative_tolerance)
    try:
        samples = _samples(model, params, context.seed)
        context.progress(0.2, f"{len(samples)} samples in every runtime")
        report = compare_runtimes(
            model, samples, bound, cuda=cuda, out_of_time=lambda: time.monotonic() > deadline
        )
    except (Unsupported, DeviceUnavailable) as error:
        return Answer(
            verdict=Verdict.UNKNOWN,
            summary="The runtimes could not be compared",
            reason=str(error),
            facts={"bound": _bound_text(params)},
        )
    return _answer(report, params, len(samples), _cuda_note(cuda=cuda))


def _samples(model: OnnxModel, params: Params, seed: int) -> list[Sample]:
    if params.inputs is None:
        return list(probe_inputs(model.inputs, random_probes=params.count, seed=seed))
    inputs = read_inputs(params.inputs, model)
    return list(split_samples({name: value[: params.count] for name, value in inputs.items()}))


def _cuda_note(*, cuda: bool) -> str:
    if cuda:
        return ""
    if cuda_works():
        return "CUDA was not compared: the run was asked to use the CPU (--device cuda compares it)"
    return "CUDA was not compared: there is no usable CUDA device here"


def _answer(report: ParityReport, params: Params, wanted: int, cuda_note: str) -> Answer:
    measured = [*report.deviations, *([report.batch] if report.batch else [])]
    findings = tuple(
        _finding(deviation, params) for deviation in measured if deviation.bound_share > 1
    )
    worst = max(measured, key=lambda deviation: deviation.bound_share)
    names = ", ".join(deviation.runtime for deviation in report.deviations)
    summary = (
        f"{names} against {REFERENCE} on {worst.samples} samples: the largest difference is "
        f"{worst.bound_share:.2g} of the bound ({worst.runtime})"
    )
    facts = {
        "bound": _bound_text(params),
        "reference": REFERENCE,
        "inputs": params.inputs.name if params.inputs else "canonical probes",
        "batch": f"all {worst.samples} samples at once against each alone"
        if report.batch
        else "not compared, the batch axis is fixed",
        "cuda": cuda_note or "compared",
        **{f"providers of {name}": used for name, used in report.providers.items()},
    }
    late = (
        "" if worst.samples == wanted else f"time was up after {worst.samples} of {wanted} samples"
    )
    unbroken = Verdict.UNKNOWN if late else Verdict.HOLDS
    verdict = Verdict.VIOLATED if findings else unbroken
    return Answer(
        verdict=verdict,
        summary=summary,
        reason=late if verdict is Verdict.UNKNOWN else "",
        metrics=tuple(metric for deviation in measured for metric in _metrics(deviation)),
        controls=(
            Control(
                name="same-runtime-twice",
                question="Does one session give the same numbers again? Other than 0 is noise.",
                metrics=_metrics(report.repeat)[:1],
            ),
        ),
        findings=findings,
        evidence=(_table(measured),),
        limits_hit=tuple(note for note in (late, cuda_note) if note),
        facts=facts,
    )


def _bound_text(params: Params) -> str:
    return (
        f"{params.absolute_tolerance:g} + {params.relative_tolerance:g} x the sample's "
        "largest output"
    )


def _metrics(deviation: Deviation) -> tuple[Metric, ...]:
    measures = [("absolute", deviation.absolute, "", "lower")]
    measures.append(("ulps", deviation.ulps, "float32 ulps of the output scale", "lower"))
    if deviation.same_argmax is not None:
        share = deviation.same_argmax / deviation.samples
        measures.append(("same_argmax", share, "share", "higher"))
    return tuple(
        Metric(
            name=f"{deviation.runtime}:{name}",
            value=value,
            unit=unit,
            sample_size=deviation.samples,
            better="higher" if better == "higher" else "lower",
            note=f"against {deviation.against}",
        )
        for name, value, unit, better in measures
    )


def _argmax_text(deviation: Deviation) -> str:
    if deviation.same_argmax is None:
        return "one output"
    return f"{deviation.same_argmax} of {deviation.samples}"


def _table(measured: Sequence[Deviation]) -> TableEvidence:
    return TableEvidence(
        title="Largest differences",
        columns=("runtime", "against", "absolute", "ulps", "share of bound", "same argmax"),
        rows=tuple(
            (
                deviation.runtime,
                deviation.against,
                _finite(deviation.absolute),
                _finite(deviation.ulps),
                _finite(deviation.bound_share),
                _argmax_text(deviation),
            )
            for deviation in measured
        ),
    )


def _finite(value: float) -> float | str:
    return value if np.isfinite(value) else str(value)


def _finding(deviation: Deviation, params: Params) -> Finding:
    return Finding(
        title=f"{deviation.runtime} leaves the bound",
        severity=params.severity,
        description=(
            f"Against {deviation.against} output '{deviation.worst_output}' differs by "
            f"{deviation.bound_share:.3g} times the bound at sample {deviation.worst_sample}; "
            f"the largest difference is {deviation.absolute:.3g}. Same argmax: "
            f"{_argmax_text(deviation)}."
        ),
        remedy="Compare without graph optimisation and layer by layer, or state a wider bound.",
        location=Location(property_id=f"parity-{deviation.runtime}"),
    )


CHECK = Check(
    code="AUD103",
    title="Runtimes agree within a stated bound",
    version=1,
    question="Does the model compute the same in every runtime, whatever the batch size?",
    method=(
        "The same samples run alone in onnxruntime on the CPU with and without graph "
        "optimisation, in torch float32, and on CUDA where the run uses it, all compared with "
        "torch float64; then all samples in one batch against each alone."
    ),
    pass_does_not_mean=(
        "That the runtimes agree on every input, or that the outputs are right: only the "
        "samples were compared, and all runtimes may share a fault of the model."
    ),
    kinds=("onnx",),
    params=Params,
    run=run,
    estimate_s=lambda params: 3.0 + 0.02 * params.count,
)
