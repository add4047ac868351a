"""What commands under trial have in common, and files and folders as they are compared."""

from __future__ import annotations

import hashlib
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from benchmarks.killing import Command, Whole

ROOT: Final = Path(__file__).parents[1]
DEMO: Final = ROOT / "specs" / "auditor_specs" / "plans" / "demo"
_NUMBER: Final = re.compile(r"\.[0-9a-f]+\.(tmp|unfinished)$")
LOCKS: Final = frozenset({".lock"})


class Problem(NamedTuple):
    """What must not be.

    Attributes:
        kind: `half-written`, `lost`, `repeated`, `differs`, `refused`, `source`, `in the way`
            or `orphan`.
        text: What it is about.
    """

    kind: str
    text: str


@dataclass(frozen=True)
class Look:
    """What a killed command left.

    Attributes:
        problems: Half-written things that a reader takes for whole, and the like.
        done: Whether all that it writes is there and whole, so that it may refuse to write it
            again.
        kept: What the same command, issued again, has to keep.
    """

    problems: tuple[Problem, ...] = ()
    done: bool = False
    kept: dict[str, Any] = field(default_factory=dict)


class Work(Protocol):
    """A command, what it needs, and how to judge what became of it."""

    @property
    def name(self) -> str:
        """What it is called in tables."""
        ...

    @property
    def command(self) -> Command:
        """What is run."""
        ...

    @property
    def codes(self) -> frozenset[int]:
        """Exit codes of a run that was not disturbed."""
        ...

    @property
    def workers(self) -> bool:
        """Whether the command starts processes of its own."""
        ...

    def prepare(self, folder: Path) -> None:
        """Put into an empty folder what the command needs."""
        ...

    def look(self, folder: Path, whole: Path) -> Look:
        """Judge what a killed command left, beside what an undisturbed one wrote."""
        ...

    def compare(self, folder: Path, whole: Path, look: Look, again: Whole) -> list[Problem]:
        """Judge what is there after the same command was issued again and ended."""
        ...


def tree(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file below a folder, by its path; locks are left out."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in LOCKS
    }


def nameless(path: str) -> str:
    """A path with `#` for what tells one unfinished file from another."""
    return "/".join(_NUMBER.sub(r".#.\1", part) for part in path.split("/"))


def leftovers(folder: Path, expected: set[str]) -> list[str]:
    """Files that neither the command needs nor an undisturbed one leaves, and empty folders."""
    found = {
        nameless(str(path.relative_to(folder)))
        for path in folder.rglob("*")
        if path.name not in LOCKS and (path.is_file() or not any(path.iterdir()))
    }
    return sorted(found - {nameless(each) for each in expected})


def copy_demo(folder: Path) -> None:
    """The model and the data of the demo, for plans that name them beside themselves."""
    for name in ("digits.onnx", "digits_test.npz", "digits_patterns.safetensors"):
        shutil.copyfile(DEMO / name, folder / name)


def differences(found: dict[str, str], expected: dict[str, str], what: str) -> list[Problem]:
    """Files that are missing, there without a reason, or another."""
    problems = []
    for name in sorted(found.keys() | expected.keys()):
        if name not in found:
            problems.append(Problem("lost", f"{what}: {name} is missing"))
        elif name not in expected and nameless(name) == name:
            problems.append(Problem("differs", f"{what}: {name} is there and should not be"))
        elif name in expected and found[name] != expected[name]:
            problems.append(Problem("differs", f"{what}: {name} has other bytes"))
    return problems
