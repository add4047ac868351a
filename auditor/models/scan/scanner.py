"""Scanning a file or a whole folder: what everything in it is, and whether it may be opened.

Each file is opened once, without following a link again, and judged and hashed through that
descriptor. A folder that is a model has to be one that auditor would open, besides.
"""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BufferedReader
from pathlib import Path
from typing import Final

from auditor.errors import RefusedFolder, RefusedModel
from auditor.files import has_changed
from auditor.folders import FolderFile, open_listed
from auditor.models.preflight import open_regular
from auditor.models.scan.answer import FileScan, PathScan
from auditor.models.scan.decision import Content, Decision, Problem
from auditor.models.scan.file_content import inspect_file
from auditor.models.scan.limits import ScanLimits
from auditor.models.scan.model_folders import find_model_folders, judge_model_folder
from auditor.models.scan.neighbours import excuse_data_files, refuse_code_beside_weights
from auditor.models.scan.tree import list_tree

_HASHED_TWICE: Final = 2**26
_HOLLOW_BYTES: Final = 2**30
_HOLLOW_RATIO: Final = 1024
_BLOCK_BYTES: Final = 512
_THREADS: Final = min(8, os.cpu_count() or 1)


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
    files = list(refuse_code_beside_weights(list(excuse_data_files(files))))
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
        read = hashed and not _is_hollow(before)
        digest = hashlib.file_digest(stream, "sha256").hexdigest() if read else ""
    except OSError as error:
        return _unread(name, before.st_size, "unreadable", str(error.strerror), "check the disk")
    except Exception as error:  # noqa: BLE001 - a fault with one file must not hide the others
        problem = f"a fault of auditor: {type(error).__name__} {str(error)[:80]!r}"
        return _unread(name, before.st_size, "crashed", problem, "report it, see SECURITY.md")
    if has_changed(before, stream):
        content = _with_change(content)
    return FileScan(name, before.st_size, digest, content)


def _is_hollow(status: os.stat_result) -> bool:
    """Whether a file is long and made of holes: judged, and not read for a digest."""
    stored = getattr(status, "st_blocks", status.st_size) * _BLOCK_BYTES
    return status.st_size > max(_HOLLOW_BYTES, _HOLLOW_RATIO * stored)


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
