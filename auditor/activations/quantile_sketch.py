"""Quantiles of every neuron from one stream, with a bound on their error.

Buffers of samples are sorted neuron by neuron and every second value is kept, which
then stands for two (Munro and Paterson 1980; Manku, Rajagopalan and Lindsay 1998).
All neurons see equally many samples, so one set of buffers serves a layer. Nothing is
drawn at random: the same stream gives the same answer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from auditor.errors import ConfigurationError

Array = NDArray[Any]


class QuantileSketch:
    """Approximate quantiles of each neuron.

    Attributes:
        size: Samples per buffer; the error falls with it. Memory is about
            `size * neurons * log2(samples / size)` numbers.
        samples: How many samples were seen.
    """

    def __init__(self, size: int = 256) -> None:
        if size < 2 or size % 2:
            raise ConfigurationError(f"sketch of size {size}; give an even number from 2 on")
        self.size, self.samples = size, 0
        self._levels: list[Array | None] = []
        self._pending: Array | None = None
        self._odd: list[bool] = []
        self._rank_error = 0

    def update(self, values: Array, classes: NDArray[np.int64]) -> None:
        """Take in a batch, [samples, neurons]; the classes do not matter."""
        self.samples += len(values)
        rest = values if self._pending is None else np.concatenate([self._pending, values])
        while len(rest) >= self.size:
            self._push(np.sort(rest[: self.size], axis=0), 0)
            rest = rest[self.size :]
        self._pending = rest.copy()

    @property
    def rank_error(self) -> float:
        """Bound on how far the rank of an answer is off, as a share of the samples."""
        return self._rank_error / max(self.samples, 1)

    def quantile(self, share: float) -> Array:
        """The value of each neuron below which about this share of its values lies.

        Args:
            share: In [0, 1].

        Returns:
            Values that occurred, [neurons], in the type of the input; the rank of each
            differs from `share * samples` by at most `rank_error * samples + 1`.

        Raises:
            ConfigurationError: No sample yet, or a share outside [0, 1].
        """
        if not self.samples or not 0.0 <= share <= 1.0:
            raise ConfigurationError(f"quantile {share} of {self.samples} samples")
        parts, weights = [], []
        for level, buffer in enumerate(self._levels):
            if buffer is not None:
                parts.append(buffer)
                weights += [2**level] * len(buffer)
        if self._pending is not None and len(self._pending):
            parts.append(self._pending)
            weights += [1] * len(self._pending)
        values = np.concatenate(parts)
        order = np.argsort(values, axis=0, kind="stable")
        ranks = np.cumsum(np.array(weights, dtype=np.int64)[order], axis=0)
        first = (ranks < share * self.samples).sum(axis=0).clip(max=len(values) - 1)
        neurons = np.arange(values.shape[1])
        found: Array = values[order[first, neurons], neurons]
        return found

    def _push(self, buffer: Array, level: int) -> None:
        if level == len(self._levels):
            self._levels.append(None)
            self._odd.append(False)
        other = self._levels[level]
        if other is None:
            self._levels[level] = buffer
            return
        self._levels[level] = None
        merged = np.sort(np.concatenate([other, buffer]), axis=0)
        # Keeping every second value moves a rank by at most one weight; alternating between
        # the odd and the even ones lets these errors cancel, which the bound leaves out.
        kept = merged[int(self._odd[level]) :: 2]
        self._odd[level] = not self._odd[level]
        self._rank_error += 2**level
        self._push(kept, level + 1)
