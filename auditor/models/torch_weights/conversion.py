"""Weights of a file of `torch.save` as safetensors; the pickle in it is read and never run.

Numbers are copied, not converted. What is written is byte for byte what
`safetensors.torch.save_file` writes of the tensors that `torch.load` gives.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Final

import numpy as np

from auditor.abandoned import remove_abandoned
from auditor.errors import OperationFailed, RefusedModel
from auditor.files import has_changed, new_file, refuse_existing
from auditor.models.limits import FolderLimits
from auditor.models.preflight import open_regular
from auditor.models.safetensors_header import read_header
from auditor.models.torch_weights.choice import choose_tensors
from auditor.models.torch_weights.tensors import PickledTensor, width_of
from auditor.models.torch_weights.torch_file import WAY_OUT, TorchFile, read_torch_file

_CHUNK: Final = 2**24
_ALIGNMENT: Final = 8
_MOST_COPIES: Final = 4
_FREE_BYTES: Final = 2**26
_ORDER: Final = (
    "BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "I16", "U16", "F16", "BF16", "I32", "U32",
    "F32", "C64", "F64", "I64", "U64",
)  # fmt: skip
"""Types as the safetensors library sorts them; it writes the last first, so all are aligned."""
_METADATA: Final = {"format": "pt"}
"""Without it transformers does not open the file."""


@dataclass(frozen=True)
class ConvertedFile:
    """What became of one file.

    Attributes:
        source_sha256: Hex digest of the file that was read.
        sha256: Hex digest of the file that was written.
        names: Its tensors.
        size: Its bytes.
        left_out: What the source holds besides, in words.
    """

    source_sha256: str
    sha256: str
    names: tuple[str, ...]
    size: int
    left_out: tuple[str, ...]


def convert_file(path: Path, out: Path, keys: Sequence[str] = ()) -> ConvertedFile:
    """Write the weights of a file as safetensors.

    Args:
        path: A file of `torch.save`.
        out: The file to write, which does not exist.
        keys: Where the mapping of the weights lies in what was saved.

    Raises:
        FileMissing: There is no such file.
        RefusedModel: The scan refuses it for more than being a pickle, or it holds what weights
            do not need.
        ConfigurationError, UnsupportedModel: See `choose_tensors`.
        OutputNotWritable, OperationFailed: It cannot be written; nothing is left behind.
    """
    refuse_existing(out, "the converted file")
    remove_abandoned(out)
    with open_regular(path) as stream:
        return convert_open(path, stream, out, keys)


def convert_open(
    path: Path, stream: BufferedReader, out: Path, keys: Sequence[str] = ()
) -> ConvertedFile:
    """The same for a file that is open."""
    before = os.fstat(stream.fileno())
    file = read_torch_file(path, stream, before.st_size)
    chosen = choose_tensors(path, file.value, keys)
    tensors = dict(sorted(chosen.tensors.items(),
                          key=lambda each: (-_ORDER.index(each[1].dtype), each[0])))  # fmt: skip
    _refuse_copies(path, list(tensors.values()))
    stream.seek(0)
    source = hashlib.file_digest(stream, "sha256").hexdigest()
    digest, size = hashlib.sha256(), 0
    with new_file(out) as written:
        for part in _parts_of(path, file, tensors):
            written.write(part)
            digest.update(part)
            size += len(part)
        if has_changed(before, stream):
            raise _changed(path)
    return ConvertedFile(source, digest.hexdigest(), tuple(tensors), size, chosen.left_out)


def _refuse_copies(path: Path, tensors: Sequence[PickledTensor]) -> None:
    """Tied weights are read once for each name; what is read without end is no model."""
    stored = sum(storage.size for storage in {tensor.storage for tensor in tensors})
    # To gather a few numbers that lie far apart takes all that lie between.
    size = sum(max(tensor.size, tensor.span * width_of(tensor.dtype)) for tensor in tensors)
    if size > max(_FREE_BYTES, _MOST_COPIES * stored):
        raise RefusedModel(
            path, "inflation-ratio", f"{len(tensors)} tensors that reach over {size} bytes of "
            f"storages of {stored}; the limit is {_MOST_COPIES} times as many", way_out=WAY_OUT,
        )  # fmt: skip


def _parts_of(path: Path, file: TorchFile, tensors: Mapping[str, PickledTensor]) -> Iterator[bytes]:
    """The new file from its beginning; numbers little-endian, in the order of a tensor's axes."""
    yield _header_of(path, tensors)
    for name, tensor in tensors.items():
        written = 0
        for part in (_in_order if tensor.is_contiguous else _gathered)(file, tensor):
            if tensor.dtype == "BOOL":
                _refuse_other_truths(path, name, part)
            written += len(part)
            yield part
        if written != tensor.size:
            raise _changed(path)


def _header_of(path: Path, tensors: Mapping[str, PickledTensor]) -> bytes:
    """Length and JSON, which keep every rule for weights that auditor opens."""
    entries: dict[str, object] = {"__metadata__": _METADATA}
    at = 0
    for name, tensor in tensors.items():
        if name in entries:
            raise RefusedModel(path, "malformed", f"a tensor is called {name}", way_out=WAY_OUT)
        offsets = [at, at + tensor.size]
        entries[name] = {
            "dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": offsets
        }  # fmt: skip
        at += tensor.size
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode(
        "utf-8", "backslashreplace"
    )
    text += b" " * (-len(text) % _ALIGNMENT)
    header = struct.pack("<Q", len(text)) + text
    read_header(path, "", BytesIO(header), len(header) + at, FolderLimits())
    return header


def _changed(path: Path) -> OperationFailed:
    return OperationFailed(f"{path} changed while it was read; run again when nothing writes to it")


def _refuse_other_truths(path: Path, name: str, chunk: bytes) -> None:
    if max(chunk, default=0) > 1:
        raise RefusedModel(
            path, "malformed", f"a truth value of {max(chunk)}", place=f"tensor {name[:80]!r}",
            way_out=WAY_OUT,
        )  # fmt: skip


def _in_order(file: TorchFile, tensor: PickledTensor) -> Iterator[bytes]:
    most = _CHUNK // width_of(tensor.dtype)
    for first in range(0, tensor.elements, most):
        count = min(most, tensor.elements - first)
        yield file.numbers(tensor.storage, tensor.offset + first, count, tensor.dtype)


def _gathered(file: TorchFile, tensor: PickledTensor) -> Iterator[bytes]:
    """A tensor whose numbers do not follow each other; its part of the storage is in memory."""
    width = width_of(tensor.dtype)
    content = file.numbers(tensor.storage, tensor.offset, tensor.span, tensor.dtype)
    if len(content) < tensor.span * width:
        return
    numbers = np.frombuffer(content, f"V{width}")
    strides = tuple(stride * width for stride in tensor.strides)
    # In bounds, as `PickledTensor` checked.
    yield np.lib.stride_tricks.as_strided(numbers, tensor.shape, strides).tobytes()
