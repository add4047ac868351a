"""A pruned diffusion model as a folder: it opens again, and says what the pruned model said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from auditor.fixes.pruned_folder import write_pruned_denoiser, write_pruned_diffusion
from auditor.memorization.diffusion.model import DiffusionModel
from auditor.memorization.diffusion.objective import untouched_copy
from auditor.memorization.masks.weight_masks import WeightMasks, prune
from auditor.memorization.masks.weight_sites import SiteKind, find_sites
from tests.models.tiny_diffusion import (
    PROMPTS,
    flux_folder,
    latent_folder,
    sd3_folder,
    sdxl_folder,
    transformer_folder,
)

KINDS = (SiteKind.FEED_FORWARD, SiteKind.CROSS_ATTENTION)


@pytest.mark.parametrize(
    "write", [transformer_folder, latent_folder, sdxl_folder, sd3_folder, flux_folder]
)
def test_a_pruned_folder_opens_again(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    """With every component it had; its weights are zero where the mask says so."""
    model = DiffusionModel.open(write(tmp_path / "old"))
    masks = pruned_by_half(model)
    (tmp_path / "new").mkdir()
    digest = write_pruned_diffusion(model, tmp_path / "new")
    again = DiffusionModel.open(tmp_path / "new", expected_digest=digest)
    assert set(again.folder.files) == set(model.folder.files)
    assert again.image_shape == model.image_shape
    for site in find_sites(again.denoiser, KINDS):
        assert bool((site.weight[masks.masks[site.name]] == 0).all())
    embeddings = model.encode(PROMPTS)
    assert torch.equal(again.encode(PROMPTS), embeddings)
    drawn = [each.sample(embeddings, [1, 2, 3], steps=2) for each in (model, again)]
    assert torch.equal(*drawn)


def test_a_pruned_graph_of_two_encoders_says_what_torch_says(tmp_path: Path) -> None:
    """It is held to, or not written."""
    model = DiffusionModel.open(sdxl_folder(tmp_path / "old"))
    untouched = untouched_copy(model)
    masks = pruned_by_half(model)
    (tmp_path / "new").mkdir()
    write_pruned_denoiser(model, untouched, masks, tmp_path / "new")
    assert (tmp_path / "new" / "model.onnx").is_file()


def pruned_by_half(model: DiffusionModel) -> WeightMasks:
    """Half of the weights of every layer, pruned in place."""
    sites = find_sites(model.denoiser, KINDS)
    source = torch.Generator().manual_seed(0)
    masks = WeightMasks({
        site.name: torch.rand(site.weight.shape, generator=source) < 0.5 for site in sites
    })  # fmt: skip
    prune(sites, masks)
    return masks
