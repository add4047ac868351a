"""Targets: arrays of numbers that a user brings."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from tests.fuzz.target import Check, only, require_equal


def open_numpy_file(folder: Path) -> Check:
    """A `.npy` or `.npz` file; a plain array that is read here, numpy reads as the same."""
    from auditor.errors import InvalidText, UnsupportedModel
    from auditor.models.input_file import read_arrays, split_samples

    path = folder / "inputs"

    def check(data: bytes) -> None:
        path.write_bytes(data)
        with only(InvalidText, UnsupportedModel):
            arrays = read_arrays(path)
            if set(arrays) == {""}:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of files from Python 2
                    theirs = np.load(path, allow_pickle=False, max_header_size=100_000)
                require_equal("array", arrays[""].tobytes(), theirs.tobytes())
                require_equal("shape", arrays[""].shape, theirs.shape)
            if all(array.ndim for array in arrays.values()):
                split_samples({k: v[:16] for k, v in arrays.items()})

    return check


def open_idx_file(folder: Path) -> Check:
    """An IDX file, plain or compressed."""
    from auditor.errors import InvalidText
    from auditor.models.idx_file import read_idx

    path = folder / "images-idx"

    def check(data: bytes) -> None:
        path.write_bytes(data)
        with only(InvalidText):
            read_idx(path)

    return check


def open_labelled_numbers(folder: Path) -> Check:
    """Samples with their labels in one file of arrays, for a model of four inputs."""
    from auditor.errors import ConfigurationError, NothingToAudit
    from auditor.models.labelled_data import read_labelled
    from auditor.models.samples import load_samples

    path = folder / "data.npz"

    def check(data: bytes) -> None:
        path.write_bytes(data)
        with only(ConfigurationError, NothingToAudit):
            read_labelled(path)
        with only(ConfigurationError):
            load_samples(path, num_inputs=4, num_classes=3)

    return check
