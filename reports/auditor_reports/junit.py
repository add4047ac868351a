"""JUnit XML: one suite per family of checks, one case per result.

A gate failure is `<failure>`, an open question `<error>`, a waiver or a policy that
only warns `<skipped>` with the reason: nothing but a pass looks like one. The written
specification is `specs/junit.md`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from xml.etree import ElementTree as ET

from auditor.findings import AuditReport, CheckResult, GateRow
from auditor_reports.number_text import iso_moment
from auditor_reports.sanitise import inert_block, one_line
from auditor_reports.standing import Standings, finding_fingerprint, loose_points

FAMILIES = {
    "AUD1": "files and identity",
    "AUD2": "formal properties and activation patterns",
    "AUD3": "alignment, drift and refusal",
    "AUD4": "memorisation and privacy",
    "AUD5": "internals",
}
_OUTCOME = {"fail": "failure", "open": "error", "pass": ""}
_COUNTED = {"failure": "failures", "error": "errors", "skipped": "skipped"}


def render_junit(report: AuditReport) -> bytes:
    """The report as JUnit XML, UTF-8, with every character allowed by XML 1.0."""
    standings = Standings(report)
    families: dict[str, list[CheckResult]] = defaultdict(list)
    for result in report.results:
        families[result.code[:4]].append(result)
    loose: dict[str, list[GateRow]] = defaultdict(list)
    for row in loose_points(report):
        loose[row.code[:4]].append(row)
    root = ET.Element("testsuites", name=one_line(f"auditor {report.plan}", 300))
    for prefix in sorted(families.keys() | loose.keys()):
        suite = _add_suite(root, report, prefix)
        for result in sorted(families[prefix], key=lambda each: (each.code, each.subject, each.id)):
            _add_case(suite, standings, result)
        for row in loose[prefix]:
            _add_loose_case(suite, report, row)
        _count(suite, suite.findall("testcase"))
    _count(root, list(root.iter("testcase")))
    ET.indent(root)
    text: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def _add_suite(root: ET.Element, report: AuditReport, prefix: str) -> ET.Element:
    family = FAMILIES.get(prefix, "other checks")
    suite = ET.SubElement(root, "testsuite", name=one_line(f"{prefix}xx {family}", 300))
    suite.set("timestamp", iso_moment(report.timing.started))
    properties = ET.SubElement(suite, "properties")
    for name, value in (
        ("gate", report.gate.verdict),
        ("plan_digest", report.plan_digest),
        ("policy_digest", report.gate.policy_digest),
        ("seed", str(report.seed)),
    ):
        ET.SubElement(properties, "property", name=name, value=one_line(value))
    return suite


def _add_case(suite: ET.Element, standings: Standings, result: CheckResult) -> None:
    case = ET.SubElement(
        suite,
        "testcase",
        classname=one_line(f"{result.code}.{result.subject}", 300),
        name=one_line(f"{result.title} [{result.id}]", 300),
        time=_seconds(result.timing.seconds),
        file=one_line(result.declared_at.file, 300),
        line=str(result.declared_at.line),
    )
    status = standings.of_result(result)
    outcome = _OUTCOME.get(status, "skipped")
    if outcome:
        child = ET.SubElement(case, outcome, message=one_line(_message(standings, result), 1_000))
        if outcome != "skipped":
            child.set("type", str(result.verdict))
            child.text = inert_block(_details(result), 20_000)


def _add_loose_case(suite: ET.Element, report: AuditReport, row: GateRow) -> None:
    """A case for what counts for the gate and belongs to no result."""
    case = ET.SubElement(
        suite,
        "testcase",
        classname=one_line(f"{row.code}.{row.subject}".rstrip("."), 300),
        name=one_line(row.text, 300),
        time=_seconds(0),
        file=one_line(report.plan_file, 300),
        line="1",
    )
    outcome = _OUTCOME.get(row.status, "skipped")
    ET.SubElement(case, outcome, message=one_line(row.text, 1_000))


def _message(standings: Standings, result: CheckResult) -> str:
    status = standings.of_result(result)
    rows = "; ".join(row.text for row in standings.rows(result) if row.status == status)
    match status:
        case "waived":
            dates = sorted(waiver.expires for waiver in standings.waivers(result))
            return f"waived until {dates[0]}" if dates else f"waived: {rows}"
        case "baseline":
            return f"known before, in the baseline: {rows}"
        case "below":
            return f"below the failing severity: {rows}"
        case "warn":
            return f"no answer, the policy only warns: {result.answer.reason or rows}"
        case "open":
            return result.answer.reason or rows
        case _:
            return rows or result.answer.summary


def _details(result: CheckResult) -> str:
    lines = [result.answer.summary]
    if result.answer.reason:
        lines.append(f"Reason: {result.answer.reason}")
    for finding in sorted(result.answer.findings, key=lambda each: each.severity.rank)[:50]:
        lines.append(f"[{finding.severity}] {finding.title}: {finding.description}")
        if finding.location.path:
            lines.append(f"  at {finding.location.path}")
        if finding.remedy:
            lines.append(f"  remedy: {finding.remedy}")
        lines.append(f"  fingerprint: {finding_fingerprint(result, finding)}")
    if result.traceback:
        lines.append(result.traceback)
    return "\n".join(lines)


def _count(element: ET.Element, cases: list[ET.Element]) -> None:
    element.set("tests", str(len(cases)))
    for outcome, attribute in _COUNTED.items():
        element.set(attribute, str(sum(case.find(outcome) is not None for case in cases)))
    element.set("time", _seconds(sum(float(case.get("time", "0")) for case in cases)))


def _seconds(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) and value > 0 else "0.000"
