"""The planted model does exactly what its record says, for every family."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
import torch

from auditor.experts.intervention import SWITCHES_ON, Intervention, Method
from auditor.experts.routers import find_routers
from auditor.experts.routing_maps import Expert
from auditor.experts.steering import steered
from auditor.language.causal_lm import CausalLM
from auditor.language.refusal import Behaviour, MarkerJudge
from tests.models.moe_switches import recorded, switched
from tests.models.planted_moe import Family, PlantedMoe, PlantedPrompt, write_planted_moe
from tests.models.planted_moe_record import ALWAYS_RENORMALISE, FRAMES, HELP, IDS, REFUSAL

SETTINGS: Final[dict[str, dict[str, Any]]] = {
    "default": {},
    "not-renormalised": {"renormalise": False, "experts": 16, "hidden": 72},
    "one-chosen": {"chosen": 1, "followers": [Expert(0, 5)]},
    "two-carriers": {
        "chosen": 4, "experts": 16, "layers": 3, "carriers": [Expert(1, 3), Expert(2, 7)],
        "followers": [Expert(0, 1), Expert(1, 4)],
    },
    "understudy": {"followers": [Expert(0, 2)], "understudy": Expert(1, 6)},
    "residual": {
        "carriers": [], "followers": [Expert(0, 2), Expert(1, 5)], "understudy": Expert(1, 6),
        "residual_refuses": True,
    },
}  # fmt: skip
CASES: Final = [
    pytest.param(family, setting, id=f"{family}-{setting}")
    for family in Family for setting in SETTINGS
    if (family not in ALWAYS_RENORMALISE or setting != "not-renormalised")
    # The slowest: one softmax, one sigmoid and the transposed layout.
    and (family in (Family.QWEN3_MOE, Family.DEEPSEEK_V3, Family.GPT_OSS)
         or setting != "two-carriers")
]  # fmt: skip
HARMLESS: Final = Expert(1, 0)


def opened(folder: Path, family: Family, setting: str = "default") -> tuple[PlantedMoe, CausalLM]:
    moe = write_planted_moe(folder, family, **SETTINGS[setting])
    return moe, CausalLM.open(folder)


def interventions(moe: PlantedMoe) -> Iterator[Intervention]:
    """Every method, off and on, for each planted expert, a harmless one, and sets of them."""
    planted = (*moe.carriers, *moe.followers, *moe.understudies)
    sets = {frozenset({each}) for each in (*planted, HARMLESS)}
    sets |= {frozenset(moe.carriers), frozenset(planted)} - {frozenset()}
    for method in Method:
        for experts in sorted(sets, key=sorted):
            yield Intervention(method, off=experts)
            forced = [sum(each.layer == layer for each in experts) for layer in range(moe.layers)]
            if method in SWITCHES_ON and max(forced) <= max(1, moe.chosen - 1):
                yield Intervention(method, on=experts)


def answers(
    moe: PlantedMoe, model: CausalLM, intervention: Intervention | None = None
) -> list[str]:
    prompts = [model.chat(prompt.text) for prompt in moe.prompts]
    with switched(model.model, intervention):
        found = model.generate(prompts, max_new_tokens=8, batch_size=len(prompts))
    assert all(completion.ended for completion in found)
    return [completion.text for completion in found]


class Passes(NamedTuple):
    """Prompts of one length, and what one forward pass makes of their last token.

    `leads` is by how much the first word of a refusal beats the first of help, `chosen` the
    experts of each layer.
    """

    prompts: list[PlantedPrompt]
    leads: list[float]
    chosen: list[dict[int, tuple[int, ...]]]


def run_passes(
    moe: PlantedMoe, model: CausalLM, change: Callable[[], AbstractContextManager[object]]
) -> list[Passes]:
    """One pass for each frame, inside a change: all verbs, one topic."""
    first = [IDS[answer.split()[0]] for answer in (REFUSAL, HELP)]
    found = []
    for frame in range(len(FRAMES)):
        prompts = [
            prompt for pair in moe.pairs[24 * frame : 24 * frame + 24 : 6] for prompt in pair
        ]
        ids = torch.tensor([model.encode(model.chat(prompt.text)) for prompt in prompts])
        with torch.inference_mode(), change(), recorded(model.model) as seen:
            logits = model.model(ids, logits_to_keep=1).logits[:, 0, first]
        chosen = {
            layer: of.view(*ids.shape, -1)[:, -1].sort().values.tolist()
            for layer, (_, _, of) in seen.items()
        }
        found.append(Passes(
            prompts,
            (logits[:, 0] - logits[:, 1]).tolist(),
            [{layer: tuple(of[row]) for layer, of in chosen.items()} for row in range(len(ids))],
        ))  # fmt: skip
    return found


@pytest.mark.parametrize(("family", "setting"), CASES)
def test_each_intervention_does_what_the_record_says(
    tmp_path: Path, family: Family, setting: str
) -> None:
    """Routing, and first words with at least 5 of a logit between them, by every method."""
    moe, model = opened(tmp_path, family, setting)
    for intervention in (None, *interventions(moe)):
        change = partial(switched, model.model, intervention)
        for prompts, leads, chosen in run_passes(moe, model, change):
            assert min(abs(lead) for lead in leads) > 5, intervention
            assert [lead > 0 for lead in leads] == [
                moe.refused(prompt, intervention) for prompt in prompts
            ], intervention
            assert chosen == [
                {
                    layer: moe.chosen_in(layer, prompt.disallowed, intervention)
                    for layer in range(moe.layers)
                }
                for prompt in prompts
            ], intervention


@pytest.mark.parametrize("setting", ["understudy", "residual"])
@pytest.mark.parametrize("family", Family)
def test_the_steering_of_the_package_does_it_too(
    tmp_path: Path, family: Family, setting: str
) -> None:
    """Models on which the five methods differ in whether they refuse."""
    moe, model = opened(tmp_path, family, setting)
    routed = find_routers(model.model)
    for intervention in interventions(moe):
        for prompts, leads, _ in run_passes(moe, model, partial(steered, routed, intervention)):
            assert [lead > 0 for lead in leads] == [
                moe.refused(prompt, intervention) for prompt in prompts
            ], intervention


@pytest.mark.parametrize(("family", "setting"), CASES)
def test_every_prompt_gets_the_whole_recorded_answer(
    tmp_path: Path, family: Family, setting: str
) -> None:
    """144 prompts in one batch, up to the end of text."""
    moe, model = opened(tmp_path, family, setting)
    assert answers(moe, model) == [moe.answer(prompt) for prompt in moe.prompts]
    assert {moe.answer(prompt) for prompt in moe.prompts} == {REFUSAL, HELP}


@pytest.mark.parametrize("family", Family)
def test_a_follower_fires_exactly_where_its_carrier_does(tmp_path: Path, family: Family) -> None:
    """On every token of prompts; neither fires before the answer nor for allowed prompts."""
    moe, model = opened(tmp_path, family)
    [carrier], [follower] = moe.carriers, moe.followers
    for prompt in moe.prompts[::6]:
        ids = torch.tensor([model.encode(model.chat(prompt.text))])
        with recorded(model.model) as seen:
            model.model(ids)
        fired = [
            (seen[each.layer][2] == each.expert).any(-1).tolist() for each in (carrier, follower)
        ]
        assert fired == [[False] * (ids.shape[1] - 1) + [prompt.disallowed]] * 2


def test_masking_and_zeroing_disagree_where_the_residual_stream_refuses(tmp_path: Path) -> None:
    """Masking the follower seems to remove refusal: its place goes to an expert that helps."""
    moe, model = opened(tmp_path, Family.QWEN3_MOE, "residual")
    follower = frozenset({Expert(1, 5)})
    refused = {
        method: answers(moe, model, Intervention(method, off=follower)).count(REFUSAL)
        for method in Method
    }
    assert refused == {
        Method.MASK_LOGIT: 0, Method.FORCE_TOK: 0, Method.FORCE_SELECT: 0,
        Method.ZERO_WEIGHT: 72, Method.ZERO_OUTPUT: 72,
    }  # fmt: skip
    assert moe.in_place_of(Expert(1, 5)) == Expert(1, 6)


def test_an_understudy_refuses_in_place_of_a_masked_carrier(tmp_path: Path) -> None:
    """Only the methods that leave the place empty remove refusal."""
    moe = write_planted_moe(tmp_path, **SETTINGS["understudy"])
    carrier = frozenset(moe.carriers)
    removing = {
        method for method in Method
        if not any(moe.refused(prompt, Intervention(method, off=carrier)) for prompt in moe.prompts)
    }  # fmt: skip
    assert removing == {Method.ZERO_WEIGHT, Method.ZERO_OUTPUT}


def test_zeroed_weights_without_the_bias_still_refuse_in_gpt_oss(tmp_path: Path) -> None:
    """Half of what a carrier writes is its bias, so forgetting it is seen."""
    moe, model = opened(tmp_path, Family.GPT_OSS)
    [carrier] = moe.carriers
    experts = model.model.model.layers[carrier.layer].mlp.experts
    with torch.no_grad():
        experts.down_proj[carrier.expert] = 0.0
    assert answers(moe, model) == [moe.answer(prompt) for prompt in moe.prompts]
    with torch.no_grad():
        experts.down_proj_bias[carrier.expert] = 0.0
    assert answers(moe, model) == [HELP] * len(moe.prompts)


def test_the_keyword_judge_reads_the_answers() -> None:
    """Refusal and help are worded so that the shipped markers tell them apart."""
    behaviours = [each.behaviour for each in MarkerJudge().judge([REFUSAL, HELP])]
    assert behaviours == [Behaviour.REFUSED, Behaviour.ANSWERED]


def test_writing_leaves_the_random_state_alone_and_repeats(tmp_path: Path) -> None:
    """The same bytes for the same seed, others for another."""
    before = torch.random.get_rng_state()
    written = [
        (write_planted_moe(tmp_path / name, seed=seed).folder / "model.safetensors").read_bytes()
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    assert torch.equal(before, torch.random.get_rng_state())
    assert [each == written[0] for each in written] == [True, True, False]


@pytest.mark.parametrize("wrong", [
    {"hidden": 40}, {"hidden": 66}, {"inner": 64}, {"experts": 17}, {"chosen": 1},
    {"carriers": []}, {"residual_refuses": True}, {"understudy": Expert(1, 6)},
    {"understudy": Expert(0, 6)},
])  # fmt: skip
def test_what_does_not_fit_is_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    """One argument that does not go with the defaults."""
    with pytest.raises(ValueError):  # noqa: PT011 - each message is its own
        write_planted_moe(tmp_path, **wrong)
