"""Routing maps hold what each prompt's own tokens chose, whatever runs beside them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from auditor.errors import ConfigurationError, NothingToAudit
from auditor.experts.capture import Counted, capture_routing, counted_prompts
from auditor.experts.intervention import Intervention, Method
from auditor.experts.routers import RoutedModel, find_routers
from auditor.experts.routing_maps import Expert, RoutingMaps, TokenSet
from auditor.experts.steering import steered
from tests.models.moe_families import CHOSEN, EXPERTS, small_moe

PROMPTS = [[5, 9, 11, 3, 8], [7, 40], [12, 13, 14, 15, 16, 17, 18, 19], [33]]


def router_logits(routed: RoutedModel, prompt: list[int]) -> list[Tensor]:
    """Logits of each layer by the library's own option, [tokens, experts]."""
    with torch.inference_mode():
        return list(
            routed.model(input_ids=torch.tensor([prompt]), output_router_logits=True).router_logits
        )


@pytest.mark.parametrize("family", ["mixtral", "olmoe", "qwen3_moe"])
@pytest.mark.parametrize("token_set", [TokenSet.PROMPT, TokenSet.LAST])
def test_maps_are_those_of_the_librarys_router_logits(family: str, token_set: TokenSet) -> None:
    routed = find_routers(small_moe(family, norm_topk_prob=False))
    maps = capture_routing(routed, counted_prompts(PROMPTS, token_set), token_set, batch_size=3)
    assert maps.layers == (0, 1, 2)
    for at, prompt in enumerate(PROMPTS):
        for layer, logits in enumerate(router_logits(routed, prompt)):
            counted = logits[-1:] if token_set is TokenSet.LAST else logits
            scores = counted.softmax(-1)
            weights, numbers = scores.topk(CHOSEN)
            if family == "mixtral":
                weights = weights / weights.sum(-1, keepdim=True)
            expected = torch.bincount(numbers.flatten(), minlength=EXPERTS)
            np.testing.assert_array_equal(maps.counts[at, layer], expected.numpy())
            mass = torch.zeros(EXPERTS).index_add_(0, numbers.flatten(), weights.flatten())
            np.testing.assert_allclose(maps.mass[at, layer], mass.numpy(), atol=1e-5)


@pytest.mark.parametrize("family", ["gpt_oss", "deepseek_v3", "llama4_text", "gemma4_text"])
def test_a_prompts_map_does_not_depend_on_what_runs_beside_it(family: str) -> None:
    routed = find_routers(small_moe(family))
    texts = counted_prompts(PROMPTS, TokenSet.PROMPT)
    together = capture_routing(routed, texts, TokenSet.PROMPT, batch_size=4)
    alone = [capture_routing(routed, [each], TokenSet.PROMPT) for each in texts]
    np.testing.assert_array_equal(together.counts, np.concatenate([one.counts for one in alone]))
    np.testing.assert_allclose(
        together.mass, np.concatenate([one.mass for one in alone]), atol=1e-4
    )


def test_answers_are_counted_without_their_prompts() -> None:
    routed = find_routers(small_moe("qwen3_moe"))
    whole = capture_routing(routed, [Counted(PROMPTS[2], 0, 8)], TokenSet.ANSWER)
    parts = [
        capture_routing(routed, [Counted(PROMPTS[2], *part)], TokenSet.ANSWER)
        for part in ((0, 3), (3, 8))
    ]
    np.testing.assert_array_equal(whole.counts, parts[0].counts + parts[1].counts)
    assert [part.tokens.tolist() for part in parts] == [[3], [5]]


def test_what_an_intervention_changes_is_seen() -> None:
    routed = find_routers(small_moe("qwen3_moe"))
    texts = counted_prompts(PROMPTS, TokenSet.PROMPT)
    with steered(routed, Intervention(Method.FORCE_SELECT, on=frozenset({Expert(1, 4)}))):
        maps = capture_routing(routed, texts, TokenSet.PROMPT)
    np.testing.assert_array_equal(maps.shares[:, 1, 4], np.ones(len(PROMPTS)))
    with steered(routed, Intervention(Method.ZERO_WEIGHT, frozenset({Expert(2, 0)}))):
        maps = capture_routing(routed, texts, TokenSet.PROMPT)
    assert maps.counts[:, 2, 0].sum() > 0
    np.testing.assert_array_equal(maps.mass[:, 2, 0], np.zeros(len(PROMPTS)))


def test_positions_in_tables_are_those_of_the_experts() -> None:
    maps = capture_routing(
        find_routers(small_moe("deepseek_v3")), counted_prompts(PROMPTS, TokenSet.PROMPT),
        TokenSet.PROMPT,
    )  # fmt: skip
    assert maps.layers == (1, 2)
    experts = [maps.expert_at(at) for at in range(2 * EXPERTS)]
    assert experts[:2] + experts[-1:] == [Expert(1, 0), Expert(1, 1), Expert(2, 5)]
    assert [maps.position_of(each) for each in experts] == list(range(2 * EXPERTS))
    assert maps.usage.sum() == pytest.approx(2 * CHOSEN)
    assert isinstance(maps.take(np.array([2, 0])), RoutingMaps)
    np.testing.assert_array_equal(maps.take(np.array([2, 0])).counts, maps.counts[[2, 0]])


def test_nothing_to_count() -> None:
    routed = find_routers(small_moe("mixtral"))
    for texts in ([], [Counted([], 0, 0)], [Counted([4, 5], 1, 1)]):
        with pytest.raises(NothingToAudit, match="no tokens to count"):
            capture_routing(routed, texts, TokenSet.PROMPT)
    with pytest.raises(ConfigurationError, match="prompts have no answer tokens"):
        counted_prompts(PROMPTS, TokenSet.ANSWER)
