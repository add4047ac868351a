"""A dossier as GitHub-flavoured Markdown: gaps first, then every row, property and result."""

from __future__ import annotations

from collections.abc import Iterator

from auditor_reports.dossier.record import Cell, Dossier, DossierSection, Number, PropertyEntry
from auditor_reports.dossier.text import GAP_STATUSES, review_age
from auditor_reports.markdown import MAX_BYTES, cut_on_line_end
from auditor_reports.markdown_text import ROWS_SHOWN, code_span, escape_markdown, more
from auditor_reports.number_text import interval_text, moment, number

_LONG = 1_000
_NAMED = 12
_FACTS_SHOWN = 40


def render_dossier_markdown(dossier: Dossier) -> bytes:
    """The dossier as Markdown, at most `MAX_BYTES` bytes; a pure function of its record."""
    return cut_on_line_end("\n".join(_lines(dossier)) + "\n", MAX_BYTES)


def _lines(dossier: Dossier) -> Iterator[str]:
    head, run = dossier.framework, dossier.run
    yield f"# {escape_markdown(head.title)}"
    yield ""
    framework = escape_markdown(f"{head.framework}, {head.version}", _LONG)
    yield f"{framework}. Evidence of the run {escape_markdown(run.plan_title or run.plan)}."
    yield ""
    yield f"**{dossier.disclaimer}**"
    yield ""
    for text in dossier.warnings:
        yield f"**{escape_markdown(text)}**"
        yield ""
    yield from _gaps(dossier)
    yield from _subjects(dossier)
    for section in dossier.sections:
        yield from _section(section)
    yield from _properties(dossier.properties)
    yield from _results(dossier)
    yield from _origin(dossier)
    yield dossier.disclaimer
    yield ""
    yield "Dated and signed by:"


def _gaps(dossier: Dossier) -> Iterator[str]:
    yield "## Gaps"
    yield ""
    for status in GAP_STATUSES:
        cells = dossier.gaps(status)
        yield f"### {status.capitalize()} ({len(cells)})"
        yield ""
        for cell in cells[:ROWS_SHOWN]:
            told = status in ("evidence fail", "not applicable")
            why = f": {escape_markdown(cell.reason, _LONG)}" if told else ""
            yield f"- {_title(cell)} ({escape_markdown(cell.source)}){why}"
        yield from more(len(cells)) if cells else ("None.",)
        yield ""


def _subjects(dossier: Dossier) -> Iterator[str]:
    yield f"## Subjects ({len(dossier.subjects)})"
    yield ""
    for subject in dossier.subjects[:ROWS_SHOWN]:
        yield (
            f"- {escape_markdown(subject.name)} ({escape_markdown(subject.kind)}): "
            f"{code_span(subject.digest)}"
        )
    yield from more(len(dossier.subjects))
    yield ""


def _section(section: DossierSection) -> Iterator[str]:
    yield f"## {escape_markdown(section.title)}"
    yield ""
    if section.note:
        yield escape_markdown(section.note, _LONG)
        yield ""
    yield "| row | source | status | why | not covered | results |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for cell in section.cells:
        cells = (
            _title(cell),
            escape_markdown(cell.source),
            _status(cell),
            escape_markdown(cell.reason, _LONG),
            escape_markdown(cell.beyond, _LONG),
            _ids(cell.results),
        )
        yield f"| {' | '.join(cells)} |"
    yield ""
    for cell in section.cells:
        yield from _cell(cell)


def _cell(cell: Cell) -> Iterator[str]:
    """How the status came about, and the numbers and facts of a row."""
    yield f"### {_title(cell)}"
    yield ""
    yield f"{escape_markdown(cell.asks, _LONG)} {escape_markdown(cell.derivation, _LONG)}"
    yield ""
    if cell.declared:
        who = escape_markdown(cell.declared.declared_by)
        why = escape_markdown(cell.declared.reason, _LONG)
        yield f"Declared as not applicable by {who}: {why}"
        yield ""
    if cell.numbers:
        yield "| result | metric | value | n | interval and method | origin |"
        yield "| --- | --- | ---: | ---: | --- | --- |"
        yield from (_number(each) for each in cell.numbers[:_FACTS_SHOWN])
        yield from more(len(cell.numbers), _FACTS_SHOWN)
        yield ""
    for fact in cell.facts[:_FACTS_SHOWN]:
        where = f" ({code_span(fact.result)})" if fact.result else ""
        yield f"- {escape_markdown(fact.name)}{where}: {escape_markdown(fact.value, _LONG)}"
    yield from more(len(cell.facts), _FACTS_SHOWN)
    yield ""


