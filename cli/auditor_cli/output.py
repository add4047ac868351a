"""What the commands print: data on stdout, everything else on stderr.

With `--json`, stdout carries JSON lines and nothing else. Colour follows NO_COLOR and
whether the stream is a terminal. A reader that goes away (`| head`) never changes the
exit code.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from auditor.audit.observer import Observer
from auditor.verdicts import Verdict
from auditor_reports.sanitise import encodable, one_line, visible

if TYPE_CHECKING:
    from auditor.findings import CheckResult, GateDecision

PLAIN_INTERVAL_S = 30.0
STYLES = {
    Verdict.HOLDS: "green",
    Verdict.VIOLATED: "bold red",
    Verdict.UNKNOWN: "yellow",
    Verdict.SKIPPED: "yellow",
    Verdict.ERROR: "magenta",
}
GATE_STYLES = {"pass": "bold green", "fail": "bold red", "inconclusive": "bold yellow"}


@dataclass(frozen=True)
class Output:
    """Where a command prints.

    Attributes:
        as_json: Only JSON lines on stdout.
        quiet: No progress and no tables, only errors and the last line.
    """

    as_json: bool = False
    quiet: bool = False

    @property
    def _out(self) -> Console:
        return Console(soft_wrap=True, highlight=False)

    @property
    def _err(self) -> Console:
        return Console(stderr=True, soft_wrap=True, highlight=False)

    def data(self, text: str) -> None:
        """Print a result line for people; nothing with `--json`."""
        if not self.as_json:
            _guarded(self._out.print, text, markup=False)

    def styled(self, text: str, style: str) -> None:
        """`data` with a style."""
        if not self.as_json:
            _guarded(self._out.print, text, style=style, markup=False)

    def text(self, text: str) -> None:
        """Print a text as it is, for a file or a pipe; a terminal gets it visible and inert."""
        if not self.as_json:
            shown = visible(text) if sys.stdout.isatty() else encodable(text)
            _guarded(lambda: print(shown, flush=True))

    def record(self, value: Any) -> None:
        """Print one JSON line; nothing without `--json`."""
        if self.as_json:
            line = json.dumps(value, sort_keys=True, allow_nan=False)
            _guarded(lambda text: print(text, flush=True), line)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table for people; nothing with `--json` or `--quiet`.

        Cells may carry rich markup. Off a terminal every row is one line without colour
        or trailing blanks, for grep.
        """
        if self.as_json or self.quiet:
            return
        if not sys.stdout.isatty():
            plain = [columns, *([Text.from_markup(cell).plain for cell in row] for row in rows)]
            widths = [max(len(row[n]) for row in plain) for n in range(len(columns))]
            for row in plain:
                cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
                self.data("  ".join(cells).rstrip())
            return
        table = Table(box=None, header_style="bold", pad_edge=False)
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*row)
        _guarded(self._out.print, table)

    def log(self, text: str) -> None:
        """Say something on stderr."""
        if not self.quiet:
            _guarded(self._err.print, f"[dim]{escape(one_line(text))}[/dim]")

    def warn(self, text: str) -> None:
        """Say something on stderr even when quiet."""
        _guarded(self._err.print, f"[yellow]{escape(one_line(text))}[/yellow]")

    def results(self, results: Sequence[CheckResult]) -> None:
        """A line for each result."""
        rows = [
            (
                f"[{STYLES[r.verdict]}]{r.verdict}[/]",
                escape(one_line(r.id)),
                escape(one_line(r.answer.reason or r.answer.summary, 200)),
            )
            for r in results
        ]
        self.table(("verdict", "check", "answer"), rows)

    def decision(self, decision: GateDecision) -> None:
        """The gate's verdict, its reasons and notes."""
        for row in decision.rows:
            if row.status in ("fail", "open"):
                text = f"  {row.status}: {one_line(row.result)}: {one_line(row.text)}"
                self.styled(text, "red" if row.status == "fail" else "yellow")
        for note in decision.notes:
            self.warn(f"note: {note}")
        counts = ", ".join(f"{number} {status}" for status, number in decision.counts.items())
        self.styled(f"gate: {decision.verdict} ({counts})", GATE_STYLES[decision.verdict])


