"""What is measured of each prompt: gaps, agreement, copies, the same in every batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from auditor.errors import ConfigurationError
from auditor.memorization.diffusion.copy_similarity import (
    PixelVectors,
    copy_similarity,
    nearest_similarity,
)
from auditor.memorization.diffusion.model import DiffusionModel, Step, noise_seeds
from auditor.memorization.diffusion.noise_gap import NoiseGaps
from auditor.memorization.diffusion.prompt_measures import (
    PromptMeasures,
    Sampling,
    TrainingImages,
    measure_prompts,
)
from auditor.memorization.diffusion.seed_agreement import seed_agreement
from tests.models.tiny_diffusion import PROMPTS, transformer_folder

SAMPLING = Sampling(samples=3, steps=5, guidance=2.0, seed=4, batch_size=6)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> DiffusionModel:
    """A transformer on images of 8x8."""
    return DiffusionModel.open(transformer_folder(tmp_path_factory.mktemp("plain") / "m"))


@pytest.fixture(scope="module")
def known() -> torch.Tensor:
    """Four random images."""
    return torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture(scope="module")
def measured(model: DiffusionModel, known: torch.Tensor) -> list[PromptMeasures]:
    """Three prompts, of which the second has an image of its own."""
    training = TrainingImages.compare_by(known, PixelVectors())
    return measure_prompts(
        model, PROMPTS, SAMPLING, training=training, own=[None, 2, None], keep=torch.neg
    )


def test_gaps_are_norms_of_differences() -> None:
    """By hand, for two images in two batches."""
    gaps = NoiseGaps()
    zero = torch.zeros(1, 1, 1, 2)
    for row, scale in ((0, 1.0), (1, 2.0)):
        for number, timestep in ((0, 9), (1, 4)):
            moved = scale * (number + 1) * torch.tensor([[[[3.0, 4.0]]]])
            gaps(Step(range(row, row + 1), number, timestep, zero, zero, moved))
    assert gaps.gaps.tolist() == [[5.0, 10.0], [10.0, 20.0]]


def test_agreement_is_the_mean_cosine_of_all_pairs() -> None:
    """By hand: one pair the same, two pairs at right angles."""
    vectors = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert seed_agreement(vectors) == pytest.approx(1 / 3)
    assert seed_agreement(vectors[:2]) == pytest.approx(1.0)
    with pytest.raises(ConfigurationError, match="agreement of 1 samples"):
        seed_agreement(vectors[:1])


def test_measures_are_those_of_the_samples(
    model: DiffusionModel, known: torch.Tensor, measured: list[PromptMeasures]
) -> None:
    """To the own image, or to the nearest; what is kept is made of the closest sample."""
    assert [each.prompt for each in measured] == list(PROMPTS)
    for number, each in enumerate(measured):
        images = model.sample(
            model.encode([each.prompt] * 3), noise_seeds([each.prompt], 3, seed=4),
            steps=5, guidance=2.0,
        )  # fmt: skip
        vectors = PixelVectors()(images)
        assert each.agreement == pytest.approx(seed_agreement(vectors), abs=1e-5)
        expected = (
            copy_similarity(images, known[[2, 2, 2]]) if number == 1
            else nearest_similarity(images, known)
        )  # fmt: skip
        assert each.similarity == pytest.approx(expected, abs=1e-5)
        closest = images[int(expected.argmax())]
        assert each.shown is not None
        assert torch.allclose(each.shown, -closest, atol=1e-5)
        assert each.nearest == int((vectors.new_tensor(
            copy_similarity(closest.expand(4, -1, -1, -1), known)
        )).argmax())  # fmt: skip


def test_gaps_are_of_every_sample_and_step(
    model: DiffusionModel, measured: list[PromptMeasures]
) -> None:
    """The first is what the model predicts for pure noise."""
    for each in measured:
        noise = model.draw_noise(noise_seeds([each.prompt], 3, seed=4))
        steps: list[Step] = []
        model.sample(model.encode([each.prompt] * 3), noise_seeds([each.prompt], 3, seed=4),
                     steps=5, on_step=steps.append)  # fmt: skip
        timestep = steps[0].timestep
        with torch.no_grad():
            moved = model.predict_noise(noise, timestep, model.encode([each.prompt] * 3))
            moved = moved - model.predict_noise(noise, timestep, model.encode([""] * 3))
        assert each.gaps.shape == (3, 5)
        assert np.allclose(each.gaps[:, 0], moved.flatten(1).norm(dim=1), atol=1e-5)
        assert each.first_gap == pytest.approx(float(each.gaps[:, 0].mean()))
        assert each.mean_gap == pytest.approx(float(each.gaps.mean()))


def test_batches_do_not_change_what_is_measured(
    model: DiffusionModel, measured: list[PromptMeasures]
) -> None:
    """Not even batches that hold a part of a prompt's samples."""
    for size in (1, 2, 100):
        how = Sampling(samples=3, steps=5, guidance=2.0, seed=4, batch_size=size)
        again = measure_prompts(model, PROMPTS, how)
        for was, now in zip(measured, again, strict=True):
            assert np.allclose(was.gaps, now.gaps, atol=1e-4)
            assert was.agreement == pytest.approx(now.agreement, abs=1e-4)


def test_without_images_only_agreement_and_gaps_are_left(model: DiffusionModel) -> None:
    """And nothing is kept of samples unless asked for."""
    (found,) = measure_prompts(model, PROMPTS[:1], SAMPLING)
    assert (found.similarity, found.nearest, found.shown) == (None, None, None)


def test_what_is_done_before_a_stop_is_returned(model: DiffusionModel) -> None:
    """Whole prompts, with progress."""
    done: list[tuple[int, int]] = []
    found = measure_prompts(
        model, PROMPTS, Sampling(samples=3, steps=2, batch_size=3),
        stop=lambda: len(done) == 2, progress=lambda *each: done.append(each),
    )  # fmt: skip
    assert [each.prompt for each in found] == list(PROMPTS[:2])
    assert done == [(1, 3), (2, 3)]


def test_one_sample_of_a_prompt_cannot_agree(model: DiffusionModel) -> None:
    """At least two are needed."""
    with pytest.raises(ConfigurationError, match="draw at least 2"):
        measure_prompts(model, PROMPTS, Sampling(samples=1, steps=2))


def test_the_path_of_a_model_does_not_matter(
    tmp_path: Path, measured: list[PromptMeasures]
) -> None:
    """The same model elsewhere gives the same measures."""
    again = measure_prompts(
        DiffusionModel.open(transformer_folder(tmp_path / "elsewhere")), PROMPTS, SAMPLING
    )
    assert [each.agreement for each in again] == [each.agreement for each in measured]
