"""The record of a repair as Markdown, for a pull request or a build's summary.

The same content as the page of `fix_page.py`, without drawings; untrusted text is escaped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from auditor.findings import CurveEvidence, Metric
from auditor.fix import Comparison, FixResult, RandomEffects
from auditor_reports.fix.effects import bin_effects, effect_sentences, effect_title, span_of
from auditor_reports.fix.json import fix_digest
from auditor_reports.fix.standing import (
    CHANCE,
    DOES_NOT_MEAN,
    STANDING_WORDS,
    ConditionView,
    Demand,
    Measure,
    arrange_conditions,
    contradictions,
    decision_sentence,
    difference,
    line_up_measures,
    read_demands,
    stand,
)
from auditor_reports.html_environment import DISCLAIMER
from auditor_reports.markdown import MAX_BYTES, cut_on_line_end
from auditor_reports.markdown_text import ROWS_SHOWN, code_span, escape_markdown, more
from auditor_reports.number_text import interval_text, number

_MARKS: Final = {"accepted": "✅", "rejected": "❌", "contradictory": "⚠️"}
_CONDITIONS = 40
_BINS: Final = 12
_WHERE = "the record"
_DASH = "\N{EN DASH}"


def render_fix_markdown(result: FixResult) -> str:
    """The record as GitHub-flavoured Markdown, at most `markdown.MAX_BYTES` bytes of UTF-8."""
    text = "\n".join(_lines(result)) + "\n"
    return cut_on_line_end(text, MAX_BYTES, _WHERE).decode("utf-8")


def _lines(result: FixResult) -> Iterator[str]:
    standing = stand(result)
    word = STANDING_WORDS[standing].lower()
    yield f"## Repair {escape_markdown(result.fix)}: {_MARKS[standing]} {word}"
    yield ""
    written = "A new model was written." if result.written else "No new model was written."
    yield f"{decision_sentence(result)} {written}"
    yield ""
    for text in contradictions(result):
        yield f"**Do not rely on this record.** {text} Measure the repair again."
        yield ""
    yield from _reasons(read_demands(result))
    yield from _section("What acceptance does not mean", DOES_NOT_MEAN)
    yield from _changed(result)
    views = arrange_conditions(result)
    yield from _side_by_side(line_up_measures(views), views)
    drawn = [view.condition.random for view in views if view.condition.random]
    for effects in drawn[:_CONDITIONS]:
        yield from _effects(effects)
    yield from more(len(drawn), _CONDITIONS, _WHERE)
    for each in result.evidence:
        if isinstance(each, CurveEvidence):
            yield from _curve(each)
    for view in views[:_CONDITIONS]:
        yield from _condition(view)
    yield from more(len(views), _CONDITIONS, _WHERE)
    if views:
        yield CHANCE
        yield ""
    yield from _parameters(result)
    yield DISCLAIMER


def _curve(curve: CurveEvidence) -> Iterator[str]:
    """The points of a picture of how a repair was chosen."""
    rows = [(line.name, point) for line in curve.series for point in line.points]
    x_label, y_label = escape_markdown(curve.x_label), escape_markdown(curve.y_label)
    yield f"### {escape_markdown(curve.title)}"
    yield ""
    yield f"| | {x_label} | {y_label} |"
    yield "|---|---|---|"
    for name, point in rows[:ROWS_SHOWN]:
        yield f"| {escape_markdown(name)} | {number(point.x)} | {number(point.y)} |"
    yield ""
    yield from more(len(rows), ROWS_SHOWN, _WHERE)


def _reasons(demands: Sequence[Demand]) -> Iterator[str]:
    words = {True: "✅ kept", False: "❌ missed", None: "❔ not said"}
    lines = [f"{words[each.kept]}: {escape_markdown(each.text, 1_000)}" for each in demands]
    yield from _section(f"Reasons ({len(lines)})", lines or ["None is given."])


def _changed(result: FixResult) -> Iterator[str]:
    lines = [f"model as it was, which stays as it is: {code_span(result.subject)}"]
    lines.append(f"new model: {escape_markdown(result.written) or 'none written'}")
    if result.written_digest:
        lines.append(f"digest of the new model: {code_span(result.written_digest)}")
    lines.append(
        f"record, SHA-256 of its file as auditor writes it: {code_span(fix_digest(result))}"
    )
    yield from _section("What was changed", lines)


def _section(title: str, lines: Sequence[str]) -> Iterator[str]:
    yield f"### {title}"
    yield ""
    for line in lines[:ROWS_SHOWN]:
        yield f"- {line}"
    yield from more(len(lines), where=_WHERE)
    yield ""


def _side_by_side(measures: Sequence[Measure], views: Sequence[ConditionView]) -> Iterator[str]:
    """A line for each condition, a column for each measure: effect, damage and controls."""
    if not measures:
        return
    shown = measures[:12]
    yield "### Effect beside damage, and beside controls"
    yield ""
    yield f"| condition |{''.join(f' {escape_markdown(each.name)} |' for each in shown)}"
    yield f"| --- |{' ---: |' * len(shown)}"
    for view in views[:_CONDITIONS]:
        comparisons = {each.name: each for each in reversed(view.condition.comparisons)}
        cells = (_from_to(comparisons.get(each.name)) for each in shown)
        yield f"| {_title(view)} | {' | '.join(cells)} |"
    yield from more(len(views), _CONDITIONS, _WHERE)
    if len(measures) > len(shown):
        yield ""
        yield f"{len(measures) - len(shown)} more measures stand below."
    yield ""


def _effects(effects: RandomEffects) -> Iterator[str]:
    """What the page draws: the random sets in rows, with what stands beside them in words."""
    yield f"### {effect_title(effects)}"
    yield ""
    for text in effect_sentences(effects):
        yield f"- {escape_markdown(text, 1_000)}"
    yield ""
    bins = bin_effects(effects, span_of(effects) / _BINS)
    if not bins:
        return
    most = max(each.sets for each in bins)
    yield f"| {escape_markdown(effects.effect)} | random sets | |"
    yield "| ---: | ---: | --- |"
    for each in bins:
        yield f"| {each.range} | {number(each.sets)} | {'█' * max(1, _BINS * each.sets // most)} |"
    yield ""


def _from_to(each: Comparison | None) -> str:
    return f"{number(each.before.value)} → {_quantity(each.after)}" if each else _DASH


def _quantity(metric: Metric) -> str:
    return f"{number(metric.value)} {escape_markdown(metric.unit, 80)}".strip()


def _title(view: ConditionView) -> str:
    name = escape_markdown(view.condition.name)
    if view.condition.control:
        missing = "" if view.known else ", not in this record"
        return f"{name} (control of {escape_markdown(view.condition.control_of)}{missing})"
    return f"**{name}** (repair{', decided on' if view.decided else ''})"


def _condition(view: ConditionView) -> Iterator[str]:
    yield f"#### {_title(view)}"
    yield ""
    comparisons = view.condition.comparisons
    if comparisons:
        yield "| measure | before | after | change | chance |"
        yield "| --- | --- | --- | --- | ---: |"
        for each in comparisons[:ROWS_SHOWN]:
            chance = _DASH if each.chance is None else number(each.chance, 2)
            cells = (escape_markdown(each.name), _value(each.before), _value(each.after),
                     _change(each), chance)  # fmt: skip
            yield f"| {' | '.join(cells)} |"
        yield from more(len(comparisons), where=_WHERE)
        yield ""
    for note in view.condition.notes[:ROWS_SHOWN]:
        yield f"- {escape_markdown(note)}"
    yield from more(len(view.condition.notes), where=_WHERE)
    yield ""


def _value(metric: Metric) -> str:
    more_of_it = "" if metric.interval is None else f"; {interval_text(metric.interval)}"
    more_of_it += "" if metric.sample_size is None else f"; n {number(metric.sample_size)}"
    more_of_it += f"; {metric.note}" if metric.note else ""
    return _quantity(metric) + escape_markdown(more_of_it)


def _change(each: Comparison) -> str:
    if each.change is None:
        return f"{difference(each)}; no interval"
    change = f"; {each.change_of or 'change'}: {interval_text(each.change)}"
    return difference(each) + escape_markdown(change)


def _parameters(result: FixResult) -> Iterator[str]:
    if not result.parameters:
        return
    yield "### Parameters and digests"
    yield ""
    yield "| parameter | value |"
    yield "| --- | --- |"
    for name, value in sorted(result.parameters.items())[:ROWS_SHOWN]:
        yield f"| {escape_markdown(name)} | {code_span(value)} |"
    yield from more(len(result.parameters), where=_WHERE)
    yield ""
