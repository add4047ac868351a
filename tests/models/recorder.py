"""An inspector of members that remembers what it was given, for tests of archive readers."""

from __future__ import annotations

from collections.abc import Mapping

from auditor.models.scan.byte_source import ByteSource
from auditor.models.scan.decision import Content, Problem


class Recorder:
    """Reads each member and answers with the problems that were laid down for its name.

    Attributes:
        members: Bytes of each member by its name, as they were given.
        depths: In how many archives it was said to lie.
    """

    def __init__(
        self, problems: Mapping[str, tuple[Problem, ...]] | None = None, *, reads: int = 2**30
    ) -> None:
        self._problems, self._reads = problems or {}, reads
        self.members: dict[str, bytes] = {}
        self.depths: dict[str, int] = {}

    def __call__(self, source: ByteSource, name: str, depth: int) -> Content:
        """Take in a member."""
        self.members[name] = source.read(self._reads)
        self.depths[name] = depth
        return Content("recorded", self._problems.get(name, ()))
