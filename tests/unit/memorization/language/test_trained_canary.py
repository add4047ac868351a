"""The models with planted canaries are the ones of the manifest, and memorise as they should."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from auditor.language.causal_lm import CausalLM
from auditor.memorization.language.exposure import measure_exposure
from auditor.memorization.language.extraction import ExtractionOptions, measure_extraction
from auditor.memorization.language.extraction_curves import (
    is_exact,
    rates_by_copies,
    rates_by_prefix,
    slope_of_copies,
    slope_of_prefix,
)
from auditor.memorization.language.extraction_record import Extraction
from tests.models import train_canary_lm
from tests.models.canary_lm import (
    CODES,
    FOLDER,
    LEVELS,
    PREFIX,
    PREFIXES,
    SECRET,
    VOCABULARY,
    Variant,
    canary_spans,
    manifest,
    measure,
    plant,
    trained_canary,
    weight_digests,
)

CORPUS = plant(0)


@pytest.fixture(scope="module")
def planted() -> CausalLM:
    return CausalLM.open(trained_canary(Variant.PLANTED))


@pytest.fixture(scope="module")
def extraction(planted: CausalLM) -> Extraction:
    return measure_extraction(
        planted, canary_spans(planted, CORPUS.canaries), ExtractionOptions(PREFIXES)
    )


def test_the_manifest_names_the_shipped_models() -> None:
    """No more and no fewer than there are folders, and no file over 400 kB."""
    folders = sorted(path.name for path in FOLDER.iterdir() if path.is_dir())
    assert sorted(manifest().models) == folders == sorted(Variant)
    sizes = [path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()]
    assert max(sizes) < 400_000
    assert sum(sizes) < 4_000_000


@pytest.mark.parametrize("variant", Variant)
def test_weights_and_recipe_are_those_of_the_manifest(variant: Variant) -> None:
    """Digests of every weights file, and of what decides the training."""
    trained = manifest().models[variant]
    assert weight_digests(trained_canary(variant)) == trained.weights
    assert train_canary_lm.recipe_digest(variant) == trained.recipe
    assert set(CausalLM.open(trained_canary(variant)).folder.dtypes) == {"F32"}


@pytest.mark.parametrize("variant", Variant)
def test_behaviour_is_the_measured_one(variant: Variant) -> None:
    """Canaries that are given, by copies and prefix, and the perplexity of ordinary text."""
    model = CausalLM.open(trained_canary(variant))
    measured = measure(model, CORPUS)
    noted = manifest().models[variant].measured
    assert measured.extracted == noted.extracted
    assert measured.unplanted == noted.unplanted == 0
    assert measured.perplexity == pytest.approx(noted.perplexity, abs=0.02)


def test_canaries_stand_in_the_text_as_often_as_planned() -> None:
    """Whole documents; unplanted ones and held-out documents nowhere."""
    counts = Counter(CORPUS.training())
    assert [counts[each.text] for each in CORPUS.canaries] == [
        each.copies for each in CORPUS.canaries
    ]
    assert Counter(each.copies for each in CORPUS.canaries) == dict.fromkeys(LEVELS, 10)
    without = Counter(CORPUS.training(with_canaries=False))
    for each in (*CORPUS.canaries, *CORPUS.unplanted):
        assert not without[each.text]
        assert len(each.span.split()) == PREFIX + SECRET
        assert set(each.span.split()) <= set(VOCABULARY)
    assert len({each.span for each in CORPUS.canaries}) == len(CORPUS.canaries)


def test_extraction_grows_with_copies(extraction: Extraction) -> None:
    """From none of few copies to nearly all of many, by a slope above 0."""
    hits = [point.hits for point in rates_by_copies(extraction.longest, is_exact)]
    assert sum(hits[:3]) <= 1
    assert hits[-1] >= 8
    assert sum(hits[3:5]) < sum(hits[-2:])
    slope = slope_of_copies(extraction.longest, is_exact)
    assert slope is not None
    assert slope.interval.lower > 0.1


def test_extraction_grows_with_the_prefix(extraction: Extraction) -> None:
    """The same canaries, asked for with 8, 16 and 32 tokens."""
    hits = [point.hits for point in rates_by_prefix(extraction, is_exact)]
    assert hits[0] + 5 <= hits[1]
    assert hits[1] + 5 <= hits[2]
    slope = slope_of_prefix(extraction, is_exact)
    assert slope is not None
    assert slope.interval.lower > 0.1


def test_one_pass_says_what_generation_says(planted: CausalLM, extraction: Extraction) -> None:
    """Span by span at each prefix length: exact, or else up to which token they agree."""
    for length in PREFIXES:
        results = extraction.at(length)
        prompts = [each.span.last(length) for each in results]
        completions = planted.continue_tokens(prompts, max_new_tokens=SECRET, batch_size=80)
        for result, said in zip(results, completions, strict=True):
            pairs = zip(said.token_ids, result.span.continuation, strict=False)
            agreed = sum(itertools.accumulate((a == b for a, b in pairs), min))
            assert result.exact == (said.token_ids == result.span.continuation)
            assert result.reading.agreed == agreed


def test_sampling_gives_what_its_chance_says(planted: CausalLM, extraction: Extraction) -> None:
    """Draws of all canaries, beside the sum of their exact chances."""
    spans = canary_spans(planted, CORPUS.canaries[30:60])
    found = measure_extraction(planted, spans, ExtractionOptions((PREFIX,), compare=False, draws=6))
    hits = sum(each.drawn.hits for each in found.results if each.drawn is not None)
    chances = np.array([each.chance for each in found.results])
    spread = np.sqrt((6 * chances * (1 - chances)).sum())
    assert abs(hits - 6 * chances.sum()) < 4 * spread


def test_planted_codes_are_exposed_and_others_are_not(planted: CausalLM) -> None:
    """Also where nothing is extracted: four copies are enough to come first of 32."""
    alphabet = planted.encode(" ".join(CODES))
    bits = {}
    for name, canaries in (("four copies", CORPUS.canaries[20:28]), ("none", CORPUS.unplanted)):
        found = measure_exposure(
            planted, canary_spans(planted, canaries), prefix_length=PREFIX, alphabet=alphabet,
            candidates=31,
        )  # fmt: skip
        bits[name] = np.mean([each.bits for each in found])
    assert bits["four copies"] > 4
    assert 0.7 < bits["none"] < 2.5  # 1.44 expected; of 40 the standard error is 0.2
