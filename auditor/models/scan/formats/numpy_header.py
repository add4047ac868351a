"""The header of a .npy file, checked before NumPy opens the file, and the length of its data.

Source: the description of the format in NumPy's `numpy/lib/_format_impl.py` (NEP 1), versions 1
to 3. An array of Python objects is stored as a pickle (CVE-2019-6446). The header is a literal of
Python; it is read by a grammar of its own, because a parser of Python takes far more than that.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from types import MappingProxyType
from typing import Final, NamedTuple

from auditor.models.scan.byte_source import ByteSource
from auditor.models.scan.decision import Content, Problem
from auditor.models.scan.formats.numpy_dtype import ArrayType, UnknownType, read_dtype
from auditor.models.scan.formats.numpy_literal import LiteralError, read_literal
from auditor.models.scan.limits import ScanLimits
from auditor.models.scan.pickles.walk import walk_pickle

MAGIC: Final = b"\x93NUMPY"
_LONGEST_HEADER: Final = 10_000
"""Bytes; what `numpy.load` takes unless it is told otherwise."""
_KEYS: Final = frozenset({"descr", "fortran_order", "shape"})
_MOST_AXES: Final = 64
_LARGEST: Final = 2**63 - 1
_STEP: Final = 2**30
_FORMAT: Final = "npy"
_WAY_OUT: Final = "save the array again with numpy.save and allow_pickle=False"


class _Refused(Exception):
    """The header breaks a rule."""

    def __init__(self, rule: str, problem: str) -> None:
        self.rule, self.problem = rule, problem
        super().__init__(problem)


class _Header(NamedTuple):
    version: str
    dtype: ArrayType
    shape: tuple[int, ...]


def read_numpy(source: ByteSource, place: str, limits: ScanLimits) -> Content:
    """Judge a .npy file: its header, its type, and that its data are as long as it says.

    Args:
        source: The file at its start; read to its end unless the header is refused.
        place: Prefix of the places, '' or `member 'x', `.
        limits: Of the pickle that an array of Python objects is.

    Raises:
        OSError: The stream cannot be read.
    """
    try:
        header = _read_header(source)
        if not header.dtype.holds_objects:
            _check_data(source, header)
    except _Refused as refused:
        in_data = refused.rule in ("data-length", "trailing-data")
        where = place.removesuffix(", ") if in_data else f"{place}header"
        return Content(_FORMAT, (Problem(refused.rule, refused.problem, where, _WAY_OUT),))
    facts = _facts(header)
    if not header.dtype.holds_objects:
        return Content(_FORMAT, (), ("header", "length of the data"), facts)
    text = "an array of Python objects, which is a pickle and runs code when it is opened"
    problem = Problem("pickle-content", text, f"{place}header", _WAY_OUT)
    inner = walk_pickle(source, place, limits)
    return Content(
        _FORMAT, (problem, *inner.problems[1:]), ("header", *inner.parts),
        MappingProxyType(dict(inner.facts) | dict(facts)),
    )  # fmt: skip


def _facts(header: _Header) -> Mapping[str, str]:
    return MappingProxyType(
        {
            "version": header.version,
            "dtype": header.dtype.text,
            "shape": " x ".join(str(axis) for axis in header.shape) or "scalar",
        }
    )


def _read_header(source: ByteSource) -> _Header:
    start = source.read(len(MAGIC) + 2)
    if len(start) < len(MAGIC) + 2:
        raise _Refused("truncated", f"{len(start)} bytes are no .npy file")
    major, minor = start[len(MAGIC) :]
    if not start.startswith(MAGIC) or major not in (1, 2, 3) or minor:
        raise _Refused("malformed", f"no .npy file of version 1, 2 or 3: {start!r}")
    width = 2 if major == 1 else 4
    counted = source.read(width)
    length = int.from_bytes(counted, "little")
    if length > _LONGEST_HEADER:
        problem = f"a header of {length} bytes; the limit is {_LONGEST_HEADER}"
        raise _Refused("size-limit", problem)
    text = source.read(length)
    if len(counted) < width or len(text) < length:
        raise _Refused("truncated", f"the file ends inside its header of {length} bytes")
    try:
        fields = read_literal(text.decode("utf-8" if major == 3 else "latin-1"))
    except (LiteralError, UnicodeDecodeError) as error:
        raise _Refused("malformed", f"the header is no dict of plain values: {error}") from None
    if not isinstance(fields, dict) or fields.keys() != _KEYS:
        shown = sorted(fields)[:6] if isinstance(fields, dict) else type(fields).__name__
        raise _Refused("malformed", f"the header has {shown!r}, not {sorted(_KEYS)}")
    if not isinstance(fields["fortran_order"], bool):
        raise _Refused("malformed", "fortran_order is neither True nor False")
    try:
        dtype = read_dtype(fields["descr"])
    except UnknownType as error:
        raise _Refused("unknown-dtype", str(error)) from None
    return _Header(f"{major}.{minor}", dtype, _read_shape(fields["shape"]))


def _read_shape(shape: object) -> tuple[int, ...]:
    if not isinstance(shape, tuple):
        raise _Refused("malformed", "the shape is not a tuple")
    axes = tuple(axis for axis in shape if isinstance(axis, int) and type(axis) is int)
    if len(axes) < len(shape) or any(axis < 0 for axis in axes):
        raise _Refused("dims-range", "the shape is not made of whole numbers >= 0")
    if len(axes) > _MOST_AXES:
        raise _Refused("dims-range", f"{len(axes)} axes; the limit is {_MOST_AXES}")
    return axes


def _check_data(source: ByteSource, header: _Header) -> None:
    """The rest of the file is exactly as long as shape and type say."""
    axes = [axis for axis in header.shape if axis]
    if prod(axes) * max(1, header.dtype.size) > _LARGEST:
        raise _Refused("dims-overflow", f"{len(header.shape)} axes that no memory can hold")
    length = prod(header.shape) * header.dtype.size
    asked = f"{length} bytes of shape x dtype"
    if source.size is not None and source.size - source.position != length:
        rest = source.size - source.position
        rule = "data-length" if rest < length else "trailing-data"
        raise _Refused(rule, f"{asked}, {rest} in the file")
    left = length
    while left:
        step = min(left, _STEP)
        gone = source.skip(step)
        left -= gone
        if gone < step:
            raise _Refused("data-length", f"{asked}, {length - left} in the file")
    if source.peek(1):
        raise _Refused("trailing-data", f"{asked}, and more bytes behind them")
