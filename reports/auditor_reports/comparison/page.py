"""The page that holds two runs side by side: one self-contained file without any script.

It is cut as the report is: what is left out is counted on the page and stands in the JSON
lines of `auditor diff`.
"""

from __future__ import annotations

from typing import Final

from auditor.audit.comparison import Comparison
from auditor_reports.comparison import text as words
from auditor_reports.html_environment import Limits, asset, fill_page, fit_page

_STYLE: Final = "comparison.css"


def render_comparison(comparison: Comparison) -> bytes:
    """The page of a comparison as HTML, UTF-8, at most `html_environment.MAX_BYTES` bytes.

    It is a pure function of the comparison: same comparison, same bytes.
    """
    return fit_page(lambda limits: _render(comparison, limits)).encode("utf-8")


def page_style() -> str:
    """The style of the page, for whoever sends a policy with it."""
    return asset("style.css") + asset(_STYLE)


def _render(comparison: Comparison, limits: Limits) -> str:
    groups = {status: comparison.finding_group(status) for status in words.FINDING_HEADINGS}
    return fill_page(
        "comparison.html.j2",
        limits,
        (_STYLE,),
        comparison=comparison,
        groups=groups,
        text=words,
        mark=words.GATE_MARKS[comparison.new.verdict],
    )
