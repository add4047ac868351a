"""What questions about patterns found, as pictures for a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from auditor.findings import Evidence, GrayImage, ImageEvidence
from auditor.verify.evidence import gray_image, pictured_witness
from auditor.verify.pattern_trials import PatternTrial, PatternVerifier
from auditor.verify.property.patterned import LayerStates

Patterns = Mapping[int, LayerStates]
SHOWN: Final = 2
MOST: Final = 20


def pattern_witness(
    trial: PatternTrial,
    verifier: PatternVerifier,
    patterns: Patterns,
    image_shape: tuple[int, int] | None,
) -> tuple[Evidence, ...]:
    """The witness of a trial with its pattern distances, pictured where inputs are pictures.

    Args:
        trial: A trial; without a witness there is no evidence.
        verifier: Who made it.
        patterns: The pattern of each class; a distance is the number of contradicted states.
        image_shape: Height and width of inputs that are pictures.
    """
    if trial.prop is None or trial.witness is None:
        return ()
    near = " and ".join(str(label) for label in trial.labels)
    caption = f"follows the pattern of {near} (distance 0), read as {trial.read_as}"
    given = trial.read_as
    if given is not None and given in patterns and given not in trial.labels:
        away = int(verifier.distance(patterns[given], trial.witness.inputs[None])[0])
        caption += f", whose pattern is at distance {away}"
    return pictured_witness(trial.prop, trial.witness, verifier.subject, image_shape, caption)


def follower_gallery(
    verifier: PatternVerifier,
    patterns: Patterns,
    labels: Sequence[int],
    image_shape: tuple[int, int] | None,
) -> tuple[ImageEvidence, ...]:
    """Samples that follow the pattern of their label, and samples that do not.

    Args:
        verifier: Whose samples are shown.
        patterns: The pattern of each class.
        labels: The samples' labels.
        image_shape: Height and width; None where inputs are no pictures: then nothing is shown.

    Returns:
        Up to `SHOWN` samples of each class, at most `MOST` in all, the first that follow in one
        row and the farthest in another; a row without samples is left out.
    """
    if image_shape is None:
        return ()
    known = np.asarray(labels)
    follow: list[GrayImage] = []
    stray: list[GrayImage] = []
    following = total = 0
    for label, states in patterns.items():
        own = np.flatnonzero(known == label)
        distance = verifier.distance(states, verifier.samples[own])
        following += int((distance == 0).sum())
        total += len(own)
        farthest = np.argsort(-distance, kind="stable")
        for row, chosen in (
            (follow, np.flatnonzero(distance == 0)[:SHOWN]),
            (stray, farthest[distance[farthest] > 0][:SHOWN]),
        ):
            for at in chosen[: MOST - len(row)]:
                caption = f"sample {own[at]} of class {label}, distance {distance[at]}"
                row.append(gray_image(verifier.samples[own[at]], image_shape, caption))
    described = f"{following} of {total} samples follow the pattern of their label."
    rows = (("Samples that follow their pattern", follow), ("Samples that do not", stray))
    return tuple(
        ImageEvidence(title=title, images=tuple(images), description=described)
        for title, images in rows
        if images
    )
