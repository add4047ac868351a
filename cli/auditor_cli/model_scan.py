"""`auditor model scan`: may files and folders be opened at all, from their bytes alone."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from auditor.errors import FileMissing
from auditor.files import write_atomically
from auditor_cli.exit_codes import ExitCode
from auditor_cli.options import MODEL, json_option, option, parse_target
from auditor_cli.output import Output
from auditor_reports.sanitise import inert_line

if TYPE_CHECKING:
    from auditor.models.scan.answer import FileScan, PathScan
    from auditor.models.scan.decision import Problem

FORMATS = ("sarif",)
SHOWN = 50
_CODES = {"accepted": ExitCode.PASSED, "inconclusive": ExitCode.INCONCLUSIVE,
          "refused": ExitCode.REFUSED}  # fmt: skip
_STYLES = {"refused": "bold red", "inconclusive": "yellow"}


@click.command(name="scan")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=MODEL)
@click.option("-o", "--output", "targets", multiple=True, metavar="FORMAT=FILE",
              help="Write the result as sarif too; repeatable.")  # fmt: skip
@option("--hash/--no-hash", "hashed", default=True, envvar="AUDITOR_SCAN_HASH",
        help="Digest every file (default), or read only what is judged.")  # fmt: skip
@json_option
def scan(paths: tuple[Path, ...], targets: tuple[str, ...], hashed: bool, as_json: bool) -> int:
    """Say whether files and folders may be opened at all; nothing of them is executed.

    Exits 6 when one is refused, and 3 when one could not be decided.
    """
    from auditor.models.scan.scanner import scan_path

    output, started = Output(as_json), datetime.now(UTC)
    files = [parse_target(target, FORMATS, "scan format")[1] for target in targets]
    missing = next((path for path in paths if not os.path.lexists(path)), None)
    if missing is not None:
        raise FileMissing(missing, "file or folder")
    scans = []
    for path in paths:
        scans.append(scan_path(path, hashed=hashed))
        _show(output, scans[-1])
    code = max((_CODES[str(found.decision)] for found in scans), default=ExitCode.PASSED)
    for file in files:
        write_atomically(file, _sarif(scans, code, started))
        output.log(f"written: {file}")
    return code


def _sarif(scans: Sequence[PathScan], code: int, started: datetime) -> bytes:
    from auditor.audit.environment import installed_version
    from auditor_reports.sarif.scan_log import ScanRun, render_scan

    version = installed_version("auditor") or "unknown"
    return render_scan(scans, ScanRun(version, int(code), started, datetime.now(UTC)))


def _show(output: Output, scan: PathScan) -> None:
    problems = list(scan.all_problems())
    worst_first = sorted(problems, key=lambda each: each[1].decision != "refused")
    for name, problem in worst_first[:SHOWN]:
        output.styled(_line(scan, name, problem), _STYLES[str(problem.decision)])
    if len(problems) > SHOWN:
        output.data(f"{len(problems) - SHOWN:,} more problems; --json lists all of them")
    if not problems:
        output.data(_clean(scan))
    if scan.not_looked_at:
        output.data(inert_line(f"{scan.path}: not looked at: {_listed(scan.not_looked_at)}"))
    output.record(_record(scan, problems))


def _line(scan: PathScan, name: str, problem: Problem) -> str:
    whole = scan.path / name if scan.is_folder and name else scan.path
    where = f" at {problem.place}" if problem.place else ""
    word = "refused" if problem.decision == "refused" else "not decided:"
    return inert_line(
        f"{word} {whole}{where}: {problem.problem} [{problem.rule}]; {problem.way_out}", 1_000
    )


def _clean(scan: PathScan) -> str:
    """No more than was established: which parts were looked at."""
    if not scan.files:
        return inert_line(f"{scan.path}: no file in it")
    formats = Counter(file.content.format for file in scan.files)
    parts = sorted({part for file in scan.files for part in file.content.parts})
    what = ", ".join(f"{count} {name}" for name, count in sorted(formats.items()))
    shown = what if scan.is_folder else scan.files[0].content.format
    kinds = "".join(f", {kind}" for kind in scan.kinds.values())
    return inert_line(
        f"{scan.path}: {shown}{kinds}; nothing in these parts matched a known danger: "
        f"{_listed(parts)}", 1_000,
    )  # fmt: skip


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return ", ".join(names[:20]) + more


def _record(scan: PathScan, problems: Sequence[tuple[str, Problem]]) -> dict[str, Any]:
    record: dict[str, Any] = {
        "path": str(scan.path),
        "verdict": str(scan.decision),
        "files": [_file_record(file) for file in scan.files],
        "models": dict(scan.kinds),
        "not_looked_at": list(scan.not_looked_at),
        "problems": [_problem_record(name, problem) for name, problem in problems],
    }
    worst = [each for each in record["problems"] if each["verdict"] == record["verdict"]]
    return {**worst[0], **record} if worst else record


def _file_record(file: FileScan) -> dict[str, Any]:
    content = file.content
    return {
        "name": file.name, "size": file.size, "sha256": file.sha256, "format": content.format,
        "verdict": str(content.decision), "looked_at": list(content.parts),
        "facts": dict(content.facts),
    }  # fmt: skip


def _problem_record(name: str, problem: Problem) -> dict[str, str]:
    return {
        "file": name, "verdict": str(problem.decision), "rule": problem.rule,
        "place": problem.place, "reason": problem.problem, "way_out": problem.way_out,
    }  # fmt: skip
