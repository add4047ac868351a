"""What a pruning of a diffusion model is told: captions, their images, and what should stay.

Files are those of AUD402: prompts as CSV or JSON lines with a column `image`, and images as an
array or a folder of PNGs. A `group` column says which ordinary captions have the subject of a
memorised one; without it any ordinary captions stand in. A `label` column says what a classifier
should see.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from torch import Tensor

from auditor.errors import ConfigurationError, InvalidText, NothingToAudit
from auditor.language.prompts import Prompt, read_prompts
from auditor.memorization.diffusion.objective import MemorisedImages
from auditor.memorization.diffusion.training_images import ImageSet

IMAGE_COLUMN: Final = "image"
LABEL_COLUMN: Final = "label"
ALIKE: Final = 4
"""Ordinary captions of its subject that stand beside a memorised one, at most."""


@dataclass(frozen=True, eq=False)
class DiffusionItems:
    """What a model gives back, and what it should go on to make.

    Attributes:
        memorised: Captions with their images, and ordinary captions of the same subject.
        ordinary: Captions that are held to what they were, and that masks are chosen by.
        held_out: Captions that quality is reported on; none of the others.
        labels: What an image of a caption shows, for `reader`; empty without one.
        control: Images that were never memorised, [images, C, H, W], for the attack; none if no
            attack is made.
        control_captions: A caption of each.
    """

    memorised: MemorisedImages
    ordinary: tuple[str, ...]
    held_out: tuple[str, ...]
    control: Tensor
    control_captions: tuple[str, ...]
    labels: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse sets that do not fit."""
        if not self.ordinary or not self.held_out:
            raise NothingToAudit("no ordinary prompts to choose by or to report on; give both")
        if both := set(self.ordinary) & set(self.held_out):
            raise ConfigurationError(
                f"{len(both)} prompts are chosen by and reported on; give other ones for each"
            )
        if len(self.control) != len(self.control_captions):
            raise ConfigurationError(
                f"{len(self.control)} control images with {len(self.control_captions)} captions; "
                "give one for each"
            )


@dataclass(frozen=True)
class DiffusionFiles:
    """Where captions are read from.

    Attributes:
        memorised: Captions with the image each gives back.
        ordinary: Captions to choose by.
        held_out: Captions to report on.
        never: Captions of images that were never memorised, with these: the attack's control.
            None if no attack is made.
        labelled: Whether ordinary captions have a column that says what they show.
        prompt_column: Column of the captions, if it has an unusual name.
    """

    memorised: Path
    ordinary: Path
    held_out: Path
    never: Path | None = None
    labelled: bool = False
    prompt_column: str | None = None


def read_diffusion_items(files: DiffusionFiles, images: ImageSet) -> DiffusionItems:
    """Everything that the files say.

    Raises:
        FileMissing, NothingToAudit: A file is not there, or empty.
        InvalidText: A line is wrong, or names an image that is not there.
        ConfigurationError: A column is missing, or a caption or an image stands in two sets.
    """
    memorised = _with_images(files, files.memorised)
    never = [] if files.never is None else _with_images(files, files.never)
    _refuse_shared(files, memorised, never)
    column = LABEL_COLUMN if files.labelled else None
    ordinary, held_out = (
        read_prompts(path, text_column=files.prompt_column, category_column=column)
        for path in (files.ordinary, files.held_out)
    )
    rows, control = (
        [images.row(each.category, f"{path}:{each.line}") for each in prompts]
        for path, prompts in ((files.memorised, memorised), (files.never, never))
    )
    return DiffusionItems(
        MemorisedImages(
            tuple(each.text for each in memorised), images.images[rows],
            tuple(_alike(each, ordinary) for each in memorised),
        ),
        tuple(dict.fromkeys(each.text for each in ordinary)),
        tuple(dict.fromkeys(each.text for each in held_out)),
        images.images[control], tuple(each.text for each in never),
        {each.text: each.category for each in (*ordinary, *held_out)} if files.labelled else {},
    )  # fmt: skip


def _with_images(files: DiffusionFiles, path: Path) -> list[Prompt]:
    return read_prompts(path, text_column=files.prompt_column, category_column=IMAGE_COLUMN)


def _refuse_shared(
    files: DiffusionFiles, memorised: Sequence[Prompt], never: Sequence[Prompt]
) -> None:
    known = {each.category for each in memorised}
    for each in never:
        if each.category in known:
            raise InvalidText(
                f"{files.never}:{each.line}",
                f"image {each.category[:60]!r} is among the memorised ones; a control is of others",
            )


def _alike(memorised: Prompt, ordinary: Sequence[Prompt]) -> tuple[str, ...]:
    """Ordinary captions of one subject; of any, where no group says which."""
    same = [each.text for each in ordinary if memorised.topic and each.topic == memorised.topic]
    found = list(dict.fromkeys(same or [each.text for each in ordinary]))
    source = np.random.default_rng(memorised.line)
    return tuple(found[at] for at in source.permutation(len(found))[:ALIKE])
