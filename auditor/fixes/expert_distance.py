"""How far a routing intervention moves answers to harmless prompts from the base's.

Reported on held-out prompts, and a limit of what may be chosen to strengthen: first tokens of
refusals can be bought by spoiling answers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from auditor.experts.answers import Asked
from auditor.experts.intervention import Intervention
from auditor.experts.routers import RoutedModel
from auditor.experts.steering import steered
from auditor.findings import Metric
from auditor.fix import Comparison
from auditor.fixes.before_after import mean_interval
from auditor.language.causal_lm import CausalLM
from auditor.language.distance_to_base import ANSWER_TOKENS, Answered, measure_distances

MOST_DISTANCES: Final = 128
"""Prompts whose divergence is measured: each needs the logits of a whole answer."""


def distances(
    model: CausalLM, asked: Sequence[Asked], routed: RoutedModel, intervention: Intervention
) -> tuple[tuple[Comparison, ...], tuple[str, ...]]:
    """Divergence of the next tokens from the base, on harmless prompts that are answered.

    Returns:
        Means with their intervals, and a line about the spread of each.
    """
    answered = _compared_on(asked)
    if not answered:
        return (), ("no harmless prompt is answered: no divergence was measured",)
    nats = measure_distances(
        model.network, [Answered(model.encode(each.text), each.answer) for each in answered],
        lambda: steered(routed, intervention),
    )  # fmt: skip
    groups = [each.prompt.group or f"prompt {number}" for number, each in enumerate(answered)]
    named = {
        "divergence from the base, the first token": nats.first,
        f"divergence from the base, the first {ANSWER_TOKENS} tokens": nats.answer,
    }
    return tuple(_divergence(name, values, groups) for name, values in named.items()), tuple(
        f"{name}: median {np.median(values):.3g}, 95th percentile {np.quantile(values, 0.95):.3g} "
        f"nats over {len(values)} harmless prompts"
        for name, values in named.items()
    )


def distance_meter(
    model: CausalLM, asked: Sequence[Asked], routed: RoutedModel
) -> Callable[[Intervention], float]:
    """How far an intervention moves answers to harmless prompts from the base's.

    Args:
        model: The model.
        asked: The base's answers, of which some that do not refuse are compared.
        routed: Its routers.

    Returns:
        What gives the mean divergence of the first token, or over the first 32 of the base's
        answer, whichever is larger; 0 where nothing is answered.
    """
    answered = [Answered(model.encode(each.text), each.answer) for each in _compared_on(asked)]

    def distance(intervention: Intervention) -> float:
        if not answered:
            return 0.0
        nats = measure_distances(model.network, answered, lambda: steered(routed, intervention))
        return float(max(nats.first.mean(), nats.answer.mean()))

    return distance


def _compared_on(asked: Sequence[Asked]) -> list[Asked]:
    """Some of the answers, spread over the set, whose file may be sorted by topic."""
    answered = [each for each in asked if not each.refused]
    return answered[:: math.ceil(len(answered) / MOST_DISTANCES) or 1]


def _divergence(name: str, nats: NDArray[np.float64], groups: Sequence[str]) -> Comparison:
    def metric(value: float) -> Metric:
        return Metric(name="divergence", value=value, unit="nats", sample_size=len(nats),
                      better="lower")  # fmt: skip

    return Comparison(
        name=name, before=metric(0.0), after=metric(float(nats.mean())),
        change=mean_interval(nats, groups), change_of="mean over prompts",
    )  # fmt: skip
