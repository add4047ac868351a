"""Letting a child process load a model once before this process does.

Shape inference, graph optimisers and kernels are native code, and a crash of theirs would be the
end of whatever process they run in. Models that passed are remembered by digest and by the
versions of what loaded them; a model that did not pass is tried again each time.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from auditor.errors import RefusedModel
from auditor.files import user_cache
from auditor.guarded.outcome import GuardStatus
from auditor.models.onnx_model import OnnxModel
from auditor.models.trial import trial_load

RULE: Final = "first-load"
_LOADERS: Final = ("auditor", "onnx", "onnxruntime", "onnxruntime-gpu", "numpy")
_REFUSED: Final = (GuardStatus.CRASHED, GuardStatus.FLOODED)
_passed: Final[set[str]] = set()


def open_tried(path: Path) -> OnnxModel:
    """Open a model file, and see that loading it crashes no process.

    Raises:
        FileMissing, RefusedModel: As `OnnxModel.open`, and as `refuse_crashing`.
    """
    model = OnnxModel.open(path)
    refuse_crashing(model)
    return model


def crash_of(path: Path) -> RefusedModel | None:
    """Why a model file that passed the pre-flight crashes what loads it, or None."""
    try:
        open_tried(path)
    except RefusedModel as refusal:
        # What the ONNX checker rejects is a finding of the checks, which name it.
        return refusal if refusal.rule == RULE else None
    return None


def refuse_crashing(model: OnnxModel) -> None:
    """Load a model in a guarded child process, unless one like it has passed before.

    A model that the libraries reject in an orderly way, or that needs more time or memory than the
    child has, is let through: whoever loads it next is told so.

    Raises:
        RefusedModel: The child crashed, or wrote without end.
    """
    key = hashlib.sha256(f"{model.digest} {_versions()}".encode()).hexdigest()
    if key in _passed or _is_remembered(key):
        return
    outcome = trial_load(model)
    if outcome.status in _REFUSED:
        raise RefusedModel(
            model.path, RULE, f"a first load in a child process {outcome.status} in "
            f"'{outcome.stage}': {outcome.problem}",
            way_out="export the model again; check AUD101 tells more",
        )  # fmt: skip
    if outcome.status is GuardStatus.DONE:
        _passed.add(key)
        _remember(key)


@cache
def _versions() -> str:
    found = []
    for name in _LOADERS:
        with contextlib.suppress(PackageNotFoundError):
            found.append(f"{name} {version(name)}")
    return ", ".join(found)


def memory_folder() -> Path:
    """Where models that passed are remembered: empty files in a private folder of the user."""
    return user_cache() / "first-loads"


def _is_remembered(key: str) -> bool:
    return _is_private(memory_folder()) and (memory_folder() / key).is_file()


def _remember(key: str) -> None:
    """Best effort: without a place of its own each process tries for itself."""
    folder = memory_folder()
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if _is_private(folder):
            (folder / key).touch(mode=0o600)


def _is_private(folder: Path) -> bool:
    """Whether nobody else can have written into the folder."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    own = not hasattr(os, "geteuid") or status.st_uid == os.geteuid()
    shared = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return stat.S_ISDIR(status.st_mode) and own and not shared
