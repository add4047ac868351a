"""The repair of the digit model: measured, held against controls, attacked, written or not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from auditor.errors import ConfigurationError, NothingToAudit, OutputNotWritable
from auditor.fixes.diffusion_items import DiffusionFiles, read_diffusion_items
from auditor.fixes.diffusion_pruning import DiffusionPruning, DiffusionStudy
from auditor.fixes.image_reader import open_reader
from auditor.fixes.pruning import PruningWork, fix_by_pruning, masks_beside
from auditor.fixes.pruning_gate import PruningDemands
from auditor.fixes.pruning_study import Split
from auditor.memorization.diffusion.hardening import HardeningOptions
from auditor.memorization.diffusion.model import DiffusionModel
from auditor.memorization.diffusion.prompt_measures import Sampling
from auditor.memorization.diffusion.recovery_attack import AttackOptions
from auditor.memorization.diffusion.training_images import read_image_array
from auditor.memorization.masks.learned_masks import MaskTraining
from auditor.memorization.masks.mask_file import read_masks, restore
from auditor.memorization.masks.mask_rules import MaskRule
from auditor.memorization.masks.weight_masks import pruned
from auditor.memorization.masks.weight_sites import SiteKind, find_sites
from auditor.models.onnx_model import OnnxModel
from tests.models.digit_diffusion import digit_diffusion
from tests.models.digit_items import (
    DigitReader,
    digit_items,
    write_digit_classifier,
    write_digit_items,
)

BOTH = (SiteKind.FEED_FORWARD, SiteKind.CROSS_ATTENTION)
QUICK = DiffusionPruning(
    rules=(MaskRule.WANDA_DIFF,), layers=((SiteKind.FEED_FORWARD,),), shares=(0.05,),
    sampling=Sampling(samples=2, steps=8, guidance=2.0, batch_size=64), attack_steps=(2,),
)  # fmt: skip
ITEMS = digit_items(choose=8, report=8)


@pytest.fixture(scope="module")
def study() -> DiffusionStudy:
    """The committed model; every test leaves it as it was."""
    return DiffusionStudy(DiffusionModel.open(digit_diffusion()), ITEMS, QUICK, DigitReader())


def test_the_untouched_model_gives_images_back_and_shows_digits(study: DiffusionStudy) -> None:
    for split in Split:
        outcome = study.measure(split)
        assert outcome.rates.mean() > 0.7
        assert outcome.costs.mean() < 0.2
        assert outcome.rates.shape == outcome.costs.shape == (8,)


def test_without_a_reader_ordinary_images_cost_what_they_change(study: DiffusionStudy) -> None:
    plain = DiffusionStudy(study.model, ITEMS, QUICK)
    assert np.allclose(plain.measure(Split.REPORT).costs, 0, atol=1e-5)
    candidate = next(plain.candidates())
    with pruned(candidate.sites, candidate.masks):
        assert plain.measure(Split.REPORT).costs.mean() > 0.01


def test_every_rule_of_every_set_of_layers_is_a_candidate(study: DiffusionStudy) -> None:
    rules = (MaskRule.WANDA_GATE, MaskRule.WANDA_DIFF, MaskRule.GRADIENT, MaskRule.LEARNED)
    how = replace(
        QUICK, rules=rules, layers=((SiteKind.FEED_FORWARD,), BOTH), shares=(0.1,),
        training=MaskTraining(steps=2),
    )  # fmt: skip
    found = list(DiffusionStudy(study.model, ITEMS, how).candidates())
    assert [each.name for each in found] == [
        f"{rule}, {layers}, 0.1"
        for layers in ("feed_forward", "feed_forward + cross_attention") for rule in rules
    ]  # fmt: skip
    for each in found:
        assert 0.01 < each.masks.density < 0.1
        for mask in each.masks.masks.values():
            assert int(mask.sum(dim=1).max()) <= mask.shape[1] // 10


def test_a_repair_that_costs_too_much_is_rejected_and_nothing_written(
    study: DiffusionStudy, tmp_path: Path
) -> None:
    before = study.model.denoiser.state_dict()
    before = {name: value.clone() for name, value in before.items()}
    work = PruningWork(PruningDemands(most_rate=0.0, most_loss=0.0), controls=1)
    result = fix_by_pruning(study, tmp_path / "new", work)
    assert result.decision == "rejected"
    assert any(reason.startswith("missed: ") for reason in result.reasons)
    assert not list(tmp_path.iterdir())
    after = study.model.denoiser.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert [each.name for each in result.conditions if each.control] == [
        "the largest weights", "matched random weights 1"
    ]  # fmt: skip
    attacks = [each.name for each in result.conditions[0].comparisons if "come back" in each.name]
    assert len(attacks) == 4  # from the caption and from none, memorised images and others


def test_a_place_that_is_taken_is_refused_before_any_work(
    study: DiffusionStudy, tmp_path: Path
) -> None:
    masks_beside(tmp_path / "new").write_bytes(b"")
    with pytest.raises(OutputNotWritable):
        fix_by_pruning(study, tmp_path / "new", progress=pytest.fail)


def test_nothing_memorised_is_nothing_to_repair(study: DiffusionStudy, tmp_path: Path) -> None:
    swapped = replace(ITEMS.memorised, images=ITEMS.control)
    other = DiffusionStudy(study.model, replace(ITEMS, memorised=swapped), QUICK)
    with pytest.raises(NothingToAudit, match="nothing to repair"):
        fix_by_pruning(other, tmp_path / "new")


@pytest.mark.slow
def test_an_accepted_repair_suppresses_and_can_be_undone(tmp_path: Path) -> None:
    items = digit_items(choose=40, report=24)
    how = replace(
        QUICK, rules=(MaskRule.LEARNED,), layers=(BOTH,), shares=(0.1,),
        sampling=Sampling(samples=3, steps=20, guidance=2.0, batch_size=64),
        training=MaskTraining(steps=300), attack_steps=(10,),
    )  # fmt: skip
    model = DiffusionModel.open(digit_diffusion())
    out = tmp_path / "new"
    result = fix_by_pruning(
        DiffusionStudy(model, items, how, DigitReader()), out,
        PruningWork(PruningDemands(most_rate=0.3, most_loss=0.15), 2, graph=tmp_path / "graph"),
    )  # fmt: skip
    assert result.decision == "accepted", result.reasons
    written = DiffusionModel.open(out, expected_digest=result.written_digest)
    file = read_masks(masks_beside(out))
    sites = find_sites(written.denoiser, BOTH)
    for site in sites:
        assert not bool(site.weight[file.masks.masks[site.name]].any())
    assert OnnxModel.open(tmp_path / "graph" / "model.onnx").inputs[0].name == "noisy"
    restore(sites, file)
    old = model.denoiser.state_dict()
    assert all(torch.equal(v, old[name]) for name, v in written.denoiser.state_dict().items())


def test_hardening_changes_the_model_inside_its_block_alone(study: DiffusionStudy) -> None:
    how = replace(QUICK, hardening=HardeningOptions(
        steps=2, attack_every=2, attack=AttackOptions(steps=1, batch=1)
    ))  # fmt: skip
    trained = DiffusionStudy(study.model, ITEMS, how, DigitReader())
    candidate = next(trained.candidates())
    weight = candidate.sites[0].weight
    with pruned(candidate.sites, candidate.masks):
        before = weight.clone()
        with trained.hardened(candidate) as done:
            assert done
            assert not torch.equal(weight, before)
        assert torch.equal(weight, before)
        with study.hardened(candidate) as done:
            assert not done


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of the command."""
    folder = tmp_path_factory.mktemp("files")
    write_digit_items(folder, ITEMS)
    write_digit_classifier(folder / "digits.onnx")
    return folder


