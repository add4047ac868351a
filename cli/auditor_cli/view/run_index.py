"""The run folders inside a folder, and the line that a list shows of each.

Nothing is followed through a link. Of an `audit.json` only the parts a line needs are parsed,
and only again when the file is another (size and time of its last change).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from threading import Lock
from typing import Any, Final, Literal

from pydantic import BaseModel, ValidationError

from auditor.audit.run_directory import EVIDENCE, LEDGER, REPORT
from auditor.errors import AuditorError
from auditor.findings import AuditReport
from auditor_cli.stored_runs import is_behind, is_plain_file, read_stored_run
from auditor_reports.audit_json import MAX_BYTES
from auditor_reports.registry import WRITERS
from auditor_reports.run_list_page import RunLine

MAX_DEPTH: Final = 4
MAX_RUNS: Final = 10_000
_MAX_FOLDERS: Final = 50_000
# `audit.json` has one blank before each of its own keys; a text in it holds no line end.
_OWN_KEY: Final = re.compile(rb'\n "([a-z_]+)": ')
_LONG_PARTS: Final = {b"checks", b"results"}


class _Subject(BaseModel):
    name: str


class _Gate(BaseModel):
    verdict: Literal["pass", "fail", "inconclusive"]
    counts: dict[str, int]


class _Timing(BaseModel):
    finished: datetime


class _Brief(BaseModel):
    """What a line needs of a report; other keys are not looked at."""

    plan: str
    plan_title: str
    complete: bool
    subjects: tuple[_Subject, ...]
    gate: _Gate
    timing: _Timing


@dataclass
class RunIndex:
    """The runs inside a folder, or the one run that the folder is.

    Attributes:
        root: The folder, links to it resolved.
        left_out: Whether there are more than the limits admit.
    """

    root: Path
    left_out: bool = False
    _folders: dict[str, Path] = field(default_factory=dict)
    _lines: dict[str, tuple[tuple[int, ...], RunLine]] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def count(self) -> int:
        """How many runs there are; none is read."""
        return sum(1 for _ in self._find())

    def refresh(self) -> list[RunLine]:
        """Look for runs again; their lines, newest first."""
        with self._lock:
            self._folders = {run_id(self.root, path): path for path in self._find()}
            lines = [self._line(key, path) for key, path in self._folders.items()]
        return sorted(lines, key=_newest_first)

    def folder(self, key: str) -> Path | None:
        """The folder of a run, by the id a line of it has; looks again for one not yet seen."""
        if key not in self._folders:
            self.refresh()
        return self._folders.get(key)

    def _find(self) -> Iterator[Path]:
        self.left_out = False
        waiting, seen, found = [(self.root, 0)], 0, 0
        while waiting:
            folder, depth = waiting.pop()
            seen += 1
            if found >= MAX_RUNS or seen > _MAX_FOLDERS:
                self.left_out = True
                return
            if is_run(folder):
                found += 1
                yield folder
            elif depth < MAX_DEPTH:
                waiting.extend((each, depth + 1) for each in _folders_in(folder))

    def _line(self, key: str, folder: Path) -> RunLine:
        state = tuple(_state(folder / name) for name in (REPORT, LEDGER))
        flat = tuple(number for pair in state for number in pair)
        known = self._lines.get(key)
        if known and known[0] == flat:
            return known[1]
        name = folder.relative_to(self.root).as_posix()
        line = describe(key, folder.name if name == "." else name, folder)
        self._lines[key] = (flat, line)
        return line


def run_id(root: Path, folder: Path) -> str:
    """What a run is called in addresses: no part of an address is ever a path."""
    return hashlib.sha256(os.fsencode(folder.relative_to(root))).hexdigest()[:16]


def is_run(folder: Path) -> bool:
    """Whether the folder holds a ledger or a report that is no link."""
    return is_plain_file(folder / LEDGER) or is_plain_file(folder / REPORT)


def describe(key: str, name: str, folder: Path) -> RunLine:
    """The line of a run; one that cannot be read has a line that says so."""
    files = tuple(w.filename for w in WRITERS if is_plain_file(folder / w.filename))
    try:
        brief = _read_brief(folder)
    except (AuditorError, ValueError, OSError, RecursionError) as error:
        return RunLine(key, name, files=files, problem=str(error) or "it cannot be read")
    return RunLine(
        key,
        name,
        files=files,
        title=brief.plan_title or brief.plan,
        subjects=tuple(each.name for each in brief.subjects),
        verdict=brief.gate.verdict,
        counts=brief.gate.counts,
        complete=brief.complete,
        finished=brief.timing.finished,
    )


def _read_brief(folder: Path) -> _Brief:
    report = folder / REPORT
    if not is_plain_file(report) or is_behind(folder):
        return _brief_of(read_stored_run(folder))
    if report.stat().st_size > MAX_BYTES:
        raise ValueError(f"{report} has more than {MAX_BYTES:,} bytes")
    try:
        return _Brief.model_validate(_short_parts(report.read_bytes()))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{report.name} is not valid JSON: {error}") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"{report.name} at {where}: {first['msg']}") from None


def _brief_of(report: AuditReport) -> _Brief:
    return _Brief.model_validate(report.model_dump(include=set(_Brief.model_fields)))


def _short_parts(content: bytes) -> Any:
    """An `audit.json` without its long parts; all of it where it was written otherwise."""
    keys = list(_OWN_KEY.finditer(content))
    if not keys or not content.startswith(b"{\n"):
        return json.loads(content)
    ends = [key.start() for key in keys[1:]] + [content.rstrip().rfind(b"\n}")]
    parts = [
        content[key.start() : end].rstrip(b",")
        for key, end in zip(keys, ends, strict=True)
        if key[1] not in _LONG_PARTS
    ]
    return json.loads(b"{" + b",".join(parts) + b"}")


def _folders_in(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return [
                folder / entry.name
                for entry in entries
                if entry.is_dir(follow_symlinks=False)
                and not entry.name.startswith(".")
                and entry.name != EVIDENCE
            ]
    except OSError:
        return []


def _state(path: Path) -> tuple[int, int]:
    try:
        status = path.lstat()
    except OSError:
        return (0, 0)
    return (status.st_mtime_ns, status.st_size)


def _newest_first(line: RunLine) -> tuple[float, str]:
    return (-line.finished.timestamp() if line.finished else 0.0, line.name)
