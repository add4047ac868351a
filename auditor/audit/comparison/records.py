"""The records of a comparison of two runs; see `specs/comparison.md`."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, get_args

from auditor.audit.comparison.comparability import Caveat
from auditor.audit.comparison.finding_changes import FindingChange, FindingStatus
from auditor.audit.comparison.metric_changes import MetricChange
from auditor.findings import Record, Verdict

COMPARISON_VERSION: Literal["1"] = "1"
Kind = Literal[
    "caveat", "subject", "new", "worse", "standing", "milder", "unanswered", "fixed", "unchanged",
    "verdict", "added", "removed", "metric",
]  # fmt: skip
KINDS: tuple[Kind, ...] = get_args(Kind)


class RunSide(Record):
    """One of the two runs, as far as a reader needs it to tell which it is.

    `fingerprint` is `sha256:<hex>` of its `audit.json`, or empty where nobody computed it.
    """

    plan: str
    plan_title: str
    plan_digest: str
    policy_digest: str
    command: str
    auditor: str
    seed: int
    verdict: Literal["pass", "fail", "inconclusive"]
    exit_code: int
    complete: bool
    finished: datetime
    results: int
    findings: int
    fingerprint: str = ""


class SubjectChange(Record):
    """A subject of either run, by name, with its digests; None where a run has none.

    `old_name` is what the old run calls it where that differs. `refused` are the reasons why it
    was not opened, or empty.
    """

    kind: Literal["subject"] = "subject"
    name: str
    old_name: str = ""
    old_digest: str | None
    new_digest: str | None
    old_refused: str = ""
    new_refused: str = ""

    @property
    def changed(self) -> bool:
        """Whether it is another model, or was refused in one run only."""
        return (self.old_digest, self.old_refused) != (self.new_digest, self.new_refused)


class VerdictChange(Record):
    """A result whose verdict is another.

    `direction` is `better` where it now holds, `worse` where it no longer holds or is now
    violated, and `neither` else: an open question is not better than a known fault.
    """

    kind: Literal["verdict"] = "verdict"
    result: str
    code: str
    subject: str
    old: Verdict
    new: Verdict
    direction: Literal["better", "worse", "neither"]
    reason: str = ""
    comparable: bool = True


class ResultChange(Record):
    """A result that only one of the runs has."""

    kind: Literal["added", "removed"]
    result: str
    code: str
    subject: str
    verdict: Verdict


Change = Caveat | SubjectChange | FindingChange | VerdictChange | ResultChange | MetricChange


class Comparison(Record):
    """The new run against the old.

    Attributes:
        caveats: Differences that make numbers, gate or scope of the runs incomparable.
        subjects: Every subject, also those that did not change.
        findings: Every finding of either run, worst first, also unchanged ones.
        metrics: Metrics that changed or that only one run has.
    """

    schema_version: Literal["1"] = COMPARISON_VERSION
    old: RunSide
    new: RunSide
    caveats: tuple[Caveat, ...]
    subjects: tuple[SubjectChange, ...]
    findings: tuple[FindingChange, ...]
    verdicts: tuple[VerdictChange, ...]
    results: tuple[ResultChange, ...]
    metrics: tuple[MetricChange, ...]
    counts: dict[str, int]
    summary: str

    def finding_group(self, status: FindingStatus) -> tuple[FindingChange, ...]:
        """The findings with one status."""
        return tuple(each for each in self.findings if each.status == status)

    @property
    def changes(self) -> tuple[Change, ...]:
        """Every difference, what makes the runs incomparable first; unchanged ones left out."""
        return (
            *self.caveats,
            *(each for each in self.subjects if each.changed),
            *(each for each in self.findings if each.status != "unchanged"),
            *self.verdicts,
            *self.results,
            *self.metrics,
        )

    @property
    def is_worse(self) -> bool:
        """A finding that is new, worse or newly fails, a worse verdict, a gate no longer passed."""
        return bool(
            self.counts["new"]
            or self.counts["worse"]
            or any(each.new_standing == "fail" for each in self.finding_group("standing"))
            or any(each.direction == "worse" for each in self.verdicts)
            or (self.old.verdict == "pass" and self.new.verdict != "pass")
        )


def kind_of(change: Change) -> Kind:
    """The kind under which a change is counted and filtered; findings by their status."""
    return change.status if isinstance(change, FindingChange) else change.kind
