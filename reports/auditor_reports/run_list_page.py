"""The page that lists runs, newest first, with what each was decided to be.

A page of a local server: its links lead to that server. Without any script; two runs are chosen
for comparison by an ordinary form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from auditor_reports.comparison.text import GATE_MARKS, GATE_WORDS
from auditor_reports.html_environment import Limits, asset, content_policy, fill_page
from auditor_reports.sanitise import encodable

PER_PAGE: Final = 100
_STYLE: Final = "run_list.css"


@dataclass(frozen=True)
class RunLine:
    """What the list shows of a run.

    Attributes:
        key: What it is called in addresses, 16 hexadecimal digits.
        name: Its folder below the one that is looked at.
        files: Names of the reports that lie in it.
        verdict: `pass`, `fail` or `inconclusive`; None where it cannot be read.
        counts: Lines of the gate by status.
        finished: When its last check ended; None where it cannot be read.
        problem: Why it cannot be read, or empty.
    """

    key: str
    name: str
    files: tuple[str, ...] = ()
    title: str = ""
    subjects: tuple[str, ...] = ()
    verdict: str | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    complete: bool = True
    finished: datetime | None = None
    problem: str = ""

    def mentions(self, words: str) -> bool:
        """Whether folder, plan or a subject holds these words, capitals or not."""
        told = (self.name, self.title, *self.subjects)
        return any(words.casefold() in each.casefold() for each in told)


def run_list_policy() -> str:
    """The content policy of the page: that of a report, and a form that leads to its server."""
    style = asset("style.css") + asset(_STYLE)
    return content_policy(style).replace("form-action 'none'", "form-action 'self'")


def render_run_list(
    lines: Sequence[RunLine], where: str, *, words: str = "", page: int = 1, left_out: bool = False
) -> bytes:
    """The page as HTML, UTF-8.

    Args:
        lines: Every run, newest first.
        where: The folder that is looked at.
        words: Only runs that mention them are shown.
        page: Which `PER_PAGE` of them, counted from 1.
        left_out: Whether there are more runs than were read.
    """
    found = [line for line in lines if line.mentions(words)] if words else list(lines)
    pages = max(1, -(-len(found) // PER_PAGE))
    page = min(max(page, 1), pages)
    words = encodable(words)
    shown = found[(page - 1) * PER_PAGE : page * PER_PAGE]
    readable = [line.key for line in shown if not line.problem]
    return fill_page(
        "run_list.html.j2",
        Limits(),
        (_STYLE,),
        lines=shown,
        total=len(lines),
        found=len(found),
        first=(page - 1) * PER_PAGE + 1,
        where=where,
        words=words,
        page=page,
        pages=pages,
        left_out=left_out,
        chosen_new=readable[0] if readable else "",
        chosen_old=readable[1] if len(readable) > 1 else "",
        gate_words=GATE_WORDS,
        gate_marks=GATE_MARKS,
        content_policy=run_list_policy(),
    ).encode("utf-8")
