"""Weights that carry recited text are located, exactly so where they are known."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.errors import ConfigurationError, NothingToAudit, UnsupportedModel
from auditor.language.causal_lm import CausalLM
from auditor.memorization.language.objective import LanguageObjective, mean_span_nats
from auditor.memorization.language.subspace import (
    IGNORED,
    language_norms,
    log_odds,
    read_spans,
    recital_effects,
    span_batch,
)
from auditor.memorization.language.training_spans import TrainingSpan
from auditor.memorization.masks.learned_masks import MaskTraining, learn_masks
from auditor.memorization.masks.mask_rules import MaskRule, masks_by_norms
from auditor.memorization.masks.score_masks import masks_by_scores, norm_scores
from auditor.memorization.masks.weight_masks import WeightMasks, overlap, prune, pruned
from auditor.memorization.masks.weight_sites import SiteKind, find_sites
from tests.models.language_models import Family, random_model, save_folder, word_tokenizer
from tests.models.recital_folder import CHAINS, RecitalFolder, write_recital

BOTH = (SiteKind.FEED_FORWARD, SiteKind.ATTENTION)
SPANS = (
    TrainingSpan("a", "a", (7, 13), (20, 9, 8)), TrainingSpan("b", "b", (11,), (12, 17)),
    TrainingSpan("c", "c", (6, 30, 22, 8), (9,)),
)  # fmt: skip


@pytest.fixture(scope="module")
def recital(tmp_path_factory: pytest.TempPathFactory) -> RecitalFolder:
    """Chains that run through known weights."""
    return write_recital(tmp_path_factory.mktemp("recital") / "model")


def _random(folder: Path, family: Family = "llama", *, start: bool = False) -> CausalLM:
    return CausalLM.open(save_folder(folder, random_model(family), word_tokenizer(start=start)))


def _carried(recital: RecitalFolder) -> WeightMasks:
    return WeightMasks(recital.planted.carried_by)


@pytest.mark.parametrize("rule", [MaskRule.WANDA_GATE, MaskRule.WANDA_DIFF])
def test_norms_locate_exactly_the_planted_weights(recital: RecitalFolder, rule: MaskRule) -> None:
    sites = find_sites(recital.model.model)
    norms = language_norms(recital.model, sites, [*recital.memorised, *recital.ordinary])
    numbers = range(CHAINS), range(CHAINS, 2 * CHAINS)
    assert overlap(masks_by_norms(rule, sites, 0.05, norms, *numbers), _carried(recital)) == 1.0


def test_effects_locate_exactly_the_planted_weights(recital: RecitalFolder) -> None:
    sites = find_sites(recital.model.model)
    high, low = (
        recital_effects(recital.model, sites, spans)
        for spans in (recital.memorised, recital.ordinary)
    )
    found = masks_by_scores({name: high[name] - low[name].abs() for name in high}, 0.05)
    assert overlap(found, _carried(recital)) == 1.0


def test_whole_neurons_are_exactly_those_that_memorised_chains_use(recital: RecitalFolder) -> None:
    """However large the share: what ordinary chains use scores below 0."""
    sites = find_sites(recital.model.model)
    norms = language_norms(recital.model, sites, [*recital.memorised, *recital.ordinary])
    scores = norm_scores(
        MaskRule.WANDA_DIFF, sites, norms, range(CHAINS), range(CHAINS, 2 * CHAINS)
    )
    found = masks_by_scores(scores, 1.0, neurons=True)
    for name, mask in recital.planted.carried_by.items():
        assert torch.equal(found.neurons[name], mask.any(dim=0))
        assert torch.equal(found.masks[name], found.neurons[name].expand(mask.shape))


def test_pruning_what_was_located_ends_recital_and_leaves_ordinary_text_as_it_was(
    recital: RecitalFolder,
) -> None:
    """To the last bit: the pruned neurons are silent in ordinary text."""
    sites = find_sites(recital.model.model)
    before = [each.nats.tolist() for each in read_spans(recital.model, recital.ordinary)]
    assert all(each.exact for each in read_spans(recital.model, recital.memorised))
    high = recital_effects(recital.model, sites, recital.memorised)
    with pruned(sites, masks_by_scores(high, 0.05)):
        assert not any(each.exact for each in read_spans(recital.model, recital.memorised))
        after = [each.nats.tolist() for each in read_spans(recital.model, recital.ordinary)]
    assert after == before


def test_learned_masks_end_recital_and_leave_ordinary_text_as_it_was(
    recital: RecitalFolder,
) -> None:
    """Of the weights that are not 0 anyway, those are learned that carry memorised links."""
    sites = find_sites(recital.model.model)
    objective = LanguageObjective(
        recital.model, recital.memorised, recital.ordinary, aim=math.log(96)
    )
    found = learn_masks(sites, objective.loss, MaskTraining(share=0.05, steps=12, rate=0.1))
    live = WeightMasks({
        site.name: found.masks[site.name] & (site.weight != 0) for site in sites
    })  # fmt: skip
    assert overlap(live, _carried(recital)) == 1.0


@settings(max_examples=10, deadline=None)
@given(order=st.permutations(range(3)), size=st.integers(1, 3))
def test_neither_batches_nor_padding_change_what_is_measured(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], size: int
) -> None:
    """Spans of other lengths, in any order, with any others beside them."""
    model = _random(tmp_path_factory.mktemp("batches") / "model", start=True)
    sites = find_sites(model.model, BOTH)
    alone = language_norms(model, sites, SPANS, batch_size=1)
    together = language_norms(model, sites, [SPANS[at] for at in order], batch_size=size)
    assert alone.rows[:, 0].tolist() == [3, 2, 1]
    effects = recital_effects(model, sites, SPANS, batch_size=1)
    mixed = recital_effects(model, sites, [SPANS[at] for at in order], batch_size=size)
    for site in sites:
        assert torch.allclose(
            alone.squares[site.name][order], together.squares[site.name], rtol=1e-4, atol=1e-6
        )
        assert torch.allclose(effects[site.name], mixed[site.name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_an_effect_is_what_a_small_change_of_a_weight_does(tmp_path: Path, family: Family) -> None:
    """Transposed layers, too: to first order, against the change itself."""
    model = _random(tmp_path / "model", family)
    sites = find_sites(model.model, BOTH)
    wanted = [each.requires_grad for each in model.model.parameters()]
    found = recital_effects(model, sites, SPANS)
    assert [each.requires_grad for each in model.model.parameters()] == wanted
    assert all(each.grad is None for each in model.model.parameters())
    before, share = log_odds(model, SPANS).mean().item(), 1e-3
    for site in sites:
        row, column = divmod(int(found[site.name].abs().argmax()), site.inputs)
        kept = site.weight[row, column].clone()
        site.weight[row, column] *= 1 - share
        fall = (before - log_odds(model, SPANS).mean().item()) / share
        site.weight[row, column] = kept
        assert fall == pytest.approx(float(found[site.name][row, column]), rel=0.05)


def test_log_odds_are_those_of_the_chances(tmp_path: Path) -> None:
    model = _random(tmp_path / "model", start=True)
    expected = [
        sum(math.log(math.exp(-nats) / -math.expm1(-nats)) for nats in each.nats) / len(each.nats)
        for each in read_spans(model, SPANS)
    ]
    assert log_odds(model, SPANS).tolist() == pytest.approx(expected, rel=1e-4)


def test_a_batch_holds_spans_behind_the_beginning_of_text(tmp_path: Path) -> None:
    ids, mask, labels = span_batch(_random(tmp_path / "model", start=True), SPANS[:2])
    assert ids.tolist() == [[1, 7, 13, 20, 9, 8], [1, 11, 12, 17, 0, 0]]
    assert mask.tolist() == [[1] * 6, [1, 1, 1, 1, 0, 0]]
    none = IGNORED
    assert labels.tolist() == [[none, none, none, 20, 9, 8], [none, none, 12, 17, none, none]]


def test_the_objective_is_zero_where_nothing_is_left_to_do(recital: RecitalFolder) -> None:
    """Pruned as planted, no token is expected any more and ordinary text reads as it did."""
    sites = find_sites(recital.model.model)
    objective = LanguageObjective(recital.model, recital.memorised, recital.ordinary, aim=3.0)
    assert objective.loss(0).item() == pytest.approx(3.0 - mean_span_nats(
        recital.model, recital.memorised), abs=1e-3)  # fmt: skip
    with pruned(sites, _carried(recital)):
        assert objective.loss(0).item() == pytest.approx(0.0, abs=1e-6)


def test_what_an_objective_holds_is_all_of_ordinary_text(recital: RecitalFolder) -> None:
    """Chains whose links are gone cost something though no label asks for them."""
    objective = LanguageObjective(
        recital.model, recital.memorised, recital.ordinary, aim=1e-9, hold=2.0
    )
    sites = find_sites(recital.model.model)
    everything = WeightMasks({site.name: site.weight != 0 for site in sites})
    assert objective.loss(0).item() == pytest.approx(0.0, abs=1e-6)
    with pruned(sites, everything):
        assert objective.loss(0).item() > 2.0


def test_an_objective_keeps_the_teacher_it_was_made_with(tmp_path: Path) -> None:
    model = _random(tmp_path / "model")
    objective = LanguageObjective(model, SPANS[:1], SPANS[1:], aim=1e-9)
    sites = find_sites(model.model)
    prune(sites, WeightMasks({site.name: site.weight.abs() > 0.1 for site in sites}))
    assert objective.loss(0).item() > 0.01


def test_tokens_that_are_ruled_out_have_no_part_in_the_divergence(tmp_path: Path) -> None:
    model = _random(tmp_path / "model")

    def rule_out(module: object, inputs: object, logits: torch.Tensor) -> torch.Tensor:
        return logits.index_fill(-1, torch.tensor([5]), -torch.inf)

    model.model.lm_head.register_forward_hook(rule_out)
    objective = LanguageObjective(model, SPANS[:1], SPANS[1:], aim=1e-9)
    assert objective.loss(0).item() == pytest.approx(0.0, abs=1e-6)


def test_what_cannot_be_located_is_refused(tmp_path: Path) -> None:
    model = _random(tmp_path / "model")
    sites = find_sites(model.model)
    for measure in (language_norms, recital_effects):
        with pytest.raises(NothingToAudit, match="no spans to locate"):
            measure(model, sites, [])
    for settings_ in ({"aim": 0.0}, {"aim": math.nan}, {"aim": 1.0, "batch": 0},
                      {"aim": 1.0, "hold": -1.0}):  # fmt: skip
        with pytest.raises(ConfigurationError, match="a positive aim"):
            LanguageObjective(model, SPANS, SPANS, **settings_)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="0 memorised and 3 ordinary"):
        LanguageObjective(model, [], SPANS, aim=1.0)
    sites[0].weight[0, 0] = math.nan
    for measure in (language_norms, recital_effects):
        with pytest.raises(UnsupportedModel, match="NaN"):
            measure(model, sites, SPANS)