def _number(each: Number) -> str:
    cells = (
        code_span(each.result),
        escape_markdown(each.name),
        f"{number(each.value)} {escape_markdown(each.unit)}".strip(),
        "none given" if each.sample_size is None else f"{each.sample_size:,}",
        escape_markdown(interval_text(each.interval)) if each.interval else "none given",
        each.origin,
    )
    return f"| {' | '.join(cells)} |"


def _properties(entries: tuple[PropertyEntry, ...] | None) -> Iterator[str]:
    if entries is None:
        return
    yield f"## Formal properties ({len(entries)})"
    yield ""
    yield (
        "Quoted from what the run recorded. A proof speaks of its domain and its arithmetic only; "
        "the network is run in the arithmetic of its runtime."
    )
    yield ""
    for entry in entries[:ROWS_SHOWN]:
        yield f"### {escape_markdown(entry.name)} ({escape_markdown(entry.code)}): {entry.verdict}"
        yield ""
        yield f"- Result: {code_span(entry.result)}, subject {escape_markdown(entry.subject)}"
        yield f"- Domain: {escape_markdown(entry.domain, _LONG)}"
        yield f"- Type: {entry.type} ({escape_markdown(entry.type_reason, _LONG)})"
        yield f"- Criterion: {escape_markdown(entry.criterion, _LONG)}"
        yield f"- Architecture: {escape_markdown(entry.architecture)}"
        yield f"- Data type: {escape_markdown(entry.data_type)}"
        yield f"- Complete verifier: {escape_markdown(entry.complete)}"
        yield f"- Deterministic verifier: {escape_markdown(entry.deterministic)}"
        yield f"- Arithmetic: {escape_markdown(entry.arithmetic)}"
        yield f"- Method: {escape_markdown(entry.method, _LONG)}"
        yield f"- Life-cycle stage: {escape_markdown(entry.stage)}"
        yield ""
    yield from more(len(entries)) if entries else ("This run holds no such result.",)
    yield ""


def _results(dossier: Dossier) -> Iterator[str]:
    yield f"## Results used ({len(dossier.results)})"
    yield ""
    if dossier.results:
        yield "| result | check | subject | verdict | gate | answer | digests |"
        yield "| --- | --- | --- | --- | --- | --- | --- |"
    for entry in dossier.results[:ROWS_SHOWN]:
        digests = (("key", entry.key), ("answer", entry.answer_digest),
                   *(("file", blob) for blob in entry.blobs[:_NAMED]))  # fmt: skip
        waived = "".join(f"; waiver {escape_markdown(text)}" for text in entry.waivers[:_NAMED])
        cells = (
            code_span(entry.id),
            escape_markdown(f"{entry.code} {entry.title}, version {entry.version}"),
            escape_markdown(entry.subject),
            str(entry.verdict),
            entry.gate + waived,
            escape_markdown(entry.reason or entry.summary),
            "; ".join(f"{name} {code_span(digest)}" for name, digest in digests if digest),
        )
        yield f"| {' | '.join(cells)} |"
    yield from more(len(dossier.results)) if dossier.results else ("None.",)
    yield ""


def _origin(dossier: Dossier) -> Iterator[str]:
    head, run = dossier.framework, dossier.run
    yield "## Mapping and run"
    yield ""
    for source in head.sources:
        yield f"- Source ({source.read}): {escape_markdown(source.title, _LONG)}"
    yield (
        f"- Mapping last reviewed {head.last_reviewed}, {review_age(head)}, by: "
        f"{escape_markdown(head.reviewer_role)}; digest {code_span(head.mapping_digest)}"
    )
    for note in head.notes:
        yield f"- {escape_markdown(note, _LONG)}"
    yield (
        "- The gate, which judges by the run's policy and not by this framework, decided: "
        f"{run.gate}. {escape_markdown(run.gate_sentence)}"
    )
    yield f"- Run ended {moment(run.finished)}, seed {run.seed}, fingerprint {run.fingerprint}"
    yield f"- Plan {code_span(run.plan_digest)}, policy {code_span(run.policy_digest)}"
    yield f"- Again with: {code_span(run.command, _LONG)}"
    yield f"- Written by {escape_markdown(f'auditor {run.auditor}')}"
    yield ""


def _title(cell: Cell) -> str:
    return escape_markdown(cell.title)


def _status(cell: Cell) -> str:
    if cell.tested is None:
        return cell.status
    return f"{cell.status} ({'tested' if cell.tested else 'not tested'})"


def _ids(results: tuple[str, ...]) -> str:
    shown = ", ".join(code_span(each) for each in results[:_NAMED])
    rest = f" and {len(results) - _NAMED:,} more" if len(results) > _NAMED else ""
    return (shown + rest) or "none"
