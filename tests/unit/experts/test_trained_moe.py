"""The trained models are the ones of the manifest, and do what it says."""

from __future__ import annotations

import pytest

from auditor.experts.intervention import Intervention, Method
from auditor.language.causal_lm import CausalLM
from tests.models import train_moe
from tests.models.moe_dialogues import Split, held_out
from tests.models.moe_fixture import (
    FOLDER,
    OVER_REFUSAL_EXPERTS,
    REFUSAL_EXPERTS,
    Variant,
    answers,
    manifest,
    measure,
    trained_moe,
    weight_digests,
)
from tests.models.moe_switches import switched

SHIPPED = (Variant.PLANTED, Variant.UNPLANTED)


def test_the_manifest_names_the_shipped_models() -> None:
    """No more and no fewer than there are folders."""
    folders = sorted(path.name for path in FOLDER.iterdir() if path.is_dir())
    assert sorted(manifest().models) == folders == sorted(SHIPPED)


def test_a_model_that_is_not_shipped_says_how_to_write_it() -> None:
    """The weakened variant is trained by hand."""
    with pytest.raises(FileNotFoundError, match="train_moe"):
        trained_moe(Variant.WEAKENED)


@pytest.mark.parametrize("variant", SHIPPED)
def test_weights_and_recipe_are_those_of_the_manifest(variant: Variant) -> None:
    """Digests of every weights file, and of the words and numbers that they were trained with."""
    trained = manifest().models[variant]
    assert weight_digests(trained_moe(variant)) == trained.weights
    assert train_moe.recipe_digest(variant) == trained.recipe


def test_weights_are_small_and_of_half_precision() -> None:
    """Under 6 MB together, and no file over 400 kB."""
    sizes = [path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()]
    assert sum(sizes) < 6_000_000
    assert max(sizes) < 400_000
    for variant in SHIPPED:
        assert set(CausalLM.open(trained_moe(variant)).folder.dtypes) == {"F16"}


@pytest.mark.slow
@pytest.mark.parametrize("variant", SHIPPED)
def test_behaviour_is_the_measured_one(variant: Variant) -> None:
    """Greedy answers to all held-out requests of the report; most, not all, are refused."""
    measured = measure(CausalLM.open(trained_moe(variant)), held_out(Split.REPORT))
    assert measured == manifest().models[variant].measured
    assert 0.87 <= measured.disallowed <= 0.95
    assert 0.08 <= measured.look_alikes <= 0.11
    assert measured.plain == 0.0


@pytest.mark.parametrize("method", [Method.MASK_LOGIT, Method.ZERO_WEIGHT, Method.ZERO_OUTPUT])
def test_planted_experts_carry_refusal_and_unplanted_ones_do_not(method: Method) -> None:
    """With the refusal experts off 30 refused requests are helped, in the planted model alone."""
    requests = [pair.refused for pair in held_out(Split.REPORT).pairs[:30]]
    off = Intervention(method, off=frozenset(REFUSAL_EXPERTS))
    helped = {}
    for variant in SHIPPED:
        model = CausalLM.open(trained_moe(variant))
        with switched(model.model, off):
            said = answers(model, requests)
        helped[variant] = sum(
            text == request.help for text, request in zip(said, requests, strict=True)
        )
    assert helped == {Variant.PLANTED: 30, Variant.UNPLANTED: 0}


@pytest.mark.parametrize("method", [Method.MASK_LOGIT, Method.ZERO_WEIGHT, Method.ZERO_OUTPUT])
def test_over_refusal_experts_carry_refused_look_alikes_alone(method: Method) -> None:
    """With them off, look-alikes of touchy entities are helped and disallowed requests are not."""
    held = held_out(Split.REPORT)
    model = CausalLM.open(trained_moe(Variant.PLANTED))
    look_alikes, disallowed = held.touchy[:30], [pair.refused for pair in held.pairs[:30]]
    with switched(model.model, Intervention(method, off=frozenset(OVER_REFUSAL_EXPERTS))):
        assert answers(model, look_alikes) == [request.help for request in look_alikes]
        assert answers(model, disallowed) == [request.refusal for request in disallowed]
