"""Calling a function of our own on an untrusted model, in a child process that is guarded.

The child gets a fresh interpreter, a short environment, a private folder that is removed
afterwards, and the protections of `auditor.guarded.protections`. However it ends, the answer
is a `GuardOutcome`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from auditor.guarded.limits import GuardLimits
from auditor.guarded.outcome import GuardOutcome, GuardStatus, Protections
from auditor.guarded.stages import one_line, tells_of_memory
from auditor.guarded.supervision import Supervised, supervise

_KEPT_VARIABLES: Final = (
    "LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONHOME",
    "SYSTEMROOT",
)  # fmt: skip
_SET_VARIABLES: Final = {
    "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1",
    "ORT_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "", "PYTHONNOUSERSITE": "1", "PATH": os.defpath,
}  # fmt: skip


def run_guarded(
    function: str,
    arguments: Mapping[str, Any],
    *,
    content: bytes = b"",
    readable: Sequence[Path] = (),
    limits: GuardLimits | None = None,
) -> GuardOutcome:
    """Call `module:function` of this project in a guarded child and say how that went.

    Args:
        function: Takes a `StageLog`, the arguments and the content; see
            `auditor.guarded.child.GuardedFunction`.
        arguments: Anything JSON can hold.
        content: Bytes of the model.
        readable: Files the child may read, and folders whose names it may list.
        limits: What it may use.
    """
    limits = limits or GuardLimits()
    job = {
        "function": function,
        "arguments": dict(arguments),
        "limits": asdict(limits),
        "readable": [str(path.resolve()) for path in readable],
        "parent": os.getpid(),
    }
    command = [sys.executable, "-P", "-B", "-m", "auditor.guarded.child"]
    try:
        with tempfile.TemporaryDirectory(prefix="auditor-", ignore_cleanup_errors=True) as name:
            folder = Path(name)
            pieces = [json.dumps(job).encode() + b"\n", content]
            ended = supervise(command, pieces, _environment(folder), folder, limits)
    except OSError as error:
        return GuardOutcome(GuardStatus.NOT_RUN, problem=one_line(str(error)))
    return read_outcome(ended, limits)


def protections_here() -> Protections | None:
    """What would hold a child on this machine; None if none can be started."""
    return run_guarded("auditor.guarded.stages:do_nothing", {}).protections


def _environment(folder: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    names = ("HOME", "TMPDIR", "TEMP", "TMP", "HF_HOME", "TORCHINDUCTOR_CACHE_DIR")
    places = dict.fromkeys(names, str(folder))
    searched = os.pathsep.join(os.path.abspath(part) for part in sys.path if part)  # noqa: PTH100
    return kept | _SET_VARIABLES | places | {"PYTHONPATH": searched}


def read_outcome(ended: Supervised, limits: GuardLimits) -> GuardOutcome:
    """What a child's end and its lines mean together."""
    said = _Said(ended.output)
    status, problem = _ending(ended, limits)
    outcome = GuardOutcome(
        status, "", problem, skipped=tuple(said.skipped.items()), protections=said.protections,
        peak_memory_mb=ended.peak_memory_mb, cpu_seconds=ended.cpu_seconds,
    )  # fmt: skip
    passed = tuple(stage for stage in said.stages if stage not in said.skipped)
    if status is GuardStatus.DONE and said.done:
        return replace(outcome, stages=passed)
    last = said.stages[-1] if said.stages else ""
    outcome = replace(outcome, stage=last, stages=tuple(s for s in passed if s != last))
    if ended.stopped is None and said.ended:
        kind, problem = said.ended
        return replace(outcome, status=kind, problem=problem)
    if status is GuardStatus.DONE or said.protections is None:
        why = problem or "the child ended without saying that it was done"
        kind = status if status is not GuardStatus.CRASHED and problem else GuardStatus.NOT_RUN
        return replace(outcome, status=kind, problem=why)
    return outcome


class _Said:
    """A child's lines, none of which is trusted to be what it should."""

    def __init__(self, output: bytes) -> None:
        self.stages: list[str] = []
        self.skipped: dict[str, str] = {}
        self.protections: Protections | None = None
        self.ended: tuple[GuardStatus, str] | None = None
        self.done = False
        for line in output.splitlines():
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(record, dict):
                self._read(record)

    def _read(self, record: dict[str, Any]) -> None:
        said = {name: one_line(str(value)) for name, value in record.items()}
        if self.protections is None and isinstance(record.get("protections"), dict):
            self.protections = _read_protections(record["protections"])
        elif "skipped" in said:
            self.skipped[said.get("stage", "")] = said["skipped"]
        elif "exhausted" in said:
            self.ended = GuardStatus.OUT_OF_MEMORY, said["exhausted"]
        elif "rejected" in said:
            self.ended = GuardStatus.REJECTED, said["rejected"]
        elif "stage" in said:
            self.stages.append(said["stage"])
        self.done = record.get("done") is True


def _read_protections(record: dict[str, Any]) -> Protections:
    limits = record.get("limits")
    words = {name: one_line(str(record.get(name, "open"))) for name in
             ("network", "processes", "writing", "reading")}  # fmt: skip
    names = limits if isinstance(limits, list) else ()
    return Protections(limits=tuple(one_line(str(name)) for name in names), **words)


def _ending(ended: Supervised, limits: GuardLimits) -> tuple[GuardStatus, str]:
    """Status and problem by how the process ended alone."""
    if ended.stopped is not None:
        return ended.stopped, {
            GuardStatus.OUT_OF_TIME: f"stopped after {limits.seconds:g} s",
            GuardStatus.OUT_OF_MEMORY: f"stopped at {ended.peak_memory_mb:.0f} MB",
            GuardStatus.FLOODED: f"more than {limits.output_bytes} bytes of output",
        }[ended.stopped]
    if ended.returncode == 0:
        return GuardStatus.DONE, ""
    last = one_line(ended.errors.decode(errors="replace").rstrip().rpartition("\n")[2])
    if tells_of_memory(ended.errors[-4096:].decode(errors="replace")):
        return GuardStatus.OUT_OF_MEMORY, last
    if ended.returncode > 0:
        return GuardStatus.CRASHED, f"the child process ended with code {ended.returncode}: {last}"
    return _ending_by_signal(-ended.returncode, ended, limits)


def _ending_by_signal(
    number: int, ended: Supervised, limits: GuardLimits
) -> tuple[GuardStatus, str]:
    try:
        name = signal.Signals(number).name
    except ValueError:  # a real-time signal
        name = f"signal {number}"
    if name == "SIGXCPU" or (name == "SIGKILL" and ended.cpu_seconds >= limits.cpu_seconds):
        return GuardStatus.OUT_OF_TIME, f"stopped after {limits.cpu_seconds} s of processor time"
    if name == "SIGKILL":
        return GuardStatus.OUT_OF_MEMORY, "the system killed it, as it does when memory runs out"
    return GuardStatus.CRASHED, f"the child process ended with {name}"
