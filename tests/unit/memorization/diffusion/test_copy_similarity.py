"""How alike images are: by their pixels, and by what an encoder says of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from auditor.errors import ConfigurationError, UnsupportedModel
from auditor.memorization.diffusion.copy_similarity import (
    OnnxVectors,
    PixelVectors,
    copy_similarity,
    nearest_similarity,
)

SHAPE = (1, 4, 4)


def images(count: int, seed: int = 0) -> torch.Tensor:
    """Random images in [-1, 1]."""
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def encoder(path: Path, *, scale: float = 1.0, rows: int | str = "images", rank: int = 2) -> Path:
    """An encoder that flattens images and multiplies them."""
    shape = [0, -1] if rank == 2 else [0, 2, -1]
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["flat"]),
        helper.make_node("Mul", ["flat", "scale"], ["y"]),
    ]
    size = int(np.prod(SHAPE))
    graph = helper.make_graph(
        nodes, "encoder",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, *SHAPE])],
        [helper.make_tensor_value_info(
            "y", TensorProto.FLOAT, [rows, size] if rank == 2 else [rows, 2, size // 2]
        )],
        [numpy_helper.from_array(np.array(shape, np.int64), "shape"),
         numpy_helper.from_array(np.array(scale, np.float32), "scale")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return path


def test_pixels_are_compared_by_their_correlation() -> None:
    """What NumPy says, whatever the brightness and the contrast."""
    first, second = images(3), images(3, seed=1)
    found = copy_similarity(first, second)
    expected = [
        np.corrcoef(a.flatten(), b.flatten())[0, 1] for a, b in zip(first, second, strict=True)
    ]
    assert np.allclose(found, expected, atol=1e-6)
    assert np.allclose(copy_similarity(first, 0.5 * first - 0.3), 1.0)
    assert np.allclose(copy_similarity(first, -first), -1.0)


def test_an_image_of_one_colour_is_like_none() -> None:
    """Not NaN."""
    assert copy_similarity(torch.zeros(1, *SHAPE), images(1)).tolist() == [0.0]


def test_the_nearest_of_all_images_counts() -> None:
    """Wherever it stands."""
    known = images(5)
    samples = known[[3, 1]] + 0.05 * images(2, seed=7)
    found = nearest_similarity(samples, known)
    assert np.allclose(found, copy_similarity(samples, known[[3, 1]]))
    assert (found > 0.95).all()


def test_an_encoder_decides_instead(tmp_path: Path) -> None:
    """By the cosine of what it gives: without a mean taken off, brightness counts."""
    vectors = OnnxVectors.open(encoder(tmp_path / "e.onnx", scale=3.0), SHAPE)
    first = images(70)
    found = copy_similarity(first, first + 0.5, vectors)
    expected = torch.nn.functional.cosine_similarity(first.flatten(1), first.flatten(1) + 0.5)
    assert np.allclose(found, expected, atol=1e-5)
    assert vectors.name.startswith("e.onnx (sha256:")
    assert not np.allclose(found, copy_similarity(first, first + 0.5), atol=0.1)


def test_an_encoder_of_single_images_runs_them_one_by_one(tmp_path: Path) -> None:
    """To the same vectors."""
    single = OnnxVectors.open(encoder(tmp_path / "a.onnx", rows=1), SHAPE)
    whole = OnnxVectors.open(encoder(tmp_path / "b.onnx"), SHAPE)
    assert torch.allclose(single(images(3)), whole(images(3)), atol=1e-6)


def test_an_encoder_that_does_not_fit_is_one_line(tmp_path: Path) -> None:
    """By the size of its images, by its output, by its numbers."""
    path = encoder(tmp_path / "e.onnx")
    with pytest.raises(UnsupportedModel, match=r"the images are \[images, 1, 8, 8\]"):
        OnnxVectors.open(path, (1, 8, 8))
    odd = OnnxVectors.open(encoder(tmp_path / "odd.onnx", rank=3), SHAPE)
    with pytest.raises(UnsupportedModel, match=r"shape \[2, 2, 8\].*output \[images, d\]"):
        odd(images(2))
    wild = OnnxVectors.open(encoder(tmp_path / "wild.onnx", scale=float("inf")), SHAPE)
    with pytest.raises(UnsupportedModel, match="gives NaN or infinity"):
        wild(images(2))


def test_images_of_another_size_are_refused() -> None:
    """They are not resized in silence."""
    with pytest.raises(ConfigurationError, match=r"\[2, 1, 4, 4\] against images of shape \[1"):
        copy_similarity(images(2), images(1))
    with pytest.raises(ConfigurationError, match="at least one image of the same size"):
        nearest_similarity(images(2), torch.zeros(0, *SHAPE))


def test_vectors_are_of_length_one() -> None:
    """So that their product is a cosine."""
    assert torch.allclose(PixelVectors()(images(4)).norm(dim=1), torch.ones(4))
