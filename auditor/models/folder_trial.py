"""A first load of what is small in a model folder, in a guarded process of its own.

Configurations, tokenizers and chat templates are read by transformers (pipelines and schedulers
by diffusers), which run much Python and native code on them. No weights are given to the
child, so it costs neither their memory nor their time.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Final

from auditor.guarded.limits import GuardLimits
from auditor.guarded.outcome import GuardOutcome
from auditor.guarded.process import run_guarded
from auditor.models.onnx_folder import DATA, GRAPH
from auditor.models.transformers_folder import ModelFolder

_GRAPH_FILES: Final = (GRAPH, DATA)
_WEIGHTS_ENDING: Final = ".safetensors"


def small_files(folder: ModelFolder) -> list[str]:
    """Names of the files that the child is given: all but weights and graphs."""
    return [
        name
        for name in folder.files
        if name not in _GRAPH_FILES and not name.endswith(_WEIGHTS_ENDING)
    ]


def trial_folder(
    folder: ModelFolder, *, seconds: float = 60.0, memory_mb: int = 16 * 1024
) -> GuardOutcome:
    """Let the libraries read a folder in a child process, and say how that went.

    Args:
        folder: The folder, checked.
        seconds: Limit of wall clock and of processor time.
        memory_mb: Limit of the child's address space, where the system has one.
    """
    small = small_files(folder)
    parts = {str(PurePosixPath(name).parent) for name in small}
    readable = [folder.path / name for name in (*small, *parts)]
    return run_guarded(
        "auditor.models.folder_trial_child:read_folder",
        {"folder": str(folder.path.resolve()), "files": small},
        readable=[*readable, folder.path],
        limits=GuardLimits(seconds=seconds, memory_mb=memory_mb),
    )
