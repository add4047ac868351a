"""`auditor cache`: answers of earlier runs, counted and removed."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import rich_click as click

from auditor.audit.answer_cache import AnswerCache
from auditor.errors import ConfigurationError
from auditor_cli.confirming import may_remove, yes_option
from auditor_cli.options import cache_option, json_option, option
from auditor_cli.output import Output
from auditor_reports.sanitise import one_line


@click.group(name="cache")
def command() -> None:
    """Look after the cache: answers of earlier runs, kept with `--cache` or AUDITOR_CACHE."""


@command.command(name="stats")
@cache_option
@json_option
def stats(cache: Path | None, as_json: bool) -> int:
    """Print how many answers are kept, by check. Always exits 0."""
    output = Output(as_json)
    entries = list(_opened(cache).entries())
    sound = [each for each in entries if each.entry is not None]
    by_code = Counter(each.entry.code for each in sound if each.entry)
    output.table(
        ("check", "answers"), [(one_line(code), str(n)) for code, n in sorted(by_code.items())]
    )
    size, damaged = sum(each.size for each in entries), len(entries) - len(sound)
    oldest = min((each.used for each in entries), default=None)
    used = f", the oldest last used {oldest:%Y-%m-%d}" if oldest else ""
    broken = f", {damaged} damaged" if damaged else ""
    output.data(f"{len(entries)} answers, {size / 1e6:.1f} MB{broken}{used}")
    output.record({
        "answers": len(entries), "damaged": damaged, "bytes": size, "checks": dict(by_code),
        "oldest": oldest.isoformat() if oldest else None,
    })  # fmt: skip
    return 0


@command.command(name="prune")
@cache_option
@option("--older-than", "days", type=click.IntRange(0), metavar="DAYS",
        help="Remove what was last used longer ago.")  # fmt: skip
@option("--most-mb", type=click.FloatRange(min=0), metavar="MB",
        help="Remove the longest unused until this much is left.")  # fmt: skip
@json_option
def prune(cache: Path | None, days: int | None, most_mb: float | None, as_json: bool) -> int:
    """Remove old answers, and always damaged ones and evidence that belongs to none."""
    output = Output(as_json)
    before = None if days is None else datetime.now(UTC) - timedelta(days=days)
    most = None if most_mb is None else int(most_mb * 1e6)
    removed = _opened(cache).prune(before, most)
    output.data(f"removed {removed} answers")
    output.record({"removed": removed})
    return 0


@command.command(name="clear")
@cache_option
@yes_option
@json_option
def clear(cache: Path | None, yes: bool, as_json: bool) -> int:
    """Remove every answer with its evidence. Runs are not touched."""
    output = Output(as_json)
    opened = _opened(cache)
    count = sum(1 for _ in opened.entries())
    if not may_remove(f"{count} answers from {opened.folder}", output, yes=yes):
        return 0
    removed = opened.clear()
    output.data(f"removed {removed} answers")
    output.record({"removed": removed})
    return 0


def _opened(cache: Path | None) -> AnswerCache:
    if cache is None:
        raise ConfigurationError("no cache is named; give --cache FOLDER or set AUDITOR_CACHE")
    return AnswerCache(cache)
