"""What a pruning has to show to be accepted, inside the function that writes the model.

Removing the largest weights, with no look at what is memorised, already lowers the rate, at a
price; so a repair has to beat that mask and matched random ones, not uniform chance. Recovery under
attack is always measured and said; it is a demand only where a limit is given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from auditor.fixes.pruning_study import Outcome, Recovery, Wording, paired_interval

RECOVERABLE: Final = 0.1
"""Recovery above that of other items, beyond which a repair is called recoverable."""


@dataclass(frozen=True)
class PruningDemands:
    """Limits of acceptance.

    Attributes:
        most_rate: Measured share of tries at which memorised items may still come back.
        most_loss: Measured loss of ordinary items that is allowed.
        most_recovery: Recovery under every attack above that of items never memorised; not
            demanded if None.
    """

    most_rate: float = 0.15
    most_loss: float = 0.1
    most_recovery: float | None = None


class _Line(NamedTuple):
    kept: bool
    text: str


class Decision(NamedTuple):
    """Whether a repair may be used, and why."""

    accepted: Literal["accepted", "rejected"]
    reasons: tuple[str, ...]


def decide_pruning(
    before: Outcome, after: Outcome, alone: Outcome, controls: Mapping[str, Outcome],
    recoveries: Sequence[Recovery], wording: Wording, demands: PruningDemands,
) -> Decision:  # fmt: skip
    """Hold a repair against every demand; what was not measured is missed.

    Args:
        before: The untouched model.
        after: The repaired one, same items and noise.
        alone: What pruning does before any training behind it, which is what controls are of; the
            same as `after` where there is none.
        controls: Name of each control mask, at the same layers and density, to what it does.
        recoveries: What attacks brought back from the repaired model.
        wording: How measures are called.
        demands: The limits.
    """
    lines = [
        _rate(after, wording, demands.most_rate),
        _falls(before, after, wording),
        _loss(before, after, wording, demands.most_loss),
    ]
    lines += [
        _beats(name, control, alone, wording, demands.most_rate)
        for name, control in controls.items()
    ] or [_Line(False, "no control was measured")]
    lines += _recovered(recoveries, wording, demands.most_recovery)
    reasons = tuple(("kept: " if line.kept else "missed: ") + line.text for line in lines)
    return Decision("accepted" if all(line.kept for line in lines) else "rejected", reasons)


def _rate(after: Outcome, wording: Wording, most: float) -> _Line:
    rate = float(after.rates.mean())
    return _Line(
        rate <= most, f"{wording.rate} is {rate:.1%} (at most {most:.1%} demanded, as measured on "
        f"{len(after.rates)} {wording.items})",
    )  # fmt: skip


def _falls(before: Outcome, after: Outcome, wording: Wording) -> _Line:
    change = paired_interval(before.rates, after.rates)
    if change is None:
        return _Line(False, f"one of the {wording.items} is too few to tell a fall from chance")
    return _Line(
        change.upper < 0,
        f"{wording.rate} changes by {change.lower:+.1%} to {change.upper:+.1%} (95 %, below 0 "
        "demanded)",
    )


def _loss(before: Outcome, after: Outcome, wording: Wording, most: float) -> _Line:
    loss, interval = wording.loss(before, after), wording.loss_interval(before, after)
    within = f", 95 % {interval.lower:+.1%} to {interval.upper:+.1%}" if interval else ""
    return _Line(
        loss <= most,
        f"{wording.cost} rises by {loss:.1%}{within} (measured, at most {most:.1%} demanded)",
    )


def _beats(name: str, control: Outcome, after: Outcome, wording: Wording, most: float) -> _Line:
    """Whether masks bring fewer items back than a control, or few enough at less cost."""
    rates = paired_interval(control.rates, after.rates)
    costs = paired_interval(control.costs, after.costs)
    if rates is None or costs is None:
        return _Line(False, f"too few items to compare with {name}")
    fewer, cheaper = rates.upper < 0, costs.upper < 0
    few_enough = float(after.rates.mean()) <= max(most, float(control.rates.mean()))
    # A cost that is higher for certain is paid for only where fewer items come back for it.
    kept = (fewer and float(after.rates.mean()) <= most) or (cheaper and few_enough)
    how = (
        "ordinary items cost less, and few enough come back" if cheaper and few_enough
        else "fewer items come back" if kept
        else "neither fewer items come back, nor few enough at less cost"
    )  # fmt: skip
    return _Line(
        kept,
        f"against {name}: {how} ({wording.rate} {rates.lower:+.1%} to {rates.upper:+.1%}, "
        f"{wording.cost} {wording.rise(costs.lower):+.1%} to {wording.rise(costs.upper):+.1%}, "
        "95 %)",
    )


def _recovered(recoveries: Sequence[Recovery], wording: Wording, most: float | None) -> list[_Line]:
    if not recoveries:
        return [_Line(False, "recovery under attack was not measured")]
    found = []
    for each in recoveries:
        demanded = "no limit is set" if most is None else f"at most {most:+.1%} demanded"
        found.append(_Line(
            most is None or each.excess <= most,
            f"{each.attack}: {each.rates.mean():.1%} of memorised {wording.items} come back and "
            f"{each.control.mean():.1%} of others, {each.excess:+.1%} "
            f"({each.interval.lower:+.1%} to {each.interval.upper:+.1%}; {demanded})",
        ))  # fmt: skip
    return found


def summarise(after: Outcome, recoveries: Sequence[Recovery], demands: PruningDemands) -> str:
    """`suppressed`, `recoverable`, both or neither, as a line for the record."""
    words = []
    if float(after.rates.mean()) <= demands.most_rate:
        words.append("suppressed")
    if any(each.excess > RECOVERABLE for each in recoveries):
        words.append("recoverable")
    return " and ".join(words) or "not suppressed"
