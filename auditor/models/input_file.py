"""Inputs from a NumPy file, read without its loader's pickle and without its trust.

The header of every array is read first; object arrays are refused and sizes are
limited before anything of that size is allocated.
"""

from __future__ import annotations

import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from auditor.errors import FileMissing, InvalidText, UnsupportedModel

if TYPE_CHECKING:
    from auditor.models.onnx_model import OnnxModel, TensorSpec

Array = NDArray[Any]

MAX_BYTES: Final = 2**30
MAX_ARRAYS: Final = 10_000
_MAX_HEADER: Final = 10_000
# What the standard library's zip reader raises on damaged, encrypted or odd archives.
_UNREADABLE: Final = (
    EOFError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


def read_inputs(path: Path | str, model: OnnxModel) -> dict[str, Array]:
    """Inputs for a model from `.npy` (one input) or `.npz` (arrays named like inputs).

    For a model with one input an array called `inputs` is taken too, and what stands
    beside it (labels) is left alone. Each array is [samples, ...] with the input's axes,
    or flat [samples, n]; it is converted to the input's type where no kind is lost.

    Raises:
        FileMissing: There is no such file.
        InvalidText: Not a NumPy file, object arrays, too large, or other names.
        UnsupportedModel: A shape does not fit the model's input.
    """
    path = Path(path)
    arrays = read_arrays(path)
    if len(model.inputs) == 1 and "inputs" in arrays:
        arrays = {model.inputs[0].name: arrays["inputs"]}
    elif set(arrays) == {""}:
        if len(model.inputs) != 1:
            raise InvalidText(str(path), "one array for several inputs; use .npz with their names")
        arrays = {model.inputs[0].name: arrays[""]}
    wanted = [spec.name for spec in model.inputs]
    if sorted(arrays) != sorted(wanted):
        raise InvalidText(str(path), f"arrays {sorted(arrays)}; the model's inputs are {wanted}")
    return {spec.name: fit_array(spec, arrays[spec.name]) for spec in model.inputs}


def read_arrays(path: Path) -> dict[str, Array]:
    """The arrays of a `.npz` by name, or the array of a `.npy` under an empty name."""
    if not path.is_file():
        raise FileMissing(path, "input file")
    try:
        if not zipfile.is_zipfile(path):
            with path.open("rb") as stream:
                return {"": _read_array(path, stream)}
        with zipfile.ZipFile(path) as archive:
            return _read_members(path, archive)
    except _UNREADABLE as error:
        problem = " ".join(str(error).split())[:200]
        raise InvalidText(str(path), f"not a readable NumPy file: {problem}") from error


def _read_members(path: Path, archive: zipfile.ZipFile) -> dict[str, Array]:
    members = archive.infolist()
    if len(members) > MAX_ARRAYS:
        raise InvalidText(str(path), f"{len(members)} arrays; at most {MAX_ARRAYS} are read")
    found: dict[str, Array] = {}
    left = MAX_BYTES
    for member in members:
        name = member.filename.removesuffix(".npy")
        if name in found:
            raise InvalidText(str(path), f"the array {name[:80]!r} stands twice; keep one")
        with archive.open(member) as stream:
            found[name] = _read_array(path, stream, left)
        left -= found[name].nbytes
    return found


def _read_array(path: Path, stream: IO[bytes], limit: int = MAX_BYTES) -> Array:
    version = npy.read_magic(stream)
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    if version not in readers:
        raise InvalidText(str(path), f"NumPy format {version}; save it again with numpy.save")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of files from Python 2, which are read all the same
            shape, fortran, dtype = readers[version](stream, max_header_size=_MAX_HEADER)
    except (MemoryError, RecursionError, SyntaxError, tokenize.TokenError):  # nested, unclosed
        raise InvalidText(str(path), "its header is no header; save it again") from None
    size = prod(shape) * dtype.itemsize
    if dtype.hasobject or dtype.kind not in "fiub":
        raise InvalidText(str(path), f"array of {dtype}; only plain numbers are read")
    if min(shape, default=0) < 0 or size > limit:
        raise InvalidText(str(path), f"array of {size} bytes; the limit is {limit}")
    data = stream.read(size)
    if len(data) != size:
        raise InvalidText(str(path), f"{len(data)} bytes of data for an array of {size}")
    return np.frombuffer(data, dtype=dtype).reshape(shape, order="F" if fortran else "C")


def split_samples(inputs: Mapping[str, Array]) -> list[dict[str, Array]]:
    """One dictionary per sample, each array with a first axis of one.

    Raises:
        UnsupportedModel: The inputs bring different numbers of samples.
    """
    counts = {len(value) for value in inputs.values()}
    if len(counts) != 1:
        raise UnsupportedModel(f"inputs bring different numbers of samples: {sorted(counts)}")
    return [
        {name: value[index : index + 1] for name, value in inputs.items()}
        for index in range(counts.pop())
    ]


def fit_array(spec: TensorSpec, array: Array) -> Array:
    """Samples in the shape and type of a model's input.

    Args:
        spec: The input.
        array: [samples, ...] with the input's axes, or flat [samples, n].

    Raises:
        UnsupportedModel: The shape does not fit, or the type would lose its kind.
    """
    if array.ndim == 2 and array.shape[1] == spec.size and len(spec.shape) > 2:
        array = array.reshape(len(array), *(axis or 1 for axis in spec.shape[1:]))
    fits = array.ndim == len(spec.shape) > 0 and all(
        expected in (None, actual)
        for expected, actual in zip(spec.shape[1:], array.shape[1:], strict=True)
    )
    if not fits or not np.can_cast(array.dtype, spec.dtype, casting="same_kind"):
        raise UnsupportedModel(
            f"{array.dtype} of shape {list(array.shape)} for input {spec}",
            way_out="give samples along the first axis, in the input's type",
        )
    return array.astype(spec.dtype, copy=False)
