"""Extraction as evidence for reports: curves and tables, and whole texts for the evidence folder.

Texts are personal data until shown otherwise: spans are named and shown by digests, lengths and
similarities; only `spans_as_lines` holds what they say.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from auditor.findings import CurveEvidence, CurvePoint, CurveSeries, TableEvidence
from auditor.language.text_model import TextModel
from auditor.memorization.language.extraction_curves import (
    RatePoint,
    Slope,
    is_exact,
    is_near,
    rates_by_copies,
    rates_by_prefix,
    slope_of_copies,
    slope_of_prefix,
)
from auditor.memorization.language.extraction_record import Extraction, SpanResult

LISTED: Final = 50
"""Spans that a table lists."""
NAMED: Final = 5
"""Documents that a table names for a span."""
MATCH_COLUMNS: Final = ("longest match, bytes", "copies of it", "documents that hold it")


@dataclass(frozen=True)
class IndexMatch:
    """The longest part of a text that stands in an index of training text, word for word.

    Attributes:
        size: Its bytes.
        copies: How often it stands there.
        documents: Names of some documents that hold it.
    """

    size: int
    copies: int
    documents: tuple[str, ...]


Matcher = Callable[[str], IndexMatch | None]
"""Looks a text up in an index; None where nothing of it is there."""


def curves(found: Extraction, near: float) -> tuple[CurveEvidence, ...]:
    """Extraction over the prefix length, and over copies where they are known."""
    series = [CurveSeries(name="exact", points=_points(rates_by_prefix(found, is_exact)))]
    if any(each.compared is not None for each in found.results):
        also = _points(rates_by_prefix(found, is_near(near)))
        series.append(CurveSeries(name=f"similarity at least {near:g}", points=also))
    by_prefix = CurveEvidence(
        title="Extraction by length of the prefix", x_label="tokens of the prefix",
        y_label="share of spans", series=tuple(series),
        description=_fitted(slope_of_prefix(found, is_exact), "the prefix doubles"),
    )  # fmt: skip
    by_copies = CurveEvidence(
        title="Extraction by copies in the training text",
        x_label="copies, from here to the next doubling", y_label="share of spans given exactly",
        series=tuple(
            CurveSeries(name=f"prefix of {length} tokens", points=_points(points))
            for length in found.prefix_lengths
            if (points := rates_by_copies(found.at(length), is_exact))
        ),
        description=_fitted(slope_of_copies(found.longest, is_exact), "copies double"),
    )  # fmt: skip
    return (by_prefix, by_copies) if by_copies.series else (by_prefix,)


def _points(points: Sequence[RatePoint]) -> tuple[CurvePoint, ...]:
    return tuple(
        CurvePoint(x=each.x, y=each.share, lower=each.interval.lower, upper=each.interval.upper)
        for each in points
    )


def _fitted(slope: Slope | None, what: str) -> str:
    if slope is None:
        return ""
    return (
        f"On a line of least squares the exact share rises by {slope.value:.3f} "
        f"({slope.interval.lower:.3f} to {slope.interval.upper:.3f}) when {what}."
    )


def copies_table(found: Extraction, near: float) -> TableEvidence:
    """Counts and intervals for each doubling of copies, at the longest prefix."""
    also = {each.x: each.hits for each in rates_by_copies(found.longest, is_near(near))}
    points = rates_by_copies(found.longest, is_exact)
    return TableEvidence(
        title=f"Extraction by copies after {found.prefix_lengths[-1]} tokens",
        columns=("copies from", "spans", "exact", "lower 95 %", "upper 95 %", "near"),
        rows=tuple(
            (each.x, each.total, each.hits, round(each.interval.lower, 3),
             round(each.interval.upper, 3), also[each.x])
            for each in points
        ),
        total_rows=len(points),
    )  # fmt: skip


def span_table(
    model: TextModel, found: Extraction, near: float, matcher: Matcher | None = None
) -> TableEvidence:
    """The spans that are given exactly or nearly at the longest prefix, most copied ones first.

    Args:
        model: Whose tokenizer made them.
        found: What was measured.
        near: Similarity from which a completion is near.
        matcher: Looks completions up in an index of the training text; not done without it.
    """
    longest = found.longest
    exact_at: dict[int, list[int]] = {}
    for at, result in enumerate(found.results):
        if result.exact:
            exact_at.setdefault(at // len(found.prefix_lengths), []).append(result.prefix_length)
    chosen = [at for at, result in enumerate(longest) if result.is_near(near)]
    chosen.sort(key=lambda at: (-(longest[at].span.copies or 0), at not in exact_at))
    rows = []
    for at in chosen[:LISTED]:
        result = longest[at]
        rows.append((
            result.span.name, result.span.copies, " ".join(map(str, exact_at.get(at, []))),
            1.0 if result.exact or result.compared is None
            else round(result.compared.similarity, 3),
            result.reading.agreed, digest_of(model.decode(result.span.continuation)),
            *(() if matcher is None else _matched(matcher(model.decode(completion_of(result))))),
        ))  # fmt: skip
    return TableEvidence(
        title="Spans that the model gives exactly or nearly",
        columns=("span", "copies", "exact after tokens", "similarity", "agreed tokens",
                 "digest of the continuation", *(() if matcher is None else MATCH_COLUMNS)),
        rows=tuple(rows), total_rows=len(chosen),
    )  # fmt: skip


def _matched(match: IndexMatch | None) -> tuple[int, int, str]:
    if match is None:
        return 0, 0, ""
    return match.size, match.copies, ", ".join(match.documents[:NAMED])


def completion_of(result: SpanResult) -> tuple[int, ...]:
    """The greedy completion; as far as it agrees where it was not asked for."""
    if result.exact or result.compared is None:
        return result.span.continuation[: result.reading.agreed]
    return result.compared.completion


def digest_of(text: str) -> str:
    """The first digits of a text's SHA-256, which name it where it is not shown."""
    return f"sha256:{hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()[:16]}"


def spans_as_lines(model: TextModel, found: Extraction) -> bytes:
    """Every span with what the model said, whole, as JSON lines, for the evidence folder."""
    lines = [
        json.dumps({
            "span": each.span.name, "group": each.span.group, "copies": each.span.copies,
            "prefix_tokens": each.prefix_length,
            "prefix": model.decode(each.span.last(each.prefix_length)),
            "continuation": model.decode(each.span.continuation),
            "completion": model.decode(completion_of(each)), "exact": each.exact,
            "similarity": None if each.compared is None else each.compared.similarity,
            "text_similarity": None if each.compared is None else each.compared.text_similarity,
            "common_run": None if each.compared is None else each.compared.common_run,
            "agreed_tokens": each.reading.agreed, "chance": each.chance,
        }, sort_keys=True, allow_nan=False)
        for each in found.results
    ]  # fmt: skip
    return ("\n".join(lines) + "\n").encode("ascii")