def _read(folder: Path, **changes: Any) -> Any:
    named: dict[str, Any] = {
        "memorised": folder / "memorised.jsonl", "ordinary": folder / "ordinary.jsonl",
        "held_out": folder / "held-out.jsonl", "never": folder / "never.jsonl", "labelled": True,
    }  # fmt: skip
    images = read_image_array(folder / "images.npz", (1, 8, 8))
    return read_diffusion_items(DiffusionFiles(**{**named, **changes}), images)


def test_files_hold_what_was_written(files: Path) -> None:
    found = _read(files)
    assert found.memorised.prompts == ITEMS.memorised.prompts
    assert torch.equal(found.memorised.images, ITEMS.memorised.images)
    assert [set(texts) for texts in found.memorised.ordinary] == [
        set(texts) for texts in ITEMS.memorised.ordinary
    ]
    assert set(ITEMS.ordinary) < set(found.ordinary)
    assert found.labels[ITEMS.ordinary[0]] == ITEMS.labels[ITEMS.ordinary[0]]
    assert torch.equal(found.control, ITEMS.control)


def test_a_control_that_was_memorised_is_refused(files: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"memorised\.jsonl:1: image '0' is among"):
        _read(files, never=files / "memorised.jsonl")


def test_prompts_that_are_chosen_by_and_reported_on_are_refused(files: Path) -> None:
    with pytest.raises(ConfigurationError, match="chosen by and reported on"):
        _read(files, held_out=files / "ordinary.jsonl")


def test_a_classifier_of_a_file_reads_as_the_one_it_was_made_of(files: Path) -> None:
    images = torch.cat([ITEMS.memorised.images, ITEMS.control])
    labels = ["3"] * len(images)
    read = open_reader(files / "digits.onnx", (1, 8, 8), set(labels))
    assert read(images, labels) == DigitReader()(images, labels)
    with pytest.raises(ConfigurationError, match="label 'seven' is no output"):
        open_reader(files / "digits.onnx", (1, 8, 8), ["seven"])
