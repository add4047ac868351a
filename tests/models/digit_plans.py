"""Prompts and images of the digits that a small model memorised, as files that a plan names."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tests.models.digit_diffusion import DigitWorld


def write_prompts(path: Path, prompts: Sequence[str], images: Sequence[str] = ()) -> Path:
    """A CSV of prompts, with the image of each where there are images."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt", "image"] if images else ["prompt"])
        writer.writerows(
            zip(prompts, images, strict=True) if images else ([each] for each in prompts)
        )
    return path


def write_images(path: Path, world: DigitWorld) -> Path:
    """The memorised images as an array."""
    np.savez(path, images=world.memorised)
    return path


def write_pictures(folder: Path, world: DigitWorld) -> Path:
    """The memorised images as PNGs called 0.png and so on."""
    folder.mkdir()
    for number, image in enumerate(world.memorised):
        pixels = np.round((image[0] + 1) * 127.5).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder
