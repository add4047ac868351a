"""OSCAL 1.2.1 assessment results: one result for the run, for those who work with controls.

Each check is an objective defined in the document; each check of a subject is an
observation and a finding with its target's status; what is wrong is a risk. An open
question is never `satisfied`. The written specification is `specs/oscal.md`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial

from auditor.findings import AuditReport, CheckCard, GateRow, SubjectRecord
from auditor_reports.aliased_json import aliased_json
from auditor_reports.audit_places import (
    AUDIT_JSON,
    Selection,
    render_within,
    select_worst,
)
from auditor_reports.markdown import DISCLAIMER
from auditor_reports.number_text import iso_moment
from auditor_reports.oscal.definitions import (
    definitions,
    objective,
    resources,
    reviewed_controls,
)
from auditor_reports.oscal.models import (
    AssessmentLog,
    AssessmentResults,
    BackMatter,
    ImportAp,
    LocalDefinitions,
    LogEntry,
    Metadata,
    OscalDocument,
    OscalFinding,
    Prop,
    Result,
    Risk,
    some,
)
from auditor_reports.oscal.observations import make_finding, make_loose_finding, make_observation
from auditor_reports.oscal.risks import RiskDraft, draft_loose_risks, draft_risks, make_risk
from auditor_reports.oscal.text import Identity, markup, prop
from auditor_reports.standing import Standings, check_cards, gaps, loose_points, verdict_sentence

MAX_RESULTS = 2_000
MAX_SUBJECTS = 200
GAPS_SHOWN = 200


def render_oscal(report: AuditReport) -> bytes:
    """The report as an OSCAL assessment-results document in JSON.

    At most `MAX_RESULTS` observations, risks and loose points each, worst first, fewer where
    they would not fit into 10 MB; what is left out is counted in it.
    """
    identity = Identity.of(report)
    return render_within(partial(_render, report, identity), MAX_RESULTS)


def _render(report: AuditReport, identity: Identity, most: int) -> bytes:
    standings = Standings(report)
    selection = select_worst(report, standings, most)
    loose = loose_points(report)[:most]
    codes = {result.code for _, result in selection.results} | {row.code for row in loose}
    cards = tuple(card for card in check_cards(report) if card.code in codes)
    document = AssessmentResults(
        uuid=identity.uuid("document"),
        metadata=Metadata(
            title=markup(f"Audit: {report.plan_title or report.plan}", 200),
            last_modified=iso_moment(report.timing.finished),
            version=identity.fingerprint,
            props=(prop("tool", f"auditor {report.environment.auditor}"),),
            remarks=DISCLAIMER,
        ),
        import_ap=ImportAp(
            href=f"#{identity.uuid('plan')}",
            remarks="The plan of the audit, a YAML file; no OSCAL assessment plan exists.",
        ),
        local_definitions=(
            LocalDefinitions(objectives_and_methods=tuple(map(objective, cards))) if cards else None
        ),
        results=(_result(report, identity, standings, selection, cards, most),),
        back_matter=BackMatter(resources=tuple(resources(report, identity))),
    )
    return aliased_json(OscalDocument(assessment_results=document))


def _result(
    report: AuditReport,
    identity: Identity,
    standings: Standings,
    selection: Selection,
    cards: Sequence[CheckCard],
    most: int,
) -> Result:
    subjects = report.subjects[:MAX_SUBJECTS]
    uuids = {
        subject.name: identity.uuid(f"subjects/{number}")
        for number, subject in reversed(list(enumerate(subjects)))
    }
    drafts = _drafts(report, standings, selection)
    risks = [_risk(draft, identity) for draft in drafts[:most]]
    owned: dict[str, list[Risk]] = defaultdict(list)
    for draft, risk in zip(drafts, risks, strict=False):
        owned[draft.owner].append(risk)
    left_out = _left_out(report, selection, len(drafts) - len(risks), subjects)
    start, end = iso_moment(report.timing.started), iso_moment(report.timing.finished)
    return Result(
        uuid=identity.uuid("result"),
        title=markup(report.plan_title or report.plan, 200),
        description=markup(verdict_sentence(report)),
        start=start,
        end=end,
        props=tuple(_props(report, identity, left_out)),
        local_definitions=definitions(report, identity, subjects),
        reviewed_controls=reviewed_controls(cards),
        assessment_log=AssessmentLog(
            entries=(
                LogEntry(
                    uuid=identity.uuid("log"), title="Audit run", start=start, end=end,
                    description=markup(report.command),
                ),
            )
        ),
        observations=some(
            make_observation(each, standings.of_result(each.result), identity, uuids)
            for each in selection.results
        ),
        risks=some(risks),
        findings=some(
            (
                *_loose_findings(loose_points(report)[:most], identity, owned),
                *(
                    make_finding(each, standings, identity, owned[f"results/{each.number}"])
                    for each in selection.results
                ),
            )
        ),
        remarks=_remarks(report, left_out),
    )  # fmt: skip


def _drafts(report: AuditReport, standings: Standings, selection: Selection) -> list[RiskDraft]:
    """What is wrong with the shown results and with the run as a whole, worst first."""
    drafts = list(draft_loose_risks(report))
    for each in selection.results:
        drafts.extend(draft_risks(standings, each))
    return sorted(drafts, key=lambda draft: draft.rank)


def _risk(draft: RiskDraft, identity: Identity) -> Risk:
    of_result = draft.owner.startswith("results/")
    observation = identity.uuid(f"{draft.owner}/observation") if of_result else None
    return make_risk(draft, identity, observation)


def _loose_findings(
    rows: Sequence[GateRow], identity: Identity, owned: dict[str, list[Risk]]
) -> Iterator[OscalFinding]:
    for number, row in enumerate(rows):
        place = f"loose/{number}"
        yield make_loose_finding(row, place, identity, owned[place])


def _left_out(
    report: AuditReport, selection: Selection, surplus: int, subjects: Sequence[SubjectRecord]
) -> dict[str, int]:
    shown = sum(len(result.answer.findings) for _, result in selection.results)
    counts = {
        "results": selection.left_out,
        "findings": sum(len(r.answer.findings) for r in report.results) - shown + surplus,
        "subjects": len(report.subjects) - len(subjects),
        "gaps": len(gaps(report)) - GAPS_SHOWN,
    }
    return {what: count for what, count in counts.items() if count > 0}


def _props(report: AuditReport, identity: Identity, left_out: dict[str, int]) -> Iterator[Prop]:
    yield prop("gate-verdict", report.gate.verdict)
    yield prop("exit-code", str(report.gate.exit_code))
    yield prop("fail-on", report.gate.fail_on)
    yield prop("policy-digest", report.gate.policy_digest)
    yield prop("plan-digest", report.plan_digest)
    yield prop("run-fingerprint", identity.fingerprint)
    yield prop("seed", str(report.seed))
    yield prop("complete", "yes" if report.complete else "no")
    for what, count in left_out.items():
        yield prop(f"{what}-left-out", str(count))


def _remarks(report: AuditReport, left_out: dict[str, int]) -> str:
    lines = [DISCLAIMER, ""]
    if left_out:
        counts = ", ".join(f"{count} {what}" for what, count in left_out.items())
        lines += [f"Left out of this document, less severe than what is in it: {counts}; "
                  f"{AUDIT_JSON} has all.", ""]  # fmt: skip
    missing = gaps(report)
    lines.append(f"Not assessed ({len(missing)}):" if missing else "No gap was named.")
    lines += ["", *(f"- {markup(text, 300)}" for text in missing[:GAPS_SHOWN])]
    return "\n".join(lines).rstrip()
