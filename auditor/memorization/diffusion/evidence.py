"""What a diffusion model memorised as records for reports: metrics, controls, tables, pictures.

Prompts are named by their line and a digest. Pictures are shown as a few grey cells, too coarse to
be read, unless the reader asks for the images themselves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from auditor.findings import (
    Control,
    CurveEvidence,
    CurvePoint,
    CurveSeries,
    GrayImage,
    ImageEvidence,
    Metric,
    TableEvidence,
)
from auditor.intervals import share_metric
from auditor.memorization.detection import Detection
from auditor.memorization.diffusion.memorised_images import DiffusionMemorization, SuspectedPrompt
from auditor.memorization.diffusion.prompt_measures import PromptMeasures
from auditor.memorization.grouped_share import GroupedShare, mean_interval

LISTED: Final = 50
PICTURED: Final = 8
MOST_PIXELS: Final = 64
"""Pixels of a side of a picture that is shown whole."""
CELLS: Final = 4
"""Cells of a side of a picture that is shown so that it cannot be read."""
SHADES: Final = 8
_DIGITS: Final = 12


def prompt_digest(text: str) -> str:
    """The first hex digits of a prompt's SHA-256, to name it without saying it."""
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def grouped_metric(name: str, share: GroupedShare, note: str = "") -> Metric:
    """A share of items in groups; lower is better."""
    return Metric(
        name=name, value=share.value, unit="share", sample_size=share.total,
        interval=share.interval, better="lower", note=note or f"of {share.groups} groups",
    )  # fmt: skip


def memorization_metrics(found: DiffusionMemorization) -> tuple[Metric, ...]:
    """What the verdict is about first, then similarity, agreement and detection."""
    metrics = []
    if found.copies is not None:
        metrics.append(grouped_metric("copies_share", found.copies, "resampled by image"))
        metrics += _image_metrics(found)
    metrics.append(grouped_metric("agreeing_prompts_share", found.flagged))
    metrics.append(_mean_metric("agreement", [each.agreement for each in found.suspected],
                                found.groups, found.seed))  # fmt: skip
    for detection in found.detections.values():
        metrics += detection_metrics(detection)
    return tuple(metrics)


def _image_metrics(found: DiffusionMemorization) -> list[Metric]:
    """Images of which there is a copy, and how similar samples are; with the ordinary floor."""
    copied: dict[str, bool] = {}
    values, groups = [], []
    for prompt, each in zip(found.prompts, found.suspected, strict=True):
        copied[prompt.group] = copied.get(prompt.group, False) or bool(found.copied(each).any())
        if each.similarity is not None:
            values += [float(value) for value in each.similarity]
            groups += [prompt.group] * len(each.similarity)
    return [
        share_metric("copied_images_share", sum(copied.values()), len(copied), "lower"),
        _mean_metric("similarity", values, groups, found.seed),
    ]


def _mean_metric(name: str, values: Sequence[float], groups: Sequence[str], seed: int) -> Metric:
    array = np.asarray(values, np.float64)
    return Metric(
        name=f"{name}_mean", value=float(array.mean()), unit="cosine", sample_size=len(array),
        interval=mean_interval(array, groups, seed), better="lower",
    )  # fmt: skip


def detection_metrics(detection: Detection) -> tuple[Metric, Metric]:
    """The area of a signal, and what it finds at so few false alarms."""
    return (
        Metric(name=f"{detection.signal}_auc", value=detection.area,
               sample_size=detection.found.total + detection.false_alarms.total,
               interval=detection.area_interval, note="bootstrap by prompt"),
        Metric(name=f"{detection.signal}_found_share", value=detection.found.value, unit="share",
               sample_size=detection.found.total, interval=detection.found.interval,
               note=f"above {detection.threshold:.4g}, which {detection.false_alarms.hits} of "
               f"{detection.false_alarms.total} ordinary prompts pass"),
    )  # fmt: skip


def ordinary_control(found: DiffusionMemorization) -> Control:
    """The same measures of ordinary prompts, each against the nearest of all images."""
    metrics = []
    if found.ordinary_copies is not None:
        metrics.append(grouped_metric("copies_share", found.ordinary_copies, "of any image"))
        metrics.append(_mean_metric(
            "similarity",
            [float(value) for each in found.ordinary if each.similarity is not None
             for value in each.similarity],
            [str(row) for row, each in enumerate(found.ordinary) if each.similarity is not None
             for _ in each.similarity], found.seed,
        ))  # fmt: skip
    metrics.append(_mean_metric("agreement", [each.agreement for each in found.ordinary],
                                [str(row) for row in range(len(found.ordinary))],
                                found.seed))  # fmt: skip
    return Control(
        name="ordinary prompts",
        question="How much of the same is there where nothing should be memorised?",
        metrics=tuple(metrics),
    )


