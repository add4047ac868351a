"""An in-toto Statement with the test-result predicate: the gate's word about digests.

`PASSED` is a pass without any reservation, `WARNED` a pass that a waiver, the baseline or
the policy's tolerance made possible, `FAILED` everything else: a required question without
an answer is no pass. The statement is unsigned; whoever releases signs it, for example as
a DSSE envelope. The written specification is `specs/test-result.md`.

Source: in-toto Attestation Framework, Statement v1 and predicate test-result v0.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from auditor.findings import AuditReport, Verdict
from auditor_reports.aliased_json import aliased_json
from auditor_reports.audit_json import run_fingerprint
from auditor_reports.audit_places import AUDIT_JSON, render_within, sha256_of
from auditor_reports.sanitise import one_line
from auditor_reports.sarif.log import relative_uri
from auditor_reports.standing import Standings, Status, loose_points

MAX_NAMES = 5_000
MAX_SUBJECTS = 5_000
STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "https://in-toto.io/attestation/test-result/v0.1"

Outcome = Literal["PASSED", "WARNED", "FAILED"]
_OUTCOMES: dict[Status, Outcome] = {"fail": "FAILED", "open": "FAILED", "pass": "PASSED"}


class InTotoRecord(BaseModel):
    """Base: frozen, strict, camel case on the outside."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True
    )


class ResourceDescriptor(InTotoRecord):
    """A file, by name and digest."""

    name: str
    digest: dict[str, str] | None = None
    media_type: str | None = None
    annotations: dict[str, str | int | list[str]] | None = None


class Predicate(InTotoRecord):
    """The predicate."""

    result: Outcome
    configuration: tuple[ResourceDescriptor, ...]
    passed_tests: tuple[str, ...]
    warned_tests: tuple[str, ...]
    failed_tests: tuple[str, ...]


class Statement(InTotoRecord):
    """The statement: subjects, and what is said about them."""

    type: str = Field(default=STATEMENT_TYPE, alias="_type")
    subject: tuple[ResourceDescriptor, ...] = Field(min_length=1)
    predicate_type: str = PREDICATE_TYPE
    predicate: Predicate


def render_in_toto(report: AuditReport) -> bytes:
    """The report as an unsigned in-toto Statement.

    At most `MAX_NAMES` names in each list, fewer where they would not fit into 10 MB; how many
    are left out is an annotation of `audit.json` among the configuration.
    """
    return render_within(partial(_render, report, run_fingerprint(report)), MAX_NAMES)


def outcome(report: AuditReport) -> Outcome:
    """What the gate's decision is called in this format; only a plain pass is `PASSED`."""
    if report.gate.verdict != "pass" or not report.complete or not report.results:
        return "FAILED"
    found = {each for _, each in _outcomes(report)}
    # A pass of the gate that its own rows contradict is not repeated.
    if "FAILED" in found:
        return "FAILED"
    return "WARNED" if "WARNED" in found else "PASSED"


def _render(report: AuditReport, fingerprint: str, most: int) -> bytes:
    names = _names_by_outcome(report)
    left_out = sum(max(len(found) - most, 0) for found in names.values())
    subjects, missing = _subjects(report, fingerprint, min(MAX_SUBJECTS, most))
    return aliased_json(
        Statement(
            subject=subjects,
            predicate=Predicate(
                result=outcome(report),
                configuration=tuple(_configuration(report, fingerprint, left_out, missing)),
                passed_tests=names["PASSED"][:most],
                warned_tests=names["WARNED"][:most],
                failed_tests=names["FAILED"][:most],
            ),
        )
    )


def _names_by_outcome(report: AuditReport) -> dict[Outcome, tuple[str, ...]]:
    """Names of tests by outcome; one that two results share counts as the worse of the two."""
    worst: dict[str, Outcome] = {}
    ranks: tuple[Outcome, ...] = ("FAILED", "WARNED", "PASSED")
    for name, found in _outcomes(report):
        worst[name] = min(worst.get(name, found), found, key=ranks.index)
    return {rank: tuple(name for name, each in worst.items() if each == rank) for rank in ranks}


def _outcomes(report: AuditReport) -> Iterator[tuple[str, Outcome]]:
    """Each result, and each point that belongs to none, with its outcome; worst first."""
    standings = Standings(report)
    for row in loose_points(report):
        yield _name(row.result, row.code), _OUTCOMES.get(row.status, "WARNED")
    for result in standings.worst_first(report.results):
        status = standings.of_result(result)
        found = _OUTCOMES.get(status, "WARNED")
        if found == "PASSED" and result.verdict is not Verdict.HOLDS:
            found = "FAILED"
        yield _name(result.id, result.code), found


def _name(text: str, fallback: str) -> str:
    return one_line(text, 200) or one_line(fallback, 200) or "unnamed"


def _subjects(
    report: AuditReport, fingerprint: str, most: int
) -> tuple[tuple[ResourceDescriptor, ...], int]:
    """The models that have a digest, and how many are left out.

    Where none has one, the statement is about `audit.json`: it must be about something.
    """
    found = [
        ResourceDescriptor(name=_name(subject.name, "model"), digest=digest)
        for subject in report.subjects
        if (digest := _digest(subject.digest))
    ]
    missing = len(report.subjects) - len(found[:most])
    whole = ResourceDescriptor(name=AUDIT_JSON, digest=_digest(fingerprint))
    return tuple(found[:most]) or (whole,), missing


def _configuration(
    report: AuditReport, fingerprint: str, left_out: int, missing: int
) -> Iterable[ResourceDescriptor]:
    """Plan, policy, and the report with what the predicate has no field for."""
    gate = report.gate
    unanswered = [_name(result.id, result.code) for result in report.results
                  if result.verdict.is_open]  # fmt: skip
    yield ResourceDescriptor(
        name=relative_uri(report.plan_file),
        digest=_digest(report.plan_digest),
        media_type="application/yaml",
    )
    yield ResourceDescriptor(name="policy", digest=_digest(gate.policy_digest))
    yield ResourceDescriptor(
        name=AUDIT_JSON,
        digest=_digest(fingerprint),
        media_type="application/json",
        annotations={
            "gateVerdict": gate.verdict,
            "exitCode": gate.exit_code,
            "withoutAnswer": len(unanswered),
            "firstWithoutAnswer": unanswered[:20],
            "testsLeftOut": left_out,
            "subjectsLeftOut": missing,
            "tool": one_line(f"auditor {report.environment.auditor}", 100),
        },
    )


def _digest(digest: str) -> dict[str, str] | None:
    content = sha256_of(digest)
    return {"sha256": content} if content else None
