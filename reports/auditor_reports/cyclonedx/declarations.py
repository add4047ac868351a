"""CycloneDX declarations: what each check found, the evidence, and nothing about conformity.

A result that holds and passes is a claim for its check, one that does not is a claim
against it, and one without an answer is neither.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from auditor.findings import AuditReport, CheckCard, CheckResult, Verdict
from auditor_reports.audit_places import NumberedResult, blob_address, evidence_of
from auditor_reports.cyclonedx.models import (
    Assessor,
    CdxAttestation,
    CdxEvidence,
    Claim,
    Confidence,
    DataContents,
    Declarations,
    Definitions,
    EvidenceData,
    MapEntry,
    Organization,
    Requirement,
    Standard,
)
from auditor_reports.markdown import DISCLAIMER
from auditor_reports.number_text import iso_moment
from auditor_reports.sanitise import one_line
from auditor_reports.standing import STATUS_WORDS, Standings, Status, verdict_sentence

ASSESSOR = "assessor"
EVIDENCE_SHOWN = 5


def make_declarations(
    report: AuditReport,
    standings: Standings,
    results: Sequence[NumberedResult],
    cards: Sequence[CheckCard],
    targets: Mapping[str, str],
) -> Declarations:
    """The declarations.

    Args:
        report: The whole report.
        standings: How its results stand.
        results: Those that are shown, worst first.
        cards: The checks of the shown results.
        targets: References of the models by name.
    """
    tool = one_line(f"auditor {report.environment.auditor}, an automated audit tool", 200)
    attestation = CdxAttestation(
        summary=one_line(f"{verdict_sentence(report)} {DISCLAIMER}"),
        assessor=ASSESSOR,
        map=tuple(_map(standings, results, cards)),
    )
    return Declarations(
        assessors=(Assessor(bom_ref=ASSESSOR, organization=Organization(name=tool)),),
        attestations=(attestation,),
        claims=tuple(_claim(standings, each, targets) for each in results),
        evidence=tuple(map(_evidence, results)),
    )


def make_definitions(report: AuditReport, cards: Sequence[CheckCard]) -> Definitions:
    """The checks as requirements, so that attestations have something to refer to."""
    standard = Standard(
        bom_ref="checks",
        name="Checks of auditor",
        version=one_line(report.environment.auditor, 100),
        description="The questions that this audit asked. No published standard.",
        requirements=tuple(
            Requirement(
                bom_ref=requirement_ref(number),
                identifier=one_line(card.code, 100),
                title=one_line(card.title, 200),
                text=one_line(card.question, 600),
                descriptions=(one_line(f"Method: {card.method}", 1_000),) if card.method else None,
            )
            for number, card in enumerate(cards)
        ),
    )
    return Definitions(standards=(standard,))


def requirement_ref(number: int) -> str:
    """The reference of the check with this number among the cards."""
    return f"check-{number}"


def claim_ref(number: int) -> str:
    """The reference of the claim about the result with this number in `audit.json`."""
    return f"claim-{number}"


def _evidence_ref(number: int) -> str:
    return f"evidence-{number}"


def _side(result: CheckResult, status: Status) -> str:
    """`for`, `against` or `open`: where a result belongs in the map."""
    if result.verdict is Verdict.HOLDS and status == "pass":
        return "for"
    if result.verdict.is_open or status in ("open", "warn"):
        return "open"
    return "against"


def _map(
    standings: Standings, results: Sequence[NumberedResult], cards: Sequence[CheckCard]
) -> Iterator[MapEntry]:
    sides: dict[tuple[str, str], list[NumberedResult]] = defaultdict(list)
    for each in results:
        sides[each.result.code, _side(each.result, standings.of_result(each.result))].append(each)
    for number, card in enumerate(cards):
        unanswered = sides[card.code, "open"]
        names = "; ".join(each.result.id for each in unanswered[:10])
        yield MapEntry(
            requirement=requirement_ref(number),
            claims=_refs(sides[card.code, "for"]),
            counter_claims=_refs(sides[card.code, "against"]),
            confidence=(
                Confidence(rationale=one_line(f"No answer in {len(unanswered)}: {names}", 600))
                if unanswered
                else None
            ),
        )


def _refs(results: Sequence[NumberedResult]) -> tuple[str, ...] | None:
    return tuple(claim_ref(each.number) for each in results) or None


def _claim(standings: Standings, each: NumberedResult, targets: Mapping[str, str]) -> Claim:
    number, result = each
    status = standings.of_result(result)
    against = _side(result, status) == "against"
    evidence = (_evidence_ref(number),)
    text = f"{result.code} {result.title}: {result.verdict}, {result.answer.summary}"
    return Claim(
        bom_ref=claim_ref(number),
        target=targets.get(result.subject),
        predicate=one_line(text, 600),
        reasoning=one_line(_reasoning(standings, result, status), 1_000),
        evidence=None if against else evidence,
        counter_evidence=evidence if against else None,
    )


def _reasoning(standings: Standings, result: CheckResult, status: Status) -> str:
    parts = [f"Before the gate: {STATUS_WORDS[status]}."]
    if result.answer.reason:
        parts.append(f"Reason: {result.answer.reason}")
    for finding in sorted(result.answer.findings, key=lambda each: each.severity.rank)[:3]:
        word = STATUS_WORDS[standings.of_finding(result, finding)]
        parts.append(f"[{finding.severity}, {word}] {finding.title}.")
    for row in standings.beyond_findings(result)[:3]:
        parts.append(f"[policy, {STATUS_WORDS[row.status]}] {row.text}.")
    if len(result.answer.findings) > 3:
        parts.append(f"{len(result.answer.findings) - 3} more findings in audit.json.")
    return " ".join(parts)


def _evidence(each: NumberedResult) -> CdxEvidence:
    """The whole record first, then pieces of evidence, by their places in the run's folder."""
    data = [EvidenceData(name="record of the check", contents=DataContents(url=each.address))]
    for piece in list(evidence_of(each))[:EVIDENCE_SHOWN]:
        file = blob_address(piece.blob) if piece.blob else None
        data.append(
            EvidenceData(
                name=one_line(f"{piece.title} ({piece.kind})", 200),
                contents=DataContents(url=file or piece.address),
            )
        )
    return CdxEvidence(
        bom_ref=_evidence_ref(each.number),
        description=one_line(f"Result {each.result.id}", 300),
        data=tuple(data),
        created=iso_moment(each.result.timing.finished),
    )
