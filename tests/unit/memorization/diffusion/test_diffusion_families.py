"""Families of diffusion models: the same images as diffusers' pipelines, and the same measures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch

from auditor.errors import UnsupportedModel
from auditor.memorization.diffusion.denoiser_graph import require_alike, trace_denoiser
from auditor.memorization.diffusion.model import DiffusionModel
from auditor.memorization.diffusion.noise_gap import NoiseGaps
from auditor.memorization.diffusion.prompt_measures import Sampling
from auditor.memorization.diffusion.recovery_attack import AttackOptions, recover_embeddings
from auditor.memorization.diffusion.subspace import diffusion_norms
from auditor.memorization.diffusion.text_encoders import pack, unpack
from auditor.memorization.masks.weight_sites import SiteKind, find_sites
from tests.models.tiny_diffusion import (
    PROMPTS,
    change_config,
    flux_folder,
    sd3_folder,
    sdxl_folder,
)
from tests.unit.memorization.diffusion.test_diffusion_model import SEEDS, of_text, sampled

FOLDERS: dict[str, Callable[[Path], Path]] = {
    "sdxl": sdxl_folder,
    "sdxl that encodes the empty prompt": lambda path: sdxl_folder(path, zeros=False),
    "sd3": sd3_folder,
    "sd3 without its third encoder": lambda path: sd3_folder(path, t5=False),
    "flux": flux_folder,
    "flux that was not distilled": lambda path: flux_folder(path, guided=False),
}
ONE_EACH = ("sdxl", "sd3", "flux")


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], DiffusionModel]:
    """A model by name, opened once."""
    known: dict[str, DiffusionModel] = {}

    def of(name: str) -> DiffusionModel:
        if name not in known:
            folder = tmp_path_factory.mktemp("family") / "m"
            known[name] = DiffusionModel.open(FOLDERS[name](folder))
        return known[name]

    return of


def by_diffusers(name: str, model: DiffusionModel) -> Any:
    """The images of diffusers' pipeline with the same components and noise."""
    parts = {**of_text(model), "vae": model.decoder, "scheduler": model.scheduler}
    noise = model.draw_noise(SEEDS)
    known: dict[str, Any] = {"guidance_scale": 3.0}
    make: Any
    if name.startswith("sdxl"):
        make = diffusers.StableDiffusionXLPipeline
        parts |= {"unet": model.denoiser, "add_watermarker": False,
                  "force_zeros_for_empty_prompt": model.folder.pipeline[
                      "force_zeros_for_empty_prompt"]}  # fmt: skip
    elif name.startswith("sd3"):
        make = diffusers.StableDiffusion3Pipeline
        parts = {"text_encoder_3": None, "tokenizer_3": None, **parts,
                 "transformer": model.denoiser}  # fmt: skip
    else:
        make = diffusers.FluxPipeline
        parts |= {"transformer": model.denoiser}
        known = {"true_cfg_scale": 3.0, "negative_prompt": [""] * 3}
        # As that pipeline cuts latents into squares.
        noise = make._pack_latents(noise, 3, 4, 8, 8)
    pipeline = make(**parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(
        list(PROMPTS), latents=noise, num_inference_steps=7, height=16, width=16,
        output_type="pt", **known,
    ).images  # fmt: skip


@pytest.mark.parametrize("name", FOLDERS)
def test_images_are_those_of_the_pipeline_of_diffusers(
    name: str, opened: Callable[[str], DiffusionModel]
) -> None:
    """Encoders, pooled vectors, sizes, guidance, steps, latents and decoder, all at once."""
    model = opened(name)
    ours = sampled(model)
    assert ours.shape == (3, *model.image_shape) == (3, 3, 16, 16)
    assert torch.allclose(ours, by_diffusers(name, model) * 2 - 1, atol=2e-5)
    assert (ours[0] - ours[1]).abs().max() > 1e-3


@pytest.mark.parametrize("name", ONE_EACH)
def test_prompts_are_told_apart_from_the_first_step_on(
    name: str, opened: Callable[[str], DiffusionModel]
) -> None:
    """Also of a flow, whose first step sees noise alone."""
    gaps = NoiseGaps()
    sampled(opened(name), on_step=gaps)
    assert gaps.gaps.shape == (3, 7)
    assert (gaps.gaps > 0).all()


@pytest.mark.parametrize("name", ONE_EACH)
def test_an_attack_finds_better_embeddings(
    name: str, opened: Callable[[str], DiffusionModel]
) -> None:
    """By gradients that reach the sequence and, where it is read, the pooled vector."""
    model = opened(name)
    latents = model.to_latents(torch.rand(2, *model.image_shape) * 2 - 1)
    start = model.encode(PROMPTS[:2])
    found = recover_embeddings(model, latents, start, AttackOptions(steps=6, rate=0.3))

    def error(embedding: torch.Tensor) -> float:
        times = model.schedule.spread(12)[1:].repeat(2)
        noise = torch.randn((22, *model.noise_shape), generator=torch.Generator().manual_seed(1))
        noisy = model.add_noise(latents.repeat_interleave(11, 0), noise, times)
        seen = model.predict_noise(noisy, times, embedding.repeat_interleave(11, 0))
        return float((seen - noise).square().mean())

    assert error(found) < error(start)
    moved = (found - start).abs().flatten(2).amax(dim=(0, 2))
    assert moved[0] > 0
    assert moved[-1] > 0


@pytest.mark.parametrize("name", ["sd3", "flux"])
def test_noise_of_a_flow_is_what_its_true_velocity_says(
    name: str, opened: Callable[[str], DiffusionModel]
) -> None:
    """And at the last timestep there is nothing else."""
    schedule = opened(name).schedule
    clean, noise = torch.randn(3, 4, 8, 8), torch.randn(3, 4, 8, 8)
    times = torch.tensor([1.0, 400.0, 1000.0])
    noisy = schedule.add_noise(clean, noise, times)
    assert torch.allclose(schedule.noise_of(noise - clean, noisy, times), noise, atol=1e-5)
    assert torch.equal(noisy[2], noise[2])
    drawn = schedule.draw(4_000, torch.Generator().manual_seed(0))
    assert {float(drawn.min()), float(drawn.max())} == {1.0, 1000.0}


@pytest.mark.parametrize(
    ("name", "kind", "count"),
    [
        ("sdxl", SiteKind.CROSS_ATTENTION, 4),
        # Two blocks with a stream of images each, and one with a stream of text behind attention.
        ("sd3", SiteKind.FEED_FORWARD, 3),
        ("sd3", SiteKind.CROSS_ATTENTION, 3),
        ("sd3", SiteKind.ATTENTION, 1),
        ("sd3", SiteKind.CROSS_KEY, 2),
        ("flux", SiteKind.FEED_FORWARD, 3),
        ("flux", SiteKind.FEED_FORWARD_IN, 3),
        ("flux", SiteKind.CROSS_ATTENTION, 2),
        ("flux", SiteKind.CROSS_VALUE, 1),
    ],
)
def test_layers_are_matched_and_measured(
    name: str, kind: SiteKind, count: int, opened: Callable[[str], DiffusionModel]
) -> None:
    """As many as the architecture has, each with its norms."""
    model = opened(name)
    sites = find_sites(model.denoiser, [kind])
    assert len(sites) == count
    norms = diffusion_norms(model, sites, PROMPTS, Sampling(samples=1, steps=2))
    for site in sites:
        squares = norms.squares[site.name]
        assert squares.shape[-1] == site.inputs
        assert float(squares.max()) > 0


def test_a_graph_of_two_encoders_says_what_torch_says(
    tmp_path: Path, opened: Callable[[str], DiffusionModel]
) -> None:
    """Its embedding has the pooled vector too."""
    model = opened("sdxl")
    assert require_alike(trace_denoiser(model), model, tmp_path / "m.onnx") < 1e-5


def test_a_pooled_vector_is_kept_as_rows() -> None:
    """Filled up with zeros, and taken out as it was."""
    sequence, pooled = torch.rand(2, 3, 4), torch.rand(2, 6)
    embedding = pack(sequence, pooled)
    assert embedding.shape == (2, 5, 4)
    assert embedding[:, -1, 2:].abs().max() == 0
    for found, expected in zip(unpack(embedding, 6), (sequence, pooled), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("scheduler/scheduler_config.json", {"stochastic_sampling": True}, "a plain flow"),
        ("scheduler/scheduler_config.json", {"_class_name": "DDIMScheduler"},
         "'DDIMScheduler' is not among FlowMatchEuler"),
        ("text_encoder/config.json", {"architectures": ["CLIPTextModel"]},
         "'CLIPTextModel' is not among CLIPTextModelWithProjection"),
    ],
)  # fmt: skip
def test_what_does_not_belong_to_a_family_is_one_line(
    tmp_path: Path, name: str, changes: dict[str, Any], message: str
) -> None:
    """With the place."""
    folder = change_config(sd3_folder(tmp_path / "m"), name, **changes)
    with pytest.raises(UnsupportedModel, match=message) as caught:
        DiffusionModel.open(folder)
    assert len(str(caught.value).splitlines()) == 1


def test_encoders_of_another_model_are_refused(tmp_path: Path) -> None:
    """Before their shapes clash in the middle."""
    folder, other = sdxl_folder(tmp_path / "m"), flux_folder(tmp_path / "n")
    for part in ("text_encoder_2", "tokenizer_2"):
        (folder / part).rename(tmp_path / part)
        (other / part).rename(folder / part)
    with pytest.raises(UnsupportedModel, match="'T5EncoderModel' is not among"):
        DiffusionModel.open(folder)
