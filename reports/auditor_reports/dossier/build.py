"""A dossier: the evidence of a run in the slots of a framework, as a pure function of both.

It says for each slot what there is and what is missing. It holds no score, makes no statement
about the framework as a whole, and establishes nothing by itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from datetime import date

from auditor.findings import AuditReport
from auditor_reports.audit_json import run_fingerprint
from auditor_reports.dossier.cells import decide_cell
from auditor_reports.dossier.evidence import EvidenceBook
from auditor_reports.dossier.mapping import Applicability, Declaration, FrameworkMapping, Section
from auditor_reports.dossier.properties import read_properties
from auditor_reports.dossier.record import (
    Dossier,
    DossierSection,
    FrameworkHead,
    RunHead,
    SourceHead,
)
from auditor_reports.html_environment import DISCLAIMER
from auditor_reports.number_text import utc
from auditor_reports.standing import verdict_sentence

MONTHS_A_REVIEW_HOLDS = 12


def build_dossier(
    report: AuditReport, mapping: FrameworkMapping, applicability: Applicability | None = None
) -> Dossier:
    """The dossier of a run for a framework.

    Raises:
        UnknownName: The applicability names a row that the framework does not have.
    """
    declared = (applicability or Applicability()).of(mapping)
    book = EvidenceBook(report)
    sections = tuple(_section(section, book, declared) for section in mapping.sections)
    properties = read_properties(mapping.formal_properties, report)
    used = {id for section in sections for cell in section.cells for id in cell.results}
    used |= {entry.result for entry in properties}
    ordered = book.standings.worst_first(report.results)
    return Dossier(
        framework=_framework_head(mapping, report),
        run=_run_head(report),
        warnings=tuple(_warnings(report, mapping)),
        subjects=report.subjects,
        sections=sections,
        properties=properties if mapping.formal_properties else None,
        results=tuple(book.entry(result) for result in ordered if result.id in used),
        disclaimer=DISCLAIMER,
    )


def review_age_days(mapping: FrameworkMapping, day: date) -> int:
    """Days from the mapping's last review to that day."""
    return (day - mapping.last_reviewed).days


def review_is_old(mapping: FrameworkMapping, day: date) -> bool:
    """Whether the review is more than twelve months before that day."""
    years, month = divmod(mapping.last_reviewed.month - 1 + MONTHS_A_REVIEW_HOLDS, 12)
    end = (mapping.last_reviewed.year + years, month + 1, mapping.last_reviewed.day)
    return (day.year, day.month, day.day) > end


def _section(
    section: Section, book: EvidenceBook, declared: Mapping[str, Declaration]
) -> DossierSection:
    return DossierSection(
        id=section.id,
        title=section.title,
        note=section.note or "",
        cells=tuple(
            decide_cell(row, book, declared.get(row.id), is_attack_class=section.attack_classes)
            for row in section.rows
        ),
    )


def _framework_head(mapping: FrameworkMapping, report: AuditReport) -> FrameworkHead:
    return FrameworkHead(
        id=mapping.id,
        title=mapping.title,
        framework=mapping.framework,
        version=mapping.framework_version,
        sources=tuple(SourceHead(title=each.title, read=each.read) for each in mapping.sources),
        last_reviewed=mapping.last_reviewed,
        reviewer_role=mapping.reviewer_role,
        review_age_days=review_age_days(mapping, _day(report)),
        mapping_digest=_mapping_digest(mapping),
        notes=mapping.notes,
    )


def _mapping_digest(mapping: FrameworkMapping) -> str:
    return f"sha256:{hashlib.sha256(mapping.model_dump_json().encode()).hexdigest()}"


def _run_head(report: AuditReport) -> RunHead:
    return RunHead(
        plan=report.plan,
        plan_title=report.plan_title,
        plan_digest=report.plan_digest,
        policy_digest=report.gate.policy_digest,
        gate=report.gate.verdict,
        gate_sentence=verdict_sentence(report),
        complete=report.complete,
        seed=report.seed,
        command=report.command,
        started=report.timing.started,
        finished=report.timing.finished,
        auditor=report.environment.auditor,
        fingerprint=run_fingerprint(report),
    )


def _warnings(report: AuditReport, mapping: FrameworkMapping) -> Iterator[str]:
    if not report.results:
        yield "This run holds no result: nothing was audited."
    elif not report.complete:
        yield "This run is not complete: part of the plan was not carried out."
    if review_is_old(mapping, _day(report)):
        yield (
            f"The mapping was last compared with its sources on {mapping.last_reviewed}, more "
            f"than {MONTHS_A_REVIEW_HOLDS} months before this run ended: the framework may have "
            "changed since."
        )


def _day(report: AuditReport) -> date:
    return utc(report.timing.finished).date()
