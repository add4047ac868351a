"""A first load in a process of its own, with limits on memory and time.

Shape inference and graph optimisers are native code that has crashed on hostile
graphs (CVE-2024-5187 and CVE-2024-27319 are two). A crash there must be a result
of the audit and not its end, so the trial runs in a child process: the ONNX
checker with full shape inference, then onnxruntime with and without optimisation.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from auditor.models.onnx_model import OnnxModel

_MEGABYTE: Final = 1024 * 1024


class TrialStatus(StrEnum):
    """How a trial ended."""

    LOADED = "loaded"
    REJECTED = "rejected"
    CRASHED = "crashed"
    OUT_OF_TIME = "out-of-time"
    NOT_RUN = "not-run"


@dataclass(frozen=True)
class TrialOutcome:
    """What the child process reported.

    Attributes:
        status: How it ended.
        stage: The step that ended it, empty when all were passed.
        problem: What was said, one line.
        stages: Steps that were passed, in order.
    """

    status: TrialStatus
    stage: str = ""
    problem: str = ""
    stages: tuple[str, ...] = ()


def trial_load(
    model: OnnxModel, *, seconds: float = 60.0, memory_mb: int = 16 * 1024
) -> TrialOutcome:
    """Load the model in a child process and say how that went.

    Args:
        model: The model; its external data are already inside.
        seconds: Wall-clock limit.
        memory_mb: Limit of the child's address space, where the system has one.
    """
    content = model.proto.SerializeToString()
    command = [
        sys.executable,
        "-P",
        "-m",
        "auditor.models.trial_child",
        str(memory_mb * _MEGABYTE),
        str(max(1, int(seconds))),
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}
    try:
        done = subprocess.run(  # noqa: S603  # our own interpreter and module
            command,
            input=content,
            capture_output=True,
            timeout=seconds,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired as expired:
        return _read_outcome(expired.stdout or b"", TrialStatus.OUT_OF_TIME, f"{seconds:g} s")
    except OSError as error:
        return TrialOutcome(TrialStatus.NOT_RUN, problem=str(error))
    return _read_outcome(done.stdout, *_ending(done.returncode))


def _ending(returncode: int) -> tuple[TrialStatus, str]:
    if returncode == 0:
        return TrialStatus.LOADED, ""
    if returncode < 0:
        name = signal.Signals(-returncode).name
        timed_out = name == "SIGXCPU"
        return (
            TrialStatus.OUT_OF_TIME if timed_out else TrialStatus.CRASHED,
            f"the child process ended with {name}",
        )
    return TrialStatus.CRASHED, f"the child process ended with code {returncode}"


def _read_outcome(output: bytes, status: TrialStatus, problem: str) -> TrialOutcome:
    """The child's JSON lines: one per stage begun, the last one perhaps a rejection."""
    stages: list[str] = []
    rejected = ""
    for line in output.decode(errors="replace").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue  # a native library wrote to standard output
        if isinstance(record, dict) and "stage" in record:
            stages.append(str(record["stage"]))
            rejected = str(record.get("rejected", ""))
    if not stages:
        return TrialOutcome(TrialStatus.NOT_RUN, problem=problem or "the child said nothing")
    if stages[-1] == "done" and status is TrialStatus.LOADED:
        return TrialOutcome(status, stages=tuple(stages[:-1]))
    if rejected:
        return TrialOutcome(TrialStatus.REJECTED, stages[-1], rejected, tuple(stages[:-1]))
    return TrialOutcome(status, stages[-1], problem, tuple(stages[:-1]))
