"""Names of the members of an archive: what makes one dangerous, or unlike its neighbours.

A member is never written to disk here. Whoever unpacks the archive may do so, and writes
outside the folder if a name says so (CVE-2024-5187).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from auditor.models.scan.decision import Problem
from auditor.models.scan.limits import ScanLimits
from auditor.models.scan.problem_list import member_place

_DRIVE: Final = re.compile(r"[A-Za-z]:")
_WAY_OUT: Final = "pack the model again, with plain names"


class MemberNames:
    """The names of one archive, each looked at as it comes.

    Args:
        place: Prefix of messages.
        limits: How long a name may be.
    """

    def __init__(self, place: str, limits: ScanLimits) -> None:
        self._place, self._limits = place, limits
        self._seen: dict[str, bool] = {}

    def problems_of(self, name: str, *, is_folder: bool) -> Iterator[Problem]:
        """What is wrong with the next name."""
        place = member_place(self._place, name)
        if len(name.encode(errors="surrogatepass")) > self._limits.member_name_bytes:
            yield Problem(
                "text-limit",
                f"a name of {len(name)} characters; the limit is "
                f"{self._limits.member_name_bytes} bytes",
                place,
                _WAY_OUT,
            )
        if not name.isprintable():
            yield Problem("control-character", "a control character in its name", place, _WAY_OUT)
        if leaves_root(name):
            yield Problem(
                "path-like-name", "its name leaves the folder it is unpacked in", place, _WAY_OUT
            )
        key = "/".join(part for part in name.split("/") if part not in ("", "."))
        if key in self._seen and not (is_folder and self._seen[key]):
            yield Problem("duplicate-name", "two members have this name", place, _WAY_OUT)
        self._seen[key] = is_folder


def leaves_root(name: str) -> bool:
    """Whether a name is absolute, goes up, has a drive or a backslash, or is none at all."""
    parts = name.removesuffix("/").split("/")
    return (
        "\\" in name or _DRIVE.match(name) is not None
        or any(part in ("", "..") for part in parts)
    )  # fmt: skip
