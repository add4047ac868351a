"""Traced completions as Markdown: quotations with numbered brackets, and tables of spans."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from auditor.findings import CheckResult, TracedTextEvidence
from auditor_reports.markdown_text import ROWS_SHOWN, escape_markdown, evidence_section, more
from auditor_reports.traced_text import (
    NO_MATCH,
    ORIGIN,
    VERDICT_WORDS,
    Part,
    Row,
    Run,
    gap,
    lay_out_traced_text,
)

# Of a traced text: characters of a piece, scores of a span, candidate sources named.
_PIECE, _SCORES, _NAMES = 4_000, 8, 5


def traced_texts(results: Iterable[CheckResult]) -> Iterator[str]:
    """The lines of the section; none where nothing was traced."""
    return evidence_section("Traced completions", results, TracedTextEvidence, _traced_text)


def _traced_text(evidence: TracedTextEvidence) -> Iterator[str]:
    """The texts as a quotation, a span between its number in brackets, and the spans' table."""
    text = lay_out_traced_text(evidence, _PIECE, ROWS_SHOWN, ROWS_SHOWN)
    verdict = escape_markdown(VERDICT_WORDS.get(evidence.verdict, evidence.verdict))
    yield f"{escape_markdown(evidence.title)}: verdict {verdict}"
    yield ""
    yield f"> Prompt: {_parts((text.prompt,)).strip()}"
    yield ">"
    yield f"> Completion: {''.join(map(_run, text.runs)).strip()}"
    yield ""
    if text.rows:
        names = [f"{escape_markdown(name)} |" for name in text.score_names[:_SCORES]]
        heads = " ".join(("| span | standing | tokens | times in index |", *names))
        yield f"{heads} clause | candidate sources |"
        yield "| --- | --- | ---: | ---: |" + " ---: |" * len(names) + " --- | --- |"
        for row in text.rows:
            yield _span_row(row)
        yield from more(len(evidence.spans))
        yield ""
    note = escape_markdown(evidence.note, 1_000)
    words = (NO_MATCH if evidence.verdict == "no_evidence" else "", note, ORIGIN)
    yield " ".join(word for word in words if word)
    yield ""


def _run(run: Run) -> str:
    text = _parts(run.parts)
    return text if run.span is None else f" **\\[{run.span}** {text.strip()} **{run.span}\\]** "


def _parts(parts: Sequence[Part]) -> str:
    return "".join(
        _inline(part.text) + (f" {gap(part.hidden)} " if part.hidden else "") for part in parts
    )


def _inline(text: str) -> str:
    """The text on one line, with a blank where it begins or ends with space."""
    before, after = (" " if end.isspace() else "" for end in (text[:1], text[-1:]))
    return f"{before}{escape_markdown(text, _PIECE)}{after}"


def _span_row(row: Row) -> str:
    span = row.span
    names = ", ".join(escape_markdown(name, 80) for name in span.documents[:_NAMES])
    cells = (
        str(row.number),
        "flagged" if span.flagged else "not flagged",
        f"{span.tokens:,}",
        f"{span.count:,}",
        *row.scores[:_SCORES],
        escape_markdown(span.clause),
        f"{names} ({min(len(span.documents), _NAMES)} of {span.documents_total:,} named)",
    )
    return f"| {' | '.join(cells)} |"
