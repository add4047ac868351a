"""Scanning a file or a whole folder: what everything in it is, and whether it may be opened.

Each file is opened once, without following a link again, and judged and hashed through that
descriptor. A folder that is a model has to be one that auditor would open, besides.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from io import BufferedReader
from pathlib import Path
from types import MappingProxyType
from typing import Final

from auditor.errors import RefusedFolder, RefusedModel
from auditor.folders import FolderFile, open_listed
from auditor.models.preflight import open_regular
from auditor.models.scan.decision import Content, Decision, Problem, worst
from auditor.models.scan.file_content import inspect_file
from auditor.models.scan.limits import ScanLimits
from auditor.models.scan.model_folders import find_model_folders, judge_model_folder
from auditor.models.scan.tree import list_tree

_WEIGHTS: Final = frozenset({"onnx", "onnx.gz", "safetensors", "gguf", "pickle", "torch archive"})
_HASHED_TWICE: Final = 2**26
_THREADS: Final = min(8, os.cpu_count() or 1)
# What a reader says of bytes that are not of its format.
_GAVE_UP: Final = frozenset({"unknown-format", "malformed", "truncated", "size-limit"})


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


def scan_path(path: Path, limits: ScanLimits | None = None, *, hashed: bool = True) -> PathScan:
    """Scan a file, or everything below a folder; nothing is executed and nothing unpacked to disk.

    Args:
        path: The file or folder.
        limits: How much is looked at.
        hashed: Whether every file is digested too.

    Raises:
        FileMissing: There is nothing at the path.
    """
    limits = limits or ScanLimits()
    # Unlike `Path.is_dir` it does not raise where a folder above must not be entered.
    if os.path.isdir(path):  # noqa: PTH112
        return _scan_folder(path, limits, hashed)
    try:
        with open_regular(path) as stream:
            return PathScan(path, (_scan_open(path, path.name, stream, limits, hashed),))
    except RefusedModel as refusal:
        return PathScan(path, (), (_unless_unreadable(refusal),))


def _scan_folder(path: Path, limits: ScanLimits, hashed: bool) -> PathScan:
    tree = list_tree(path, limits)
    problems, kinds, known = list(tree.problems), dict[str, str](), dict[str, str]()
    for folder in find_model_folders([file.name for file in tree.files]):
        judged = judge_model_folder(path / folder)
        prefix = "" if folder == "." else f"{folder}/"
        kinds[folder] = judged.kind
        if hashed:
            known |= {f"{prefix}{name}": digest for name, digest in judged.hashes.items()}
        problems += [replace(each, place=f"{prefix}{each.place}") for each in judged.problems]

    def scan(file: FolderFile) -> FileScan:
        # What is large and was hashed are weights, whose header was judged together with that.
        again = file.name not in known or file.size <= _HASHED_TWICE
        found = _scan_listed(path, file, limits, hashed and again)
        before = known.get(file.name)
        if before and found.sha256 not in ("", before):
            return replace(found, content=_with_change(found.content))
        return replace(found, sha256=found.sha256 or before or "")

    with ThreadPoolExecutor(_THREADS) as pool:
        files = list(pool.map(scan, tree.files))
    files = list(_code_refused(_without_data_files(files)))
    if not files and not problems:
        problems.append(Problem("no-files", "no file in it", "", "give the folder that holds the "
                                "model", Decision.INCONCLUSIVE))  # fmt: skip
    return PathScan(
        path, tuple(files), tuple(problems), tuple(tree.not_looked_at), kinds,
        is_folder=True,
    )  # fmt: skip


def _scan_listed(path: Path, file: FolderFile, limits: ScanLimits, hashed: bool) -> FileScan:
    try:
        with open_listed(path, file) as stream:
            return _scan_open(file.path, file.name, stream, limits, hashed)
    except RefusedFolder as refusal:
        problem = Problem(refusal.rule, refusal.problem, "", refusal.way_out, Decision.INCONCLUSIVE)
        return FileScan(file.name, file.size, "", Content("unread", (problem,)))


def _scan_open(
    path: Path, name: str, stream: BufferedReader, limits: ScanLimits, hashed: bool
) -> FileScan:
    """Judge and digest one open file, and see that it stayed what it was meanwhile."""
    before = os.fstat(stream.fileno())
    try:
        content = inspect_file(path, name, stream, before.st_size, limits)
        stream.seek(0)
        # A file of holes is as long as it says and holds nothing; it is judged and not read.
        sparse = before.st_size > max(2**30, 1024 * before.st_blocks * 512)
        digest = "" if sparse or not hashed else hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        return _unread(name, before.st_size, "unreadable", str(error.strerror), "check the disk")
    except Exception as error:  # noqa: BLE001 - a fault with one file must not hide the others
        problem = f"a fault of auditor: {type(error).__name__} {str(error)[:80]!r}"
        return _unread(name, before.st_size, "crashed", problem, "report it, see SECURITY.md")
    after = os.fstat(stream.fileno())
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        content = _with_change(content)
    return FileScan(name, before.st_size, digest, content)


def _with_change(content: Content) -> Content:
    changed = Problem("changed", "it changed while it was read", "",
                      "run again when nothing writes to it", Decision.INCONCLUSIVE)  # fmt: skip
    return replace(content, problems=(*content.problems, changed))


def _unread(name: str, size: int, rule: str, problem: str, way_out: str) -> FileScan:
    found = Problem(rule, problem, "", way_out, Decision.INCONCLUSIVE)
    return FileScan(name, size, "", Content("unread", (found,)))


def _unless_unreadable(refusal: RefusedModel) -> Problem:
    decision = Decision.INCONCLUSIVE if refusal.rule == "unreadable" else Decision.REFUSED
    return replace(Problem.of(refusal), decision=decision)


def _code_refused(found: Iterable[FileScan]) -> Iterator[FileScan]:
    """Code that lies beside weights is there to be run with them."""
    files = list(found)
    with_weights = {Path(file.name).parent for file in files if file.content.format in _WEIGHTS}
    for file in files:
        beside = with_weights & {Path(file.name).parent, *Path(file.name).parents}
        if file.content.format == "code" and beside:
            problems = (replace(problem, decision=Decision.REFUSED)
                        for problem in file.content.problems)  # fmt: skip
            yield replace(file, content=replace(file.content, problems=tuple(problems)))
        else:
            yield file


def _without_data_files(files: list[FileScan]) -> Iterator[FileScan]:
    """Raw numbers of an ONNX graph have no format of their own; its own rules judged them."""
    named = {
        str(Path(file.name).parent / location)
        for file in files
        for location in file.content.facts.get("external_files", "").split("\n")
        if location and file.content.decision is Decision.ACCEPTED
    }
    for file in files:
        if file.name in named and _happens_to_look_like(file.content):
            yield replace(file, content=Content("data of an ONNX graph", (), ("ranges",)))
        else:
            yield file


def _happens_to_look_like(content: Content) -> bool:
    """Whether numbers only begin like a format, and an unpickler would call nothing in them."""
    rules = {problem.rule for problem in content.problems}
    return not rules or (
        bool(rules & _GAVE_UP)
        and rules <= _GAVE_UP | {"pickle-content", "pickle-structure"}
        and content.facts.get("calls", "0") == "0"
    )
