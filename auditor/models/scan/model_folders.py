"""Folders below a scanned one that are models, and whether auditor would open them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Final

from auditor.errors import AuditorError, FileMissing, RefusedModel
from auditor.models.diffusion_folder import DENOISERS, PIPELINE, read_diffusion_folder
from auditor.models.onnx_folder import check_onnx_folder, holds_graph
from auditor.models.scan.decision import Decision, Problem
from auditor.models.subject_files import folder_kind
from auditor.models.transformers_folder import CONFIG, ModelFolder, read_folder

_COMPONENT: Final = "diffusion_pytorch_model."
_WEIGHTS: Final = (".safetensors", ".bin", ".pt", ".onnx")


def find_model_folders(names: Sequence[str]) -> list[str]:
    """Which folders are models: weights beside a configuration, or a pipeline.

    Args:
        names: Files below the scanned folder.

    Returns:
        Their paths below it, `.` for itself, sorted; of models inside models the outer one.
    """
    by_folder: dict[str, set[str]] = {}
    for name in names:
        whole = PurePosixPath(name)
        by_folder.setdefault(str(whole.parent), set()).add(whole.name)
    models = {folder for folder, inside in by_folder.items() if _is_model(inside)}
    # A pipeline need not say that it is one.
    parts = {folder for folder, inside in by_folder.items()
             if PurePosixPath(folder).name in DENOISERS and _is_component(inside)}  # fmt: skip
    found = sorted(models | {str(PurePosixPath(folder).parent) for folder in parts})
    outer: list[str] = []
    for folder in found:
        if not any(folder.startswith(f"{base}/") for base in outer):
            outer.append(folder)
    return ["."] if "." in outer else outer


def _is_model(inside: set[str]) -> bool:
    if PIPELINE in inside:
        return True
    weights = [name for name in inside if name.lower().endswith(_WEIGHTS)]
    return CONFIG in inside and bool(weights) and not _is_component(inside)


def _is_component(inside: set[str]) -> bool:
    """Whether a folder is a part of a diffusion model, which is judged with the others."""
    return CONFIG in inside and any(name.startswith(_COMPONENT) for name in inside)


@dataclass(frozen=True)
class JudgedFolder:
    """A model folder by the rules of the layout.

    Attributes:
        kind: What kind of model it is.
        problems: The first rule that it breaks as a whole.
        hashes: SHA-256 (hex) of what was hashed on the way, by name.
    """

    kind: str
    problems: tuple[Problem, ...] = ()
    hashes: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


def judge_model_folder(folder: Path) -> JudgedFolder:
    """Whether auditor would open a model folder; weights are not read beyond their headers."""
    kind = folder_kind(folder)
    shown = "onnx" if kind == "transformers" and holds_graph(folder) else kind
    try:
        found = _read(folder, shown)
    except RefusedModel as refusal:
        return JudgedFolder(shown, (Problem.of(refusal),))
    except FileMissing as error:
        return JudgedFolder(shown, (_open("incomplete", error, "fetch the whole model"),))
    except AuditorError as error:
        return JudgedFolder(shown, (_open("unreadable", error, "run again"),))
    hashes = {name: digest for name, digest in found.hashes.items() if digest}
    return JudgedFolder(f"{shown} ({found.model_type})", (), hashes)


def _read(folder: Path, kind: str) -> ModelFolder:
    if kind == "diffusers":
        return read_diffusion_folder(folder, hashed=False)
    return check_onnx_folder(folder) if kind == "onnx" else read_folder(folder, hashed=False)


def _open(rule: str, error: AuditorError, way_out: str) -> Problem:
    return Problem(rule, str(error), "", way_out, Decision.INCONCLUSIVE)
