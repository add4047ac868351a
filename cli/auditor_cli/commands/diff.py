"""`auditor diff`: what changed between two runs."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import rich_click as click
from rich.markup import escape

from auditor.audit.comparison import (
    KINDS,
    Caveat,
    Change,
    Comparison,
    FindingChange,
    MetricChange,
    ResultChange,
    SubjectChange,
    compare_reports,
    kind_of,
)
from auditor.errors import ConfigurationError
from auditor.files import write_atomically
from auditor_cli.exit_codes import ExitCode
from auditor_cli.options import json_option, option, parse_target, quiet_option, split_pair
from auditor_cli.output import Output
from auditor_cli.stored_runs import read_stored_run
from auditor_reports.audit_json import run_fingerprint
from auditor_reports.comparison import text as words
from auditor_reports.comparison.markdown import render_comparison_markdown
from auditor_reports.comparison.page import render_comparison
from auditor_reports.plain_json import plain_json
from auditor_reports.sanitise import one_line

SHOWN = 200
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
FORMATS: dict[str, Callable[[Comparison], bytes]] = {
    "html": render_comparison,
    "json": plain_json,
    "markdown": render_comparison_markdown,
}
STYLES = {
    "caveat": "yellow", "new": "red", "worse": "red", "standing": "yellow",
    "unanswered": "yellow", "fixed": "green",
}  # fmt: skip


@click.command(name="diff")
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@click.option("--only", multiple=True, type=click.Choice(KINDS),
              help="Kind of change to list; repeatable (default: all but unchanged).")  # fmt: skip
@click.option("--subject", "subjects", multiple=True, metavar="OLD=NEW",
              help="A subject that NEW calls otherwise; repeatable.")  # fmt: skip
@click.option("-o", "--output", "targets", multiple=True, metavar="FORMAT=FILE",
              help="Write the whole comparison as html, json or markdown; repeatable.")  # fmt: skip
@option("--exit-code", is_flag=True, envvar="AUDITOR_DIFF_EXIT_CODE",
        help="Exit 1 where NEW is worse: a new or worse finding, a worse verdict, or a gate that "
             "no longer passes.")  # fmt: skip
@json_option
@quiet_option
def command(
    old: Path,
    new: Path,
    only: tuple[str, ...],
    subjects: tuple[str, ...],
    targets: tuple[str, ...],
    exit_code: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Compare two runs, each a run's folder or its audit.json.

    Exits 0 whatever changed, unless --exit-code is given.
    """
    output = Output(as_json, quiet)
    files = [parse_target(target, list(FORMATS), "comparison format") for target in targets]
    called = dict(_parse_subject(pair) for pair in subjects)
    reports = read_stored_run(old), read_stored_run(new)
    seals = (run_fingerprint(reports[0]), run_fingerprint(reports[1])) if files else ("", "")
    comparison = compare_reports(*reports, seals, called)
    for name, path in files:
        write_atomically(path, FORMATS[name](comparison))
        output.log(f"written: {path}")
    changes = [
        change
        for change in (*comparison.changes, *comparison.finding_group("unchanged"))
        if kind_of(change) in (only or set(KINDS) - {"unchanged"})
    ]
    _show(output, changes)
    output.data(comparison.summary)
    for change in changes:
        output.record(json.loads(plain_json(change)))  # infinities as strings
    for _, path in files:
        output.record({"written": str(path)})
    output.record({"summary": comparison.summary, "counts": comparison.counts})
    return ExitCode.FAILED if exit_code and comparison.is_worse else ExitCode.PASSED


def _parse_subject(pair: str) -> tuple[str, str]:
    old, new = split_pair("--subject", pair, "OLD=NEW")
    if not new:
        raise ConfigurationError(f"--subject '{pair}' is not of the form OLD=NEW")
    return old, new


def _show(output: Output, changes: list[Change]) -> None:
    """A table for people, at most `SHOWN` rows of a kind."""
    seen: Counter[str] = Counter()
    rows = []
    for change in changes:
        kind = kind_of(change)
        seen[kind] += 1
        if seen[kind] <= SHOWN:
            style = STYLES.get(kind, "")
            word = "not comparable" if kind == "caveat" else kind
            cells = (escape(one_line(_with_short_digest(each), 200)) for each in _cells(change))
            rows.append((f"[{style}]{word}[/]" if style else word, *cells))
    output.table(("change", "check", "what", "old", "new", "note"), rows)
    for name, count in seen.items():
        if count > SHOWN:
            output.log(f"{count - SHOWN:,} more of kind {name}; --json lists all of them")


def _with_short_digest(cell: str) -> str:
    """A digest by its first digits: enough to tell two apart, and JSON has it whole."""
    return f"{cell[:19]}..." if DIGEST.fullmatch(cell) else cell


def _cells(change: Change) -> Iterator[str]:
    """Check, what, old, new and a note."""
    match change:
        case Caveat():
            yield from (words.reach(change), change.what, change.old, change.new)
            yield words.AFFECTS_WORDS[change.affects]
        case SubjectChange():
            name = f"{change.old_name} -> {change.name}" if change.old_name else change.name
            yield from (name, "model", change.old_digest or "-", change.new_digest or "-")
            yield change.new_refused and f"refused: {change.new_refused}"
        case FindingChange():
            yield from (change.result, change.title)
            yield from (change.old_severity or "-", change.new_severity or "-")
            notes = (words.standing_change(change), words.asked_otherwise(change))
            yield "; ".join(filter(None, notes))
        case ResultChange():
            sides = (change.verdict, "-") if change.kind == "removed" else ("-", change.verdict)
            yield from (change.result, "check", *sides, "")
        case MetricChange():
            yield from (change.result, words.metric_name(change))
            yield from (words.metric_value(change, "old"), words.metric_value(change, "new"))
            yield words.judgement(change)
        case _:
            yield from (change.result, "verdict", change.old, change.new)
            yield change.direction if change.comparable else f"{change.direction}, not comparable"
