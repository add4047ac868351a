"""The record of a repair: what was measured before and after, the controls, and the decision.

A repair proposes, applies, evaluates, and accepts or rejects. Weights are written to a NEW folder
and only when the repair is accepted; the record says why, either way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from auditor.findings import Evidence, Interval, Metric, Record

_MOST: Final = 1_000_000_000
"""More prompts or sets than any count is of: a drawing need not hold more."""


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


_Changed = Annotated[int, Field(ge=-_MOST, le=_MOST)]
_Counted = Annotated[int, Field(ge=0, le=_MOST)]


class RandomEffects(Record):
    """One count under a repair, and under each random set that stands in for what it changes."""

    effect: str
    """What is counted: prompts that change as they should, less those that change back."""
    prompts: _Counted
    """Of how many."""
    repair: _Changed
    """Under the repair."""
    random: tuple[_Changed, ...]
    """Under each random set, as they were drawn."""
    matched: str
    """How the sets are like what the repair changes."""
    asked: _Counted
    """How many sets were asked for; there may be no more that are distinct."""
    left_out: _Counted = 0
    """Of those that there are, how many cannot be applied."""
    wrong_direction: _Changed | None = None
    """Under the repair turned around; nothing where that cannot be applied."""
    chance: float
    """That a random set does as much: `(1 + as_much) / (1 + sets)`."""

    @model_validator(mode="after")
    def _chance_is_of_the_sets(self) -> Self:
        expected = (1 + self.as_much) / (1 + len(self.random))
        if not math.isclose(self.chance, expected, abs_tol=1e-9):
            raise ValueError(f"chance {self.chance:g} of sets that give {expected:g}")
        return self

    @property
    def as_much(self) -> int:
        """How many random sets do at least as much as the repair."""
        return sum(each >= self.repair for each in self.random)


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
    random: RandomEffects | None = None
    """Of a control by random sets, what each of them does."""

    @model_serializer(mode="wrap")
    def _without_what_it_has_not(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave `random` out where there is none: records written without it keep their digest."""
        told: dict[str, Any] = handler(self)
        if self.random is None:
            del told["random"]
        return told

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
    evidence: tuple[Evidence, ...] = ()
    """Pictures and tables of the choice, such as what every candidate costs."""

    @model_serializer(mode="wrap")
    def _without_what_it_has_not(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave `evidence` out where there is none, so that older records keep their digest."""
        told: dict[str, Any] = handler(self)
        if not self.evidence:
            del told["evidence"]
        return told
