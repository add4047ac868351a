"""A diffusion model: the same images as diffusers' pipelines, from noise of each image's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from auditor.errors import ConfigurationError, UnsupportedModel
from auditor.memorization.diffusion.model import DiffusionModel, Step, noise_seeds
from tests.models.tiny_diffusion import (
    PROMPTS,
    change_config,
    change_weights,
    latent_folder,
    transformer_folder,
)

SEEDS = [1, 2, 3]


@pytest.fixture(scope="module")
def latent(tmp_path_factory: pytest.TempPathFactory) -> DiffusionModel:
    """A UNet on latents with an autoencoder."""
    return DiffusionModel.open(latent_folder(tmp_path_factory.mktemp("latent") / "m"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> DiffusionModel:
    """A transformer on images."""
    return DiffusionModel.open(transformer_folder(tmp_path_factory.mktemp("plain") / "m"))


def sampled(model: DiffusionModel, **how: Any) -> Tensor:
    """Three prompts, three seeds."""
    settings = {"steps": 7, "guidance": 3.0, **how}
    return model.sample(model.encode(PROMPTS), SEEDS, **settings)


def of_text(model: DiffusionModel) -> dict[str, Any]:
    """Encoders and tokenizers, as the pipelines of diffusers call them."""
    named = {each.name: each for each in model.encoders}
    return {name: each.model for name, each in named.items()} | {
        name.replace("text_encoder", "tokenizer"): each.tokenizer for name, each in named.items()
    }


@pytest.mark.parametrize("predicted", ["epsilon", "v_prediction"])
def test_a_latent_model_gives_the_images_of_the_pipeline_of_diffusers(
    predicted: str, tmp_path: Path
) -> None:
    """Encoding, order of guidance, steps, scale of latents and decoder, all at once."""
    from diffusers import StableDiffusionPipeline

    folder = latent_folder(tmp_path / "m")
    name = "scheduler/scheduler_config.json"
    latent = DiffusionModel.open(change_config(folder, name, prediction_type=predicted))

    make: Any = StableDiffusionPipeline
    pipeline = make(
        vae=latent.decoder, **of_text(latent),
        unet=latent.denoiser, scheduler=latent.scheduler, safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        list(PROMPTS), latents=latent.draw_noise(SEEDS), num_inference_steps=7,
        guidance_scale=3.0, output_type="pt",
    ).images  # fmt: skip
    ours = sampled(latent)
    assert ours.shape == (3, *latent.image_shape) == (3, 3, 16, 16)
    assert torch.allclose(ours, theirs * 2 - 1, atol=1e-5)
    assert (ours[0] - ours[1]).abs().max() > 0.1


def test_noise_is_what_a_velocity_says_of_it(tmp_path: Path, model: DiffusionModel) -> None:
    """Of the true velocity of a noisy image it is the very noise that was added."""
    folder = transformer_folder(tmp_path / "m")
    name = "scheduler/scheduler_config.json"
    other = DiffusionModel.open(change_config(folder, name, prediction_type="v_prediction"))
    clean, noise = (other.draw_noise(seeds) for seeds in ([1, 2], [3, 4]))
    times = torch.tensor([5, 40])
    noisy = other.add_noise(clean, noise, times)
    velocity = other.scheduler.get_velocity(clean, noise, times)
    assert torch.allclose(other.schedule.noise_of(velocity, noisy, times), noise, atol=1e-5)
    embedding = other.encode(PROMPTS[:2])
    raw = other.predict(noisy, times, embedding)
    assert torch.equal(raw, model.predict_noise(noisy, times, embedding))
    assert not torch.allclose(other.predict_noise(noisy, times, embedding), raw, atol=1e-2)


def test_padding_of_t5_and_a_predicted_variance_are_left_out(
    tmp_path: Path, latent: DiffusionModel
) -> None:
    """As the pipeline of PixArt does it, which pads prompts to another length."""
    from diffusers.pipelines.pixart_alpha.pipeline_pixart_alpha import PixArtAlphaPipeline

    folder = transformer_folder(tmp_path / "m", text="t5", in_channels=4, out_channels=8)
    model = DiffusionModel.open(folder)
    make: Any = PixArtAlphaPipeline
    pipeline = make(
        **of_text(model), vae=latent.decoder,
        transformer=model.denoiser, scheduler=model.scheduler,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        list(PROMPTS), negative_prompt="", latents=model.draw_noise(SEEDS), height=16, width=16,
        num_inference_steps=7, guidance_scale=3.0, output_type="latent", clean_caption=False,
        use_resolution_binning=False,
    ).images  # fmt: skip
    assert torch.allclose(sampled(model), theirs.clamp(-1, 1), atol=1e-5)


def test_an_image_does_not_depend_on_its_batch(model: DiffusionModel) -> None:
    """Only on prompt and seed."""
    whole, progress = sampled(model), []
    parts = sampled(model, batch_size=2, progress=lambda *done: progress.append(done))
    assert torch.allclose(whole, parts, atol=1e-5)
    assert progress == [(2, 3), (3, 3)]
    alone = model.sample(model.encode(PROMPTS[1:2]), SEEDS[1:2], steps=7, guidance=3.0)
    assert torch.allclose(alone[0], whole[1], atol=1e-5)


def test_noise_is_of_a_prompt_and_a_number(model: DiffusionModel) -> None:
    """Whatever stands beside them; another seed gives other noise."""
    seeds = noise_seeds(PROMPTS, 2, seed=0)
    assert len(set(seeds)) == 6
    assert seeds[2:4] == noise_seeds(PROMPTS[1:2], 2, seed=0)
    assert set(seeds).isdisjoint(noise_seeds(PROMPTS, 2, seed=1))
    drawn = model.draw_noise(seeds)
    assert drawn.shape == (6, *model.noise_shape)
    assert torch.equal(drawn[3], model.draw_noise([seeds[3]])[0])


def test_the_hook_sees_both_predictions_at_every_step(model: DiffusionModel) -> None:
    """Of the empty prompt and of the prompt, from the noisiest step on."""
    steps: list[Step] = []
    sampled(model, batch_size=2, on_step=steps.append)
    assert [step.rows for step in steps] == [range(2)] * 7 + [range(2, 3)] * 7
    assert [step.number for step in steps] == [*range(7), *range(7)]
    assert [step.timestep for step in steps[:7]] == sorted(
        (step.timestep for step in steps[:7]), reverse=True
    )
    first = steps[0]
    assert torch.equal(first.noisy, model.draw_noise(SEEDS[:2]))
    null = model.unconditional.expand(2, -1, -1)
    for embedding, seen in ((null, first.unconditional),
                            (model.encode(PROMPTS[:2]), first.conditional)):  # fmt: skip
        expected = model.predict_noise(first.noisy, first.timestep, embedding)
        assert torch.allclose(seen, expected, atol=1e-5)


def test_rows_of_the_empty_prompt_come_first_in_every_call(model: DiffusionModel) -> None:
    """Who captures layers may count on it."""
    seen: list[Tensor] = []
    handle = model.denoiser.register_forward_pre_hook(
        lambda module, args, known: seen.append(known["encoder_hidden_states"]), with_kwargs=True
    )
    embeddings = model.encode(PROMPTS)
    model.sample(embeddings, SEEDS, steps=2)
    handle.remove()
    assert len(seen) == 2
    assert torch.equal(seen[0], torch.cat([model.unconditional.expand(3, -1, -1), embeddings]))


def test_without_guidance_the_empty_prompt_does_not_matter(model: DiffusionModel) -> None:
    """Scale 1 is the prompt alone, scale 0 the empty prompt alone."""
    plain, none = sampled(model, guidance=1.0), sampled(model, guidance=0.0)
    empty = model.sample(model.encode([""] * 3), SEEDS, steps=7, guidance=1.0)
    assert torch.allclose(none, empty, atol=1e-5)
    assert not torch.allclose(plain, empty, atol=1e-3)


def test_clipping_follows_the_scheduler(tmp_path: Path, model: DiffusionModel) -> None:
    """A scheduler that clips keeps what it predicts inside its range; others never clip."""
    folder = transformer_folder(tmp_path / "m")
    change_config(folder, "scheduler/scheduler_config.json", clip_sample=True,
                  clip_sample_range=0.5)  # fmt: skip
    assert float(sampled(DiffusionModel.open(folder)).abs().max()) <= 0.5
    assert float(sampled(model).abs().max()) > 0.5


@pytest.mark.parametrize(
    ("name", "clips"), [("DDPMScheduler", True), ("DDIMScheduler", True), ("PNDMScheduler", False)]
)
def test_a_scheduler_that_does_not_say_whether_it_clips_has_its_own_default(
    tmp_path: Path, name: str, clips: bool
) -> None:
    """PNDM knows no clipping, and DDIM stands in for it here."""
    folder = transformer_folder(tmp_path / "m")
    change_config(folder, "scheduler/scheduler_config.json", clip_sample=None, _class_name=name)
    assert DiffusionModel.open(folder).scheduler.config.clip_sample is clips


def test_gradients_reach_the_embedding_and_no_weight(model: DiffusionModel) -> None:
    """What an attack on embeddings needs."""
    embedding = model.encode(PROMPTS).clone().requires_grad_()
    noisy, timestep = model.draw_noise(SEEDS), torch.tensor([1, 20, 40])
    total = model.predict_noise(noisy, timestep, embedding).sum()
    (gradient,) = torch.autograd.grad(total, embedding)
    assert float(gradient.abs().sum()) > 0
    assert not any(weight.requires_grad for weight in model.denoiser.parameters())


def test_noise_is_added_as_in_training(model: DiffusionModel) -> None:
    """Little at the first timestep, nearly only noise at the last; variance is kept."""
    clean, noise = torch.ones(2, *model.noise_shape), model.draw_noise([1, 2])
    noisy = model.add_noise(clean, noise, torch.tensor([0, model.timesteps - 1]))
    kept = model.scheduler.alphas_cumprod[[0, -1]]
    expected = kept.sqrt()[:, None, None, None] * clean
    expected += (1 - kept).sqrt()[:, None, None, None] * noise
    assert torch.allclose(noisy, expected, atol=1e-6)


def test_latents_are_scaled_as_the_decoder_expects(latent: DiffusionModel) -> None:
    """Encoding, then decoding, is what the autoencoder alone makes of an image."""
    images = torch.rand(2, *latent.image_shape) * 2 - 1
    assert latent.decoder is not None
    with torch.no_grad():
        expected = latent.decoder(images).sample.clamp(-1, 1)
    latents = latent.to_latents(images)
    assert latents.shape == (2, *latent.noise_shape)
    assert torch.allclose(latent.to_images(latents), expected, atol=1e-5)


def test_without_a_decoder_images_are_their_own_latents(model: DiffusionModel) -> None:
    """Nothing is scaled."""
    images = torch.rand(2, *model.image_shape)
    assert torch.equal(model.to_latents(images), images)


@pytest.mark.parametrize(
    ("part", "layer", "message"),
    [
        ("transformer", "transformer_blocks.0.ff.net.2.bias",
         r"the denoiser gives NaN, first in its layer transformer_blocks\.0\.ff\.net\.2"),
        # The output of attention is finite then: torch takes a row of NaN scores for an empty one.
        ("transformer", "transformer_blocks.0.attn2.to_k.weight",
         r"the denoiser gives NaN, first in its layer transformer_blocks\.0\.attn2\.to_k"),
        ("text_encoder", "embeddings.token_embedding.weight",
         r"the text encoder gives NaN, first in its layer embeddings\.token_embedding"),
    ],
)  # fmt: skip
def test_nan_in_activations_names_the_first_layer(
    tmp_path: Path, part: str, layer: str, message: str
) -> None:
    """In one line."""
    folder = transformer_folder(tmp_path / "m")
    change_weights(folder, part, lambda name, tensor: tensor * torch.nan
                   if name.endswith(layer) else tensor)  # fmt: skip
    with pytest.raises(UnsupportedModel, match=message) as caught:
        sampled(DiffusionModel.open(folder))
    assert len(str(caught.value).splitlines()) == 1


def test_nan_of_the_decoder_is_named(tmp_path: Path) -> None:
    """Latents were sound."""
    folder = latent_folder(tmp_path / "m")
    change_weights(folder, "vae", lambda name, tensor: tensor * torch.nan
                   if name.startswith("decoder") else tensor)  # fmt: skip
    with pytest.raises(UnsupportedModel, match="the decoder gives NaN, first in its layer decoder"):
        sampled(DiffusionModel.open(folder))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"steps": 51}, "51 steps of a model with 50 timesteps"),
        ({"steps": 0}, "0 steps"),
    ],
)
def test_steps_that_the_noise_does_not_have_are_refused(
    model: DiffusionModel, how: dict[str, int], message: str
) -> None:
    """Before anything is drawn."""
    with pytest.raises(ConfigurationError, match=message):
        sampled(model, **how)


def test_every_image_needs_a_seed(model: DiffusionModel) -> None:
    """And there has to be a prompt."""
    with pytest.raises(ConfigurationError, match="2 seeds for 3 images"):
        model.sample(model.encode(PROMPTS), SEEDS[:2])
    with pytest.raises(ConfigurationError, match="no prompts to encode"):
        model.encode([])
