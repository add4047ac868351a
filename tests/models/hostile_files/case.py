"""What one hostile file or folder is, what it stands for, and what a scan has to say of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from auditor.models.scan.decision import Decision
from tests.models.model_folders import CONFIG, entry, safetensors_bytes

Builder = Callable[[Path, Path], Path]
"""Writes below a folder of its own and returns the path to scan; the second path is the marker
file that the payload would create."""
Content = Callable[[Path], bytes]
"""The bytes of a file; the path is the marker."""


@dataclass(frozen=True)
class HostileCase:
    """One hostile file or folder.

    Attributes:
        id: Its name, kebab-case.
        stands_for: Advisories and issues, and the row of the threat model in words.
        build: Writes it.
        decisions: One of these has to be the answer of a scan; ACCEPTED is always alone.
        rules: One of these has to be among the rules of the problems found.
        shown: Has to be in the place or the problem of one that has such a rule.
        beside: Paths that belong to it besides the scanned one, relative to its folder.
    """

    id: str
    stands_for: tuple[str, ...]
    build: Builder
    decisions: frozenset[Decision]
    rules: frozenset[str] = frozenset()
    shown: str = ""
    beside: tuple[str, ...] = ()


def refused(
    case_id: str,
    stands_for: str,
    build: Builder,
    rules: str,
    shown: str = "",
    beside: tuple[str, ...] = (),
) -> HostileCase:
    """A case that has to be refused; ids and rules are separated by spaces and commas."""
    return HostileCase(
        case_id, _ids(stands_for), build, frozenset({Decision.REFUSED}),
        frozenset(rules.split()), shown, beside,
    )  # fmt: skip


def undecided(
    case_id: str, stands_for: str, build: Builder, rules: str, shown: str = ""
) -> HostileCase:
    """A case that nobody can call safe or unsafe."""
    return HostileCase(
        case_id, _ids(stands_for), build, frozenset({Decision.INCONCLUSIVE}),
        frozenset(rules.split()), shown,
    )  # fmt: skip


def stopped(
    case_id: str, stands_for: str, build: Builder, rules: str, shown: str = ""
) -> HostileCase:
    """A case at which a scan has to stop: whether it calls that refused or open is its choice."""
    return HostileCase(
        case_id, _ids(stands_for), build, frozenset({Decision.REFUSED, Decision.INCONCLUSIVE}),
        frozenset(rules.split()), shown,
    )  # fmt: skip


def accepted(
    case_id: str, stands_for: str, build: Builder, beside: tuple[str, ...] = ()
) -> HostileCase:
    """A case that looks odd and has to pass, because refusing it would refuse sound files."""
    return HostileCase(
        case_id, _ids(stands_for), build, frozenset({Decision.ACCEPTED}), beside=beside
    )


def steer(
    case_id: str, stands_for: str, name: str, value: Mapping[str, object], rules: str, shown: str
) -> HostileCase:
    """A model's folder with a JSON file that names code or something elsewhere."""
    build = files([
        ("config.json", lambda marker: json.dumps(CONFIG).encode()),
        ("model.safetensors", lambda marker: sound_weights()),
        (name, lambda marker: json.dumps(value).replace("MARKER", str(marker)).encode()),
    ])  # fmt: skip
    return refused(case_id, stands_for, build, rules, shown)


def sound_weights() -> bytes:
    """Weights in order."""
    return safetensors_bytes({"w": entry("F32", [2], 0, 8)}, bytes(8))


def _ids(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def given(folder: Path) -> Path:
    """The folder for what is scanned; what lies beside it is none of the scan's business."""
    path = folder / "given"
    path.mkdir(parents=True, exist_ok=True)
    return path


def outside(folder: Path, content: bytes = b"secret" * 8) -> Path:
    """A file that nothing may open."""
    path = folder / "outside" / "secret.bin"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def file(name: str, content: Content) -> Builder:
    """A builder of one file."""

    def build(folder: Path, marker: Path) -> Path:
        path = given(folder) / name
        path.write_bytes(content(marker))
        return path

    return build


def files(contents: Iterable[tuple[str, Content]]) -> Builder:
    """A builder of a folder of files, by their paths in it."""
    listed = tuple(contents)

    def build(folder: Path, marker: Path) -> Path:
        root = given(folder) / "model"
        for name, content in listed:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content(marker))
        return root

    return build
