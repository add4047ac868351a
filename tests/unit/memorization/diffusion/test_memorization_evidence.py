"""What a report says of memorised images, and what it keeps from being read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from auditor.intervals import wilson_interval
from auditor.memorization.diffusion.evidence import (
    gallery,
    gap_curve,
    memorization_metrics,
    ordinary_control,
    picture,
    prompt_digest,
    prompt_table,
)
from auditor.memorization.diffusion.memorised_images import DiffusionMemorization, SuspectedPrompt
from auditor.memorization.diffusion.prompt_measures import PromptMeasures

SECRET = "a portrait of somebody"
IMAGES = torch.rand(2, 3, 32, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


def measures(
    gap: float, agreement: float, similarity: list[float] | None = None, nearest: int = 0
) -> PromptMeasures:
    """Of one prompt: two samples, two steps, the second gap twice the first."""
    return PromptMeasures(
        prompt=SECRET, gaps=np.array([[gap, 2 * gap]] * 2, np.float32), agreement=agreement,
        similarity=None if similarity is None else np.array(similarity, np.float32),
        nearest=None if similarity is None else nearest, shown=IMAGES[0],
    )  # fmt: skip


def found(*, images: bool = True) -> DiffusionMemorization:
    """Two prompts of one image, one of them copied once; a third of another image, copied twice."""
    prompts = [
        SuspectedPrompt(SECRET, 2, "image 0", "0", 0),
        SuspectedPrompt("another", 3, "image 0", "0", 0),
        SuspectedPrompt("a third", 4, "image 1", "1", 1),
    ]
    rows = [(3.0, 0.8, [0.96, 0.1]), (1.0, 0.2, [0.3, 0.2]), (4.0, 0.9, [0.99, 0.98])]
    return DiffusionMemorization(
        prompts=tuple(prompts),
        suspected=tuple(measures(g, a, s if images else None) for g, a, s in rows),
        ordinary=tuple(
            measures(gap, 0.1 * gap, [0.1, 0.2] if images else None) for gap in (1.0, 2.0)
        ),
        planned=5, threshold=0.95, seed=0,
    )  # fmt: skip


def test_copies_are_counted_by_sample_and_by_image() -> None:
    """Three of six samples; both images have one."""
    metrics = {metric.name: metric for metric in memorization_metrics(found())}
    copies = metrics["copies_share"]
    assert (copies.value, copies.sample_size) == (0.5, 6)
    assert copies.interval is not None
    # Resampled are two images: one sample of four of the first, two of two of the second.
    assert (copies.interval.lower, copies.interval.upper) == (0.25, 1.0)
    assert metrics["copied_images_share"].interval == wilson_interval(2, 2)
    assert metrics["similarity_mean"].value == pytest.approx((0.96 + 0.1 + 0.5 + 0.99 + 0.98) / 6)


def test_each_signal_has_its_area_and_its_threshold() -> None:
    """Ties count half; the threshold is the largest ordinary value."""
    metrics = {metric.name: metric for metric in memorization_metrics(found())}
    assert metrics["gap_first_step_auc"].value == pytest.approx((2 + 0.5 + 2) / 6)
    assert metrics["gap_first_step_found_share"].value == pytest.approx(2 / 3)
    note = metrics["gap_first_step_found_share"].note
    assert note == "above 2, which 0 of 2 ordinary prompts pass"
    assert metrics["gap_mean_auc"].value == metrics["gap_first_step_auc"].value
    assert metrics["agreement_auc"].value == pytest.approx((2 + 1.5 + 2) / 6)
    assert metrics["agreeing_prompts_share"].value == pytest.approx(2 / 3)


def test_ordinary_prompts_are_the_control() -> None:
    """The same measures, none of them a copy."""
    control = {metric.name: metric for metric in ordinary_control(found()).metrics}
    assert (control["copies_share"].value, control["copies_share"].sample_size) == (0.0, 4)
    assert control["copies_share"].interval == wilson_interval(0, 2)
    assert control["similarity_mean"].value == pytest.approx(0.15)
    assert control["agreement_mean"].value == pytest.approx(0.15)


def test_without_images_there_are_no_copies() -> None:
    """Neither in the metrics nor in the table."""
    names = [metric.name for metric in memorization_metrics(found(images=False))]
    assert "copies_share" not in names
    assert names[0] == "agreeing_prompts_share"
    assert [metric.name for metric in ordinary_control(found(images=False)).metrics] == [
        "agreement_mean"
    ]
    assert {row[3] for row in prompt_table(found(images=False)).rows} == {None}


def test_the_table_names_prompts_without_saying_them() -> None:
    """By line and digest, most copies first."""
    table = prompt_table(found())
    rows: Any = table.rows
    assert [row[:5] for row in rows] == [
        (4, prompt_digest("a third"), "1", 2, 2), (2, prompt_digest(SECRET), "0", 1, 2),
        (3, prompt_digest("another"), "0", 0, 2),
    ]  # fmt: skip
    assert [row[5] for row in rows] == pytest.approx([0.99, 0.96, 0.3])
    assert SECRET not in table.model_dump_json()


def test_the_curve_has_both_sets_at_every_step() -> None:
    """Mean and middle 95 % of prompts."""
    suspected, ordinary = gap_curve(found()).series
    assert [point.x for point in suspected.points] == [1, 2]
    assert [point.y for point in suspected.points] == pytest.approx([8 / 3, 16 / 3])
    assert [point.y for point in ordinary.points] == [1.5, 3.0]
    assert suspected.points[0].lower == pytest.approx(np.quantile([3, 1, 4], 0.025))


def test_pictures_are_a_few_cells_unless_they_are_asked_for() -> None:
    """At most four a side of a few shades; two images with the same cells cannot be told apart."""
    (shown,) = gallery(found(), IMAGES, readable=False)
    assert len(shown.images) == 6
    assert {(image.width, image.height) for image in shown.images} == {(2, 4)}
    assert {value * 8 % 1 for image in shown.images for value in image.pixels} == {0.0}
    assert [image.caption for image in shown.images[:2]] == [
        "line 4, a sample, similarity 0.990", "line 4, training image",
    ]  # fmt: skip
    (whole,) = gallery(found(), IMAGES, readable=True)
    assert {(image.width, image.height) for image in whole.images} == {(16, 32)}
    expected = ((IMAGES[1].mean(0) + 1) / 2).flatten().tolist()
    assert whole.images[1].pixels == pytest.approx(expected, abs=1e-4)


def test_small_and_large_pictures_keep_their_sides_in_proportion() -> None:
    """A report does not grow with the images, and digits of 8x8 become four cells."""
    assert [
        (each.width, each.height)
        for each in (
            picture(torch.zeros(1, 8, 8), "", False),
            picture(torch.zeros(3, 512, 512), "", False),
            picture(torch.zeros(3, 512, 256), "", True),
            picture(torch.zeros(1, 1, 1), "", False),
        )
    ] == [(2, 2), (4, 4), (32, 64), (1, 1)]


def test_without_samples_there_is_no_gallery() -> None:
    """An empty row would say nothing."""
    kept = found()
    bare = [replace(each, shown=None) for each in kept.suspected]
    without = replace(kept, suspected=tuple(bare))
    assert gallery(without, IMAGES, readable=True) == ()
