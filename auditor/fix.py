"""The record of a repair: what was measured before and after, the controls, and the decision.

A repair proposes, applies, evaluates, and accepts or rejects. Weights are written to a NEW folder
and only when the repair is accepted; the record says why, either way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from auditor.findings import Interval, Metric, Record


@dataclass(frozen=True)
class FixCard:
    """What there is to say of a repair before it is used.

    Attributes:
        name: As in `auditor fix NAME`.
        title: One line: what it does to a model.
        writes_model: Whether it writes a new model; otherwise it goes around the old one.
    """

    name: str
    title: str
    writes_model: bool


class Comparison(Record):
    """One measure before and after, on the same prompts or texts."""

    name: str
    """What is measured."""
    before: Metric
    """Without the repair."""
    after: Metric
    """With it."""
    change: Interval | None = None
    """95 % of the change, of the kind that `change_of` names."""
    change_of: str = ""
    """What the interval is of: a difference, or a relative reduction."""
    chance: float | None = None
    """Two-sided exact McNemar test of paired flips, where the measure counts prompts."""


class Condition(Record):
    """One repair, a combination of them, or a control, beside the untouched model."""

    name: str
    """What was applied."""
    control_of: str = ""
    """Name of the repair whose control it is: as strong, and without what the repair knows. Empty
    for a repair."""
    comparisons: tuple[Comparison, ...]
    """Every measure."""
    notes: tuple[str, ...] = ()
    """What else there is to know, one line each."""

    @property
    def control(self) -> bool:
        """Whether it is a control."""
        return bool(self.control_of)


class FixResult(Record):
    """What became of a repair."""

    format: Literal["auditor-fix"] = "auditor-fix"
    """What the file is."""
    version: Literal[1] = 1
    """Version of the format."""
    fix: str
    """Name of the repair."""
    subject: str
    """Digest of the model as it was."""
    decision: Literal["accepted", "rejected"]
    """Whether it may be used."""
    reasons: tuple[str, ...]
    """Why, one line for each demand, kept or not."""
    conditions: tuple[Condition, ...]
    """What was measured."""
    parameters: dict[str, str]
    """What the repair was asked to do, and digests of what it was given."""
    written: str = ""
    """Name of the new model's folder; empty if none was written."""
    written_digest: str = ""
    """Its digest."""
