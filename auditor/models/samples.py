"""Samples from a `.npy` or `.npz` file: inputs, and labels where there are some.

The headers are read first and must agree with the sizes of the file, so that nothing is
allocated on a stranger's word; object arrays (pickles) are refused by their type.
"""

from __future__ import annotations

import io
import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from auditor.errors import ConfigurationError, FileMissing, RefusedModel

MAX_BYTES = 4 << 30
MAX_HEADER_CHARACTERS = 10_000
_ZIP, _NPY = b"PK\x03\x04", b"\x93NUMPY"
_WAY_OUT = "write it with numpy.savez(FILE, inputs=..., labels=...)"


@dataclass(frozen=True, eq=False)
class Samples:
    """Inputs and labels.

    Attributes:
        inputs: [samples, values], float32.
        labels: [samples], int64; None when the file has none.
    """

    inputs: NDArray[np.float32]
    labels: NDArray[np.int64] | None


def load_samples(path: Path, *, num_inputs: int) -> Samples:
    """Read samples, one row each.

    Args:
        path: A `.npz` with `inputs` and perhaps `labels`, or a `.npy` with inputs;
            the content decides, not the name.
        num_inputs: Values of one sample.

    Raises:
        FileMissing: There is no such file.
        RefusedModel: The file is damaged, too large, or holds pickled objects.
        ConfigurationError: The arrays do not fit the model.
    """
    if not path.is_file():
        raise FileMissing(path, "samples")
    arrays = _read_arrays(path)
    if "inputs" not in arrays:
        raise ConfigurationError(f"{path} holds no array 'inputs'; {_WAY_OUT}")
    inputs, labels = arrays["inputs"], arrays.get("labels")
    count = len(inputs) if inputs.ndim else 0
    if count == 0 or inputs.size != count * num_inputs:
        raise ConfigurationError(
            f"{path}: inputs of shape {list(inputs.shape)} are not samples of {num_inputs} values"
        )
    if inputs.dtype.kind not in "fiu" or not np.isfinite(inputs).all():
        raise ConfigurationError(f"{path}: inputs must be finite numbers")
    if labels is not None and (labels.shape != (count,) or labels.dtype.kind not in "iu"):
        raise ConfigurationError(f"{path}: labels must be {count} whole numbers, one per sample")
    return Samples(
        inputs.reshape(count, num_inputs).astype(np.float32),
        None if labels is None else labels.astype(np.int64),
    )


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    with path.open("rb") as file:
        start = file.read(8)
        file.seek(0)
        if start.startswith(_NPY):
            return {"inputs": _read_array(path, file, path.stat().st_size)}
        if start.startswith(_ZIP):
            return _read_zip(path, file)
    raise RefusedModel(
        path, "not-samples", "neither a .npy nor a .npz file by its content", way_out=_WAY_OUT
    )


def _read_zip(path: Path, file: IO[bytes]) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}
    try:
        with zipfile.ZipFile(file) as archive:
            for name in ("inputs", "labels"):
                members = [m for m in archive.infolist() if m.filename == f"{name}.npy"]
                if len(members) > 1:
                    raise RefusedModel(
                        path, "duplicate-member", f"'{name}' stands twice", way_out=_WAY_OUT
                    )
                for member in members:
                    content = _inflate(path, archive, member)
                    arrays[name] = _read_array(path, io.BytesIO(content), len(content))
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, NotImplementedError) as error:
        raise RefusedModel(path, "damaged-archive", str(error), way_out=_WAY_OUT) from None
    return arrays


def _inflate(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    if member.file_size > MAX_BYTES:
        raise RefusedModel(
            path, "size-limit", f"'{member.filename}' would inflate to {member.file_size} bytes",
            way_out=f"use at most {MAX_BYTES} bytes of samples",
        )  # fmt: skip
    with archive.open(member) as stream:
        return stream.read(member.file_size)


def _read_array(path: Path, file: IO[bytes], size: int) -> NDArray[Any]:
    try:
        version = npy.read_magic(file)
        reader = {
            (1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0,
        }[version]  # fmt: skip
        shape, _, dtype = reader(file, max_header_size=MAX_HEADER_CHARACTERS)
    except (ValueError, KeyError, SyntaxError) as error:
        raise RefusedModel(path, "bad-array-header", str(error)[:200], way_out=_WAY_OUT) from None
    if dtype.hasobject:
        raise RefusedModel(
            path, "pickle-content", "the array holds pickled objects", way_out=_WAY_OUT
        )
    expected = math.prod(shape) * dtype.itemsize
    if expected != size - file.tell() or expected > MAX_BYTES:
        raise RefusedModel(
            path, "array-length", f"the header promises {expected} bytes, there are "
            f"{size - file.tell()}", way_out=_WAY_OUT,
        )  # fmt: skip
    file.seek(0)
    return npy.read_array(file, allow_pickle=False, max_header_size=MAX_HEADER_CHARACTERS)
