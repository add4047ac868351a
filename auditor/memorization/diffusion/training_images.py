"""Training images that samples are compared with: an array in a file, or a folder of PNGs.

Files are read without pickles and with their size known before they are decoded. Nothing is
resized: a copy is looked for at the size that the model makes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auditor.errors import ConfigurationError, InvalidText, MissingExtra, NothingToAudit
from auditor.folders import list_files
from auditor.models.idx_file import is_idx_name, read_idx
from auditor.models.input_file import read_arrays

ImageShape = tuple[int, int, int]
_ARRAY: Final = "images"
_MOST_FILES: Final = 10_000
_SAVE: Final = "save them at the size that the model makes"


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images with names.

    Attributes:
        names: Row number of each from 0, or the name of its file.
        images: [images, C, H, W], float32 in [-1, 1].
    """

    names: tuple[str, ...]
    images: Tensor

    def row(self, name: str, place: str) -> int:
        """Which image a prompt names.

        Raises:
            InvalidText: There is none, or an array has no such row.
        """
        try:
            return self.names.index(name)
        except ValueError:
            known = f"{self.names[0]} to {self.names[-1]}"
            raise InvalidText(
                place, f"no image is called {name[:60]!r}; they are called {known}"
            ) from None


def read_image_array(path: Path, shape: ImageShape) -> ImageSet:
    """Images of a `.npy`, an IDX file, or a `.npz` with an array `images`.

    Args:
        path: Whole numbers from 0 to 255, or numbers in [-1, 1].
        shape: Channels, height and width that the model makes.

    Raises:
        FileMissing: There is no such file.
        InvalidText: It cannot be read.
        ConfigurationError: The array is missing, its images are of another size, or its numbers are
            in another range.
        NothingToAudit: It is empty.
    """
    if is_idx_name(path):
        array = read_idx(path)
    else:
        arrays = read_arrays(path)
        found = arrays.get(_ARRAY, arrays.get(""))
        if found is None:
            raise ConfigurationError(
                f"{path} holds no array '{_ARRAY}'; there are {', '.join(sorted(arrays))}"
            )
        array = found
    if array.ndim and not len(array):
        raise NothingToAudit(f"{path} holds no images; give at least one")
    images = _scaled(_channels_first(array, shape, path), path)
    return ImageSet(tuple(map(str, range(len(images)))), torch.from_numpy(images))


def read_image_folder(path: Path, shape: ImageShape) -> ImageSet:
    """The PNGs of a folder, sorted by name; other files in it are an error.

    Raises:
        MissingExtra: Pillow is not installed; diffusers brings it.
        FileMissing, RefusedFolder: See `auditor.folders.list_files`.
        InvalidText: A file is no PNG.
        ConfigurationError: A picture is of another size.
        NothingToAudit: There is none.
    """
    files = list_files(path, hidden=False, max_files=_MOST_FILES, max_depth=1)
    if not files:
        raise NothingToAudit(f"{path} holds no images; give at least one")
    pictures = np.stack([_read_png(file.path, shape) for file in files])
    return ImageSet(tuple(file.name for file in files), torch.from_numpy(_scaled(pictures, path)))


def _read_png(path: Path, shape: ImageShape) -> NDArray[Any]:
    """[C, H, W], whole numbers from 0 to 255; the size is looked at before it is decoded."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise MissingExtra("diffusion", "Pillow", "a folder of PNGs") from None
    channels, height, width = shape
    try:
        with path.open("rb") as stream, Image.open(stream, formats=("PNG",)) as picture:
            if picture.size != (width, height):
                raise _other_size(path, f"{picture.size[1]}x{picture.size[0]}", shape)
            array = np.asarray(picture.convert("L" if channels == 1 else "RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise InvalidText(
            str(path), f"no readable PNG: {str(error).splitlines()[0][:120]}"
        ) from None
    return array.reshape(height, width, -1).transpose(2, 0, 1)


def _channels_first(array: NDArray[Any], shape: ImageShape, path: Path) -> NDArray[Any]:
    """[images, C, H, W] of these, of [images, H, W, C] or, of one channel, [images, H, W]."""
    channels, height, width = shape
    if array.shape[1:] == shape:
        return array
    if array.shape[1:] == (height, width, channels):
        return array.transpose(0, 3, 1, 2)
    if channels == 1 and array.shape[1:] == (height, width):
        return array[:, None]
    raise _other_size(path, "x".join(map(str, array.shape[1:])) or "no size", shape)


def _other_size(path: Path, found: str, shape: ImageShape) -> ConfigurationError:
    channels, height, width = shape
    return ConfigurationError(
        f"{path}: images of {found}, and the model makes {height}x{width} with {channels} "
        f"channel{'' if channels == 1 else 's'}; {_SAVE}"
    )


def _scaled(array: NDArray[Any], path: Path) -> NDArray[np.float32]:
    whole = array.dtype.kind in "iu"
    lowest, highest = (0, 255) if whole else (-1, 1)
    # The negation also catches NaN.
    if not (array.min() >= lowest and array.max() <= highest):
        raise ConfigurationError(
            f"{path}: numbers from {array.min():g} to {array.max():g}; give "
            f"{'whole ' if whole else ''}numbers from {lowest} to {highest}"
        )
    scaled = array.astype(np.float32)
    found: NDArray[np.float32] = np.ascontiguousarray(scaled / 127.5 - 1 if whole else scaled)
    return found
