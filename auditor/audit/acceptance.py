"""What was accepted beforehand: waivers and a baseline, looked up point by point.

The gate asks here, after everything is evaluated, and nowhere else. Open questions, refused
models and counts over the run are never asked about: they cannot be accepted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Literal, NamedTuple

from auditor.audit.baseline import KnownPoint, take_known
from auditor.audit.policy import MetricGate
from auditor.audit.waivers import Waiver
from auditor.findings import CheckResult, Severity, WaiverUse

Standing = Literal["fail", "waived", "baseline"]
WaiverState = Literal[
    "applies",
    "expired",
    "other model",
    "glob on critical",
    "refused model",
    "not needed",
    "no answer",
    "stale",
]
MOST_NOTES = 20


@dataclass(frozen=True)
class Acceptance:
    """What was accepted beforehand.

    Attributes:
        waivers: Waivers in force or not; the gate looks at their dates.
        baseline: What an earlier run had found, by fingerprint.
        today: The day the waivers' dates are compared with.
    """

    waivers: Sequence[Waiver]
    baseline: Mapping[str, Sequence[KnownPoint]]
    today: date


class Point(NamedTuple):
    """A finding, or a threshold that a metric missed.

    Attributes:
        mark: Its fingerprint.
        gate: The threshold, None for a finding.
        number: What was measured against it.
    """

    result: CheckResult
    severity: Severity
    mark: str
    gate: MetricGate | None = None
    number: float | None = None

    @property
    def names(self) -> tuple[str, str, str]:
        """What a waiver may call it."""
        return self.result.code, self.result.id, self.mark


class WaiverStanding(NamedTuple):
    """What one waiver does to a run.

    Attributes:
        points: How many findings and missed thresholds it speaks of in that state.
        note: What to do about it, empty where there is nothing to do.
    """

    waiver: Waiver
    state: WaiverState
    points: int
    note: str


@dataclass
class AcceptanceBook:
    """Looks points up in waivers and baseline, and remembers what came of it.

    Attributes:
        refused: Names of subjects that must not be opened.
    """

    acceptance: Acceptance
    refused: frozenset[str] = frozenset()
    used: list[WaiverUse] = field(default_factory=list)
    _left: dict[str, list[KnownPoint]] = field(default_factory=dict)
    _seen: Counter[str] = field(default_factory=Counter)
    _spoken: Counter[tuple[int, WaiverState]] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._left = {mark: list(known) for mark, known in self.acceptance.baseline.items()}

    def standing(self, point: Point) -> tuple[Standing, str]:
        """How a point stands, and what to add to its text; each point is asked about once."""
        self._seen[point.mark] += 1
        waiver = self._waiver_for(point)
        if waiver is not None:
            self.used.append(_use(waiver, point.mark))
            return "waived", f" (waived until {waiver.expires})"
        if point.severity is Severity.CRITICAL or point.result.subject in self.refused:
            return "fail", ""
        points = self._left.get(point.mark, [])
        known = take_known(points, point.severity, point.gate, point.number)
        if known is not None:
            points.remove(known)
            return "baseline", " (known from the baseline)"
        return "fail", " (worse than in the baseline)" if points else ""

    def _waiver_for(self, point: Point) -> Waiver | None:
        """The first waiver that covers the point; also notes what the others come to."""
        states = {
            number: self._state(waiver, point)
            for number, waiver in enumerate(self.acceptance.waivers)
            if waiver.names(point.names)
        }
        applying = [number for number, state in states.items() if state == "applies"]
        for number, state in states.items():
            needed = not applying or number == applying[0]
            self._spoken[number, state if needed else "not needed"] += 1
        return self.acceptance.waivers[applying[0]] if applying else None

    def _state(self, waiver: Waiver, point: Point) -> WaiverState:
        if point.result.subject in self.refused:
            return "refused model"
        if not waiver.is_for(point.result.subject_digest):
            return "other model"
        if waiver.is_glob and point.severity is Severity.CRITICAL:
            return "glob on critical"
        return "expired" if waiver.expires < self.acceptance.today else "applies"

    def waivers(self, results: Sequence[CheckResult]) -> Iterator[WaiverStanding]:
        """What each waiver comes to, once every point was asked about, in the file's order.

        Where it comes to several things, it applies before it has expired, and so on.
        """
        unanswered = [result for result in results if result.verdict.is_open]
        order: tuple[WaiverState, ...] = (
            "applies", "expired", "other model", "glob on critical", "refused model", "not needed",
        )  # fmt: skip
        for number, waiver in enumerate(self.acceptance.waivers):
            state = next((each for each in order if self._spoken[number, each]), None)
            if state is None:
                named = any(waiver.names((each.code, each.id)) for each in unanswered)
                state = "no answer" if named else "stale"
            note = _note(waiver, state, self.acceptance.today)
            yield WaiverStanding(waiver, state, self._spoken[number, state], note)

    def gone(self, results: Sequence[CheckResult]) -> Iterator[tuple[KnownPoint, bool]]:
        """Known points that the run does not have, and whether it answered their question.

        Only where it did is the point fixed.
        """
        answered = {result.id for result in results if not result.verdict.is_open}
        for mark, points in self.acceptance.baseline.items():
            # Of points that share a fingerprint the worst are taken to be still there.
            ranked = sorted(points, key=lambda point: point.severity.rank)
            for point in ranked[self._seen[mark] :]:
                yield point, point.result in answered

    def notes(self, results: Sequence[CheckResult]) -> Iterator[str]:
        """Waivers that need attention, and what the baseline has too many."""
        yield from (standing.note for standing in self.waivers(results) if standing.note)
        gone = list(self.gone(results))
        fixed = [point for point, answered in gone if answered]
        for point in fixed[:MOST_NOTES]:
            yield f"fixed since the baseline: {point.result}: {point.title}"
        if len(fixed) > MOST_NOTES:
            yield f"fixed since the baseline: {len(fixed) - MOST_NOTES} more"
        if fixed:
            yield "the baseline can shrink; write it again with auditor baseline create"
        if len(gone) > len(fixed):
            number = len(gone) - len(fixed)
            yield f"{number} known from the baseline could not be looked for: no answer this time"


def _note(waiver: Waiver, state: WaiverState, today: date) -> str:
    name = f"waiver '{waiver.match}'"
    match state:
        case "applies":
            left = waiver.days_left(today)
            when = "today" if left == 0 else f"in {left} day{'' if left == 1 else 's'}"
            ending = f"{name} expires on {waiver.expires} ({when}); mend the finding or renew it"
            return ending if waiver.ends_soon(today) else ""
        case "expired":
            return f"{name} expired on {waiver.expires}; the finding counts again"
        case "other model":
            return (
                f"{name} was granted for another model ({waiver.model_digest[:19]}...) and covers "
                "nothing here; look again and grant it anew"
            )
        case "glob on critical":
            return f"{name} is a glob and covers no critical finding; name the finding exactly"
        case "refused model":
            return f"{name} covers nothing: a refused model cannot be waived"
        case "not needed":
            return f"{name} is not needed: another waiver covers what it names; remove it"
        case "no answer":
            return f"{name} covers nothing: what has no answer cannot be waived"
        case _:
            return f"{name} matches nothing in this run; remove it"


def _use(waiver: Waiver, mark: str) -> WaiverUse:
    return WaiverUse(
        fingerprint=mark,
        match=waiver.match,
        reason=waiver.reason,
        approved_by=waiver.approved_by,
        expires=waiver.expires.isoformat(),
        ticket=waiver.ticket,
    )
