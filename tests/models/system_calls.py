"""What a process asked of the system while it scanned, as strace saw it from outside."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.models.traced_reads import MARK

_CALL: Final = re.compile(r"^(\d+) +(?:<\.\.\. )?(\w+)(?:\(| resumed>)(.*)$", re.DOTALL)
_MARKED: Final = re.compile(rf'"{MARK}/(begin|end)/([^"]*)"')
_RESULT: Final = re.compile(r"\) += (-?\d+)(?:<(.*)>)?(?: .*)?$")
_NAMED: Final = re.compile(r'(?:<([^>]*)>, )?"((?:[^"\\]|\\.)*)"')
_OPENING: Final = frozenset({"open", "openat", "openat2", "creat"})
_THREAD: Final = frozenset({"clone", "clone3"})
# What only looks at names, and what every process does.
_HARMLESS: Final = frozenset({
    "stat", "lstat", "newfstatat", "statx", "access", "faccessat", "faccessat2", "readlink",
    "readlinkat", "getcwd", "statfs", "fstatfs", "fstat", "exit", "exit_group", "wait4", "waitid",
    "rt_sigreturn", "tgkill", "kill", "pidfd_open", "name_to_handle_at", "arch_prctl",
})  # fmt: skip


@dataclass(frozen=True)
class Calls:
    """The calls of one case.

    Attributes:
        opened: Paths that were opened, links resolved by the system.
        failed: Paths whose opening failed, as they were asked for.
        others: Lines of any other call but those that look at names.
    """

    opened: tuple[str, ...]
    failed: tuple[str, ...]
    others: tuple[str, ...]


def strace_command(log: Path) -> list[str] | None:
    """A command that runs another and logs its calls; None where strace is not installed."""
    found = shutil.which("strace")
    if found is None:
        return None
    kinds = "trace=%file,%network,%process"
    return [found, "-f", "-y", "-s", "4096", "-e", kinds, "-e", "signal=none", "-o", str(log)]


def read_log(log: Path) -> dict[str, Calls]:
    """The calls between the marks of each case; a call that was split is read at its end."""
    return {key: _sort(lines) for key, lines in _between_marks(log)}


def _between_marks(log: Path) -> Iterator[tuple[str, list[str]]]:
    key, lines = "", list[str]()
    for line in log.read_text(errors="replace").splitlines():
        mark = _MARKED.search(line)
        if mark and mark[1] == "begin":
            key, lines = mark[2], []
        elif mark and key:
            yield key, lines
            key = ""
        elif key:
            lines.append(line)


def _join(named: re.Match[str]) -> str:
    """A path from the folder that it is relative to, and the name; links in it are kept."""
    return os.path.normpath(Path(named[1] or "/") / named[2])


def _sort(lines: Sequence[str]) -> Calls:
    opened, failed, others = list[str](), list[str](), list[str]()
    asked: dict[str, str] = {}  # the path of a call that another thread cut in two
    for line in lines:
        call = _CALL.match(line)
        if call is None or call[2] in _HARMLESS:
            continue
        process, kind, rest = call.groups()
        named, result = _NAMED.search(rest), _RESULT.search(line)
        if kind in _OPENING:
            asked[process] = _join(named) if named else asked.get(process, line)
            if result is not None:
                (opened if result[2] else failed).append(result[2] or asked[process])
        elif kind not in _THREAD or ("resumed" not in line and "CLONE_THREAD" not in line):
            others.append(line)
    return Calls(tuple(opened), tuple(failed), tuple(others))
