"""The records of an audit: verdicts, metrics, findings, evidence, results, report.

Everything here is plain data: frozen, strict, and valid JSON (an infinity is
written as the string "Infinity" and read back). A check returns an `Answer`; the
runner stamps it into a `CheckResult`; an `AuditReport` holds all of them. No model
and no accelerator is needed to read a report, to gate on it, or to render it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Literal, Self

from pydantic import Field, JsonValue, model_validator

from auditor.evidence import (
    BlobEvidence as BlobEvidence,
)
from auditor.evidence import (
    BlobRef as BlobRef,
)
from auditor.evidence import (
    CurveEvidence as CurveEvidence,
)
from auditor.evidence import (
    CurvePoint as CurvePoint,
)
from auditor.evidence import (
    CurveSeries as CurveSeries,
)
from auditor.evidence import (
    Evidence as Evidence,
)
from auditor.evidence import (
    ExpertMapEvidence as ExpertMapEvidence,
)
from auditor.evidence import (
    GrayImage as GrayImage,
)
from auditor.evidence import (
    HeatMapEvidence as HeatMapEvidence,
)
from auditor.evidence import (
    ImageEvidence as ImageEvidence,
)
from auditor.evidence import (
    Record as Record,
)
from auditor.evidence import (
    Replay as Replay,
)
from auditor.evidence import (
    TableEvidence as TableEvidence,
)
from auditor.evidence import (
    TextEvidence as TextEvidence,
)
from auditor.evidence import (
    TextPiece as TextPiece,
)
from auditor.evidence import (
    TracedSpan as TracedSpan,
)
from auditor.evidence import (
    TracedTextEvidence as TracedTextEvidence,
)
from auditor.evidence import (
    WitnessEvidence as WitnessEvidence,
)
from auditor.evidence import (
    blob_of as blob_of,
)
from auditor.verdicts import Severity as Severity
from auditor.verdicts import Verdict as Verdict

SCHEMA_VERSION: Literal["1"] = "1"


class Interval(Record):
    """A confidence interval of a sampled number."""

    lower: float
    upper: float
    confidence: float = 0.95
    method: str


class Metric(Record):
    """A number with its unit, and its interval where it comes from a sample."""

    name: str
    value: float
    unit: str = ""
    sample_size: int | None = None
    interval: Interval | None = None
    repeats: tuple[float, ...] = ()
    better: Literal["higher", "lower"] | None = None
    note: str = ""


class Control(Record):
    """The same measurement where the effect should be absent."""

    name: str
    question: str
    metrics: tuple[Metric, ...]


class Location(Record):
    """Where in the subject a finding lies; only the parts that apply are set."""

    file: str | None = None
    line: int | None = None
    node: str | None = None
    layer: str | None = None
    neuron: int | None = None
    output: int | None = None
    expert: str | None = None
    document: str | None = None
    property_id: str | None = None
    sample: str | None = None

    @property
    def path(self) -> str:
        """The location as one line, for example `layer relu_2 / neuron 17`."""
        parts = self.model_dump(exclude_none=True)
        return " / ".join(f"{name.replace('_id', '')} {value}" for name, value in parts.items())


class Finding(Record):
    """One thing wrong, said so that it can be acted on.

    `fingerprint` is stamped by the runner from the check code, the subject's name
    and the location: it survives retraining, renumbering and new metric values.
    """

    title: str
    severity: Severity
    description: str
    remedy: str = ""
    location: Location = Location()
    evidence: tuple[Evidence, ...] = ()
    fingerprint: str = ""


def fingerprint(code: str, subject: str, location: Location) -> str:
    """SHA-256 over what identifies a finding across runs, first 32 hex digits.

    Line numbers, metric values and model digests are left out on purpose.
    """
    place = location.model_copy(update={"line": None}).path
    return hashlib.sha256(
        "\x1f".join((code, subject, place)).encode(errors="backslashreplace")
    ).hexdigest()[:32]


class Answer(Record):
    """What a check returns: its verdict and the evidence for it.

    `unknown`, `skipped` and `error` need a reason; `violated` needs a finding, and
    `holds` must have none.
    """

    verdict: Verdict
    summary: str
    reason: str = ""
    metrics: tuple[Metric, ...] = ()
    controls: tuple[Control, ...] = ()
    findings: tuple[Finding, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    limits_hit: tuple[str, ...] = ()
    facts: dict[str, str] = Field(default={})

    @model_validator(mode="after")
    def _verdict_is_backed(self) -> Self:
        if self.verdict.is_open and not self.reason:
            raise ValueError(f"verdict '{self.verdict}' needs a reason")
        if self.verdict is Verdict.VIOLATED and not self.findings:
            raise ValueError("verdict 'violated' needs at least one finding")
        if self.verdict is Verdict.HOLDS and self.findings:
            raise ValueError("verdict 'holds' must not carry findings")
        return self

    def every_evidence(self) -> tuple[Evidence, ...]:
        """The evidence of the answer and of its findings."""
        return sum((finding.evidence for finding in self.findings), self.evidence)

    def with_evidence(self, change: Callable[[Evidence], Evidence]) -> Answer:
        """The answer with each piece of evidence, also that of findings, changed."""
        findings = tuple(
            finding.model_copy(update={"evidence": tuple(map(change, finding.evidence))})
            for finding in self.findings
        )
        return self.model_copy(
            update={"findings": findings, "evidence": tuple(map(change, self.evidence))}
        )


class Timing(Record):
    """When something ran and what it used; the only fields that differ between equal runs."""

    started: datetime
    finished: datetime
    seconds: float
    peak_memory_mb: float | None = None


class SourceLine(Record):
    """The line of the plan that asked for a check."""

    file: str
    line: int


class CheckCard(Record):
    """What a check asks and how, for readers of the report."""

    code: str
    title: str
    version: int
    question: str
    method: str
    pass_does_not_mean: str


class CheckResult(Record):
    """One check of one subject, stamped by the runner.

    `key` is the digest of everything the answer depends on (model, check code and
    version, parameters, data, seed, numerical environment); equal keys mean that
    the answer need not be computed again.
    """

    id: str
    code: str
    title: str
    version: int
    subject: str
    subject_digest: str
    required: bool = True
    seed: int
    parameters: dict[str, JsonValue]
    data_digests: dict[str, str] = Field(default={})
    declared_at: SourceLine
    key: str
    answer: Answer
    traceback: str = ""
    timing: Timing

    @property
    def verdict(self) -> Verdict:
        """The verdict of the answer."""
        return self.answer.verdict


class SubjectRecord(Record):
    """A model under audit."""

    name: str
    path: str
    kind: str
    digest: str
    size: int
    facts: dict[str, str] = Field(default={})


class Environment(Record):
    """What the numbers depend on besides model, data and seed."""

    auditor: str
    python: str
    platform: str
    device: str
    threads: int
    libraries: dict[str, str]


class WaiverUse(Record):
    """A waiver that took a finding out of the gate."""

    fingerprint: str
    match: str
    reason: str
    approved_by: str
    expires: str
    ticket: str = ""


class GateRow(Record):
    """One line of the gate's reasoning.

    `status` is `pass`, `fail`, `open` (no answer), `waived`, `baseline` (known
    before), `warn` (open, and the policy only warns) or `below` (a finding under
    the severity that fails).
    """

    status: Literal["pass", "fail", "open", "waived", "baseline", "warn", "below"]
    result: str
    code: str
    subject: str
    severity: Severity | None = None
    fingerprint: str = ""
    text: str


class GateDecision(Record):
    """Policy, baseline and waivers applied to the results."""

    verdict: Literal["pass", "fail", "inconclusive"]
    exit_code: int
    fail_on: Severity
    policy_digest: str
    rows: tuple[GateRow, ...]
    counts: dict[str, int]
    waivers: tuple[WaiverUse, ...] = ()
    notes: tuple[str, ...] = ()


class AuditReport(Record):
    """A whole run: the single source every other format is rendered from."""

    schema_version: Literal["1"] = SCHEMA_VERSION
    plan: str
    plan_title: str = ""
    plan_digest: str
    plan_file: str
    seed: int
    command: str
    environment: Environment
    subjects: tuple[SubjectRecord, ...]
    checks: tuple[CheckCard, ...]
    results: tuple[CheckResult, ...]
    not_assessed: tuple[str, ...] = ()
    gate: GateDecision
    complete: bool
    timing: Timing

    def card(self, code: str) -> CheckCard:
        """The card of the check with this code."""
        return next(card for card in self.checks if card.code == code)

    def by_verdict(self) -> Mapping[Verdict, int]:
        """How many results have each verdict, every verdict listed."""
        return {v: sum(r.verdict is v for r in self.results) for v in Verdict}
