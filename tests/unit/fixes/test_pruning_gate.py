"""The gate of prunings: every demand alone rejects, and none can be left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.fixes.pruning_gate import (
    RECOVERABLE,
    Decision,
    PruningDemands,
    decide_pruning,
    summarise,
)
from auditor.fixes.pruning_study import Outcome, Recovery, Wording

SHARES = Wording("memorised rate", "ordinary images that fail", relative=False, items="images")
NATS = Wording("strict extraction", "perplexity of ordinary text", relative=True, items="spans")
DEMANDS = PruningDemands(most_rate=0.1, most_loss=0.05)
ITEMS, TEXTS = 20, 30


def outcome(
    back: float = 0.0, cost: float = 0.0, items: int = ITEMS, texts: int = TEXTS
) -> Outcome:
    """So large a share of items comes back, whole ones first; every text costs about so much."""
    rates = np.clip(back * items - np.arange(items), 0, 1)
    return Outcome(rates, cost + 1e-4 * np.arange(texts, dtype=np.float64))


BEFORE = outcome(1.0)
AFTER = outcome(0.0, 0.01)
CONTROLS = {"the largest weights": outcome(0.0, 0.4), "matched random weights": outcome(0.9, 0.01)}
RECOVERIES = [Recovery("an attack", np.full(ITEMS, 0.5), np.zeros(10))]


def decided(
    after: Outcome = AFTER, before: Outcome = BEFORE, alone: Outcome | None = None,
    controls: Mapping[str, Outcome] = CONTROLS, recoveries: Sequence[Recovery] = RECOVERIES,
    wording: Wording = SHARES, demands: PruningDemands = DEMANDS,
) -> Decision:  # fmt: skip
    return decide_pruning(before, after, alone or after, controls, recoveries, wording, demands)


def missed(decision: Decision) -> list[str]:
    """The demands that are missed; the decision follows from them."""
    found = [each.removeprefix("missed: ") for each in decision.reasons
             if each.startswith("missed: ")]  # fmt: skip
    assert all(each.startswith(("kept: ", "missed: ")) for each in decision.reasons)
    assert decision.accepted == ("rejected" if found else "accepted")
    return found


def test_a_repair_that_keeps_every_line_is_accepted() -> None:
    decision = decided()
    assert missed(decision) == []
    assert len(decision.reasons) == 3 + len(CONTROLS) + len(RECOVERIES)


def test_too_many_items_that_come_back_are_rejected() -> None:
    """Three of twenty are more than a tenth, and the line says how many were measured."""
    [line] = missed(decided(outcome(0.15, 0.01), controls={"a": outcome(0.9, 0.4)}))
    assert line == "memorised rate is 15.0% (at most 10.0% demanded, as measured on 20 images)"
    assert missed(decided(outcome(0.1, 0.01), controls={"a": outcome(0.9, 0.4)})) == []


def test_a_rate_that_was_low_anyway_has_not_fallen() -> None:
    before = outcome(0.05)
    lines = missed(decided(before=before))
    assert lines == ["memorised rate changes by -15.0% to +0.0% (95 %, below 0 demanded)"]


def test_one_item_is_too_few() -> None:
    """Neither a fall nor a lead on controls can be told from chance."""
    before, after = outcome(1.0, items=1), outcome(0.0, 0.01, items=1)
    controls = {"a": outcome(1.0, 0.4, items=1)}
    assert missed(decided(after, before, controls=controls)) == [
        "one of the images is too few to tell a fall from chance",
        "too few items to compare with a",
    ]


@pytest.mark.parametrize("wording", [SHARES, NATS])
def test_a_loss_above_the_limit_is_rejected(wording: Wording) -> None:
    """Of a perplexity it is the rise as a share, not the nats."""
    limit = np.log1p(0.05) if wording.relative else 0.05
    dear = {"a": outcome(0.9, 0.4)}
    assert missed(decided(outcome(0.0, limit - 1e-6), controls=dear, wording=wording)) == []
    [line] = missed(decided(outcome(0.0, limit + 1e-3), controls=dear, wording=wording))
    assert line.startswith(f"{wording.cost} rises by 5.1%, 95 % +5.1% to +5.1%")
    assert line.endswith("(measured, at most 5.0% demanded)")


def test_losses_of_texts_are_paired() -> None:
    """Texts differ by far more than the loss does."""
    apart = np.linspace(0, 5, TEXTS)
    before, after, control = (
        Outcome(each.rates, each.costs + apart)
        for each in (BEFORE, AFTER, CONTROLS["the largest weights"])
    )
    assert missed(decided(after, before, controls={"the largest weights": control})) == []


def test_a_control_that_is_as_good_rejects() -> None:
    [line] = missed(decided(controls=CONTROLS | {"the largest weights": AFTER}))
    assert line == (
        "against the largest weights: neither fewer items come back, nor few enough at less cost "
        "(memorised rate +0.0% to +0.0%, ordinary images that fail +0.0% to +0.0%, 95 %)"
    )


def test_a_control_may_be_beaten_either_way() -> None:
    """By fewer items at more cost, or by less cost at as few items."""
    fewer = missed(decided(controls={"a": outcome(0.5, 0.0)}))
    cheaper = missed(decided(controls={"a": outcome(0.0, 0.1)}))
    assert (fewer, cheaper) == ([], [])


def test_less_cost_does_not_pay_for_more_items() -> None:
    """Of a control that brings fewer back than the repair, where these are too many."""
    after, control = outcome(0.5, 0.01), outcome(0.2, 0.4)
    lines = missed(decided(after, controls={"a": control}))
    assert [line.split(":")[0] for line in lines][1:] == ["against a"]


def test_controls_are_held_against_pruning_alone() -> None:
    """Training behind it is no merit of the masks."""
    as_good = {"a": outcome(0.5, 0.02)}
    assert missed(decided(AFTER, alone=outcome(0.5, 0.02), controls=as_good))
    assert missed(decided(AFTER, alone=AFTER, controls=as_good)) == []


def test_no_control_and_no_attack_reject() -> None:
    assert missed(decided(controls={})) == ["no control was measured"]
    assert missed(decided(recoveries=[])) == ["recovery under attack was not measured"]


def test_recovery_is_said_and_demanded_only_where_a_limit_is_given() -> None:
    decision = decided()
    assert decision.reasons[-1].startswith(
        "kept: an attack: 50.0% of memorised images come back and 0.0% of others, +50.0% ("
    )
    assert decision.reasons[-1].endswith("; no limit is set)")
    [line] = missed(decided(demands=replace(DEMANDS, most_recovery=0.4)))
    assert line.endswith("; at most +40.0% demanded)")
    assert missed(decided(demands=replace(DEMANDS, most_recovery=0.5))) == []


def test_what_the_attack_puts_in_by_itself_is_no_recovery() -> None:
    """As many of others come back."""
    same = [Recovery("an attack", np.full(ITEMS, 0.5), np.full(10, 0.5))]
    assert missed(decided(recoveries=same, demands=replace(DEMANDS, most_recovery=0.0))) == []


@pytest.mark.parametrize(
    ("back", "recovered", "words"),
    [(0.1, 0.0, "suppressed"), (0.1, 0.5, "suppressed and recoverable"),
     (0.2, 0.5, "recoverable"), (0.2, 0.0, "not suppressed")],
)  # fmt: skip
def test_a_summary_says_both_words_where_both_are_true(
    back: float, recovered: float, words: str
) -> None:
    recoveries = [Recovery("an attack", np.full(ITEMS, recovered), np.zeros(10))]
    assert summarise(outcome(back), recoveries, DEMANDS) == words


def test_recovery_within_the_margin_is_none() -> None:
    at = [Recovery("an attack", outcome(RECOVERABLE).rates, np.zeros(10))]
    assert summarise(outcome(0.0), at, DEMANDS) == "suppressed"


SOME = st.floats(0, 1, allow_nan=False)


@given(back=SOME, cost=SOME, control_back=SOME, control_cost=SOME, recovered=SOME,
       limit=st.one_of(st.none(), SOME), wording=st.sampled_from([SHARES, NATS]))  # fmt: skip
def test_whatever_is_accepted_keeps_its_limits(
    back: float, cost: float, control_back: float, control_cost: float, recovered: float,
    limit: float | None, wording: Wording,
) -> None:  # fmt: skip
    """By the plain numbers, and no control with both fewer items and less cost is passed over."""
    after, control = outcome(back, cost), outcome(control_back, control_cost)
    recoveries = [Recovery("an attack", np.full(ITEMS, recovered), np.zeros(ITEMS))]
    demands = replace(DEMANDS, most_recovery=limit)
    decision = decided(after, controls={"a": control}, recoveries=recoveries, wording=wording,
                       demands=demands)  # fmt: skip
    missed(decision)
    if decision.accepted == "accepted":
        assert after.rates.mean() <= demands.most_rate
        assert wording.loss(BEFORE, after) <= demands.most_loss
        assert limit is None or recovered <= limit + 1e-12
        assert not (
            control.rates.mean() <= after.rates.mean()
            and control.costs.mean() <= after.costs.mean()
        )


@given(low=SOME, high=SOME)
def test_a_worse_repair_is_never_accepted_where_a_better_one_is_not(
    low: float, high: float
) -> None:
    """Fewer items that come back, at the same cost."""
    low, high = sorted((low, high))
    controls = {"a": outcome(1.0, 0.02)}
    if decided(outcome(high, 0.01), controls=controls).accepted == "accepted":
        assert decided(outcome(low, 0.01), controls=controls).accepted == "accepted"
