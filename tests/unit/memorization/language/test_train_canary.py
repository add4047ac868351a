"""How the models with planted canaries are trained; no whole model is trained here."""

from __future__ import annotations

import random
from collections import Counter
from itertools import islice
from pathlib import Path

import torch

from auditor.language.causal_lm import CausalLM
from tests.models import train_canary_lm
from tests.models.canary_lm import Variant, manifest, plant, weight_digests
from tests.models.train_canary_lm import WINDOW, Recipe, recipe_digest, train

SMALL = Recipe(width=16, inner=16, layers=1, heads=2, epochs=0.02)


def test_every_token_is_read_once_an_epoch() -> None:
    """Windows over all documents, whole rows of one length."""
    ids = [[number] * (5 + number % 7) for number in range(2_000)]
    rows = sum(map(len, ids)) // WINDOW
    batches = train_canary_lm._batches(ids, random.Random(0), 4)
    read = torch.cat(list(islice(batches, rows // 4)))
    assert read.shape == (rows // 4 * 4, WINDOW)
    counts = Counter(read.flatten().tolist())
    assert all(counts[number] <= len(ids[number]) for number in range(2_000))
    assert sum(counts.values()) > 0.95 * sum(map(len, ids))


def test_a_training_can_be_repeated() -> None:
    """The same seed gives the same weights, another seed others."""
    texts = plant(0).training()[:3_000]
    first, again, other = (train(texts, seed, SMALL).state_dict() for seed in (0, 0, 1))
    name = "model.embed_tokens.weight"
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first[name], other[name])


def test_a_folder_is_noted_beside_it(tmp_path: Path) -> None:
    """Digests and what it does; a second variant is added to the first."""
    for variant in Variant:
        train_canary_lm.write(tmp_path / variant, variant, 0, SMALL)
        trained = train_canary_lm.note(tmp_path / variant, variant, 0)
        assert trained.weights == weight_digests(tmp_path / variant)
        assert manifest(tmp_path).models[variant] == trained
        assert CausalLM.open(tmp_path / variant).max_tokens == WINDOW
    assert set(manifest(tmp_path).models) == set(Variant)


def test_recipes_differ_with_the_variant() -> None:
    """The reference reads other documents."""
    assert recipe_digest(Variant.PLANTED) != recipe_digest(Variant.REFERENCE)
