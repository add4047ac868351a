"""How alike images are: a vector of each, and the cosine of two.

By default the vector is the image itself about its mean, so that the cosine is the correlation of
pixels: good for small pictures, blind to a shifted or mirrored copy. For photographs give an
encoder made for copies (SSCD, Pizzi et al. 2022, arXiv 2202.10261) as an ONNX file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auditor.errors import ConfigurationError, UnsupportedModel

Float32 = NDArray[np.float32]
_BATCH: Final = 64


class ImageVectors(Protocol):
    """Vectors of length 1 of images, [images, C, H, W] in [-1, 1], as [images, d]."""

    @property
    def name(self) -> str:
        """What it is, for a report."""
        ...

    def __call__(self, images: Tensor) -> Tensor:
        """The vectors, float32, on the CPU."""
        ...


@dataclass(frozen=True)
class PixelVectors:
    """Images about their own mean; the cosine of two is the correlation of their pixels."""

    name: str = "correlation of pixels"

    def __call__(self, images: Tensor) -> Tensor:
        """The vectors, [images, C * H * W]; an image of one colour becomes zeros."""
        flat = images.detach().float().cpu().flatten(1)
        return _of_length_one(flat - flat.mean(1, keepdim=True))


PIXELS: Final = PixelVectors()


@dataclass(frozen=True, eq=False)
class OnnxVectors:
    """What an image encoder says of images, run in onnxruntime.

    Attributes:
        name: File and digest.
        run: Images [images, C, H, W] to vectors [images, d].
    """

    name: str
    run: Callable[[NDArray[Any]], NDArray[Any]]

    @classmethod
    def open(
        cls, path: Path, image_shape: tuple[int, int, int], device: str = "cpu"
    ) -> OnnxVectors:
        """An encoder with one input [images, C, H, W] and one output [images, d].

        Args:
            path: ONNX file; scaling and resizing of images in [-1, 1] belong into the graph.
            image_shape: Channels, height and width of the images.
            device: `auto`, `cpu` or `cuda`.

        Raises:
            FileMissing, RefusedModel: See `open_tried`.
            UnsupportedModel: Its input or output is another.
            DeviceUnavailable: No such device here.
        """
        from auditor.models.first_load import open_tried  # onnx is slow to import
        from auditor.models.session import Session

        model = open_tried(path)
        if len(model.inputs) != 1 or len(model.outputs) != 1 or not _takes(
            model.inputs[0].shape, image_shape
        ):  # fmt: skip
            raise UnsupportedModel(
                f"it takes {', '.join(map(str, model.inputs))} and gives "
                f"{', '.join(map(str, model.outputs))}; the images are "
                f"[images, {', '.join(map(str, image_shape))}]",
                place=str(path), way_out="give an encoder from such images to [images, d]",
            )  # fmt: skip
        given, made = model.inputs[0].name, model.outputs[0].name
        session = Session.create(model, device)

        def run(images: NDArray[Any]) -> NDArray[Any]:
            found: NDArray[Any] = session.run({given: images})[made]
            if found.ndim != 2 or len(found) != len(images):
                raise UnsupportedModel(
                    f"{len(images)} images give an output of shape {list(found.shape)}",
                    place=str(path), way_out="give an encoder with output [images, d]",
                )  # fmt: skip
            return found

        return cls(f"{path.name} ({model.digest[:19]}...)", run)

    def __call__(self, images: Tensor) -> Tensor:
        """The vectors, [images, d].

        Raises:
            UnsupportedModel: They are not finite.
        """
        parts = [
            self.run(part.float().cpu().numpy()) for part in torch.split(images.detach(), _BATCH)
        ]
        vectors = torch.from_numpy(np.concatenate(parts)).float()
        if not bool(torch.isfinite(vectors).all()):
            raise UnsupportedModel(
                f"the image encoder {self.name} gives NaN or infinity",
                way_out="give one that reads images in [-1, 1]",
            )
        return _of_length_one(vectors)


def _takes(shape: tuple[int | None, ...], image_shape: tuple[int, int, int]) -> bool:
    return len(shape) == 4 and all(
        known in (None, size) for known, size in zip(shape[1:], image_shape, strict=True)
    )


def _of_length_one(vectors: Tensor) -> Tensor:
    """Rows over their length; a row of zeros stays one."""
    lengths = vectors.norm(dim=1, keepdim=True)
    return torch.where(lengths > 0, vectors / lengths.clamp(min=1e-30), 0.0)


def copy_similarity(samples: Tensor, images: Tensor, vectors: ImageVectors = PIXELS) -> Float32:
    """Similarity of each sample to its own image, in [-1, 1].

    Args:
        samples: [samples, C, H, W], in [-1, 1].
        images: One for each sample, same shape.
        vectors: What is compared.

    Raises:
        ConfigurationError: The shapes differ.
    """
    if samples.shape != images.shape:
        raise ConfigurationError(
            f"samples of shape {list(samples.shape)} against images of shape "
            f"{list(images.shape)}; give one image of the same size for each"
        )
    found: Float32 = (vectors(samples) * vectors(images)).sum(1).numpy()
    return found


def nearest_similarity(samples: Tensor, images: Tensor, vectors: ImageVectors = PIXELS) -> Float32:
    """Similarity of each sample to the nearest of all images, in [-1, 1].

    Args:
        samples: [samples, C, H, W], in [-1, 1].
        images: [images, C, H, W].
        vectors: What is compared.

    Raises:
        ConfigurationError: The images are of another size, or there are none.
    """
    if samples.shape[1:] != images.shape[1:] or not len(images):
        raise ConfigurationError(
            f"samples of shape {list(samples.shape)} against {list(images.shape)}; give at least "
            "one image of the same size"
        )
    found: Float32 = (vectors(samples) @ vectors(images).T).amax(1).numpy()
    return found
