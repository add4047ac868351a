"""HDF5 files: recognised, and refused as models.

Source of the layout: the HDF5 File Format Specification 3.0, section II.A (superblock). Keras
writes a model's configuration into an attribute, as JSON; what its Lambda layers hold is code
(CVE-2024-3660, CVE-2025-9905). The file is not parsed.
"""

from __future__ import annotations

import re
from typing import Final

from auditor.models.scan.byte_source import ByteSource
from auditor.models.scan.decision import Content, Problem
from auditor.models.scan.limits import ScanLimits
from auditor.models.scan.problem_list import join_places

_SIGNATURE: Final = b"\x89HDF\r\n\x1a\n"
_VERSIONS: Final = (0, 1, 2, 3)
_SEARCHED: Final = 2**20
_CHUNK: Final = 2**16
_LAMBDA: Final = re.compile(rb'"class_name"\s{0,8}:\s{0,8}"(?:[\w.]{1,64}>)?(?:Lambda|__lambda__)"')
# The longest text that the pattern can match, so that it is also found across two pieces.
_OVERLAP: Final = 128
_WAY_OUT: Final = "export the model to ONNX, or save its weights as safetensors"


def read_hdf5(source: ByteSource, place: str, limits: ScanLimits) -> Content:
    """Refuse an HDF5 file, with what its first megabyte shows.

    Args:
        source: The file, at its beginning.
        place: Prefix of messages.
        limits: Not asked for more than the first megabyte.
    """
    start = source.read(len(_SIGNATURE) + 1)
    where = place.rstrip(", ")
    if not start.startswith(_SIGNATURE) or len(start) <= len(_SIGNATURE):
        return Content("hdf5", (Problem("malformed", "no HDF5 signature", where, _WAY_OUT),))
    version = start[-1]
    problems = []
    if version not in _VERSIONS:
        problems.append(Problem(
            "malformed", f"a superblock of version {version}; 0 to 3 are known",
            join_places(place, f"byte {len(_SIGNATURE)}"), _WAY_OUT,
        ))  # fmt: skip
    at = _find_lambda(source, min(_SEARCHED, limits.text_bytes))
    found = "; this one names a Lambda layer, which is code" if at is not None else ""
    problems.append(Problem(
        "hdf5",
        f"Keras HDF5 may hold code (Lambda layers) and is not parsed here{found}",
        where if at is None else join_places(place, f"byte {at}"), _WAY_OUT,
    ))  # fmt: skip
    return Content("hdf5", tuple(problems), ("first megabyte",), {"superblock": str(version)})


def _find_lambda(source: ByteSource, limit: int) -> int | None:
    """Offset of the first Lambda layer that is named before the limit."""
    kept = b""
    while source.position < limit:
        more = source.read(min(_CHUNK, limit - source.position))
        if not more:
            break
        window = kept + more
        match = _LAMBDA.search(window)
        if match is not None:
            return source.position - len(window) + match.start()
        kept = window[-_OVERLAP:]
    return None
