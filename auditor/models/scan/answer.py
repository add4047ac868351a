"""What a scan says of a path and of every file below it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from auditor.models.scan.decision import Content, Decision, Problem, worst


@dataclass(frozen=True)
class FileScan:
    """What one file is.

    Attributes:
        name: Its path below the scanned folder, or the name of the scanned file.
        size: Bytes.
        sha256: Hex digest of its bytes; empty where they were not read or not hashed.
        content: What was found in it.
    """

    name: str
    size: int
    sha256: str
    content: Content


@dataclass(frozen=True)
class PathScan:
    """What a scanned file or folder is.

    Attributes:
        path: As it was named.
        files: Every file, sorted by name.
        problems: Of the folder as a whole, and of what in it is no file.
        not_looked_at: What was left out on purpose.
        kinds: What the model folders in it are, by their path below it.
        is_folder: Whether the path is a folder.
    """

    path: Path
    files: tuple[FileScan, ...]
    problems: tuple[Problem, ...] = ()
    not_looked_at: tuple[str, ...] = ()
    kinds: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    is_folder: bool = False

    @property
    def decision(self) -> Decision:
        """The worst of all of them."""
        return worst([worst(problem.decision for problem in self.problems),
                      *(file.content.decision for file in self.files)])  # fmt: skip

    def all_problems(self) -> Iterator[tuple[str, Problem]]:
        """Each problem with the name of its file; the name is empty for the folder itself.

        What the rules of a model folder and those of the file both say is said once.
        """
        rules = {file.name: {each.rule for each in file.content.problems} for file in self.files}
        for problem in self.problems:
            name = problem.place if problem.place in rules else problem.place.partition(", ")[0]
            if problem.rule not in rules.get(name, ()):
                place = problem.place.removeprefix(name).removeprefix(", ")
                yield name, replace(problem, place=place)
        for file in self.files:
            yield from ((file.name, problem) for problem in file.content.problems)
