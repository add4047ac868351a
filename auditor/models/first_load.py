"""Letting a child process load a model once before this process does.

Shape inference, graph optimisers, tokenizers and kernels are native code, and a crash of theirs
would be the end of whatever process they run in. Models that passed are remembered by digest and
by the versions of what loaded them; a model that did not pass is tried again each time.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Final

from auditor.errors import RefusedModel
from auditor.files import user_cache
from auditor.folders import combine_hashes
from auditor.guarded.outcome import GuardOutcome, GuardStatus
from auditor.models.diffusion_folder import read_diffusion_folder
from auditor.models.folder_trial import small_files, trial_folder
from auditor.models.folder_trial_child import IMPORTING
from auditor.models.onnx_folder import OnnxFolder, holds_graph, read_onnx_folder
from auditor.models.subject_files import ModelKind, folder_kind
from auditor.models.transformers_folder import ModelFolder, read_folder

if TYPE_CHECKING:
    from auditor.models.onnx_model import OnnxModel

RULE: Final = "first-load"
_FILE_LOADERS: Final = ("auditor", "onnx", "onnxruntime", "onnxruntime-gpu", "numpy")
_FOLDER_LOADERS: Final = (
    "auditor", "transformers", "tokenizers", "diffusers", "torch", "jinja2", "numpy",
    "huggingface-hub", "safetensors", "sentencepiece", "tiktoken", "protobuf", "mistral-common",
)  # fmt: skip
_REFUSED: Final = (GuardStatus.CRASHED, GuardStatus.FLOODED)
_passed: Final[set[str]] = set()


def open_tried(path: Path) -> OnnxModel:
    """Open a model file, and see that loading it crashes no process.

    Raises:
        FileMissing, RefusedModel: As `OnnxModel.open`, and as `refuse_crashing`.
    """
    from auditor.models.onnx_model import OnnxModel  # onnx is slow to import

    model = OnnxModel.open(path)
    refuse_crashing(model)
    return model


def try_folders(*paths: Path) -> None:
    """See that reading model folders crashes no process; call it before a library opens them.

    A path that is no folder is left to whoever opens it.

    Raises:
        FileMissing, RefusedModel: As reading a folder of its kind, and as
            `refuse_crashing_folder`.
    """
    for path in paths:
        if path.is_dir():
            refuse_crashing_folder(_read_folder(path, folder_kind(path)))


def crash_of(path: Path, kind: ModelKind) -> RefusedModel | None:
    """Why a model that passed the pre-flight crashes what loads it, or None."""
    try:
        if kind == "onnx":
            open_tried(path)
        else:
            refuse_crashing_folder(_read_folder(path, kind))
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
    key = _key(model.digest, _FILE_LOADERS)
    if not _has_passed(key):
        from auditor.models.trial import trial_load  # onnx is slow to import

        _judge(trial_load(model), key, model.path, "export the model again")


def refuse_crashing_folder(folder: ModelFolder) -> None:
    """Let the libraries read a folder in a guarded child process, unless one like it has passed.

    Like `refuse_crashing`, for configurations, tokenizers and chat templates; a graph in the
    folder is loaded, too. Weights are not, so that folders which differ in them alone are alike.

    Raises:
        RefusedModel: The child crashed, or wrote without end.
    """
    small = {name: folder.hashes[name] for name in small_files(folder)}
    names = dict.fromkeys(folder.files, "")
    key = _key(f"folder {combine_hashes(names | small)}", _FOLDER_LOADERS)
    if not _has_passed(key):
        _judge(trial_folder(folder), key, folder.path, "save the model and its tokenizer again")
    if isinstance(folder, OnnxFolder):
        refuse_crashing(folder.graph)


def _read_folder(path: Path, kind: ModelKind) -> ModelFolder:
    """Check a folder of either kind; weights are not hashed."""
    if kind == "diffusers":
        return read_diffusion_folder(path, hashed=False)
    return read_onnx_folder(path) if holds_graph(path) else read_folder(path, hashed=False)


def _judge(outcome: GuardOutcome, key: str, path: Path, way_out: str) -> None:
    """Refuse a model whose child crashed, and remember one that passed."""
    # Before anything of it was read, the model is not to blame.
    if outcome.status in _REFUSED and outcome.stage != IMPORTING:
        raise RefusedModel(
            path, RULE, f"a first load in a child process {outcome.status} in "
            f"'{outcome.stage}': {outcome.problem}",
            way_out=f"{way_out}; check AUD101 tells more",
        )  # fmt: skip
    if outcome.status is GuardStatus.DONE:
        _passed.add(key)
        _remember(key)


def _key(digest: str, loaders: tuple[str, ...]) -> str:
    return hashlib.sha256(f"{digest} {_versions(loaders)}".encode()).hexdigest()


@cache
def _versions(loaders: tuple[str, ...]) -> str:
    found = []
    for name in loaders:
        with contextlib.suppress(PackageNotFoundError):
            found.append(f"{name} {version(name)}")
    return ", ".join(found)


def memory_folder() -> Path:
    """Where models that passed are remembered: empty files in a private folder of the user."""
    return user_cache() / "first-loads"


def _has_passed(key: str) -> bool:
    return key in _passed or (_is_private(memory_folder()) and (memory_folder() / key).is_file())


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
