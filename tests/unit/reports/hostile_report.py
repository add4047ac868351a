"""The sample report changed: every text hostile, as large as one likes, a threshold waived."""

from __future__ import annotations

from typing import Any

from auditor.findings import AuditReport, CheckResult, Finding, GateRow, fingerprint
from tests.golden.sample_report import sample_report

# Fields whose keys are free text too.
_NAMED = {"counts", "data_digests", "facts", "libraries", "parameters", "scores"}
# Fields whose values are words of a closed set, or links between records.
_KEPT = {
    "better",
    "fail_on",
    "finished",
    "fingerprint",
    "kind",
    "schema_version",
    "severity",
    "started",
    "status",
    "verdict",
}
HOSTILE_TEXTS = {
    "script": "<script>alert(1)</script>",
    "attribute": '"\' onmouseover=alert(1) x="',
    "cdata": "]]><b>",
    "end of script": "</script><img src=x onerror=alert(1)>",
    "end of style": "</style><b>",
    "template": "{{ 7 * 7 }}{% raw %}",
    "markdown": "[x](javascript:alert(1)) | cell | `code` <img src=http://a.example/b>",
    "command": "line\n::error file=a::injected",
    "escape": "\x1b[31mred\x1b[0m \x9b31m",
    "nul": "a\x00b",
    "direction": "\u202egnp.exe\u202c \u2066x\u2069 \u200f",
    "hidden": "in\u200bvis\U000e0041ible \ufeff",
    "surrogate": "lone \ud800 half",
    "noncharacter": "\ufffe\uffff",
    "formula": "=CMD()|'/C calc'!A0",
    "empty": "",
    "long": "x" * 5_000,
}


def poisoned(text: str) -> AuditReport:
    """The sample report with every free text replaced by `text`."""
    return AuditReport.model_validate(_replace(sample_report().model_dump(), text))


def with_waived_threshold() -> AuditReport:
    """The sample report, the threshold missed by `robust-0.05` waived until the year's end."""
    report = sample_report()
    (missed,) = [row for row in report.gate.rows if row.text.startswith("certified share")]
    waiver = report.gate.waivers[0].model_copy(
        update={"fingerprint": missed.fingerprint, "expires": "2026-12-31"}
    )
    rows = (
        row.model_copy(update={"status": "waived"}) if row is missed else row
        for row in report.gate.rows
    )
    gate = report.gate.model_copy(
        update={"rows": tuple(rows), "waivers": (*report.gate.waivers, waiver)}
    )
    return report.model_copy(update={"gate": gate})


def enlarged(count: int, copies: int = 1) -> AuditReport:
    """The sample report with `count` results, its own repeated, each with own id and gate rows.

    Every finding is there `copies` times, each with a place, a fingerprint and a gate row of its
    own; only the first has evidence.
    """
    report = sample_report()
    results: list[CheckResult] = []
    rows: list[GateRow] = []
    for number in range(count):
        original = report.results[number % len(report.results)]
        renamed = f"{original.id}-{number}"
        multiplied = {f.fingerprint: _copies(f, original, copies) for f in original.answer.findings}
        findings = tuple(each for found in multiplied.values() for each in found)
        answer = original.answer.model_copy(update={"findings": findings})
        results.append(original.model_copy(update={"id": renamed, "answer": answer}))
        for row in (row for row in report.gate.rows if row.result == original.id):
            marks = [each.fingerprint for each in multiplied.get(row.fingerprint, ())]
            rows.extend(
                row.model_copy(update={"result": renamed, "fingerprint": mark})
                for mark in marks or [row.fingerprint]
            )
    gate = report.gate.model_copy(update={"rows": tuple(rows)})
    return report.model_copy(update={"results": tuple(results), "gate": gate})


def _copies(finding: Finding, result: CheckResult, copies: int) -> list[Finding]:
    """The finding, and as many more as are asked for at samples of their own."""
    found = [finding]
    for number in range(1, copies):
        place = finding.location.model_copy(update={"sample": f"copy {number}"})
        mark = fingerprint(result.code, result.subject, place)
        change = {"location": place, "fingerprint": mark, "evidence": ()}
        found.append(finding.model_copy(update=change))
    return found


def _replace(value: Any, text: str, key: str = "") -> Any:
    match value:
        case dict() if key in _NAMED:
            return {
                text + str(number): _replace(item, text)
                for number, item in enumerate(value.values())
            }
        case dict():
            return {name: _replace(item, text, name) for name, item in value.items()}
        case tuple() | list():
            return [_replace(item, text, key) for item in value]
        case str() if key in ("id", "result"):
            # Hostile, and still what links a row of the gate to its result.
            return text + value
        case str() if key not in _KEPT:
            # An open verdict needs a reason; a text that is empty must stay allowed.
            return text or ("-" if key == "reason" else "")
        case _:
            return value
