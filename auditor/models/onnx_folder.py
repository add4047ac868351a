"""A language model as a folder around an ONNX graph, checked before a library opens it.

`model.onnx` (and `model.onnx.data`) in place of safetensors, else the transformers layout and
the rules of `auditor.models.transformers_folder`. The graph has to pass the ONNX pre-flight.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from auditor.errors import FileChanged, FileMissing, RefusedModel
from auditor.folders import FolderFile, combine_hashes
from auditor.models.digest import combine_digests
from auditor.models.folder_config import read_model_type
from auditor.models.folder_roles import Role, role_of
from auditor.models.limits import FolderLimits
from auditor.models.preflight import vet_model
from auditor.models.transformers_folder import (
    CONFIG,
    FolderReader,
    ModelFolder,
    check_sizes,
    listed_model,
    read_folder,
    require_digest,
)

if TYPE_CHECKING:
    from auditor.models.onnx_model import OnnxModel

GRAPH: Final = "model.onnx"
DATA: Final = "model.onnx.data"


@dataclass(frozen=True)
class OnnxFolder(ModelFolder):
    """A folder with a graph.

    Attributes:
        configs: What its configurations say, checked, by name; config.json is one of them.
        graph: The graph, opened; its bytes are those that the folder's digest counts.
    """

    configs: Mapping[str, Mapping[str, Any]]
    graph: OnnxModel


def holds_graph(path: Path) -> bool:
    """Whether a folder's model is an ONNX graph."""
    return (path / GRAPH).exists()


def read_model_folder(path: Path, expected_digest: str | None = None) -> ModelFolder:
    """Check a folder of either kind, see `read_onnx_folder` and `read_folder`."""
    read = read_onnx_folder if holds_graph(path) else read_folder
    return read(path, expected_digest)


def read_onnx_folder(
    path: Path, expected_digest: str | None = None, limits: FolderLimits | None = None
) -> OnnxFolder:
    """Check a folder with a graph and open the graph; nothing of it is run.

    Args:
        path: The folder.
        expected_digest: What its digest was earlier; None for no expectation.
        limits: How much it may ask for; the graph itself has `auditor.models.limits.Limits`.

    Raises:
        FileMissing: There is no such folder, no config.json or no model.onnx in it.
        RefusedModel: With the rule, the place and a way out.
        FileChanged: The digest is not the expected one, or the graph changed meanwhile.
    """
    path, limits = Path(path), limits or FolderLimits()
    with listed_model(path, limits) as files:
        reader = _read_files(path, files, limits)
    digest = combine_hashes(reader.hashes)
    require_digest(path, digest, expected_digest)
    return OnnxFolder(
        path=path,
        digest=digest,
        size=sum(file.size for file in files if file.name in reader.hashes),
        model_type=read_model_type(path, CONFIG, reader.configs[CONFIG]),
        hashes=reader.hashes,
        configs=reader.configs,
        graph=_open_graph(path, reader),
    )


def check_onnx_folder(path: Path, limits: FolderLimits | None = None) -> ModelFolder:
    """What `read_onnx_folder` checks and says, without a library that opens the graph.

    Raises:
        FileMissing, RefusedModel, FileChanged: As `read_onnx_folder`.
    """
    path, limits = Path(path), limits or FolderLimits()
    with listed_model(path, limits) as files:
        reader = _read_files(path, files, limits)
    vetted = vet_model(path / GRAPH)
    _check_data_files(path, vetted.inspection.external_files)
    if vetted.sha256 != reader.hashes[GRAPH]:
        raise FileChanged(path / GRAPH, reader.hashes[GRAPH], vetted.sha256)
    return ModelFolder(
        path=path,
        digest=combine_hashes(reader.hashes),
        size=sum(file.size for file in files if file.name in reader.hashes),
        model_type=read_model_type(path, CONFIG, reader.configs[CONFIG]),
        hashes=reader.hashes,
    )


def _read_files(path: Path, files: tuple[FolderFile, ...], limits: FolderLimits) -> FolderReader:
    names = {file.name for file in files}
    for name, what in ((GRAPH, "graph of a language model"), (CONFIG, "its configuration")):
        if name not in names:
            raise FileMissing(path / name, what)
    roles = {
        file.name: Role.GRAPH if file.name in (GRAPH, DATA) else _role_beside(path, file.name)
        for file in files
    }
    check_sizes(path, files, roles, limits)
    reader = FolderReader(path, limits)
    reader.read_all(files, roles)
    return reader


def _role_beside(path: Path, name: str) -> Role:
    """What a file beside the graph is for; weights of another runtime do not belong there."""
    role = role_of(path, name)
    if role is Role.WEIGHTS:
        raise RefusedModel(
            path, "two-models", "weights beside a graph; they may be another model", place=name,
            way_out=f"keep {GRAPH} and the safetensors in folders of their own",
        )  # fmt: skip
    return role


def _open_graph(path: Path, reader: FolderReader) -> OnnxModel:
    """The graph, from the very bytes that were hashed."""
    from auditor.models.onnx_model import OnnxModel  # onnx is slow to import

    graph = OnnxModel.open(path / GRAPH)
    _check_data_files(path, graph.external_files)
    hashed = combine_digests(
        reader.hashes[GRAPH], {name: reader.hashes[name] for name in graph.external_files}
    )
    if graph.digest != hashed:
        raise FileChanged(path / GRAPH, hashed, graph.digest)
    return graph


def _check_data_files(path: Path, names: Iterable[str]) -> None:
    foreign = [name for name in names if name != DATA]
    if foreign:
        raise RefusedModel(
            path, "external-data-name", f"tensors in {foreign[0]!r}", place=GRAPH,
            way_out=f"keep them in {DATA}",
        )  # fmt: skip
