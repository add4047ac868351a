"""Which weights files make up a model: one called model.safetensors, or those of an index.

The index, `model.safetensors.index.json`, maps every tensor to the file that holds it.
Source: the layout that `save_pretrained` of transformers writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from auditor.errors import RefusedModel
from auditor.models.limits import FolderLimits
from auditor.models.safetensors_header import StoredTensor
from auditor.models.strict_json import read_object

SINGLE: Final = "model.safetensors"
_WAY_OUT: Final = "fetch the model again, or save it again with save_pretrained"


def check_weight_files(
    path: Path,
    name: str,
    index: bytes | None,
    weights: Mapping[str, Sequence[StoredTensor]],
    limits: FolderLimits,
    single: str = SINGLE,
) -> None:
    """Check that the weights files are the ones that will be loaded, and all of them.

    Args:
        path: The model, for messages.
        name: The index file, for messages.
        index: Its content, None where there is none.
        weights: The tensors of each weights file in the folder.
        limits: How much JSON.
        single: What the file is called that is loaded where no index is.

    Raises:
        RefusedModel: A file that is named and not there, or there and not named; a tensor
            that stands twice, or elsewhere than the index says.
    """

    def refuse(rule: str, problem: str) -> NoReturn:
        raise RefusedModel(path, rule, problem, place=name, way_out=_WAY_OUT)

    if index is None:
        if set(weights) != {single}:
            shown = ", ".join(sorted(set(weights) - {single})[:3])
            refuse("weights-ambiguous", f"no index names {shown}, and {single} is loaded alone")
        return
    named = _weight_map(path, name, index, limits)
    for file in sorted(set(named.values())):
        if leaves_folder(file):
            refuse("index-escape", f"{file[:80]!r} is not a file of the folder itself")
        if file not in weights:
            refuse("index-missing", f"no weights file {file[:80]!r} in the folder")
    for file in sorted(set(weights) - set(named.values())):
        refuse("weights-ambiguous", f"the index does not name {file[:80]!r}")
    stored = [(tensor.name, file) for file in sorted(weights) for tensor in weights[file]]
    if len(dict(stored)) != len(stored):
        refuse("duplicate-tensor", "a tensor stands in two weights files")
    if dict(stored) != named:
        differing = sorted(set(stored) ^ set(named.items()))[0][0]
        refuse("index-tensor", f"tensor {differing[:80]!r} is not where the index says")


def leaves_folder(shard: str) -> bool:
    """Whether the name of a weights file in an index is more than a name."""
    return "/" in shard or "\\" in shard or shard.startswith(".")


def _weight_map(path: Path, name: str, index: bytes, limits: FolderLimits) -> dict[str, str]:
    found: Any = read_object(path, name, index, limits).get("weight_map")
    if not isinstance(found, dict) or not all(isinstance(file, str) for file in found.values()):
        raise RefusedModel(
            path, "malformed", "weight_map is not a mapping of tensors to files", place=name,
            way_out=_WAY_OUT,
        )  # fmt: skip
    return found
