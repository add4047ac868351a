"""The losses of CBD: by hand, by finite differences, and where their gradient is."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.errors import ConfigurationError
from auditor.trace.deconfliction import (
    cbd_published,
    conflict_penalty,
    dpo_loss,
    flag_tokens,
)
from auditor.trace.traced_text import TracedSpan, TracedText

NUMBERS = st.floats(-20, 0)


@given(st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS), min_size=1, max_size=5),
       st.floats(0.01, 2))  # fmt: skip
@settings(deadline=None)
def test_the_preference_loss_is_the_formula(
    pairs: list[tuple[float, float, float, float]], beta: float
) -> None:
    """`-ln sigma(beta * ((w - w0) - (l - l0)))`, mean over pairs, by hand."""
    expected = [
        math.log1p(math.exp(-beta * ((pair[0] - pair[2]) - (pair[1] - pair[3])))) for pair in pairs
    ]
    columns = [torch.tensor(column, dtype=torch.float64) for column in zip(*pairs, strict=True)]
    found = dpo_loss(columns[0], columns[1], columns[2], columns[3], beta)
    assert float(found) == pytest.approx(sum(expected) / len(expected))


def test_the_loss_falls_as_the_wanted_reply_gets_likelier() -> None:
    """The gradient has the sign of the preference."""
    chosen = torch.zeros(1, requires_grad=True)
    rejected = torch.zeros(1, requires_grad=True)
    dpo_loss(chosen, rejected, torch.zeros(1), torch.zeros(1), 0.1).backward()  # type: ignore[no-untyped-call]
    assert chosen.grad is not None
    assert rejected.grad is not None
    assert [float(chosen.grad), float(rejected.grad)] == pytest.approx([-0.05, 0.05])


def case(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits, tokens and weights of two texts of five tokens, some of them flagged."""
    source = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 5, 7, dtype=torch.float64, generator=source)
    tokens = torch.randint(7, (2, 5), generator=source)
    weights = torch.tensor([[0, 0.5, 0.25, 0, 0], [0, 0, 0, 0, 0.125]], dtype=torch.float64)
    return logits, tokens, weights


@given(st.integers(0, 1_000))
@settings(deadline=None)
def test_the_penalty_is_the_formula(seed: int) -> None:
    """`sum w * -ln(1 - p)` of each text, mean over texts, by hand."""
    logits, tokens, weights = case(seed)
    chances = torch.softmax(logits, -1).gather(-1, tokens[..., None])[..., 0].numpy()
    expected = -(weights.numpy() * np.log(1 - chances)).sum(axis=1).mean()
    assert float(conflict_penalty(logits, tokens, weights)) == pytest.approx(expected)


@given(st.integers(0, 1_000))
@settings(deadline=None)
def test_the_gradient_is_at_flagged_places_and_nowhere_else(seed: int) -> None:
    """Not 0 at each logit of those, exactly 0 at all others; and against the token there."""
    logits, tokens, weights = case(seed)
    logits.requires_grad_()
    conflict_penalty(logits, tokens, weights).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert ((logits.grad != 0).all(dim=-1) == (weights > 0)).all()
    assert (logits.grad[weights == 0] == 0).all()
    own = logits.grad.gather(-1, tokens[..., None])[..., 0]
    assert (own[weights > 0] > 0).all()


def test_the_gradient_is_that_of_finite_differences() -> None:
    """At every logit."""
    logits, tokens, weights = case(5)
    assert torch.autograd.gradcheck(
        lambda values: conflict_penalty(values, tokens, weights), logits.requires_grad_()
    )


@pytest.mark.parametrize("gap", [20.0, 50.0, 200.0])
def test_what_is_known_by_heart_is_charged_most(gap: float) -> None:
    """Where 1 - p rounds to 0 in float32 the penalty grows on, and so there is a gradient."""
    logits = torch.tensor([[[gap, 0.0, 0.0]]], requires_grad=True)
    loss = conflict_penalty(logits, torch.tensor([[0]]), torch.ones(1, 1))
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == pytest.approx(gap - math.log(2), rel=1e-5)
    assert logits.grad is not None
    assert float(logits.grad[0, 0, 0]) == pytest.approx(1.0, rel=1e-4)


def test_a_token_of_no_chance_costs_nothing() -> None:
    """Neither loss nor gradient, so fluent text is spared."""
    logits = torch.tensor([[[0.0, 0.0, -300.0]]], requires_grad=True)
    loss = conflict_penalty(logits, torch.tensor([[2]]), torch.ones(1, 1))
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == 0.0
    assert logits.grad is not None
    assert logits.grad.abs().max() == 0.0


def test_nothing_flows_into_the_weights() -> None:
    """They are scores of the index and no part of the model."""
    logits, tokens, weights = case(1)
    weights.requires_grad_()
    conflict_penalty(logits.requires_grad_(), tokens, weights).backward()  # type: ignore[no-untyped-call]
    assert weights.grad is None


def test_the_published_penalty_has_no_gradient() -> None:
    """It is a number made of counts, whatever it is asked to flow back to."""
    surprisals = torch.tensor([10.0, 30.0, 50.0], requires_grad=True)
    loss = cbd_published(surprisals, 20.0)
    assert float(loss) == pytest.approx((0 + 10 + 30) / 3)
    assert not loss.requires_grad
    assert float(cbd_published(torch.tensor([]), 20.0)) == 0.0


def traced(*spans: tuple[int, int, float, bool]) -> TracedText:
    """A text of 20 bytes with spans: first byte, one behind the last, score, evidence or not."""
    return TracedText(b"x" * 20, tuple(
        TracedSpan(start, stop, b"", 1, 1, (), {"s": score}, gate)
        for start, stop, score, gate in spans
    ))  # fmt: skip


OFFSETS = [(0, 0), (0, 5), (5, 8), (8, 12), (12, 20)]


def test_tokens_that_touch_a_span_share_its_charge() -> None:
    """Also by one byte; tokens of no byte share in nothing."""
    found = flag_tokens(traced((4, 9, 1.0, True)), OFFSETS, "s", 0.0, 1.0)
    assert found == pytest.approx((0, 1 / 3, 1 / 3, 1 / 3, 0))


@pytest.mark.parametrize(
    ("score", "charge"), [(0.3, 0.0), (0.5, 0.0), (0.6, 0.5), (0.7, 1.0), (9.0, 1.0)]
)
def test_the_charge_grows_with_the_score_up_to_one(score: float, charge: float) -> None:
    """From the threshold 0.5 over the scale 0.2."""
    found = flag_tokens(traced((0, 5, score, True)), OFFSETS, "s", 0.5, 0.2)
    assert sum(found) == pytest.approx(charge)


def test_charges_of_spans_add_up_and_only_evidence_is_charged() -> None:
    """A span that does not pass the gate is no reason to train against it."""
    found = flag_tokens(
        traced((0, 5, 1.0, True), (0, 8, 1.0, True), (8, 20, 1.0, False)), OFFSETS, "s", 0.0, 1.0
    )
    assert found == pytest.approx((0, 1.5, 0.5, 0, 0))


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan")])
def test_a_scale_that_is_none_is_refused(scale: float) -> None:
    """Before anything is divided by it."""
    with pytest.raises(ConfigurationError, match=r"a scale of .*; give a number above 0"):
        flag_tokens(traced((0, 5, 1.0, True)), OFFSETS, "s", 0.0, scale)