def prompt_table(found: DiffusionMemorization) -> TableEvidence:
    """Suspected prompts, those with most copies or most agreement first."""
    rows = sorted(
        zip(found.prompts, found.suspected, strict=True),
        key=lambda row: (-int(found.copied(row[1]).sum()), -row[1].agreement, row[0].line),
    )
    return TableEvidence(
        title="Suspected prompts",
        columns=("line", "prompt's digest", "image", "copies", "samples", "largest similarity",
                 "agreement", "gap, first step", "gap, mean"),
        rows=tuple(_cells(found, prompt, each) for prompt, each in rows[:LISTED]),
        total_rows=len(rows),
    )  # fmt: skip


def _cells(
    found: DiffusionMemorization, prompt: SuspectedPrompt, each: PromptMeasures
) -> tuple[str | int | float | None, ...]:
    similar = each.similarity
    return (
        prompt.line, prompt_digest(prompt.text), prompt.image,
        None if similar is None else int(found.copied(each).sum()), len(each.gaps),
        None if similar is None else round(float(similar.max()), 4),
        round(each.agreement, 4), round(each.first_gap, 3), round(each.mean_gap, 3),
    )  # fmt: skip


def gap_curve(found: DiffusionMemorization) -> CurveEvidence:
    """The mean gap of both sets at each step, with the middle 95 % of prompts."""
    series = []
    for name, measured in (("suspected", found.suspected), ("ordinary", found.ordinary)):
        gaps = np.stack([each.gaps.mean(0) for each in measured]).astype(np.float64)
        lower, upper = np.quantile(gaps, [0.025, 0.975], axis=0)
        series.append(CurveSeries(name=name, points=tuple(
            CurvePoint(x=step + 1, y=float(gaps[:, step].mean()), lower=float(lower[step]),
                       upper=float(upper[step]))
            for step in range(gaps.shape[1])
        )))  # fmt: skip
    return CurveEvidence(
        title="How much prompts move the predicted noise", x_label="step of sampling",
        y_label="2-norm of the difference", series=tuple(series),
        description="Noise predicted for the prompt less that for the empty prompt. The band holds "
        "95 % of the prompts.",
    )  # fmt: skip


def gallery(
    found: DiffusionMemorization, images: Tensor | None, *, readable: bool
) -> tuple[ImageEvidence, ...]:
    """The sample of each prompt that is most like a training image, beside that image.

    Args:
        found: What was measured, with something kept of the samples.
        images: Training images, [images, C, H, W], or None.
        readable: Whether pictures are shown whole instead of as a few cells.
    """
    rows = sorted(
        zip(found.prompts, found.suspected, strict=True),
        key=lambda row: (-int(found.copied(row[1]).sum()), -row[1].agreement, row[0].line),
    )
    pictures: list[GrayImage] = []
    for prompt, each in rows[:PICTURED]:
        if each.shown is None:
            continue
        name = f"line {prompt.line}"
        similar = "" if each.similarity is None else f", similarity {each.similarity.max():.3f}"
        pictures.append(picture(each.shown, f"{name}, a sample{similar}", readable))
        nearest = prompt.row if prompt.row is not None else each.nearest
        if images is not None and nearest is not None:
            pictures.append(picture(images[nearest], f"{name}, training image", readable))
    if not pictures:
        return ()
    return (
        ImageEvidence(
            title="Samples beside training images" if images is not None else "Samples",
            images=tuple(pictures),
            description="In grey." if readable else f"Each picture is reduced to {CELLS}x{CELLS} "
            "or fewer grey cells, so that it cannot be read; show_samples shows the images.",
        ),
    )  # fmt: skip


def thumbnail(image: Tensor, side: int = MOST_PIXELS) -> Tensor:
    """An image [C, H, W] in grey, [1, h, w], its longer side at most so many pixels."""
    _, height, width = image.shape
    scale = min(1.0, side / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    found: Tensor = functional.adaptive_avg_pool2d(image.float().mean(0, keepdim=True), size)
    return found


def picture(image: Tensor, caption: str, readable: bool) -> GrayImage:
    """An image [C, H, W] in [-1, 1] as a grey picture, or as cells of it in a few shades."""
    cells = max(1, min(CELLS, max(image.shape[1:]) // CELLS))
    gray = (thumbnail(image, MOST_PIXELS if readable else cells)[0] + 1).clamp(0, 2) / 2
    if not readable:
        gray = torch.round(gray * SHADES) / SHADES
    return GrayImage(
        caption=caption, width=gray.shape[1], height=gray.shape[0],
        pixels=tuple(round(float(value), 4) for value in gray.flatten()),
    )  # fmt: skip
