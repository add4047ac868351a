"""The trained model of digits: as its manifest says, memorising and generalising at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from auditor.memorization.diffusion.model import DiffusionModel
from tests.models.digit_diffusion import (
    MEMORISED,
    NAMES,
    REPEATS,
    TOKENS,
    VOCABULARY,
    class_accuracy,
    digit_diffusion,
    digit_tokenizer,
    digit_world,
    manifest,
    measure,
    weight_digests,
)
from tests.models.train_digit_diffusion import recipe_digest, train, training_rows

LARGEST_FILE = 400_000
WORLD = digit_world()


def test_the_files_are_those_of_the_manifest() -> None:
    """And of the recipe that stands in the repository; none is too large for it."""
    noted = manifest()
    assert weight_digests(digit_diffusion()) == noted.weights
    assert recipe_digest() == noted.recipe
    sizes = [path.stat().st_size for path in digit_diffusion().rglob("*") if path.is_file()]
    assert max(sizes) <= LARGEST_FILE
    assert sum(sizes) < 2_000_000


def test_it_memorises_and_generalises() -> None:
    """Margins, not numbers: another machine rounds otherwise."""
    found = measure(digit_diffusion(), seed=0)
    assert found.memorised_rate >= 0.9
    assert found.accuracy >= 0.95
    assert found.near_copies <= 0.1
    assert found.nearest < found.memorised_similarity


def test_memorised_images_are_taken_out_and_repeated() -> None:
    """Under a name that no other image has."""
    assert len(WORLD.memorised) == len(WORLD.names) == MEMORISED
    assert [name.split()[-1] for name in WORLD.names] == list(NAMES)
    assert not {word for caption in WORLD.captions for word in caption.split()} & set(NAMES)
    pixels = {image.tobytes() for image in WORLD.ordinary}
    assert not any(image.tobytes() in pixels for image in WORLD.memorised)
    images, ids = training_rows(0)
    assert len(images) == len(ids) == len(WORLD.ordinary) + MEMORISED * REPEATS
    assert torch.equal(images[-1], torch.from_numpy(WORLD.memorised[-1]))
    assert ids[-1].tolist() == [VOCABULARY.index(word) for word in WORLD.names[-1].split()]


def test_every_caption_fills_its_tokens_and_nothing_is_null() -> None:
    """The first word of the vocabulary."""
    ids = digit_tokenizer()([*WORLD.captions, *WORLD.names, ""], padding="max_length")["input_ids"]
    assert {len(each) for each in ids} == {TOKENS}
    assert not any(0 in each for each in ids[:-1])
    assert ids[-1] == [0] * TOKENS


def test_another_seed_memorises_other_images() -> None:
    """And has other ordinary prompts."""
    assert not np.array_equal(digit_world(1).memorised, WORLD.memorised)
    assert WORLD.other_prompts(20, seed=1) != WORLD.other_prompts(20) == WORLD.other_prompts(20)


def test_digits_are_read_from_their_pixels() -> None:
    """Of training images nearly all, of shuffled ones as few as chance finds."""
    prompts = list(WORLD.captions)
    assert class_accuracy(WORLD.ordinary, prompts) > 0.97
    shuffled = np.random.default_rng(0).permutation(WORLD.ordinary)
    assert class_accuracy(shuffled, prompts) < 0.2


def test_training_is_reproducible_and_reaches_every_weight() -> None:
    """Two steps of it, twice; without averaging yet, the weights are the trained ones."""
    first, again, longer = train(0, 2), train(0, 2), train(0, 3)
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name
    moved = [
        name for name, weight in first.named_parameters()
        if not torch.equal(weight, longer.state_dict()[name])
    ]  # fmt: skip
    assert len(moved) == len(list(first.parameters()))


@pytest.mark.gpu
def test_a_gpu_draws_the_same_images() -> None:
    """From the same noise, but for rounding."""
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    drawn = []
    for device in ("cpu", "cuda"):
        model = DiffusionModel.open(digit_diffusion(), device)
        drawn.append(model.sample(model.encode(WORLD.names), list(range(MEMORISED))))
    assert (drawn[0] - drawn[1]).abs().max() < 0.05
