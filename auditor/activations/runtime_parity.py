"""How far runtimes differ from a float64 reference on the same inputs.

Every runtime runs every sample alone (batch of one); the reference is the torch
executor in float64. Differences are measured against the scale of the outputs of
the same sample, because float32 rounding is relative to what is being added up and
not to the single output, which may be close to zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from auditor.errors import UnsupportedModel
from auditor.models.onnx_model import OnnxModel
from auditor.models.torch_graph import TorchGraph

Array = NDArray[Any]
Sample = Mapping[str, Array]
Outputs = list[Array]
Runtime = Callable[[Sample], Outputs]

ORT_OPTIMISED: Final = "onnxruntime-cpu"
ORT_PLAIN: Final = "onnxruntime-cpu-unoptimised"
ORT_BATCH: Final = "onnxruntime-cpu-one-batch"
TORCH_CPU: Final = "torch-cpu-float32"
ORT_CUDA: Final = "onnxruntime-cuda"
TORCH_CUDA: Final = "torch-cuda-float32"
REFERENCE: Final = "torch-cpu-float64"


@dataclass(frozen=True)
class Bound:
    """Largest difference allowed: `absolute + relative x scale` of the sample's outputs."""

    absolute: float
    relative: float


@dataclass(frozen=True)
class Deviation:
    """How far one runtime is from another on all samples.

    Attributes:
        runtime: The runtime, or the way of running, that is measured.
        against: What it is measured against.
        absolute: Largest difference of one output.
        ulps: Largest difference in float32 units in the last place of the sample's scale.
        bound_share: Largest difference as a share of what the bound allows; above 1
            the bound is broken.
        worst_sample: Where the share is largest.
        worst_output: Which output that was.
        same_argmax: Samples whose largest entry of the first output is at the same place;
            None where that output has one entry only.
        samples: How many samples were compared.
    """

    runtime: str
    against: str
    absolute: float
    ulps: float
    bound_share: float
    worst_sample: int
    worst_output: str
    same_argmax: int | None
    samples: int


@dataclass(frozen=True)
class ParityReport:
    """What a comparison found.

    Attributes:
        deviations: Each runtime against the reference.
        batch: One batch against single samples in onnxruntime, or None where the model
            fixes its batch axis.
        repeat: The control: the same session twice on the same samples.
        providers: Execution providers in use, by runtime.
    """

    deviations: tuple[Deviation, ...]
    batch: Deviation | None
    repeat: Deviation
    providers: Mapping[str, str] = field(default_factory=dict)


def compare_runtimes(
    model: OnnxModel,
    samples: Sequence[Sample],
    bound: Bound,
    *,
    cuda: bool = False,
    threads: int = 1,
    out_of_time: Callable[[], bool] = lambda: False,
) -> ParityReport:
    """Run every sample in every runtime and compare with float64.

    Args:
        model: The model.
        samples: Inputs by name, each with a first axis of one.
        bound: What counts as agreement.
        cuda: Whether to run onnxruntime and torch on CUDA as well.
        threads: Threads inside one onnxruntime operator.
        out_of_time: Asked before every sample but the first; true ends the comparison
            with the samples so far.

    Raises:
        UnsupportedOperator: The torch executor cannot express an operator.
        UnsupportedModel: A runtime fails, or there are no samples.
        DeviceUnavailable: CUDA was asked for and is not in use.
    """
    if not samples:
        raise UnsupportedModel("no samples to compare runtimes on")
    names = [spec.name for spec in model.outputs]
    runtimes, providers = _runtimes(model, cuda=cuda, threads=threads)
    runtimes = {REFERENCE: torch_runtime(model, torch.float64, "cpu"), **runtimes}
    answers: dict[str, list[Outputs]] = {name: [] for name in runtimes}
    for index, sample in enumerate(samples):
        if index and out_of_time():
            break
        for name, runtime in runtimes.items():
            answers[name].append(runtime(sample))
    reference = answers.pop(REFERENCE)
    samples = samples[: len(reference)]
    deviations = tuple(
        measure_deviation(name, REFERENCE, answer, reference, names, bound)
        for name, answer in answers.items()
    )
    first = answers[ORT_OPTIMISED]
    again = [runtimes[ORT_OPTIMISED](sample) for sample in samples]
    return ParityReport(
        deviations=deviations,
        batch=_compare_batch(model, samples, first, names, bound, threads),
        repeat=measure_deviation("repeated", ORT_OPTIMISED, again, first, names, bound),
        providers=providers,
    )


