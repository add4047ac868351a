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
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, JsonValue, model_validator

from auditor.verdicts import Severity as Severity
from auditor.verdicts import Verdict as Verdict

SCHEMA_VERSION: Literal["1"] = "1"


class Record(BaseModel):
    """Base of every persisted record: frozen, no unknown keys, infinities as strings."""

    # Validators are built when a record is first made: most commands make few kinds of them.
    model_config = ConfigDict(
        frozen=True, extra="forbid", ser_json_inf_nan="strings", defer_build=True
    )


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


class BlobRef(Record):
    """A file in the run's `evidence/` folder, named by its digest."""

    digest: str
    media_type: str
    size: int
    name: str = ""


class TextEvidence(Record):
    """A piece of text."""

    kind: Literal["text"] = "text"
    title: str
    text: str


class TableEvidence(Record):
    """A table of plain values."""

    kind: Literal["table"] = "table"
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | int | float | bool | None, ...], ...]
    total_rows: int | None = None

    @model_validator(mode="after")
    def _rows_fit_columns(self) -> Self:
        for number, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise ValueError(
                    f"row {number} has {len(row)} cells for {len(self.columns)} columns"
                )
        return self


class CurvePoint(Record):
    """One point of a curve, with the interval of its y value where it is sampled."""

    x: float
    y: float
    lower: float | None = None
    upper: float | None = None


class CurveSeries(Record):
    """A named line of a curve."""

    name: str
    points: tuple[CurvePoint, ...]


class CurveEvidence(Record):
    """One or more lines over a common axis."""

    kind: Literal["curve"] = "curve"
    title: str
    x_label: str
    y_label: str
    series: tuple[CurveSeries, ...]
    description: str = ""


class HeatMapEvidence(Record):
    """A grid of numbers on one scale, `None` where there is nothing to measure.

    `lower` and `upper` are the ends of the scale, not of the values.
    """

    kind: Literal["heat_map"] = "heat_map"
    title: str
    row_label: str
    column_label: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]
    lower: float = 0.0
    upper: float = 1.0
    description: str = ""

    @model_validator(mode="after")
    def _values_fill_the_grid(self) -> Self:
        shape = {len(row) for row in self.values}
        if len(self.values) != len(self.rows) or shape - {len(self.columns)}:
            raise ValueError(f"the values do not fill {len(self.rows)}x{len(self.columns)} cells")
        if not self.lower < self.upper:
            raise ValueError(f"a scale from {self.lower} to {self.upper}")
        return self


class GrayImage(Record):
    """A small grey-scale picture; pixels row by row in [0, 1], 0 is black."""

    caption: str
    width: int
    height: int
    pixels: tuple[float, ...]

    @model_validator(mode="after")
    def _pixels_fill_the_frame(self) -> Self:
        if len(self.pixels) != self.width * self.height:
            raise ValueError(f"{len(self.pixels)} pixels for {self.width}x{self.height}")
        return self


class ImageEvidence(Record):
    """A row of pictures that belong together."""

    kind: Literal["images"] = "images"
    title: str
    images: tuple[GrayImage, ...]
    description: str = ""


class Replay(Record):
    """What happened when a witness was run again in the deployed runtime."""

    runtime: str
    provider: str
    optimised: bool
    outputs: tuple[float, ...]
    violates: bool


class WitnessEvidence(Record):
    """A concrete input that breaks a property, with its replays.

    `inputs` and `outputs` are flat, in the order of the model's tensors. It counts
    only when every entry of `replays` violates the property.
    """

    kind: Literal["witness"] = "witness"
    title: str
    property_text: str
    violation_text: str
    inputs: tuple[float, ...]
    input_shape: tuple[int, ...]
    outputs: tuple[float, ...]
    margin: float
    exact_violates: bool | None = None
    replays: tuple[Replay, ...]
    blob: BlobRef | None = None


class TextPiece(Record):
    """A part of a text: what is shown of it, and how many characters behind that are not.

    `span` is the number of the traced span it belongs to, counted from 1; text between
    the spans has none.
    """

    text: str
    hidden: int = Field(default=0, ge=0)
    span: int | None = None


class TracedSpan(Record):
    """A span of a text that stands word for word in an index of training text.

    Attributes:
        count: How often it stands there.
        documents: Names of candidate sources, some of `documents_total`.
        tokens: Its length.
        scores: By name, for example `surprisal (BCI)`, `log10 E`, `policy conflict`.
        clause: The clause of the policy that was scored highest, or empty.
        digest: `sha256:<hex>` of the span's bytes.
        flagged: Whether it alone would flag the text.
    """

    count: int = Field(ge=0)
    documents: tuple[str, ...] = ()
    documents_total: int = Field(ge=0)
    tokens: int = Field(ge=0)
    scores: dict[str, FiniteFloat] = {}
    clause: str = ""
    digest: str
    flagged: bool = False

    @model_validator(mode="after")
    def _some_of_all_documents(self) -> Self:
        if len(self.documents) > self.documents_total:
            raise ValueError(f"{len(self.documents)} documents of {self.documents_total}")
        return self


class TracedTextEvidence(Record):
    """A completion with its spans that stand in an index; no statement about why they do.

    `pieces` are the completion in order, `verdict` is a word such as `allow`, `flag`,
    `refuse` or `no_evidence`. `blob` names the file in the run's `evidence/` folder that
    holds this record with nothing left out; see `auditor.redaction`.
    """

    kind: Literal["traced_text"] = "traced_text"
    title: str
    prompt: str = ""
    prompt_hidden: int = Field(default=0, ge=0)
    pieces: tuple[TextPiece, ...]
    spans: tuple[TracedSpan, ...] = ()
    verdict: str
    note: str = ""
    blob: BlobRef | None = None

    @model_validator(mode="after")
    def _spans_exist(self) -> Self:
        for number, piece in enumerate(self.pieces):
            if piece.span is not None and not 1 <= piece.span <= len(self.spans):
                raise ValueError(
                    f"piece {number} belongs to span {piece.span}; "
                    f"the spans are counted from 1 to {len(self.spans)}"
                )
        return self


class BlobEvidence(Record):
    """A file kept beside the report."""

    kind: Literal["blob"] = "blob"
    title: str
    blob: BlobRef


Evidence = Annotated[
    TextEvidence
    | TableEvidence
    | CurveEvidence
    | HeatMapEvidence
    | ImageEvidence
    | WitnessEvidence
    | TracedTextEvidence
    | BlobEvidence,
    Field(discriminator="kind"),
]


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
    facts: dict[str, str] = {}

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
    data_digests: dict[str, str] = {}
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
    facts: dict[str, str] = {}


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
