"""The words in which a comparison of two runs is told, the same in every format."""

from __future__ import annotations

from typing import Final

from auditor.audit.comparison import (
    Caveat,
    Comparison,
    FindingChange,
    FindingStatus,
    Judgement,
    MetricChange,
)
from auditor.findings import Verdict
from auditor_reports.number_text import interval_text, quantity
from auditor_reports.standing import STATUS_WORDS

WHERE_ALL: Final = "the JSON lines of auditor diff"
FINDING_WORDS: Final[dict[FindingStatus, str]] = {
    "new": "new",
    "worse": "worse",
    "standing": "other standing",
    "milder": "less severe",
    "unanswered": "not answered now",
    "fixed": "fixed",
    "unchanged": "unchanged",
}
FINDING_HEADINGS: Final[dict[FindingStatus, str]] = {
    "new": "New findings",
    "worse": "Worse findings",
    "standing": "Findings that stand otherwise before the gate",
    "milder": "Less severe findings",
    "unanswered": "Findings whose question the new run does not answer",
    "fixed": "Fixed findings",
    "unchanged": "Unchanged findings",
}
JUDGEMENT_WORDS: Final[dict[Judgement, str]] = {
    "apart": "intervals apart",
    "overlap": "intervals overlap, not told apart",
    "no interval": "no interval on both sides, may be chance",
    "not comparable": "not comparable, see the differences named first",
    "only one": "measured in one run only",
}
GATE_WORDS: Final = {"pass": "passed", "fail": "failed", "inconclusive": "inconclusive"}
GATE_MARKS: Final = {
    "pass": Verdict.HOLDS,
    "fail": Verdict.VIOLATED,
    "inconclusive": Verdict.UNKNOWN,
}
AFFECTS_WORDS: Final = {
    "numbers": "numbers are not comparable",
    "gate": "decisions are not comparable",
    "scope": "another scope",
}
HOW_TO_READ: Final = (
    "Findings are matched by fingerprint: check, subject and place, not numbers or digests. "
    "Fixed means that the new run answered the same question and no longer reports the finding; "
    "where it gave no answer, the finding counts as not answered, not as fixed.",
    "Intervals that overlap do not tell the two values apart, and do not show that they are "
    "equal. Intervals apart are of these samples; with many metrics some are apart by chance.",
)


def headline(comparison: Comparison) -> str:
    """Both gates and what changed, in one sentence."""
    counts = comparison.counts
    parts = [f"{counts['new']:,} new", f"{counts['worse']:,} worse", f"{counts['fixed']:,} fixed"]
    if counts["unanswered"]:
        parts.append(f"{counts['unanswered']:,} no longer answered")
    verdicts = counts["verdict"]
    return (
        f"{', '.join(parts)} findings; {verdicts:,} "
        f"{'verdict' if verdicts == 1 else 'verdicts'} changed; "
        f"{counts['unchanged']:,} findings unchanged."
    )


def gates(comparison: Comparison) -> str:
    """The decisions of both runs."""
    old, new = (GATE_WORDS[side.verdict] for side in (comparison.old, comparison.new))
    return f"Gate {old} before and {new} now" if old == new else f"Gate {old} before, {new} now"


def reach(caveat: Caveat) -> str:
    """Which results a caveat concerns."""
    if not caveat.results:
        return "the whole run"
    shown = ", ".join(caveat.results[:3])
    more = len(caveat.results) - 3
    return f"{shown} and {more:,} more" if more > 0 else shown


def severity_change(change: FindingChange) -> str:
    """The severity, or both where it changed."""
    if change.old_severity and change.new_severity and change.status in ("worse", "milder"):
        return f"{change.old_severity} -> {change.new_severity}"
    return change.severity


def standing_change(change: FindingChange) -> str:
    """How the finding stands before the gate, or both where that changed."""
    sides = (change.old_standing, change.new_standing)
    words = [STATUS_WORDS[each] for each in sides if each is not None]
    if len(words) == 2 and words[0] != words[1]:
        return f"{words[0]} -> {words[1]}"
    gone = "before: " if words and change.new_severity is None else ""
    return f"{gone}{words[-1]}" if words else ""


def asked_otherwise(change: FindingChange) -> str:
    """That the question was not the same in both runs, or an empty text."""
    return "" if change.comparable else "asked otherwise, see the differences named first"


def metric_name(change: MetricChange) -> str:
    """The metric, and the control it belongs to."""
    return f"{change.name} (control: {change.control})" if change.control else change.name


def metric_value(change: MetricChange, side: str) -> str:
    """One side of a metric in words: value, unit, interval and sample size."""
    metric = change.old if side == "old" else change.new
    if metric is None:
        return "not measured"
    interval = f", {interval_text(metric.interval)}" if metric.interval else ", no interval"
    size = f", n {metric.sample_size:,}" if metric.sample_size is not None else ""
    return f"{quantity(metric)}{interval}{size}"


def judgement(change: MetricChange) -> str:
    """What the intervals say, with better or worse only where they say it."""
    words = JUDGEMENT_WORDS[change.judgement]
    if change.judgement == "not comparable" and change.intervals_overlap is not None:
        words += "; the intervals overlap" if change.intervals_overlap else "; intervals apart"
    return words if change.direction == "neither" else f"{words}, {change.direction}"
