"""Samples from a `.npz` file: inputs with their labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from auditor.errors import ConfigurationError
from auditor.models.input_file import read_arrays

_WAY_OUT = "write it with numpy.savez(FILE, inputs=..., labels=...)"


@dataclass(frozen=True, eq=False)
class Samples:
    """Labelled inputs.

    Attributes:
        inputs: [samples, values], float32.
        labels: [samples], int64.
    """

    inputs: NDArray[np.float32]
    labels: NDArray[np.int64]


def load_samples(path: Path, *, num_inputs: int, num_classes: int) -> Samples:
    """Read labelled samples.

    Args:
        path: A `.npz` with `inputs`, one sample along the first axis, and `labels`.
        num_inputs: Values of one sample.
        num_classes: Labels lie in [0, num_classes).

    Raises:
        FileMissing: There is no such file.
        ConfigurationError: It cannot be read, or the arrays do not fit the model.
    """
    arrays = read_arrays(path)
    for name in ("inputs", "labels"):
        if name not in arrays:
            raise ConfigurationError(f"{path} holds no array '{name}'; {_WAY_OUT}")
    inputs, labels = arrays["inputs"], arrays["labels"]
    count = len(inputs) if inputs.ndim else 0
    if count == 0 or inputs.size != count * num_inputs:
        raise ConfigurationError(
            f"{path}: inputs of shape {list(inputs.shape)} are not samples of {num_inputs} "
            "values; use samples for this model"
        )
    if not np.isfinite(inputs).all():
        raise ConfigurationError(f"{path}: inputs hold NaN or infinity; remove those samples")
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise ConfigurationError(f"{path}: labels must be {count} whole numbers, one per sample")
    wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if wrong.size:
        raise ConfigurationError(
            f"{path}: label {labels[wrong[0]]} of sample {wrong[0]} is no output of the model, "
            f"which has {num_classes}"
        )
    return Samples(inputs.reshape(count, num_inputs).astype(np.float32), labels.astype(np.int64))
