"""Labelled samples from the files people have: `.npz`, `.npy` pairs, IDX pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from auditor.errors import ConfigurationError, NothingToAudit
from auditor.models.idx_file import is_idx_name, read_idx
from auditor.models.input_file import read_arrays


class LabelledData(NamedTuple):
    """Samples along the first axis, and one label for each."""

    inputs: NDArray[Any]
    labels: NDArray[Any]


def read_labelled(inputs: Path, labels: Path | None = None) -> LabelledData:
    """Samples and labels as they stand in their files.

    Args:
        inputs: `.npy`, IDX (`.gz` too; images become flat rows), or `.npz` with `inputs`.
        labels: `.npy`, IDX, or `.npz` with `labels`; the file of the inputs if not given.

    Raises:
        FileMissing: A file is not there.
        InvalidText: A file cannot be read.
        ConfigurationError: An array is missing, or the numbers of samples differ.
        NothingToAudit: There is no sample.
    """
    samples = _read(inputs, "inputs")
    known = _read(labels or inputs, "labels")
    if is_idx_name(inputs) and samples.ndim > 2:
        samples = samples.reshape(len(samples), -1)
    if samples.ndim < 2:
        raise ConfigurationError(
            f"{inputs}: inputs of shape {list(samples.shape)}; give samples along the first axis"
        )
    if not len(samples):
        raise NothingToAudit(f"{inputs} holds no samples; give at least one")
    if known.ndim != 1 or len(known) != len(samples):
        raise ConfigurationError(
            f"{labels or inputs}: labels of shape {list(known.shape)} for {len(samples)} samples; "
            "give one integer for each"
        )
    return LabelledData(samples, known)


def divided(inputs: NDArray[Any], divisor: float) -> NDArray[Any]:
    """The inputs over a number, as float32; as they are for 1.

    Raises:
        ConfigurationError: The divisor is zero or not finite.
    """
    if divisor == 0 or not np.isfinite(divisor):
        raise ConfigurationError(f"inputs divided by {divisor}; give a number like 255")
    if divisor == 1:
        return inputs
    quotient: NDArray[Any] = np.divide(inputs, np.float32(divisor), dtype=np.float32)
    return quotient


def _read(path: Path, name: str) -> NDArray[Any]:
    if is_idx_name(path):
        return read_idx(path)
    arrays = read_arrays(path)
    found = arrays.get(name, arrays.get(""))
    if found is None:
        raise ConfigurationError(f"{path} holds no array '{name}'; there are {sorted(arrays)}")
    return found
