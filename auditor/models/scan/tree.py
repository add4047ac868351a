"""Everything that lies below a folder, hidden entries too; nothing is followed out of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final

from auditor.errors import RefusedFolder
from auditor.folders import FolderFile, regular_file
from auditor.models.scan.decision import Decision, Problem
from auditor.models.scan.limits import ScanLimits

# Git keeps its own compressed copies of every version; they are never opened as models.
_NOT_ENTERED: Final = frozenset({".git"})


@dataclass
class Tree:
    """What was met below a folder.

    Attributes:
        files: Regular files, links to files of the folder among them, sorted by name.
        problems: Of entries that are no such files, each with its place.
        not_looked_at: Names of folders that were left out on purpose.
    """

    files: list[FolderFile] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    not_looked_at: list[str] = field(default_factory=list)


def list_tree(folder: Path, limits: ScanLimits) -> Tree:
    """List a folder and all folders in it; what must not be there is a problem and no error."""
    tree, root = Tree(), folder.resolve()
    waiting = [("", 1)]
    while waiting and len(tree.files) <= limits.files:
        prefix, depth = waiting.pop()
        for entry in _entries(root, prefix, tree, limits):
            name = prefix + entry.name
            if not name.isprintable():
                shown = f"a file or folder is called {name[-80:]!r}"
                tree.problems.append(Problem("control-character", shown, "", "rename it"))
            if not entry.is_dir(follow_symlinks=False):
                _add_file(tree, folder, root, name)
            elif entry.name in _NOT_ENTERED:
                tree.not_looked_at.append(name)
            elif depth >= limits.depth:
                tree.problems.append(_too_deep(name, limits))
            else:
                waiting.append((f"{name}/", depth + 1))
    if len(tree.files) > limits.files or waiting:
        tree.problems.append(_too_many("", limits))
        del tree.files[limits.files :]
    tree.files.sort(key=lambda file: file.name)
    return tree


def _entries(root: Path, prefix: str, tree: Tree, limits: ScanLimits) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(root / prefix) as entries:
            yield from islice(entries, limits.files)
            # Links and folders are no files, and what follows them must not go unsaid.
            if next(entries, None) is not None:
                tree.problems.append(_too_many(prefix, limits))
    except OSError as error:
        tree.problems.append(Problem(
            "unreadable", f"cannot be listed: {error.strerror}", prefix, "check its permissions",
            Decision.INCONCLUSIVE,
        ))  # fmt: skip


def _add_file(tree: Tree, folder: Path, root: Path, name: str) -> None:
    if (root / name).is_symlink() and _leads_to_folder_inside(root, name):
        return
    try:
        tree.files.append(regular_file(folder, root, name))
    except RefusedFolder as refusal:
        tree.problems.append(Problem(refusal.rule, refusal.problem, refusal.place, refusal.way_out))


def _leads_to_folder_inside(root: Path, name: str) -> bool:
    """Such a folder is listed where it lies; a ring of links leads nowhere."""
    try:
        target = (root / name).resolve(strict=True)
    except (OSError, RuntimeError):
        return False
    if not target.is_dir() or not target.is_relative_to(root):
        return False
    return not _NOT_ENTERED & set(target.relative_to(root).parts)


def _too_deep(name: str, limits: ScanLimits) -> Problem:
    return Problem(
        "nesting-limit", f"folders nested deeper than {limits.depth}", name,
        "scan it on its own", Decision.INCONCLUSIVE,
    )  # fmt: skip


def _too_many(prefix: str, limits: ScanLimits) -> Problem:
    return Problem(
        "file-limit", f"more than {limits.files} files", prefix, "scan its parts",
        Decision.INCONCLUSIVE,
    )  # fmt: skip
