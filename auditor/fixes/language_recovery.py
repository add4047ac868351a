"""What attacks bring back from a language model, of memorised spans and of ones it never saw.

What is trained (a soft prompt, or the model again) is trained on one half and judged on the other,
both ways round, so that every span is judged by what others gave. Both kinds of spans give as many
to train on: the same steps over fewer texts would teach more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np

from auditor.errors import ConfigurationError
from auditor.fixes.language_items import halves
from auditor.fixes.pruning_study import Float64, Recovery
from auditor.language.causal_lm import CausalLM
from auditor.memorization.language.attack import (
    RelearningOptions,
    SoftPromptOptions,
    chance_of_draws,
    find_soft_prompt,
    recited,
    recited_behind,
    relearn,
    require_room,
    shifted,
    without_rarest,
)
from auditor.memorization.language.training_spans import TrainingSpan

Spans = Sequence[TrainingSpan]
Attack = Callable[[Spans], Float64]


@dataclass(frozen=True)
class LanguageAttacks:
    """Which attacks are made; their strengths are fixed in advance.

    Attributes:
        shifts: Tokens by which prefixes end later (earlier, if negative).
        without_rarest: Whether the rarest token of each prefix is replaced.
        draws: At temperature 1, of which one has to be exact; none if 0.
        soft_prompt: How virtual tokens are found; none if None.
        relearning: How the model is trained again, each from where it is; not if empty.
    """

    shifts: tuple[int, ...] = (4, 8)
    without_rarest: bool = True
    draws: int = 1_000
    soft_prompt: SoftPromptOptions | None = field(default_factory=SoftPromptOptions)
    relearning: tuple[RelearningOptions, ...] = (RelearningOptions(20), RelearningOptions(60))


def require_attackable(model: CausalLM, spans: Spans, how: LanguageAttacks) -> None:
    """Refuse, before long work, spans that an attack cannot be made on.

    Raises:
        ConfigurationError: Too short for a shift, too long for virtual tokens, or a count below 0.
    """
    if how.draws < 0:
        raise ConfigurationError(f"{how.draws} draws; give 0 or more")
    for by in how.shifts:
        shifted(spans, by)
    if how.soft_prompt is not None:
        require_room(model, spans, how.soft_prompt.tokens)


def attack_language_model(
    model: CausalLM, memorised: Spans, unseen: Spans, how: LanguageAttacks,
    counts: Sequence[int], progress: Callable[[str], None] = lambda text: None,
) -> list[Recovery]:  # fmt: skip
    """Recovery under every attack, from the model as it is at this moment.

    Args:
        model: The model; it stays as it is.
        memorised: Spans that it recited before it was repaired, of at least two groups.
        unseen: Spans of the same form that it never saw, of at least two groups.
        how: Which attacks.
        counts: How often each token of the vocabulary stands in ordinary text.
        progress: Called with text.

    Raises:
        ConfigurationError: See `require_attackable`.
    """
    found = []
    for name, attack in _plain(model, how, counts):
        progress(name)
        found.append(Recovery(name, attack(memorised), attack(unseen)))
    least = min(len(half) for spans in (memorised, unseen) for half in halves(spans))
    if how.soft_prompt is not None:
        options = how.soft_prompt
        name = f"{options.tokens} virtual tokens, {options.steps} steps on the other half"
        progress(name)
        found.append(Recovery(name, *(
            _crossed(spans, least, lambda trained, asked: recited_behind(
                model, find_soft_prompt(model, trained, options), asked
            )).other
            for spans in (memorised, unseen)
        )))  # fmt: skip
    for again in how.relearning:
        progress(f"{again.steps} steps of training")
        found += _relearned(model, memorised, unseen, least, again)
    return found


def _relearned(
    model: CausalLM, memorised: Spans, unseen: Spans, least: int, again: RelearningOptions
) -> list[Recovery]:
    """Of the other half first, then of the spans that were trained on."""
    crossed = [
        _crossed(
            spans, least, lambda trained, asked: recited(relearn(model, trained, again), asked)
        )
        for spans in (memorised, unseen)
    ]
    name = f"{again.steps} steps of training at {again.rate:g} on"
    return [
        Recovery(f"{name} the other half", *(each.other for each in crossed)),
        Recovery(f"{name} the same spans", *(each.own for each in crossed)),
    ]


def _plain(
    model: CausalLM, how: LanguageAttacks, counts: Sequence[int]
) -> Iterator[tuple[str, Attack]]:
    """Attacks that take each span by itself."""
    for by in how.shifts:
        when = "later" if by > 0 else "earlier"
        yield f"prefixes that end {abs(by)} tokens {when}", partial(_shifted, model, by)
    if how.without_rarest:
        yield (
            "the rarest token of each prefix replaced",
            lambda spans: recited(model, without_rarest(spans, counts)),
        )
    if how.draws:
        yield (
            f"one of {how.draws} draws at temperature 1",
            lambda spans: chance_of_draws(model, spans, how.draws),
        )


def _shifted(model: CausalLM, by: int, spans: Spans) -> Float64:
    return recited(model, shifted(spans, by))


class _Crossed(NamedTuple):
    """What came back of spans that were trained on, [trained], and of all by the other half."""

    own: Float64
    other: Float64


def _crossed(spans: Spans, least: int, judge: Callable[[Spans, Spans], Float64]) -> _Crossed:
    """What came back, both ways round.

    `judge` is given spans to train on, at most so many, and spans to ask for.
    """
    own: list[Float64] = []
    other = np.zeros(len(spans))
    for here, there in (halves(spans), halves(spans)[::-1]):
        trained = [spans[at] for at in here[:least]]
        found = judge(trained, [*trained, *(spans[at] for at in there)])
        own.append(found[: len(trained)])
        other[there] = found[len(trained) :]
    return _Crossed(np.concatenate(own), other)
