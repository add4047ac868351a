"""The HTML report: one self-contained file, readable without JavaScript.

The page holds everything where that fits. Where it does not, whole results are shown
briefly or only in the tables, passed ones first, then every list gets shorter; what
is left out is counted on the page and stands in `audit.json`. So the file stays under
`MAX_BYTES` whatever the run's size.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import resources
from typing import Literal

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from auditor.findings import AuditReport, TableEvidence, TracedTextEvidence, Verdict
from auditor_reports import number_text, traced_text
from auditor_reports.curve_chart import lay_out_curve
from auditor_reports.expert_map import lay_out_expert_map
from auditor_reports.heat_map import lay_out_heat_map
from auditor_reports.interval_chart import lay_out_interval, shared_axes
from auditor_reports.page import Page, arrange
from auditor_reports.png import data_uri
from auditor_reports.sanitise import block, clip, visible
from auditor_reports.standing import STATUS_WORDS

MAX_BYTES = 1_450_000
DISCLAIMER = "This report does not establish conformity and is not legal advice."
Detail = Literal["full", "brief", "none"]


@dataclass(frozen=True)
class Limits:
    """How much of a report is shown.

    Attributes:
        rows: Rows of a table and entries of a list.
        columns: Columns of a table.
        parts: Pieces of evidence, findings or controls of one result.
        text: Characters of one text.
        cell: Characters of one table cell.
        detail_bytes: Bytes of all detailed results together.
    """

    rows: int = 200
    columns: int = 30
    parts: int = 40
    text: int = 4_000
    cell: int = 400
    detail_bytes: int = 1_000_000


# Tried in turn until the page fits; the last one fits by arithmetic, see the tests.
LEVELS = (
    Limits(),
    Limits(rows=100, parts=20, text=1_000, cell=200, detail_bytes=700_000),
    Limits(rows=40, columns=12, parts=8, text=200, cell=80, detail_bytes=300_000),
    Limits(rows=10, columns=6, parts=3, text=80, cell=40, detail_bytes=60_000),
)


def render_html(report: AuditReport, samples: traced_text.Samples | None = None) -> bytes:
    """The report as HTML, UTF-8, at most `MAX_BYTES` bytes.

    With samples traced completions are shown in full, and the page says so; its run
    fingerprint stays that of `audit.json`, which holds them shortened.
    """
    page = arrange(report)
    if samples:
        shown = traced_text.with_samples(report, samples)
        page = replace(arrange(shown), fingerprint=page.fingerprint)
    in_full = any(isinstance(sample, TracedTextEvidence) for sample in (samples or {}).values())
    content = b""
    for limits in LEVELS:
        content = _render(page, limits, in_full=in_full)
        if len(content) <= MAX_BYTES:
            break
    return content


def _render(page: Page, limits: Limits, *, in_full: bool) -> bytes:
    environment = _environment(limits)
    style, script = _asset("style.css"), _asset("report.js")
    details = _render_details(environment, page, limits)
    text = environment.get_template("report.html.j2").render(
        page=page,
        report=page.report,
        details=details,
        detailed=len(details),
        style=Markup(style),  # noqa: S704  our own file, hashed into the policy
        script=Markup(script),  # noqa: S704
        content_policy=_content_policy(style, script),
        disclaimer=DISCLAIMER,
        in_full=traced_text.SHOWN_IN_FULL if in_full else "",
    )
    return text.encode("utf-8")


def _render_details(environment: Environment, page: Page, limits: Limits) -> dict[str, Markup]:
    """Detailed results by anchor, worst first, until the space for them is used up."""
    template = environment.get_template("result.html.j2")
    titles = {check.card.code: check.card.title for check in page.checks}
    left = limits.detail_bytes
    shown: dict[str, Markup] = {}
    for view in page.results:
        for detail in ("full", "brief"):
            text = template.render(view=view, detail=detail, card_title=titles[view.result.code])
            size = len(text.encode("utf-8"))
            if size <= left:
                break
        else:
            break
        left -= size
        shown[view.anchor] = Markup(text)  # noqa: S704  rendered with autoescape
    return shown


def _content_policy(style: str, script: str) -> str:
    """A policy that allows our style, our script and inline pictures, and no address at all."""
    return (
        f"default-src 'none'; style-src '{_source_hash(style)}'; "
        f"script-src '{_source_hash(script)}'; img-src data:; base-uri 'none'; form-action 'none'"
    )


def _source_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


@lru_cache
def _asset(name: str) -> str:
    return (resources.files("auditor_reports") / "templates" / name).read_text("utf-8")


@lru_cache
def _environment(limits: Limits) -> Environment:
    environment = Environment(
        loader=PackageLoader("auditor_reports"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finaliser(limits),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        limits=limits,
        status_words=STATUS_WORDS,
        verdict_words=_VERDICT_WORDS,
        lay_out_curve=lay_out_curve,
        lay_out_expert_map=lay_out_expert_map,
        lay_out_heat_map=lay_out_heat_map,
        lay_out_traced_text=lambda evidence: traced_text.lay_out_traced_text(
            evidence, 5 * limits.text, 5 * limits.rows, limits.rows
        ),
        traced=traced_text,
        numeric_columns=_numeric_columns,
        lay_out_interval=lay_out_interval,
        shared_axes=shared_axes,
    )
    environment.filters.update(
        block=lambda text: block(text, 5 * limits.text),
        bytes=number_text.byte_size,
        cell=lambda value: _cell(value, limits.cell),
        data_uri=lambda image: Markup(data_uri(image)),  # noqa: S704  base64 of our own
        duration=number_text.duration,
        interval=number_text.interval_text,
        moment=number_text.moment,
        number=number_text.number,
        plain_json=lambda value: json.dumps(value, sort_keys=True, ensure_ascii=False),
        quantity=number_text.quantity,
        short=lambda text: clip(visible(text[: limits.cell + 1]), limits.cell),
    )
    return environment


_VERDICT_WORDS = {
    Verdict.HOLDS: "holds",
    Verdict.VIOLATED: "violated",
    Verdict.UNKNOWN: "unknown",
    Verdict.SKIPPED: "skipped",
    Verdict.ERROR: "error",
}


def _finaliser(limits: Limits) -> Callable[[object], object]:
    """What happens to every value before it is escaped: texts are made visible and cut."""

    def finalise(value: object) -> object:
        if isinstance(value, Markup) or not isinstance(value, str):
            return "" if value is None else value
        return clip(visible(value[: 5 * limits.text + 1]), 5 * limits.text)

    return finalise


def _numeric_columns(evidence: TableEvidence) -> tuple[bool, ...]:
    """For each column, whether it holds numbers (or nothing) only."""
    kinds = [{type(row[at]) for row in evidence.rows} for at in range(len(evidence.columns))]
    numbers = {int, float, type(None)}
    return tuple(bool(kind & {int, float}) and kind <= numbers for kind in kinds)


def _cell(value: str | int | float | bool | None, limit: int) -> str:
    """A table cell as text; numbers with the digits that tell them apart."""
    match value:
        case None:
            return "\N{EN DASH}"
        case bool():
            return "yes" if value else "no"
        case int() | float():
            return number_text.number(value, 6)
        case _:
            return clip(visible(value[: limit + 1]), limit)