def _guarded(write: Any, *arguments: Any, **options: Any) -> None:
    try:
        write(*arguments, **options)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class ProgressView(Observer, Protocol):
    """A runner's observer that is opened and closed around the run."""

    def __enter__(self) -> ProgressView: ...
    def __exit__(self, *_: object) -> None: ...


class PlainView:
    """Progress as lines on stderr, at most one every 30 seconds besides results."""

    def __init__(self, output: Output) -> None:
        self.output = output
        self._total = self._done = 0
        self._last = time.monotonic()

    def __enter__(self) -> PlainView:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def planned(self, total: int, reused: int, estimate_s: float) -> None:
        """Say what is about to happen."""
        self._total, self._done = total, reused
        self.output.log(_plan_line(total, reused, estimate_s))

    def noticed(self, text: str) -> None:
        """Say what the user should know."""
        self.output.warn(f"note: {text}")

    def progressed(self, unit_id: str, share: float, text: str) -> None:
        """Say where a check is, rarely."""
        if time.monotonic() - self._last >= PLAIN_INTERVAL_S:
            self._last = time.monotonic()
            self.output.log(f"{unit_id}: {share:.0%} {text}")

    def finished(self, result: CheckResult) -> None:
        """Say how a check ended."""
        self._done += 1
        self.output.log(
            f"[{self._done}/{self._total}] {result.id}: {result.verdict} "
            f"({result.timing.seconds:.1f} s)"
        )


class RichView:
    """Progress as bars on the terminal."""

    def __init__(self, output: Output) -> None:
        self.output = output
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._overall: TaskID | None = None
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> RichView:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def planned(self, total: int, reused: int, estimate_s: float) -> None:
        """Show the overall bar."""
        self._bars.console.print(f"[dim]{_plan_line(total, reused, estimate_s)}[/dim]")
        self._overall = self._bars.add_task("checks", total=total, completed=reused, note="")

    def noticed(self, text: str) -> None:
        """Say what the user should know."""
        self._bars.console.print(f"[yellow]note: {escape(one_line(text))}[/yellow]")

    def progressed(self, unit_id: str, share: float, text: str) -> None:
        """Move a check's bar."""
        if unit_id not in self._tasks:
            self._tasks[unit_id] = self._bars.add_task(escape(unit_id), total=1.0, note="")
        note = escape(one_line(text))
        self._bars.update(self._tasks[unit_id], completed=share, note=note)

    def finished(self, result: CheckResult) -> None:
        """Replace a check's bar with its verdict."""
        if result.id in self._tasks:
            self._bars.remove_task(self._tasks.pop(result.id))
        if self._overall is not None:
            self._bars.advance(self._overall)
        style = STYLES[result.verdict]
        self._bars.console.print(
            f"[{style}]{result.verdict}[/] {escape(one_line(result.id))} "
            f"[dim]{result.timing.seconds:.1f} s[/dim]"
        )


def progress_view(output: Output, style: str) -> ProgressView:
    """The view for `--progress auto|rich|plain|none`."""
    if style == "none" or output.quiet:
        return PlainView(Output(as_json=output.as_json, quiet=True))
    if style == "rich" or (style == "auto" and sys.stderr.isatty()):
        return RichView(output)
    return PlainView(output)


def _plan_line(total: int, reused: int, estimate_s: float) -> str:
    known = f", {reused} known from before" if reused else ""
    return f"{total} checks{known}; estimate {_duration(estimate_s)}"


def _duration(seconds: float) -> str:
    if seconds < 1:
        return "under a second"
    if seconds < 90:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min"
