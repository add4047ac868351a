"""NaN and infinity in the weights of a model folder, read in pieces and without a library."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from io import BufferedReader
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from auditor.errors import FileChanged
from auditor.folders import FolderFile, open_listed
from auditor.models.onnx_model import NonFinite
from auditor.models.safetensors_header import StoredTensor
from auditor.models.transformers_folder import TransformersFolder, WeightsFile

_CHUNK: Final = 2**22  # whole numbers of every type
_SHOWN: Final = 5
Progress = Callable[[float], None]


def _from_bfloat16(data: bytes) -> NDArray[Any]:
    return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")


def _from_e5m2(data: bytes) -> NDArray[Any]:
    # The five exponent bits and the bias are those of float16.
    return (np.frombuffer(data, "<u1").astype("<u2") << 8).view("<f2")


def _marked(mask: int, marker: int) -> Callable[[bytes], NDArray[Any]]:
    """Types without infinity, where one pattern of bits stands for NaN."""

    def values(data: bytes) -> NDArray[Any]:
        marked = (np.frombuffer(data, "<u1") & mask) == marker
        return np.where(marked, np.float32(np.nan), np.float32(0))

    return values


_READERS: Final[Mapping[str, Callable[[bytes], NDArray[Any]]]] = MappingProxyType({
    "F64": lambda data: np.frombuffer(data, "<f8"),
    "F32": lambda data: np.frombuffer(data, "<f4"),
    "F16": lambda data: np.frombuffer(data, "<f2"),
    "C64": lambda data: np.frombuffer(data, "<f4"),
    "BF16": _from_bfloat16,
    "F8_E5M2": _from_e5m2,
    "F8_E4M3": _marked(0x7F, 0x7F),
    "F8_E8M0": _marked(0xFF, 0xFF),
})  # fmt: skip
"""How the numbers of a type are read; types that are left out know neither NaN nor infinity."""
_PARTS: Final = MappingProxyType({"C64": 2})


def find_nonfinite(
    folder: TransformersFolder, progress: Progress = lambda share: None
) -> tuple[NonFinite, ...]:
    """NaN and infinity in the weights, one entry per tensor, in the order of the files.

    Args:
        folder: The model.
        progress: Called with the share of bytes that were read.

    Raises:
        FileChanged: A weights file is not the one that was checked.
        RefusedFolder: It can no longer be opened as it was.
    """
    found: list[NonFinite] = []
    total = sum(file.size for file in folder.weights) or 1
    done = 0
    for file in folder.weights:
        with open_listed(folder.path, FolderFile(file.name, file.path, file.size)) as stream:
            found += _scan_file(file, stream)
        done += file.size
        progress(done / total)
    return tuple(found)


def _scan_file(file: WeightsFile, stream: BufferedReader) -> list[NonFinite]:
    """The tensors cover the file behind its header, so one pass also gives its digest."""
    begin = file.tensors[0].begin if file.tensors else file.size
    digest = hashlib.sha256(stream.read(begin))
    entries = (_scan_tensor(tensor, stream, digest.update) for tensor in file.tensors)
    found = [entry for entry in entries if entry is not None]
    if stream.read(1) or digest.hexdigest() != file.sha256:
        raise FileChanged(file.path, f"sha256:{file.sha256}", f"sha256:{digest.hexdigest()}")
    return found


def _scan_tensor(
    tensor: StoredTensor, stream: BufferedReader, seen: Callable[[bytes], None]
) -> NonFinite | None:
    reader = _READERS.get(tensor.dtype)
    parts = _PARTS.get(tensor.dtype, 1)
    kinds: set[str] = set()
    shown: list[int] = []
    count = first = 0
    left = tensor.end - tensor.begin
    while left:
        size = min(_CHUNK, left)
        data = stream.read(size)
        seen(data)
        if len(data) != size:
            break  # the file has shrunk, and its digest is another
        left -= size
        if reader is None:
            continue
        values = reader(data)
        wrong = np.flatnonzero(~np.isfinite(values))
        if wrong.size:
            kinds |= _kinds_of(values[wrong])
            positions = np.unique((wrong + first) // parts)
            count += int(positions.size)
            shown += [int(position) for position in positions[: _SHOWN - len(shown)]]
        first += values.size
    if not count:
        return None
    ordered = tuple(kind for kind in ("nan", "inf", "-inf") if kind in kinds)
    return NonFinite(tensor.name, tuple(shown), count, ordered)


def _kinds_of(values: NDArray[Any]) -> set[str]:
    tests: dict[str, Any] = {"nan": np.isnan, "inf": np.isposinf, "-inf": np.isneginf}
    return {kind for kind, test in tests.items() if bool(test(values).any())}
