"""Training images: read safely, in [-1, 1], of the size that the model makes, or one line."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from auditor.errors import ConfigurationError, FileMissing, InvalidText, NothingToAudit
from auditor.memorization.diffusion.training_images import read_image_array, read_image_folder

GRAY, COLOUR = (1, 4, 6), (3, 4, 6)
WHOLE = np.random.default_rng(0).integers(0, 256, (5, *COLOUR), np.uint8)


@pytest.mark.parametrize("order", ["channels first", "channels last"])
def test_whole_numbers_become_numbers_about_zero(tmp_path: Path, order: str) -> None:
    """0 is -1 and 255 is 1; rows are called by their numbers."""
    array = WHOLE if order == "channels first" else WHOLE.transpose(0, 2, 3, 1)
    np.savez(tmp_path / "x.npz", images=array, labels=np.zeros(5))
    found = read_image_array(tmp_path / "x.npz", COLOUR)
    assert found.names == ("0", "1", "2", "3", "4")
    assert found.images.shape == (5, *COLOUR)
    assert np.array_equal(found.images.numpy(), WHOLE.astype(np.float32) / 127.5 - 1)


def test_gray_images_need_no_channel_and_numbers_stay(tmp_path: Path) -> None:
    """A plain array, in a file of one array."""
    array = np.linspace(-1, 1, 48, dtype=np.float64).reshape(2, 4, 6)
    np.save(tmp_path / "x.npy", array)
    found = read_image_array(tmp_path / "x.npy", GRAY).images
    assert np.array_equal(found.numpy(), array[:, None].astype(np.float32))


def test_idx_files_are_read(tmp_path: Path) -> None:
    """The format of MNIST."""
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(struct.pack(">HBB3I", 0, 8, 3, 5, 4, 6) + WHOLE[:, 0].tobytes())
    found = read_image_array(path, GRAY).images
    assert np.array_equal(found.numpy(), WHOLE[:, :1].astype(np.float32) / 127.5 - 1)


@pytest.mark.parametrize("shape", [GRAY, COLOUR])
def test_pictures_are_called_by_their_files(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    """Sorted by name."""
    for name, pixels in (("b.png", WHOLE[0]), ("a.png", WHOLE[1])):
        plain = pixels[: shape[0]].transpose(1, 2, 0).squeeze()
        Image.fromarray(plain).save(tmp_path / name)
    found = read_image_folder(tmp_path, shape)
    assert found.names == ("a.png", "b.png")
    expected = WHOLE[[1, 0], : shape[0]].astype(np.float32) / 127.5 - 1
    assert np.array_equal(found.images.numpy(), expected)
    assert found.row("b.png", "p.csv:2") == 1


def test_a_name_without_an_image_says_where_it_stands(tmp_path: Path) -> None:
    """And what there is."""
    np.save(tmp_path / "x.npy", WHOLE)
    images = read_image_array(tmp_path / "x.npy", COLOUR)
    with pytest.raises(InvalidText, match=r"p\.csv:7: no image is called '5'.*called 0 to 4"):
        images.row("5", "p.csv:7")


@pytest.mark.parametrize(
    ("array", "error", "message"),
    [
        (WHOLE[:, :, :3], ConfigurationError, "images of 3x3x6, and the model makes 4x6 with 3"),
        (WHOLE[0, 0, 0], ConfigurationError, "images of no size"),
        (WHOLE.astype(np.float32), ConfigurationError, "give numbers from -1 to 1"),
        (WHOLE.astype(np.int32) * 2, ConfigurationError, "give whole numbers from 0 to 255"),
        (np.full((1, *COLOUR), np.nan), ConfigurationError, "numbers from nan to nan"),
        (WHOLE[:0], NothingToAudit, "holds no images"),
    ],
)
def test_arrays_that_are_no_images_of_the_model_are_one_line(
    tmp_path: Path, array: Any, error: type[Exception], message: str
) -> None:
    """Nothing is resized or guessed."""
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(error, match=message):
        read_image_array(tmp_path / "x.npy", COLOUR)


def test_an_archive_without_images_says_what_it_holds(tmp_path: Path) -> None:
    """And a missing file is missing."""
    np.savez(tmp_path / "x.npz", inputs=WHOLE)
    with pytest.raises(ConfigurationError, match="no array 'images'; there are inputs"):
        read_image_array(tmp_path / "x.npz", COLOUR)
    with pytest.raises(FileMissing):
        read_image_array(tmp_path / "y.npz", COLOUR)


def test_pictures_of_another_size_or_kind_are_one_line(tmp_path: Path) -> None:
    """The size is looked at before a picture is decoded."""
    with pytest.raises(NothingToAudit, match="holds no images"):
        read_image_folder(tmp_path, COLOUR)
    Image.new("RGB", (8, 4)).save(tmp_path / "a.png")
    with pytest.raises(ConfigurationError, match=r"a\.png: images of 4x8, and the model makes 4x6"):
        read_image_folder(tmp_path, COLOUR)
    Image.new("RGB", (6, 4)).save(tmp_path / "a.png", format="JPEG")
    with pytest.raises(InvalidText, match=r"a\.png: no readable PNG"):
        read_image_folder(tmp_path, COLOUR)


def test_a_damaged_picture_is_one_line(tmp_path: Path) -> None:
    """Cut in the middle of its pixels."""
    path = tmp_path / "a.png"
    noise = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:70])
    with pytest.raises(InvalidText, match=r"a\.png: no readable PNG"):
        read_image_folder(tmp_path, COLOUR)
