"""A diffusion model as a folder in diffusers' layout, checked before a library opens it.

One sub-folder for each component: `unet` or `transformer`, text encoders and tokenizers,
`scheduler`, `vae`. The rules are those of `auditor.models.transformers_folder`: known kinds of
files, safetensors alone, no code, each file hashed from the descriptor that was checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from auditor.errors import FileMissing, RefusedModel, UnsupportedModel
from auditor.folders import FolderFile, combine_hashes
from auditor.models.folder_roles import Role, role_of
from auditor.models.limits import FolderLimits
from auditor.models.transformers_folder import (
    CONFIG,
    INDEX_ENDING,
    FolderReader,
    TransformersFolder,
    WeightsFile,
    check_sizes,
    listed_model,
    require_digest,
)
from auditor.models.weight_index import check_weight_files

PIPELINE: Final = "model_index.json"
DENOISERS: Final = ("unet", "transformer")
_SCHEDULER_CONFIG: Final = "scheduler_config.json"
_LIBRARIES: Final = (None, "diffusers", "transformers")
_ENDING: Final = ".safetensors"
_REMOVE: Final = "leave only one model in the folder"


@dataclass(frozen=True)
class Component:
    """A part of a diffusion model.

    Attributes:
        name: Of its sub-folder.
        config: What its configuration says.
        weights: Its weights files; a tokenizer and a scheduler have none.
    """

    name: str
    config: Mapping[str, Any]
    weights: tuple[WeightsFile, ...]

    @property
    def class_name(self) -> str:
        """Of diffusers or transformers, as the configuration names it; may be empty."""
        named = self.config.get("_class_name") or self.config.get("architectures")
        first = named[0] if isinstance(named, list) and named else named
        return first if isinstance(first, str) else ""

    @property
    def parameter_count(self) -> int:
        """Stored numbers."""
        return sum(tensor.elements for file in self.weights for tensor in file.tensors)

    @property
    def tensor_count(self) -> int:
        """Stored tensors."""
        return sum(len(file.tensors) for file in self.weights)


@dataclass(frozen=True)
class DiffusionFolder(TransformersFolder):
    """A folder whose weights are safetensors, in one sub-folder for each component.

    Attributes:
        components: By name.
        pipeline: What its pipeline says of itself; empty if there is no such file.
    """

    components: Mapping[str, Component]
    pipeline: Mapping[str, Any]

    def component(self, name: str) -> Component:
        """The component with this name.

        Raises:
            UnsupportedModel: There is none.
        """
        if name not in self.components:
            raise UnsupportedModel(
                f"there is no {name} among {', '.join(sorted(self.components))}",
                place=str(self.path), way_out="give a text-to-image model with all its components",
            )  # fmt: skip
        return self.components[name]

    @property
    def denoiser(self) -> Component:
        """The component that predicts noise."""
        return self.components[next(name for name in DENOISERS if name in self.components)]


def read_diffusion_folder(
    path: Path,
    expected_digest: str | None = None,
    limits: FolderLimits | None = None,
    *,
    hashed: bool = True,
) -> DiffusionFolder:
    """Check a folder and say what it holds; nothing of it is executed.

    Args:
        path: The folder.
        expected_digest: What its digest was earlier; None for no expectation.
        limits: How much it may ask for.
        hashed: Whether to digest it, which reads all of the weights.

    Raises:
        FileMissing: There is no such folder, no denoiser in it, or a component without weights.
        RefusedModel: With the rule, the place and a way out.
        FileChanged: The digest is not the expected one.
    """
    path, limits = Path(path), limits or FolderLimits()
    with listed_model(path, limits) as files:
        _require_denoiser(path, {file.name for file in files})
        folder = _read_files(path, files, limits, hashed)
    require_digest(path, folder.digest, expected_digest)
    return folder


def _require_denoiser(path: Path, names: set[str]) -> None:
    found = [part for part in DENOISERS if f"{part}/{CONFIG}" in names]
    if not found:
        raise FileMissing(
            path / DENOISERS[0] / CONFIG,
            f"configuration of a diffusion model, in {' or '.join(DENOISERS)},",
        )
    if len(found) > 1:
        raise RefusedModel(
            path, "two-models", "a unet and a transformer; either may be the model",
            place=found[1], way_out=_REMOVE,
        )  # fmt: skip


def _read_files(
    path: Path, files: tuple[FolderFile, ...], limits: FolderLimits, hashed: bool
) -> DiffusionFolder:
    roles = {file.name: _role_of(path, file.name) for file in files}
    check_sizes(path, files, roles, limits)
    reader = FolderReader(path, limits, hashed=hashed)
    reader.read_all(files, roles)
    pipeline = reader.configs.get(PIPELINE, {})
    _check_pipeline(path, pipeline)
    parts = sorted({name.partition("/")[0] for name in reader.hashes if "/" in name})
    components = {part: _component(path, part, reader, limits) for part in parts}
    found = next(part for part in DENOISERS if part in components)
    return DiffusionFolder(
        path=path,
        digest=combine_hashes(reader.hashes) if hashed else "",
        size=sum(file.size for file in files if file.name in reader.hashes),
        model_type=components[found].class_name or found,
        weights=tuple(reader.weights),
        hashes=reader.hashes,
        components=components,
        pipeline=pipeline,
    )


def _role_of(path: Path, name: str) -> Role:
    parts = PurePosixPath(name).parts
    if name == PIPELINE:
        return Role.CONFIG
    if name.lower().endswith(_ENDING):
        if len(parts) == 2:
            return Role.WEIGHTS
        raise RefusedModel(
            path, "weights-ambiguous", "weights that belong to no component", place=name,
            way_out=_REMOVE,
        )  # fmt: skip
    return role_of(path, name)


def _check_pipeline(path: Path, pipeline: Mapping[str, Any]) -> None:
    """Refuse a pipeline or a component whose code comes from anywhere but the two libraries."""
    for key, value in pipeline.items():
        if isinstance(value, list) and len(value) == 2 and value[0] not in _LIBRARIES:
            problem = f"{key[:40]!r} comes from {str(value[0])[:40]!r}"
        elif key == "_class_name" and not isinstance(value, str):
            problem = "the pipeline is code of its own"
        else:
            continue
        raise RefusedModel(
            path, "custom-code", problem, place=PIPELINE,
            way_out="use components of diffusers and transformers",
        )  # fmt: skip


def _component(path: Path, part: str, reader: FolderReader, limits: FolderLimits) -> Component:
    weights = tuple(file for file in reader.weights if file.name.startswith(f"{part}/"))
    configs = (f"{part}/{CONFIG}", f"{part}/{_SCHEDULER_CONFIG}")
    config = next((reader.configs[name] for name in configs if name in reader.configs), {})
    indexes = [name for name in reader.indexes if name.startswith(f"{part}/")]
    if len(indexes) > 1:
        raise RefusedModel(
            path, "weights-ambiguous", "a second index of weights", place=indexes[1],
            way_out=_REMOVE,
        )  # fmt: skip
    if configs[0] in reader.configs and not weights:
        raise FileMissing(path / part / single_name(config), "weights of a component")
    if weights:
        base = f"{part}/{single_name(config)}".removesuffix(_ENDING)
        index = base + INDEX_ENDING
        named = {file.name.partition("/")[2]: file.tensors for file in weights}
        check_weight_files(
            path, index, reader.indexes.get(index), named, limits, single_name(config)
        )
    return Component(part, config, weights)


def single_name(config: Mapping[str, Any]) -> str:
    """What the weights of a component are called that are one file: by the library it is of."""
    own = "_class_name" in config
    return f"{'diffusion_pytorch_model' if own else 'model'}{_ENDING}"
