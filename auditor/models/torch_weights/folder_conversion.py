"""A model folder with pickled weights as one with safetensors.

Weights are converted, indexes of sharded weights renamed, and what the scan accepts is copied. What
it does not accept and is no part of the model is left out and told: optimizer states, training
arguments, code. The new folder is there only if the scan accepts it as a whole.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path, PurePosixPath
from typing import Any, Final

from auditor.errors import ConfigurationError, RefusedFolder, RefusedModel
from auditor.files import new_file, refuse_existing, unfinished_folder
from auditor.folders import FolderFile, open_listed
from auditor.models.folder_roles import Role, role_of
from auditor.models.limits import FolderLimits
from auditor.models.scan.decision import Decision, Problem
from auditor.models.scan.file_content import inspect_file
from auditor.models.scan.limits import ScanLimits
from auditor.models.scan.problem_list import join_places
from auditor.models.scan.scanner import scan_path
from auditor.models.scan.tree import list_tree
from auditor.models.strict_json import read_object
from auditor.models.torch_weights.conversion import ConvertedFile, convert_open

_WEIGHTS: Final = re.compile(r"(pytorch_model|diffusion_pytorch_model|adapter_model)(.*)\.bin")
_INDEX: Final = ".index.json"
_WAY_OUT: Final = "mend that in the folder, or convert its weights file by file"


@dataclass(frozen=True)
class ConvertedFolder:
    """What became of a folder.

    Attributes:
        converted: By the name of the new weights file.
        copied: Names of the files that are as they were.
        left_out: Files that are not in the new folder, each with the reason.
    """

    converted: dict[str, ConvertedFile]
    copied: tuple[str, ...]
    left_out: tuple[str, ...]


def converted_name(name: str) -> str | None:
    """What the safetensors of a pickled weights file, or of its index, are called; None for others.

    `pytorch_model.bin` of transformers becomes `model.safetensors`, and
    `diffusion_pytorch_model.bin` of diffusers keeps its stem, as their libraries look for them.
    """
    path = PurePosixPath(name)
    is_index = path.name.endswith(_INDEX)
    found = _WEIGHTS.fullmatch(path.name.removesuffix(_INDEX))
    if found is None:
        return None
    stem = {"pytorch_model": "model"}.get(found[1], found[1])
    return str(path.with_name(f"{stem}{found[2]}.safetensors{_INDEX if is_index else ''}"))


def convert_folder(
    folder: Path, out: Path, progress: Callable[[str], None] = lambda text: None
) -> ConvertedFolder:
    """Write a model folder anew, its weights as safetensors.

    Args:
        folder: A folder as transformers or diffusers saved it, with pickled weights.
        out: The folder to write, which does not exist.
        progress: Told what is being converted.

    Raises:
        RefusedFolder: It holds a link that leaves it, or what is no file.
        RefusedModel: Weights that cannot be read as such; or the scan refuses what was written.
        ConfigurationError: It has no pickled weights.
        OutputNotWritable, OperationFailed: It cannot be written; nothing is left behind.
    """
    refuse_existing(out, "the converted folder")
    tree = list_tree(folder, ScanLimits())
    if tree.problems:
        first = tree.problems[0]
        raise RefusedFolder(
            folder, first.rule, first.problem, place=first.place, way_out=first.way_out
        )
    names = {file.name for file in tree.files}
    renamed = {name: new for name in names if (new := converted_name(name)) and new not in names}
    if not any(new.endswith(".safetensors") for new in renamed.values()):
        raise ConfigurationError(
            f"{folder}: no pickled weights under a name that transformers or diffusers gives them; "
            "give the weights file itself"
        )
    with unfinished_folder(out, folder) as made:
        work = _Conversion(folder, made, progress)
        for file in tree.files:
            work.add(file, renamed.get(file.name))
        _refuse_by_scan(folder, made)
    return ConvertedFolder(work.converted, tuple(work.copied), tuple(work.left_out))


class _Conversion:
    """Goes through the files of one folder."""

    def __init__(self, folder: Path, made: Path, progress: Callable[[str], None]) -> None:
        self._folder, self._made, self._progress = folder, made, progress
        self.converted: dict[str, ConvertedFile] = {}
        self.copied: list[str] = []
        self.left_out: list[str] = []

    def add(self, file: FolderFile, new: str | None) -> None:
        """Convert, copy or leave out one file."""
        with open_listed(self._folder, file) as stream:
            if new is None:
                self._copy(file, stream)
            elif new.endswith(_INDEX):
                self._rename_in_index(file, stream, new)
            else:
                self._progress(f"{file.name} -> {new}")
                self._target(new).parent.mkdir(parents=True, exist_ok=True)
                self.converted[new] = convert_open(
                    self._folder / file.name, stream, self._target(new)
                )

    def _target(self, name: str) -> Path:
        return self._made / name

    def _copy(self, file: FolderFile, stream: BufferedReader) -> None:
        if converted_name(file.name) is not None:
            self.left_out.append(f"{file.name} (its safetensors are there)")
            return
        content = inspect_file(file.path, file.name, stream, file.size, ScanLimits())
        if content.decision is not Decision.ACCEPTED:
            worst = content.problems[0]
            if _belongs_to_model(file.name):
                raise _refusal(self._folder, file.name, worst)
            self.left_out.append(f"{file.name} ({worst.problem} [{worst.rule}])")
            return
        stream.seek(0)
        with new_file(self._target(file.name)) as written:
            shutil.copyfileobj(stream, written)
        self.copied.append(file.name)

    def _rename_in_index(self, file: FolderFile, stream: BufferedReader, new: str) -> None:
        """The same map of tensors to files, which the scan compares with the files."""
        limits = FolderLimits()
        content = stream.read(limits.config_bytes + 1)
        if len(content) > limits.config_bytes:
            raise RefusedModel(
                self._folder, "size-limit", f"more than {limits.config_bytes} bytes of index",
                place=file.name, way_out=_WAY_OUT,
            )  # fmt: skip
        index = read_object(self._folder, file.name, content, limits)
        found: Any = index.get("weight_map")
        files = list(found.values()) if isinstance(found, dict) else [None]
        shards = {each: converted_name(each) for each in files if isinstance(each, str)}
        if not all(isinstance(each, str) for each in files) or not all(shards.values()):
            raise RefusedModel(
                self._folder, "malformed", "weight_map does not map tensors to weights files",
                place=file.name, way_out=_WAY_OUT,
            )  # fmt: skip
        index["weight_map"] = {name: shards[each] for name, each in found.items()}
        with new_file(self._target(new)) as written:
            # As transformers writes it.
            written.write(f"{json.dumps(index, indent=2, sort_keys=True)}\n".encode())


def _belongs_to_model(name: str) -> bool:
    """Whether a model is not whole without a file, so that it cannot be left out."""
    try:
        return role_of(Path(name), name) is not Role.DOCUMENT
    except RefusedModel:
        return False


def _refuse_by_scan(folder: Path, made: Path) -> None:
    for name, problem in scan_path(made, hashed=False).all_problems():
        raise _refusal(folder, name, problem)


def _refusal(folder: Path, name: str, problem: Problem) -> RefusedModel:
    return RefusedModel(
        folder, problem.rule, problem.problem, place=join_places(name, problem.place),
        way_out=_WAY_OUT,
    )  # fmt: skip
