"""What every HTML page is made with: limits of detail, the template environment, the policy.

Every value is made visible and cut before it is escaped; nothing on a page is fetched, and a
page runs no script but the one it names by its digest.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from auditor.findings import TableEvidence, Verdict
from auditor_reports import number_text, traced_text
from auditor_reports.charts.curve_chart import lay_out_curve
from auditor_reports.charts.expert_map import lay_out_expert_map
from auditor_reports.charts.heat_map import lay_out_heat_map
from auditor_reports.charts.interval_chart import lay_out_interval, shared_axes
from auditor_reports.charts.png import data_uri
from auditor_reports.sanitise import block, clip, inert_block, visible
from auditor_reports.standing import STATUS_WORDS

MAX_BYTES: Final = 1_450_000
DISCLAIMER: Final = "This report does not establish conformity and is not legal advice."


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


def content_policy(style: str, script: str = "") -> str:
    """A policy that allows our style, our script and inline pictures, and no address at all."""
    scripts = f"script-src '{_source_hash(script)}'; " if script else ""
    return (
        f"default-src 'none'; style-src '{_source_hash(style)}'; "
        f"{scripts}img-src data:; base-uri 'none'; form-action 'none'"
    )


def _source_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


@lru_cache
def asset(name: str) -> str:
    """A file beside the templates, as text."""
    return (resources.files("auditor_reports") / "templates" / name).read_text("utf-8")


def fit_page(render: Callable[[Limits], str], most_bytes: int = MAX_BYTES) -> str:
    """The most detailed page that is short enough as UTF-8, or the least detailed one."""
    page = ""
    for limits in LEVELS:
        page = render(limits)
        if len(page.encode("utf-8")) <= most_bytes:
            break
    return page


def fill_page(template: str, limits: Limits, styles: Sequence[str], **values: object) -> str:
    """A whole page: a template with `style.css`, further styles, and the policy for them."""
    style = "".join(map(asset, ("style.css", *styles)))
    told = {"disclaimer": DISCLAIMER, "content_policy": content_policy(style), **values}
    shown = Markup(style)  # noqa: S704  our own files, hashed into the policy
    return environment(limits).get_template(template).render(style=shown, **told)


@lru_cache
def environment(limits: Limits) -> Environment:
    """The environment of templates that show so much."""
    made = Environment(
        loader=PackageLoader("auditor_reports"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finaliser(limits),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals.update(
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
    made.filters.update(
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
    return made


_VERDICT_WORDS = {
    Verdict.HOLDS: "holds",
    Verdict.VIOLATED: "violated",
    Verdict.UNKNOWN: "unknown",
    Verdict.SKIPPED: "skipped",
    Verdict.ERROR: "error",
}


def _finaliser(limits: Limits) -> Callable[[object], object]:
    """What happens to every value before it is escaped: texts are made inert and cut."""

    def finalise(value: object) -> object:
        if isinstance(value, Markup) or not isinstance(value, str):
            return "" if value is None else value
        return inert_block(value, 5 * limits.text)

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
