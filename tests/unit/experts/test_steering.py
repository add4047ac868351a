"""Interventions do what their formulas say, and leave nothing behind."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from auditor.errors import ConfigurationError, UnsupportedModel
from auditor.experts.choice import Choice, change_weights, read_choices
from auditor.experts.intervention import SWITCHES_ON, Intervention, Method
from auditor.experts.routers import RoutedModel, find_routers
from auditor.experts.routing_maps import Expert
from auditor.experts.steering import Steering, steered
from tests.models.moe_families import EXPERTS, VOCABULARY, small_moe

FAMILIES = ("mixtral", "olmoe", "qwen2_moe", "qwen3_moe", "gpt_oss", "deepseek_v3")
_MODELS: dict[str, RoutedModel] = {}


def routed_model(family: str, normalised: bool = True) -> RoutedModel:
    """A small model, built once; where the family can choose, weights sum to one or do not."""
    key = f"{family} {normalised}"
    if key not in _MODELS:
        _MODELS[key] = find_routers(small_moe(family, norm_topk_prob=normalised))
    return _MODELS[key]


def some_ids(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, VOCABULARY, (3, 9), generator=generator)


def logits_of(routed: RoutedModel, ids: Tensor) -> Tensor:
    with torch.inference_mode():
        found: Tensor = routed.model(input_ids=ids, use_cache=False).logits
    return found


def last_layer(routed: RoutedModel, ids: Tensor, intervention: Intervention | None) -> Tensor:
    """Weights of every expert in the last layer, 0 where not chosen, [tokens, experts]."""
    found: list[Choice] = []

    def run() -> None:
        handle = read_choices(routed.routers[-1], found.append)
        logits_of(routed, ids)
        handle.remove()

    if intervention is None:
        run()
    else:
        with steered(routed, intervention):
            run()
    [choice] = found
    dense = torch.zeros(len(choice.numbers), routed.expert_count)
    return dense.scatter_(1, choice.numbers, choice.weights.float())


def raw_logits(routed: RoutedModel, ids: Tensor) -> Tensor:
    """What the last router's matrix gives, from its input."""
    router: Any = routed.routers[-1].module
    seen: list[Tensor] = []
    handle = router.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    logits_of(routed, ids)
    handle.remove()
    rows = seen[0].reshape(-1, router.weight.shape[1])
    with torch.inference_mode():
        found: Tensor = torch.nn.functional.linear(
            rows, router.weight, getattr(router, "bias", None)
        )
    return found


