"""Texts inside Markdown: escaped so that each is shown as it is and acts as nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

from auditor.findings import CheckResult, Evidence
from auditor_reports.sanitise import one_line
from auditor_reports.standing import own_name

E = TypeVar("E", bound=Evidence)

ROWS_SHOWN: Final = 200
_SPECIAL = re.compile(r"([\\`*_{}\[\]()|~#!$])")
# What would begin a list or a rule if it came first.
_OPENING = re.compile(r"^(?:([-+=])|(\d{1,9})([.)]))")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
# Links, mentions and issue numbers that GitHub makes of bare text; a zero-width space stops it.
_AUTOLINK = re.compile(r"(?i)(:)(?=//)|(www)(?=\.)|(@)(?=\w)|(#)(?=\d)|(GH)(?=-\d)|(mailto:|xmpp:)")


def escape_markdown(text: str, limit: int = 300) -> str:
    """The text as one line that Markdown shows as it is."""
    line = one_line(text, limit)
    line = _AUTOLINK.sub(lambda match: match.group() + "\x00", line)
    line = re.sub("[&<>]", lambda match: _ENTITIES[match.group()], line)
    line = _SPECIAL.sub(r"\\\1", line)
    line = _OPENING.sub(lambda match: f"{match[2] or ''}\\{match[3] or match[1]}", line)
    return line.replace("\x00", "&#8203;")


def code_span(text: str, limit: int = 200) -> str:
    """The text as a code span that its own backticks cannot leave; safe in a table cell."""
    line = one_line(text, limit).replace("|", "¦")
    fence = "`" * (max((len(run) for run in re.findall("`+", line)), default=0) + 1)
    padding = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{padding}{line}{padding}{fence}" if line else ""


def check_name(result: CheckResult) -> str:
    """Code and title, and the name the plan gave the check."""
    name = own_name(result)
    return escape_markdown(f"{result.code} {result.title}" + (f" [{name}]" if name else ""))


def evidence_section(
    heading: str,
    results: Iterable[CheckResult],
    kind: type[E],
    draw: Callable[[E], Iterator[str]],
    shown: int = 20,
) -> Iterator[str]:
    """The lines of a section with all evidence of a kind, each below its check; none without any.

    Args:
        heading: Of the section, to which their number is added.
        results: The audit's.
        kind: Of evidence.
        draw: The lines of one.
        shown: How many at most.
    """
    found = [
        (result, evidence)
        for result in results
        for evidence in result.answer.every_evidence()
        if isinstance(evidence, kind)
    ]
    if not found:
        return
    yield f"### {heading} ({len(found)})"
    yield ""
    for result, evidence in found[:shown]:
        yield f"**{check_name(result)}, {escape_markdown(result.subject)}**"
        yield ""
        yield from draw(evidence)
    yield from more(len(found), shown)
    yield ""


def more(total: int, shown: int = ROWS_SHOWN, where: str = "audit.json") -> Iterator[str]:
    """The line under a list that was cut."""
    if total > shown:
        yield ""
        yield f"{total - shown} more; the full list is in {where}."