def measure_deviation(
    runtime: str,
    against: str,
    answers: Sequence[Outputs],
    reference: Sequence[Outputs],
    names: Sequence[str],
    bound: Bound,
) -> Deviation:
    """The largest differences between two lists of outputs, sample by sample."""
    absolute = ulps = 0.0
    worst = (-1.0, 0, "")
    for index, (mine, theirs) in enumerate(zip(answers, reference, strict=True)):
        for name, value, expected in zip(names, mine, theirs, strict=True):
            difference, scale = _difference(value, expected)
            absolute = max(absolute, difference)
            if scale:  # all outputs zero: there is no scale to speak of
                ulps = max(ulps, difference / float(np.spacing(np.float32(scale))))
            allowed = bound.absolute + bound.relative * scale
            share = difference / allowed if allowed else (np.inf if difference else 0.0)
            worst = max(worst, (float(share), -index, name))
    same = [_same_argmax(a[0], b[0]) for a, b in zip(answers, reference, strict=True)]
    return Deviation(
        runtime=runtime,
        against=against,
        absolute=absolute,
        ulps=ulps,
        bound_share=worst[0],
        worst_sample=-worst[1],
        worst_output=worst[2],
        same_argmax=None if None in same else sum(map(bool, same)),
        samples=len(reference),
    )


def torch_runtime(model: OnnxModel, dtype: torch.dtype, device: str) -> Runtime:
    """The torch executor as a function of one sample."""
    graph = TorchGraph(model.proto, dtype, device)

    def run(sample: Sample) -> Outputs:
        with torch.no_grad():
            outputs = graph.run(sample)
        return [outputs[name].cpu().numpy() for name in graph.output_names]

    return run


def _runtimes(
    model: OnnxModel, *, cuda: bool, threads: int
) -> tuple[dict[str, Runtime], dict[str, str]]:
    sessions = {
        ORT_OPTIMISED: model.session("cpu", threads=threads),
        ORT_PLAIN: model.session("cpu", optimised=False, threads=threads),
    }
    if cuda:
        sessions[ORT_CUDA] = model.session("cuda", threads=threads)
    runtimes: dict[str, Runtime] = {
        name: lambda sample, session=session: list(session.run(sample).values())  # type: ignore[misc]
        for name, session in sessions.items()
    }
    runtimes[TORCH_CPU] = torch_runtime(model, torch.float32, "cpu")
    if cuda:
        runtimes[TORCH_CUDA] = torch_runtime(model, torch.float32, "cuda")
    return runtimes, {name: ", ".join(s.providers_in_use) for name, s in sessions.items()}


def _compare_batch(
    model: OnnxModel,
    samples: Sequence[Sample],
    alone: Sequence[Outputs],
    names: Sequence[str],
    bound: Bound,
    threads: int,
) -> Deviation | None:
    """All samples in one batch against each alone, where the first axis is symbolic."""
    if any(not spec.shape or spec.shape[0] is not None for spec in model.inputs):
        return None
    joined = {name: np.concatenate([sample[name] for sample in samples]) for name in samples[0]}
    outputs = model.session("cpu", threads=threads).run(joined)
    if any(len(outputs[name]) != len(samples) for name in names if outputs[name].ndim):
        return None
    together = [[outputs[name][i : i + 1] for name in names] for i in range(len(samples))]
    return measure_deviation(ORT_BATCH, ORT_OPTIMISED, together, alone, names, bound)


def _difference(value: Array, expected: Array) -> tuple[float, float]:
    """The largest difference and the scale; infinite where one is finite and one is not."""
    mine, theirs = np.asarray(value, np.float64).ravel(), np.asarray(expected, np.float64).ravel()
    if mine.size != theirs.size:
        raise UnsupportedModel(f"runtimes give {mine.size} and {theirs.size} outputs")
    finite = np.abs(theirs[np.isfinite(theirs)])
    scale = float(finite.max()) if finite.size else 0.0
    same = (mine == theirs) | (np.isnan(mine) & np.isnan(theirs))
    if bool(same.all()):
        return 0.0, scale
    with np.errstate(invalid="ignore"):
        gaps = np.abs(mine[~same] - theirs[~same])
    return float(np.where(np.isfinite(gaps), gaps, np.inf).max()), scale


def _same_argmax(value: Array, expected: Array) -> bool | None:
    return int(value.argmax()) == int(expected.argmax()) if expected.size > 1 else None
