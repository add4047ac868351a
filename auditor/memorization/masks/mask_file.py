"""Mask files: what a pruning took away, so that it can be reviewed, applied again, and undone.

One safetensors file: a JSON head, the masks as packed bits, and the numbers that stood there. It
may come from somebody else: the head is checked before anything is unpacked, every tensor must have
the shape the head implies, and a digest covers all of it; it is no signature.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import safetensors
import safetensors.numpy
import torch
from numpy.typing import NDArray
from pydantic import Field, ValidationError
from torch import Tensor

from auditor.errors import ConfigurationError, FileMissing, RefusedInput
from auditor.files import write_atomically
from auditor.findings import Record
from auditor.memorization.masks.weight_masks import WeightMasks
from auditor.memorization.masks.weight_sites import WeightSite

MAX_FILE_BYTES: Final = 2**32
MAX_HEAD_CHARACTERS: Final = 2**22
MAX_LAYERS: Final = 2**16
_HEAD: Final = "head"
_BITS, _VALUES = "U8", "F32"


class MaskFileRejected(RefusedInput):
    """A mask file is damaged, altered or too large."""

    def __init__(self, path: Path | str, problem: str) -> None:
        self.path, self.problem = Path(path), problem
        super().__init__(f"mask file {path} rejected: {problem}; prune again")


class MaskLayer(Record):
    """One layer of a mask file."""

    name: str
    """Path of its module."""
    outputs: int = Field(ge=1, le=2**24)
    """Rows of its weight."""
    inputs: int = Field(ge=1, le=2**24)
    """Columns of its weight."""
    pruned: int = Field(ge=0)
    """Weights that are zero."""


class MaskHead(Record):
    """What a mask file says of itself."""

    format: Literal["auditor-mask"] = "auditor-mask"
    version: Literal[1] = 1
    base: str
    """Digest of the model that was pruned."""
    rule: str
    """How weights were chosen, with its settings."""
    layers: tuple[MaskLayer, ...] = Field(max_length=MAX_LAYERS)
    """In order."""
    digest: str = ""
    """SHA-256 over the head without it and all tensors."""


def write_masks(
    path: Path, masks: WeightMasks, sites: Sequence[WeightSite], *, base: str, rule: str
) -> None:
    """Write masks and the numbers they take away, atomically; the same give the same bytes.

    Args:
        path: The file.
        masks: What is pruned.
        sites: The layers of the *unpruned* model.
        base: Its digest.
        rule: How weights were chosen.

    Raises:
        OutputNotWritable, OperationFailed: As for `write_atomically`.
    """
    weights = {site.name: site.weight.detach().float().cpu() for site in sites}
    arrays: dict[str, NDArray[np.generic]] = {}
    layers = []
    for number, (name, mask) in enumerate(sorted(masks.masks.items())):
        arrays[f"{number}.bits"] = np.packbits(mask.numpy().reshape(-1))
        arrays[f"{number}.values"] = weights[name][mask].numpy()
        layers.append(MaskLayer(
            name=name, outputs=mask.shape[0], inputs=mask.shape[1], pruned=int(mask.sum())
        ))  # fmt: skip
    head = MaskHead(base=base, rule=rule, layers=tuple(layers))
    sealed = head.model_copy(update={"digest": _digest(head, arrays)})
    write_atomically(path, safetensors.numpy.save(arrays, metadata={_HEAD: _text(sealed)}))


class MaskFile(NamedTuple):
    """What a mask file holds.

    Attributes:
        head: What it says of itself.
        masks: What is pruned.
        values: Name of the layer: the numbers that stood there, row by row.
    """

    head: MaskHead
    masks: WeightMasks
    values: dict[str, Tensor]


def read_masks(path: Path) -> MaskFile:
    """Read a mask file.

    Raises:
        FileMissing: There is no such file.
        MaskFileRejected: It is damaged, altered or too large.
    """
    if not path.is_file():
        raise FileMissing(path, "mask file")
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise MaskFileRejected(path, f"{size} bytes; at most {MAX_FILE_BYTES} are read")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(_HEAD, "")
            if len(text) > MAX_HEAD_CHARACTERS:
                problem = (
                    f"a head of {len(text)} characters; at most {MAX_HEAD_CHARACTERS} are read"
                )
                raise MaskFileRejected(path, problem)
            head = MaskHead.model_validate_json(text)
            _require_layout(path, head, {name: _kind(file.get_slice(name)) for name in file.keys()})  # noqa: SIM118
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, ValidationError, OSError) as error:
        raise MaskFileRejected(path, " ".join(str(error).split())[:200]) from None
    if _digest(head, arrays) != head.digest:
        raise MaskFileRejected(path, "its content does not have the digest its head names")
    masks, values = {}, {}
    for number, layer in enumerate(head.layers):
        bits = np.unpackbits(arrays[f"{number}.bits"], count=layer.outputs * layer.inputs)
        mask = torch.from_numpy(bits.view(bool)).reshape(layer.outputs, layer.inputs)
        if int(mask.sum()) != layer.pruned:
            raise MaskFileRejected(path, f"{layer.name} has another number of masked weights")
        masks[layer.name] = mask
        values[layer.name] = torch.from_numpy(arrays[f"{number}.values"].copy())
    return MaskFile(head, WeightMasks(masks), values)


def restore(sites: Sequence[WeightSite], file: MaskFile) -> None:
    """Undo a pruning: put the numbers back where the masks took them.

    Raises:
        ConfigurationError: A layer is missing, or a masked weight is not zero.
    """
    by_name = {site.name: site for site in sites}
    for name, mask in file.masks.masks.items():
        if name not in by_name or by_name[name].weight.shape != mask.shape:
            raise ConfigurationError(f"no layer {name} of that shape; use the pruned model")
        if bool(by_name[name].weight.cpu()[mask].any()):
            raise ConfigurationError(f"{name} is not pruned with these masks; use that model")
    with torch.no_grad():
        for name, mask in file.masks.masks.items():
            weight = by_name[name].weight
            weight[mask.to(weight.device)] = file.values[name].to(weight)


def _kind(tensor: Any) -> tuple[str, list[int]]:
    """Type and shape of a tensor of the file, which is not read for it."""
    return tensor.get_dtype(), list(tensor.get_shape())


def _require_layout(path: Path, head: MaskHead, kinds: Mapping[str, tuple[str, list[int]]]) -> None:
    expected: dict[str, tuple[str, list[int]]] = {}
    for number, layer in enumerate(head.layers):
        expected[f"{number}.bits"] = _BITS, [-(-layer.outputs * layer.inputs // 8)]
        expected[f"{number}.values"] = _VALUES, [layer.pruned]
    if len({layer.name for layer in head.layers}) < len(head.layers):
        raise MaskFileRejected(path, "a layer stands in it twice")
    if kinds != expected:
        raise MaskFileRejected(path, "its tensors are not those its head names")


def _text(head: MaskHead) -> str:
    return json.dumps(head.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))


def _digest(head: MaskHead, arrays: Mapping[str, NDArray[np.generic]]) -> str:
    hasher = hashlib.sha256(_text(head.model_copy(update={"digest": ""})).encode())
    for name, array in sorted(arrays.items()):
        hasher.update(f"\n{name} {array.dtype} {list(array.shape)}\n".encode())
        hasher.update(np.ascontiguousarray(array).tobytes())
    return f"sha256:{hasher.hexdigest()}"
