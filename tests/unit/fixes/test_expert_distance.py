"""Divergence from the base is that to the steered model, on prompts that are answered alone."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch

from auditor.experts.answers import Asked
from auditor.experts.intervention import Intervention, Method
from auditor.experts.routers import RoutedModel, find_routers
from auditor.experts.routing_maps import Expert
from auditor.experts.steering import steered
from auditor.fixes.expert_distance import distance_meter, distances
from auditor.language.causal_lm import CausalLM
from auditor.language.prompts import Prompt
from auditor.language.refusal import Behaviour
from tests.models.language_models import random_model, save_folder, word_tokenizer

CHANGE = Intervention(Method.ZERO_WEIGHT, frozenset({Expert(0, 0), Expert(1, 1)}))


class World(NamedTuple):
    """A random model, and prompts of which every second one is answered."""

    model: CausalLM
    routed: RoutedModel
    asked: list[Asked]

    @property
    def first(self) -> float:
        """Mean divergence of the first token on those that are answered, by the definition."""
        texts = [each.text for each in self.asked if not each.refused]
        base = torch.tensor(self.model.next_token_log_probabilities(texts)).double()
        with steered(self.routed, CHANGE):
            other = torch.tensor(self.model.next_token_log_probabilities(texts)).double()
        return float((base.exp() * (base - other)).sum(-1).mean())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = save_folder(
        tmp_path_factory.mktemp("moe"), random_model("qwen3_moe"), word_tokenizer()
    )
    model = CausalLM.open(folder)
    asked = [
        Asked(Prompt(text, group=text), text, (7, 8), "", behaviour)
        for text in ("the cat", "who sees a fish", "red", "old dog likes")
        for behaviour in (Behaviour.REFUSED, Behaviour.ANSWERED)
    ]
    return World(model, find_routers(model.model), asked)


def test_distances_are_those_to_the_steered_model(world: World) -> None:
    """KL at the first token by hand, over answered prompts alone; the spread stands beside it."""
    model, routed, asked = world
    (first, rest), notes = distances(model, asked, routed, CHANGE)
    assert world.first > 1e-4
    assert first.after.value == pytest.approx(world.first, abs=1e-6)
    assert (first.before.value, first.after.sample_size, first.after.unit) == (0.0, 4, "nats")
    assert [each.name for each in (first, rest)] == [
        "divergence from the base, the first token",
        "divergence from the base, the first 32 tokens",
    ]
    assert notes[0].startswith("divergence from the base, the first token: median ")
    assert distances(model, asked[::2], routed, CHANGE)[0] == ()
    many = [each for each in asked if not each.refused] * 50
    (first, _), _ = distances(model, many, routed, CHANGE)
    assert first.after.sample_size == 100  # every second of 200: 128 at most


def test_the_larger_of_both_divergences_counts(world: World) -> None:
    """That of the first token, or of the whole answer; 0 where nothing is answered."""
    model, routed, asked = world
    (first, rest), _ = distances(model, asked, routed, CHANGE)
    larger = max(first.after.value, rest.after.value)
    assert distance_meter(model, asked, routed)(CHANGE) == pytest.approx(larger, abs=1e-9)
    unanswered = [each._replace(answer=()) for each in asked]
    assert distance_meter(model, unanswered, routed)(CHANGE) == pytest.approx(world.first, abs=1e-6)
    assert distance_meter(model, asked[::2], routed)(CHANGE) == 0.0
