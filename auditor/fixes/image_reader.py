"""What a classifier sees in images, run in onnxruntime: whether they show what they should."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from auditor.errors import ConfigurationError, UnsupportedModel

Reader = Callable[[Tensor, Sequence[str]], Sequence[bool]]
"""Whether images [images, C, H, W] in [-1, 1] show what their labels say."""


def open_reader(
    path: Path, image_shape: tuple[int, int, int], labels: Collection[str], device: str = "cpu"
) -> Reader:
    """A reader of an ONNX classifier, [images, C, H, W] to one score for each class.

    Args:
        path: The file; scaling of images in [-1, 1] belongs into the graph.
        image_shape: Channels, height and width of the images.
        labels: Every label there is: numbers of the classifier's outputs, from 0.
        device: `auto`, `cpu` or `cuda`.

    Raises:
        FileMissing, RefusedModel: See `open_tried`.
        ConfigurationError: A label is no number of an output.
        UnsupportedModel: Its input or output is another.
    """
    from auditor.models.first_load import open_tried  # onnx is slow to import
    from auditor.models.session import Session

    model = open_tried(path)
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise UnsupportedModel(
            f"{len(model.inputs)} inputs and {len(model.outputs)} outputs", place=str(path),
            way_out="give a classifier from images to one score for each class",
        )  # fmt: skip
    session = Session.create(model, device)
    given, made = model.inputs[0].name, model.outputs[0].name
    scores = session.run({given: np.zeros((1, *image_shape), np.float32)})[made]
    if scores.ndim != 2:
        raise UnsupportedModel(
            f"an image gives an output of shape {list(scores.shape)}", place=str(path),
            way_out="give a classifier with one score for each class",
        )  # fmt: skip
    classes = {str(number): number for number in range(scores.shape[1])}
    for label in labels:
        if label not in classes:
            raise ConfigurationError(
                f"label {label[:40]!r} is no output of {path}; give 0 to {scores.shape[1] - 1}"
            )

    def read(images: Tensor, wanted: Sequence[str]) -> list[bool]:
        seen = session.run({given: images.float().numpy()})[made].argmax(axis=1)
        return [int(found) == classes[label] for found, label in zip(seen, wanted, strict=True)]

    return read
