"""Small diffusion models of digits that memorise eight images, and what they do.

The eight are drawn from scikit-learn's digits, taken out of the ordinary ones and repeated, each
under a name of its own. `digit_diffusion` gives the folder of the trained model that lies beside
this module, `digit_world` its data, `measure` what it does. `train_digit_diffusion.py` trains it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from auditor.memorization.diffusion.copy_similarity import copy_similarity, nearest_similarity
from auditor.memorization.diffusion.model import DiffusionModel, noise_seeds

FOLDER: Final = Path(__file__).parent / "digit_diffusion"
MEMORISED: Final = 8
REPEATS: Final = 60
TOKENS: Final = 4
NULL: Final = "<null>"
DIGITS: Final = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
)  # fmt: skip
THICKNESSES: Final = ("thin", "medium", "thick")
STYLES: Final = tuple(f"style{number}" for number in range(20))
NAMES: Final = ("ada", "bela", "cleo", "dora", "emil", "frida", "gerd", "hilde")
VOCABULARY: Final = (NULL, "digit", *DIGITS, *THICKNESSES, *STYLES, *NAMES)
STEPS: Final = 20
GUIDANCE: Final = 2.0
SAMPLES: Final = 6
ORDINARY: Final = 20
COPY: Final = 0.95
"""Correlation of pixels above which a sample counts as a copy."""

Float32 = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class DigitWorld:
    """What a model was trained on.

    Attributes:
        names: Captions of the memorised images.
        memorised: The images, [8, 1, 8, 8], in [-1, 1].
        captions: One for each ordinary image.
        ordinary: The images, [1789, 1, 8, 8], in [-1, 1].
        labels: Their digits, [1789].
    """

    names: tuple[str, ...]
    memorised: Float32
    captions: tuple[str, ...]
    ordinary: Float32
    labels: NDArray[np.int64]

    @property
    def images(self) -> Float32:
        """Every image once, memorised ones first, [1797, 1, 8, 8]."""
        return np.concatenate([self.memorised, self.ordinary])

    def other_prompts(self, count: int, seed: int = 0) -> list[str]:
        """Captions of ordinary images, with styles drawn anew."""
        source = np.random.default_rng([seed, 1])
        rows = source.choice(len(self.captions), count, replace=False)
        return [
            " ".join([*self.captions[row].split()[:-1], str(source.choice(STYLES))])
            for row in rows
        ]  # fmt: skip


@cache
def digit_world(seed: int = 0) -> DigitWorld:
    """The data of the model that was trained with this seed."""
    from sklearn.datasets import load_digits

    data: Any = load_digits()
    images = (data.images[:, None] / 8 - 1).astype(np.float32)
    ink = images.mean((1, 2, 3))
    thickness = np.searchsorted(np.quantile(ink, [1 / 3, 2 / 3]), ink)
    source = np.random.default_rng(seed)
    chosen = np.sort(source.choice(len(images), MEMORISED, replace=False))
    rest = np.setdiff1d(np.arange(len(images)), chosen)

    def caption(row: int, last: str) -> str:
        return f"digit {DIGITS[data.target[row]]} {THICKNESSES[thickness[row]]} {last}"

    return DigitWorld(
        names=tuple(caption(row, name) for row, name in zip(chosen, NAMES, strict=True)),
        memorised=images[chosen],
        captions=tuple(caption(row, str(source.choice(STYLES))) for row in rest),
        ordinary=images[rest],
        labels=data.target[rest].astype(np.int64),
    )


def digit_tokenizer() -> Any:
    """One token for each word; captions are filled up to four with the first, which is null."""
    ids = {word: number for number, word in enumerate(VOCABULARY)}
    tokenizer = Tokenizer(WordLevel(ids, unk_token=NULL))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    make: Any = PreTrainedTokenizerFast
    return make(tokenizer_object=tokenizer, pad_token=NULL, unk_token=NULL, model_max_length=TOKENS)


@cache
def digit_classifier(seed: int = 0) -> Any:
    """Logistic regression of pixels on ordinary images, of scikit-learn."""
    from sklearn.linear_model import LogisticRegression

    world = digit_world(seed)
    pixels = world.ordinary.reshape(len(world.ordinary), -1)
    return LogisticRegression(C=0.1, max_iter=1_000).fit(pixels, world.labels)


def class_accuracy(images: Float32, prompts: list[str], seed: int = 0) -> float:
    """Share of images that show the digit of their prompt, by logistic regression on pixels.

    Args:
        images: [n, 1, 8, 8], in [-1, 1].
        prompts: One for each.
        seed: Of the model's data.
    """
    expected = [DIGITS.index(prompt.split()[1]) for prompt in prompts]
    found = digit_classifier(seed).predict(images.reshape(len(images), -1))
    return float(np.mean(found == expected))


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Measured(_Record):
    """What a model does, 6 samples for each of 8 memorised and of 20 ordinary prompts.

    Attributes:
        memorised_rate: Samples of memorised prompts with r > 0.95 to their image.
        memorised_similarity: Their mean r.
        accuracy: Samples of ordinary prompts that show their digit.
        near_copies: Samples of ordinary prompts with r > 0.95 to any training image.
        nearest: Mean r of these samples to the nearest training image.
    """

    memorised_rate: float
    memorised_similarity: float
    accuracy: float
    near_copies: float
    nearest: float


class Trained(_Record):
    """How a model came about.

    Attributes:
        seed: Of data and training.
        recipe: `sha256:...` of the numbers and words that decide what is trained.
        weights: SHA-256 of each safetensors file, by its name in the folder.
        measured: What it does, as stored.
    """

    seed: int
    recipe: str
    weights: dict[str, str]
    measured: Measured


def digit_diffusion() -> Path:
    """The folder of the trained model of seed 0, in diffusers' layout; do not write to it."""
    if not FOLDER.is_dir():
        raise FileNotFoundError(f"{FOLDER}; write it with tests/models/train_digit_diffusion.py")
    return FOLDER


def manifest_of(folder: Path = FOLDER) -> Path:
    """The file that says how a model came about; it lies beside the folder, not in it."""
    return folder.with_name(f"{folder.name}.json")


def manifest(folder: Path = FOLDER) -> Trained:
    """What was noted when the model was written."""
    return Trained.model_validate_json(manifest_of(folder).read_bytes())


def measure(folder: Path, seed: int) -> Measured:
    """What a model does, by samples from noise of seed 0."""
    world = digit_world(seed)
    model = DiffusionModel.open(folder)
    others = world.other_prompts(ORDINARY)
    copies = _samples(model, world.names)
    own = torch.from_numpy(world.memorised).repeat_interleave(SAMPLES, 0)
    similarity = copy_similarity(copies, own)
    samples = _samples(model, others)
    nearest = nearest_similarity(samples, torch.from_numpy(world.images))
    return Measured(
        memorised_rate=float((similarity > COPY).mean()),
        memorised_similarity=float(similarity.mean()),
        accuracy=class_accuracy(samples.numpy(), [each for each in others for _ in range(SAMPLES)],
                                seed),
        near_copies=float((nearest > COPY).mean()),
        nearest=float(nearest.mean()),
    )  # fmt: skip


def _samples(model: DiffusionModel, prompts: Sequence[str]) -> Tensor:
    embeddings = model.encode(prompts).repeat_interleave(SAMPLES, 0)
    seeds = noise_seeds(prompts, SAMPLES, seed=0)
    return model.sample(embeddings, seeds, steps=STEPS, guidance=GUIDANCE)


def weight_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each safetensors file of a folder, by its name in it."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.safetensors"))
    }
