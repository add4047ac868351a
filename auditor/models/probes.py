"""Canonical probe inputs: the same numbers on every machine and for every version.

Probes come from SHAKE-256 (FIPS 202) over the seed, the input's position and the
probe's name, by integer arithmetic only, and every value is exact in float32. No
random generator of a library is involved, so no library update can change them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from auditor.errors import UnsupportedModel

if TYPE_CHECKING:
    from auditor.models.onnx_model import TensorSpec

Array = NDArray[Any]

# Sizes given to symbolic axes: one sample, and short sequences behind it.
_BATCH, _OTHER = 1, 4
_TOKENS: Final = 16
_MAX_VALUES: Final = 64 * 1024 * 1024


def probe_inputs(
    inputs: Sequence[TensorSpec], *, random_probes: int = 16, seed: int = 0
) -> list[dict[str, Array]]:
    """Inputs for a model, one dictionary per probe, batch of one.

    The first two probes are all zeros and all ones; the random ones follow in turn:
    bell-shaped with variance 1, uniform in [0, 1), bell-shaped x 1/8, uniform in
    [-8, 8). Integers are drawn from 0 to 15, booleans fairly.

    Args:
        inputs: The model's inputs. A symbolic first axis becomes 1, others 4.
        random_probes: How many random probes follow the two constant ones.
        seed: Another seed gives other random probes.

    Raises:
        UnsupportedModel: An input is not numeric or far too large.
    """
    names = ["zeros", "ones", *(f"random {number}" for number in range(random_probes))]
    return [
        {
            spec.name: _probe(spec, f"{seed}/{position}/{name}", index)
            for position, spec in enumerate(inputs)
        }
        for index, name in enumerate(names)
    ]


def probe_rows(size: int, rows: int, *, seed: int = 0) -> NDArray[np.float32]:
    """Flat random probes, float32 [rows, size], in the same four kinds by turns."""
    made = [
        _KINDS[row % len(_KINDS)](_words(f"{seed}/rows/{row}", size * _WORDS_PER_VALUE), size)
        for row in range(rows)
    ]
    return np.stack(made) if made else np.zeros((0, size), dtype=np.float32)


def _probe(spec: TensorSpec, label: str, index: int) -> Array:
    shape = [axis or (_OTHER if i else _BATCH) for i, axis in enumerate(spec.shape)]
    size = int(np.prod(shape, dtype=np.int64))
    dtype = np.dtype(spec.dtype) if spec.dtype else np.dtype(object)
    if dtype.kind not in "fiub" or size > _MAX_VALUES:
        raise UnsupportedModel(
            f"no probes for input '{spec.name}' of {spec.dtype or 'no tensor type'} and "
            f"{size} values"
        )
    if index < 2:
        return np.full(shape, index, dtype=dtype)
    words = _words(label, size * _WORDS_PER_VALUE)
    if dtype.kind == "f":
        return _KINDS[(index - 2) % len(_KINDS)](words, size).reshape(shape).astype(dtype)
    drawn = words[:size] % (2 if dtype.kind == "b" else _TOKENS)
    return drawn.reshape(shape).astype(dtype)


_WORDS_PER_VALUE: Final = 8


def _words(label: str, count: int) -> NDArray[np.int64]:
    """Uniform 16-bit integers, int64 [count], a function of the label alone."""
    stream = hashlib.shake_256(f"auditor probe 1/{label}".encode()).digest(2 * count)
    return np.frombuffer(stream, dtype="<u2").astype(np.int64)


def _bell(words: NDArray[np.int64], size: int) -> NDArray[np.float32]:
    """Sums of eight uniforms, centred; the standard deviation is sqrt(8/12) x 5/4, about 1."""
    total = words[: size * 8].reshape(size, 8).sum(axis=1) - 4 * 0xFFFF
    scaled: NDArray[np.float32] = (total * 5).astype(np.float32) / np.float32(4 * 65536)
    return scaled


def _uniform(words: NDArray[np.int64], size: int) -> NDArray[np.float32]:
    return words[:size].astype(np.float32) / np.float32(65536)


_KINDS: Final[tuple[Callable[[NDArray[np.int64], int], NDArray[np.float32]], ...]] = (
    _bell,
    _uniform,
    lambda words, size: _bell(words, size) / np.float32(8),
    lambda words, size: _uniform(words, size) * np.float32(16) - np.float32(8),
)
