"""The page of a repair: its decision, what changed, and effect beside damage and controls.

One self-contained file without any script, made of a record alone. It is cut as the report is:
what is left out is counted on the page and stands in the record.
"""

from __future__ import annotations

from auditor.fix import FixResult
from auditor_reports.fix.effects import lay_out_effects
from auditor_reports.fix.json import fix_digest
from auditor_reports.fix.standing import (
    CHANCE,
    DOES_NOT_MEAN,
    STANDING_WORDS,
    arrange_conditions,
    contradictions,
    decision_sentence,
    difference,
    line_up_measures,
    read_demands,
    stand,
)
from auditor_reports.html_environment import Limits, fill_page, fit_page


def render_fix(result: FixResult) -> str:
    """The page of a repair as HTML, at most `html_environment.MAX_BYTES` bytes of UTF-8.

    It is a pure function of the record: same record, same page.
    """
    return fit_page(lambda limits: _render(result, limits))


def _render(result: FixResult, limits: Limits) -> str:
    views = arrange_conditions(result)
    standing = stand(result)
    return fill_page(
        "fix.html.j2",
        limits,
        ("fix.css",),
        result=result,
        mark={"accepted": "holds", "rejected": "violated", "contradictory": "error"}[standing],
        word=STANDING_WORDS[standing],
        sentence=decision_sentence(result),
        contradictions=contradictions(result),
        demands=read_demands(result),
        views=views,
        measures=line_up_measures(views),
        effects=lay_out_effects(views),
        difference=difference,
        does_not_mean=DOES_NOT_MEAN,
        chance=CHANCE,
        record_digest=fix_digest(result),
    )
