"""A first load in a guarded process of its own, with limits on memory and time.

Shape inference and graph optimisers are native code that has crashed on hostile
graphs (CVE-2024-5187 and CVE-2024-27319 are two). A crash there must be a result
of the audit and not its end, so the trial runs in a child process: the ONNX
checker with full shape inference, then onnxruntime with and without optimisation.
What holds the child is told in `auditor.guarded`.
"""

from __future__ import annotations

from google.protobuf.message import EncodeError

from auditor.guarded.limits import GuardLimits
from auditor.guarded.outcome import GuardOutcome, GuardStatus
from auditor.guarded.process import run_guarded
from auditor.models.onnx_model import OnnxModel


def trial_load(
    model: OnnxModel, *, seconds: float = 60.0, memory_mb: int = 16 * 1024
) -> GuardOutcome:
    """Load the model in a child process and say how that went.

    Args:
        model: The model; its external data are already inside.
        seconds: Limit of wall clock and of processor time.
        memory_mb: Limit of the child's address space, where the system has one.
    """
    try:
        content = model.proto.SerializeToString()
    except (EncodeError, ValueError):
        return GuardOutcome(
            GuardStatus.NOT_RUN, problem="more than 2 GiB with its data, protobuf's limit"
        )
    limits = GuardLimits(seconds=seconds, memory_mb=memory_mb)
    function = "auditor.models.trial_child:load_model"
    return run_guarded(function, {}, content=content, limits=limits)
