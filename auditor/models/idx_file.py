"""IDX files, the format of MNIST: a short header and one array, plain or gzip-compressed.

Format: two zero bytes, a type code, the number of axes, each axis as a big-endian
32-bit number, then the numbers (LeCun, Cortes, Burges, "THE MNIST DATABASE").
"""

from __future__ import annotations

import gzip
import struct
import zlib
from math import prod
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

from auditor.errors import FileMissing, InvalidText
from auditor.models.input_file import MAX_BYTES

_TYPES: Final = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_GZIP_MAGIC: Final = b"\x1f\x8b"
_MAX_AXES: Final = 8


def is_idx_name(path: Path) -> bool:
    """Whether a file's name says IDX, for example `t10k-images-idx3-ubyte.gz`."""
    name = path.name.removesuffix(".gz")
    return name.endswith((".idx", "-ubyte")) or "-idx" in name


def read_idx(path: Path) -> NDArray[Any]:
    """The array of an IDX file; its size is known and limited before it is read.

    Raises:
        FileMissing: There is no such file.
        InvalidText: It is no IDX file, is too large, or is shorter than it says.
    """
    if not path.is_file():
        raise FileMissing(path, "input file")
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == _GZIP_MAGIC
            raw.seek(0)
            if not packed:
                return _read(path, raw)
            with gzip.GzipFile(fileobj=raw) as stream:
                return _read(path, stream)
    except (EOFError, OSError, ValueError, struct.error, zlib.error) as error:
        raise InvalidText(str(path), f"not a readable IDX file: {error}") from error


def _read(path: Path, stream: IO[bytes] | gzip.GzipFile) -> NDArray[Any]:
    zeros, code, axes = struct.unpack(">HBB", stream.read(4))
    if zeros or code not in _TYPES or not 1 <= axes <= _MAX_AXES:
        raise InvalidText(str(path), "no IDX file: its first four bytes name no type")
    shape = struct.unpack(f">{axes}I", stream.read(4 * axes))
    dtype = np.dtype(_TYPES[code])
    size = prod(shape) * dtype.itemsize
    if size > MAX_BYTES:
        raise InvalidText(str(path), f"array of {size} bytes; the limit is {MAX_BYTES}")
    data = stream.read(size)
    if len(data) != size:
        raise InvalidText(str(path), f"{len(data)} bytes of data for an array of {size}")
    return np.frombuffer(data, dtype=dtype).reshape(shape)