def reference(
    family: str, routed: RoutedModel, z: Tensor, method: Method, off: list[int], on: list[int]
) -> Tensor:
    """The weights that the definitions give, written from the formulas of each family."""
    router: Any = routed.routers[-1].module
    experts, chosen_experts = routed.expert_count, routed.routers[-1].chosen
    softmax = family != "deepseek_v3"
    gone = torch.tensor([expert in off for expert in range(experts)])
    forced = torch.tensor([expert in on for expert in range(experts)])
    if method is Method.MASK_LOGIT:
        z = z.masked_fill(gone, -1e9)
    if method is Method.FORCE_TOK:
        z = z.log_softmax(1) if softmax else z
        high, low = z.max(1, keepdim=True)[0] + 0.01, z.min(1, keepdim=True)[0] - 0.01
        z = torch.where(forced, high, torch.where(gone, low, z))
    scores = z if family == "gpt_oss" else z.softmax(1) if softmax else z.sigmoid()
    choice = scores.clone()
    if family == "deepseek_v3":
        choice = choice + router.e_score_correction_bias
    if method is Method.FORCE_SELECT:
        size = 1e4 if family == "gpt_oss" else 10
        choice = choice + size * forced.float() - size * gone.float()
    if method is Method.MASK_LOGIT:
        choice = choice.masked_fill(gone, -1e9)
    if family == "deepseek_v3":
        groups = choice.reshape(len(z), 2, experts // 2)
        best = groups.topk(2)[0].sum(-1).argmax(1)
        inside = torch.arange(experts)[None] // (experts // 2) == best[:, None]
        choice = choice.masked_fill(~inside, -torch.inf)
    chosen = torch.zeros_like(z, dtype=torch.bool).scatter_(1, choice.topk(chosen_experts)[1], True)
    if family == "gpt_oss":
        weights = z.masked_fill(~chosen, -torch.inf).softmax(1)
    else:
        weights = scores * chosen
        if family == "mixtral" or router.norm_topk_prob:
            weights = weights / weights.sum(1, keepdim=True)
        if family == "deepseek_v3":
            weights = weights * router.routed_scaling_factor
    if method is Method.ZERO_WEIGHT:
        left = weights.masked_fill(gone, 0)
        total = left.sum(1, keepdim=True)
        weights = left * weights.sum(1, keepdim=True) / total.clamp(min=1e-30)
    return weights


@settings(max_examples=60, deadline=None)
@given(
    family=st.sampled_from(FAMILIES), normalised=st.booleans(), seed=st.integers(0, 10_000),
    method=st.sampled_from([each for each in Method if each is not Method.ZERO_OUTPUT]),
    count=st.sampled_from([6, 8, 10]), chosen=st.integers(1, 3), layers=st.integers(2, 3),
    order=st.randoms(use_true_random=False), off=st.integers(0, 2), on=st.integers(0, 2),
)  # fmt: skip
def test_weights_are_those_of_the_formulas(
    family: str, normalised: bool, seed: int, method: Method, count: int, chosen: int,
    layers: int, order: random.Random, off: int, on: int,
) -> None:  # fmt: skip
    """Random configurations of six families, random experts, every method that moves weights."""
    if family == "deepseek_v3":
        # A token chooses within one of two groups, where one expert may be off: the next test.
        chosen = min(chosen, count // 2 - 1)
    routed = find_routers(small_moe(
        family, seed, norm_topk_prob=normalised, num_hidden_layers=layers, num_experts=count,
        num_local_experts=count, n_routed_experts=count, num_experts_per_tok=chosen,
    ))  # fmt: skip
    ids, layer = some_ids(seed), routed.layers[-1]
    experts = order.sample(range(count), count)
    gone = experts[:off]
    forced = experts[off : off + min(on, chosen)] if method in SWITCHES_ON else []
    if family == "deepseek_v3":
        # Forced ones share a group.
        gone, forced = gone[: count // 2 - max(2, chosen)], forced[:1]
    if not gone and not forced:
        gone = experts[:1]
    intervention = Intervention(
        method, frozenset(Expert(layer, each) for each in gone),
        frozenset(Expert(layer, each) for each in forced),
    )  # fmt: skip
    expected = reference(family, routed, raw_logits(routed, ids), method, gone, forced)
    torch.testing.assert_close(
        last_layer(routed, ids, intervention), expected, rtol=1e-5, atol=1e-6
    )


def test_too_few_experts_left_in_the_groups_is_an_error() -> None:
    routed = routed_model("deepseek_v3")
    layer = routed.layers[-1]
    half = frozenset({Expert(layer, 0), Expert(layer, 1), Expert(layer, 3), Expert(layer, 4)})
    with (
        steered(routed, Intervention(Method.MASK_LOGIT, half)),
        pytest.raises(ConfigurationError, match="hold fewer than 2; switch fewer off"),
    ):
        logits_of(routed, some_ids())


@pytest.mark.parametrize("family", [*FAMILIES, "llama4_text", "gemma4_text", "nemotron_h"])
def test_zero_output_is_the_expert_without_its_share(family: str) -> None:
    """The same as a weight of 0 without any rescaling, where weights scale outputs."""
    routed, ids = routed_model(family), some_ids()
    layer, router = routed.layers[-1], routed.routers[-1]
    intervention = Intervention(Method.ZERO_OUTPUT, frozenset({Expert(layer, 1), Expert(layer, 3)}))

    def without(choice: Choice) -> Tensor:
        gone = (choice.numbers == 1) | (choice.numbers == 3)
        return choice.weights.masked_fill(gone, 0)

    handle = change_weights(router, without)
    expected = logits_of(routed, ids)
    handle.remove()
    assert (expected - logits_of(routed, ids)).abs().max() > 1e-3
    with steered(routed, intervention):
        torch.testing.assert_close(logits_of(routed, ids), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", list(Method))
@pytest.mark.parametrize("family", FAMILIES)
def test_the_model_is_as_before_afterwards(family: str, method: Method) -> None:
    routed, ids = routed_model(family), some_ids()
    before = logits_of(routed, ids)
    intervention = Intervention(method, frozenset({Expert(routed.layers[0], 2)}))
    with steered(routed, intervention):
        changed = logits_of(routed, ids)
    assert torch.equal(logits_of(routed, ids), before)
    assert not torch.equal(changed, before)
    with pytest.raises(ZeroDivisionError), steered(routed, intervention):
        raise ZeroDivisionError
    assert torch.equal(logits_of(routed, ids), before)


def test_zero_weight_leaves_other_rows_bit_for_bit_and_counts_emptied_ones() -> None:
    routed, ids = routed_model("qwen3_moe", normalised=False), some_ids()
    layer = routed.layers[-1]
    before = last_layer(routed, ids, None)
    expert = int(before.gt(0).sum(0).argmax())
    after = last_layer(
        routed, ids, Intervention(Method.ZERO_WEIGHT, frozenset({Expert(layer, expert)}))
    )
    untouched = before[:, expert] == 0
    assert torch.equal(after[untouched], before[untouched])
    assert torch.equal(after[:, expert], torch.zeros(len(after)))
    torch.testing.assert_close(after.sum(1), before.sum(1))
    pair = before[0].nonzero().flatten().tolist()
    seen = emptied_by(routed, ids, Intervention(
        Method.ZERO_WEIGHT, frozenset(Expert(layer, each) for each in pair)
    ))  # fmt: skip
    empty = int(before[:, [each for each in range(EXPERTS) if each not in pair]].eq(0).all(1).sum())
    assert (seen.rows, seen.emptied) == (len(before), empty)
    assert empty >= 1


def emptied_by(routed: RoutedModel, ids: Tensor, intervention: Intervention) -> Steering:
    with steered(routed, intervention) as seen:
        assert logits_of(routed, ids).isfinite().all()
    return seen


def test_interventions_hold_while_generating_with_a_cache() -> None:
    """Step by step with a key-value cache is the same as in one run."""
    routed, ids = routed_model("qwen3_moe"), some_ids()
    intervention = Intervention(
        Method.FORCE_SELECT, frozenset({Expert(0, 1)}), frozenset({Expert(1, 4)})
    )
    with steered(routed, intervention), torch.inference_mode():
        whole = logits_of(routed, ids)
        first = routed.model(input_ids=ids[:, :6], use_cache=True)
        rest = routed.model(input_ids=ids[:, 6:], cache=first.cache)
    torch.testing.assert_close(rest.logits, whole[:, 6:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Intervention(Method.MASK_LOGIT), "without experts"),
        (lambda: Intervention(Method.MASK_LOGIT, on=frozenset({Expert(0, 1)})), "off only"),
        (
            lambda: Intervention(
                Method.FORCE_TOK, frozenset({Expert(0, 1)}), frozenset({Expert(0, 1)})
            ),
            "both off and on: 0:1",
        ),
    ],
)
def test_interventions_that_make_no_sense(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make()


@pytest.mark.parametrize(
    ("intervention", "message"),
    [
        (Intervention(Method.MASK_LOGIT, frozenset({Expert(3, 0)})), "no expert 3:0.*0, 1, 2"),
        (Intervention(Method.MASK_LOGIT, frozenset({Expert(0, 6)})), "no expert 0:6.*0 to 5"),
        (
            Intervention(Method.MASK_LOGIT, frozenset(Expert(1, each) for each in range(5))),
            "5 of 6 experts of layer 1 are off, and a token needs 2",
        ),
        (
            Intervention(Method.FORCE_TOK, on=frozenset(Expert(1, each) for each in range(3))),
            "3 experts of layer 1 are forced on, and a token gets 2",
        ),
    ],
)
def test_interventions_that_do_not_fit_the_model(intervention: Intervention, message: str) -> None:
    with (
        pytest.raises(ConfigurationError, match=message),
        steered(routed_model("mixtral"), intervention),
    ):
        pass


def test_a_choice_made_in_another_way_is_an_error_and_not_skipped() -> None:
    routed = find_routers(small_moe("phimoe"))
    with (
        steered(routed, Intervention(Method.FORCE_SELECT, frozenset({Expert(0, 1)}))),
        pytest.raises(UnsupportedModel, match="chooses its experts in another way"),
    ):
        logits_of(routed, some_ids())
