"""How a verification ends: the verdict, and the sentence that says what it rests on."""

from __future__ import annotations

from auditor.verdicts import Verdict
from auditor.verify.judge import WitnessJudge
from auditor.verify.outcome import Outcome, Statistics
from auditor.verify.property import Property
from auditor.verify.semantics import Semantics
from auditor.verify.vacuity import Vacuity


def witnessed(judge: WitnessJudge, semantics: Semantics, statistics: Statistics) -> Outcome:
    """A violation, by the judge's confirmed witness; unknown if it has none."""
    witness = judge.confirmed
    if witness is None:
        return unknown(judge, statistics, "the search stopped")
    replays = f"{len(witness.replays)} replays"
    if semantics is Semantics.REAL:
        how = f"by {witness.margin:.6g} in exact arithmetic and in {replays}"
    else:
        how = f"as executed in {replays} (margin in exact arithmetic {witness.margin:.6g})"
    reason = f"an input violates the property {how}"
    if judge.without_float32 is not None:
        reason += f"; {_no_float32(judge.without_float32)}: replayed at the nearest one"
    return Outcome(Verdict.VIOLATED, reason, witness, statistics)


def unknown(judge: WitnessJudge, statistics: Statistics, why: str) -> Outcome:
    """No verdict, with why not, what was disputed, and how far the search got."""
    disputed = judge.disputed
    parts = [disputed.disagreement] if disputed is not None else []
    parts.append(why)
    if judge.without_float32 is not None:
        parts.append(_no_float32(judge.without_float32))
    parts.append(statistics.how_far)
    return Outcome(Verdict.UNKNOWN, "; ".join(parts), disputed, statistics)


def holding(
    judge: WitnessJudge,
    prop: Property,
    semantics: Semantics,
    vacuity: Vacuity,
    statistics: Statistics,
) -> Outcome:
    """The property holds, with what that is about."""
    over = (
        "over the reals"
        if semantics is Semantics.REAL
        else "for every order in which float32 may be executed"
    )
    parts = [f"every part of the input set is refuted, {over}"]
    if judge.disputed is not None:
        parts.append(judge.disputed.disagreement)
    if prop.pattern is not None and not prop.says_nobody_follows:
        parts.append("some input follows the pattern")
    if vacuity.text:
        parts.append(vacuity.text)
    reason = "; ".join([*parts, statistics.how_far])
    return Outcome(Verdict.HOLDS, reason, judge.disputed, statistics)


def _no_float32(number: int) -> str:
    return f"the box holds no float32 number at input {number}"
