"""A first load in a guarded process of its own, with limits on memory and time.

Shape inference and graph optimisers are native code that has crashed on hostile
graphs (CVE-2024-5187 and CVE-2024-27319 are two). A crash there must be a result
of the audit and not its end, so the trial runs in a child process: the ONNX
checker with full shape inference, then onnxruntime with and without optimisation.
What holds the child is told in `auditor.guarded`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from google.protobuf.message import EncodeError

from auditor.guarded.limits import GuardLimits
from auditor.guarded.outcome import GuardOutcome, GuardStatus, Protections
from auditor.guarded.process import run_guarded
from auditor.models.onnx_model import OnnxModel


class TrialStatus(StrEnum):
    """How a trial ended."""

    LOADED = "loaded"
    REJECTED = "rejected"
    CRASHED = "crashed"
    OUT_OF_TIME = "out-of-time"
    OUT_OF_MEMORY = "out-of-memory"
    FLOODED = "flooded"
    NOT_RUN = "not-run"


@dataclass(frozen=True)
class TrialOutcome:
    """What the child process reported.

    Attributes:
        status: How it ended.
        stage: The step that ended it, empty when all were passed.
        problem: What was said, one line.
        stages: Steps that were passed, in order.
        skipped: Steps that could not be taken here, each as (step, why).
        protections: What held the child; None if it did not get that far.
    """

    status: TrialStatus
    stage: str = ""
    problem: str = ""
    stages: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    protections: Protections | None = None

    @staticmethod
    def of(outcome: GuardOutcome) -> TrialOutcome:
        """A guarded call that was a first load."""
        loaded = outcome.status is GuardStatus.DONE
        return TrialOutcome(
            TrialStatus.LOADED if loaded else TrialStatus(outcome.status),
            outcome.stage, outcome.problem, outcome.stages, outcome.skipped, outcome.protections,
        )  # fmt: skip


def trial_load(
    model: OnnxModel, *, seconds: float = 60.0, memory_mb: int = 16 * 1024
) -> TrialOutcome:
    """Load the model in a child process and say how that went.

    Args:
        model: The model; its external data are already inside.
        seconds: Limit of wall clock and of processor time.
        memory_mb: Limit of the child's address space, where the system has one.
    """
    try:
        content = model.proto.SerializeToString()
    except (EncodeError, ValueError):
        return TrialOutcome(
            TrialStatus.NOT_RUN, problem="more than 2 GiB with its data, protobuf's limit"
        )
    limits = GuardLimits(seconds=seconds, memory_mb=memory_mb)
    function = "auditor.models.trial_child:load_model"
    return TrialOutcome.of(run_guarded(function, {}, content=content, limits=limits))
