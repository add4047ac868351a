"""Where a diffusion model carries images, on a model that memorised eight digits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from auditor.errors import ConfigurationError
from auditor.memorization.diffusion.hardening import HardeningOptions, harden
from auditor.memorization.diffusion.model import DiffusionModel
from auditor.memorization.diffusion.objective import (
    DiffusionObjective,
    MemorisedImages,
    ObjectiveWeights,
    untouched_copy,
)
from auditor.memorization.diffusion.prompt_measures import Sampling
from auditor.memorization.diffusion.recovery_attack import AttackOptions, recover_embeddings
from auditor.memorization.diffusion.subspace import denoising_loss, diffusion_norms
from auditor.memorization.masks.mask_rules import magnitude_masks, random_mask
from auditor.memorization.masks.weight_masks import WeightMasks, prune
from auditor.memorization.masks.weight_sites import SiteKind, find_sites
from tests.models.digit_diffusion import digit_diffusion, digit_world
from tests.models.digit_items import digit_items
from tests.models.tiny_diffusion import PROMPTS, latent_folder

QUICK = Sampling(samples=2, steps=4, batch_size=6)


@pytest.fixture(scope="module")
def model() -> DiffusionModel:
    """The trained model."""
    return DiffusionModel.open(digit_diffusion())


def test_every_block_of_the_denoiser_is_found(model: DiffusionModel) -> None:
    for kind, shape in (
        (SiteKind.FEED_FORWARD, (64, 256)), (SiteKind.FEED_FORWARD_IN, (512, 64)),
        (SiteKind.CROSS_ATTENTION, (64, 64)), (SiteKind.CROSS_VALUE, (64, 32)),
    ):  # fmt: skip
        sites = find_sites(model.denoiser, [kind])
        assert [(site.outputs, site.inputs) for site in sites] == [shape] * 4


def test_norms_do_not_depend_on_batches(model: DiffusionModel) -> None:
    sites = find_sites(model.denoiser, (SiteKind.FEED_FORWARD, SiteKind.CROSS_ATTENTION))
    prompts = digit_world().names[:5]
    whole = diffusion_norms(model, sites, prompts, Sampling(samples=2, steps=4, batch_size=64))
    parts = diffusion_norms(model, sites, prompts, QUICK)
    for name, squares in whole.squares.items():
        assert torch.allclose(squares, parts.squares[name], rtol=1e-4)
    # 2 samples, 4 steps, 16 image tokens; the half without a prompt does not count.
    assert whole.rows.tolist() == [[2 * 4 * 16]] * 5


def test_first_steps_are_kept_apart(model: DiffusionModel) -> None:
    sites = find_sites(model.denoiser)
    prompts = digit_world().names[:3]
    pooled = diffusion_norms(model, sites, prompts, QUICK)
    apart = diffusion_norms(model, sites, prompts, QUICK, first_steps=4)
    assert apart.rows.tolist() == [[2 * 16] * 4] * 3
    for name, squares in apart.squares.items():
        assert torch.allclose(squares.mean(dim=1), pooled.squares[name][:, 0], rtol=1e-5)
    first = diffusion_norms(model, sites, prompts, QUICK, first_steps=1)
    for name, squares in first.squares.items():
        assert torch.allclose(squares[:, 0], apart.squares[name][:, 0])


def test_a_latent_model_is_located_in_and_attacked(tmp_path: Path) -> None:
    latent = DiffusionModel.open(latent_folder(tmp_path / "model"))
    kinds = (SiteKind.FEED_FORWARD, SiteKind.CROSS_ATTENTION)
    sites = find_sites(latent.denoiser, kinds)
    assert [site.kind for site in sites] == [kinds[1], kinds[0]] * (len(sites) // 2)
    norms = diffusion_norms(latent, sites, PROMPTS, QUICK)
    assert all(bool((squares > 0).any()) for squares in norms.squares.values())
    images = latent.sample(latent.encode(PROMPTS), [1, 2, 3], steps=2)
    start = latent.encode(PROMPTS)
    found = recover_embeddings(latent, latent.to_latents(images), start, AttackOptions(steps=2))
    assert found.shape == start.shape
    assert not torch.equal(found, start)


def test_more_steps_apart_than_there_are_is_refused(model: DiffusionModel) -> None:
    with pytest.raises(ConfigurationError, match="give 1 to 4"):
        diffusion_norms(model, find_sites(model.denoiser), ["digit"], QUICK, first_steps=5)


def test_a_memorised_image_is_denoised_better_by_its_own_caption(model: DiffusionModel) -> None:
    items = digit_items().memorised
    latents = model.to_latents(items.images)
    own, other = (
        model.encode(texts) for texts in (items.prompts, [texts[0] for texts in items.ordinary])
    )
    with torch.no_grad():
        errors = torch.tensor([
            [float(denoising_loss(model, image, embedding)()) for embedding in pair]
            for image, *pair in zip(latents, own, other, strict=True)
        ])  # fmt: skip
    assert bool((errors[:, 0] < errors[:, 1]).all())


def test_an_attack_lowers_the_error_of_each_image_alone(model: DiffusionModel) -> None:
    world = digit_world()
    images = torch.from_numpy(world.ordinary[:2])
    start = model.unconditional.expand(2, -1, -1)
    options = AttackOptions(steps=15)
    found = recover_embeddings(model, images, start, options)
    with torch.no_grad():
        for image, embedding, was in zip(images, found, start, strict=True):
            assert denoising_loss(model, image, embedding)() < denoising_loss(model, image, was)()
    assert torch.equal(found, recover_embeddings(model, images, start, options))


def test_an_attack_that_fits_nothing_is_refused(model: DiffusionModel) -> None:
    images = torch.from_numpy(digit_world().ordinary[:2])
    with pytest.raises(ConfigurationError, match="1 embeddings for 2 images"):
        recover_embeddings(model, images, model.unconditional)
    with pytest.raises(ConfigurationError, match="positive rate"):
        recover_embeddings(
            model, images[:1], model.unconditional, AttackOptions(rate=0)
        )  # fmt: skip


def test_items_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="2 captions, 1 images"):
        MemorisedImages(("a", "b"), torch.zeros(1, 1, 8, 8), (("c",), ("d",)))


def _objective(model: DiffusionModel, teacher: DiffusionModel) -> DiffusionObjective:
    items = digit_items(choose=8)
    return DiffusionObjective.of(
        model, teacher, items.memorised, items.ordinary, QUICK, ObjectiveWeights(memorised=0), 8
    )


def test_the_untouched_model_loses_nothing_on_ordinary_captions(model: DiffusionModel) -> None:
    objective = _objective(model, untouched_copy(model))
    assert float(objective.loss(0)) == pytest.approx(0.0, abs=1e-12)
    objective.weights = ObjectiveWeights()
    assert float(objective.loss(0)) > 1e-3


def test_hardening_trains_what_is_left_and_keeps_zeros(model: DiffusionModel) -> None:
    changed = untouched_copy(model)
    sites = find_sites(changed.denoiser)
    masks = magnitude_masks(
        sites, WeightMasks({site.name: random_mask((64, 256), 1_000, 1) for site in sites})
    )
    prune(sites, masks)
    before = [site.weight.clone() for site in sites]
    objective = _objective(changed, model)
    objective.weights = ObjectiveWeights()
    options = HardeningOptions(steps=6, attack_every=3, attack=AttackOptions(steps=2, batch=2))
    harden(objective, sites, masks, options)
    for site, was in zip(sites, before, strict=True):
        assert not bool(site.weight[masks.masks[site.name]].any())
        assert not torch.equal(site.weight, was)
        assert not site.module.weight.requires_grad
    assert len(objective.attacked) == 2


def test_hardening_refuses_no_steps(model: DiffusionModel) -> None:
    with pytest.raises(ConfigurationError, match="0 steps"):
        harden(_objective(model, model), (), None, HardeningOptions(steps=0))
