"""Statistics of activations, each fed batch by batch; several share one run of the model.

Every accumulator keeps memory that does not grow with the number of samples, except the
quantile sketch, which grows with its logarithm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from auditor.activations.capture import Batch

Array = NDArray[Any]
Int64 = NDArray[np.int64]
_MAX_UINT16 = 65_535


class Accumulator(Protocol):
    """Something that looks at one layer's values once, batch by batch."""

    def update(self, values: Array, classes: Int64) -> None:
        """Take in a batch.

        Args:
            values: [samples, neurons].
            classes: The class each sample counts for, [samples]; -1 for none.
        """


def accumulate(
    batches: Iterable[Batch],
    makers: Sequence[Callable[[], Accumulator]],
    classes_of: Callable[[Batch], Int64] | None = None,
) -> list[list[Accumulator]]:
    """Feed one stream to fresh accumulators of every kind for every layer.

    Args:
        batches: From a capture.
        makers: Each makes an empty accumulator for one layer.
        classes_of: The class each sample of a batch counts for; class 0 if not given.

    Returns:
        One list per layer, in the order of `makers`.
    """
    kept: list[list[Accumulator]] = []
    for batch in batches:
        kept = kept or [[make() for make in makers] for _ in batch.values]
        samples = len(batch.outputs)
        classes = classes_of(batch) if classes_of else np.zeros(samples, dtype=np.int64)
        for values, accumulators in zip(batch.values, kept, strict=True):
            for accumulator in accumulators:
                accumulator.update(values, classes)
    return kept


class SignFrequency:
    """How often each neuron is active, by class: value > threshold, 0 itself is inactive.

    Attributes:
        counts: Active samples, [classes, neurons]; empty before the first batch.
        totals: Samples, [classes].
    """

    def __init__(self, num_classes: int, threshold: Array | float = 0.0) -> None:
        self.counts: Int64 = np.zeros((num_classes, 0), dtype=np.int64)
        self.totals: Int64 = np.zeros(num_classes, dtype=np.int64)
        self._threshold = threshold

    def update(self, values: Array, classes: Int64) -> None:
        """See `Accumulator`; class -1 is not counted."""
        if not self.counts.shape[1]:
            self.counts = np.zeros((len(self.totals), values.shape[1]), dtype=np.int64)
        # Rows of a class side by side, summed in small integers: as fast as a product with
        # one-hot rows, and no threads of a matrix library that wait for each other.
        order = np.argsort(classes, kind="stable")
        active = np.greater(values, self._threshold).view(np.uint8)[order]
        width = np.uint16 if len(classes) <= _MAX_UINT16 else np.int64
        present, starts = np.unique(classes[order], return_index=True)
        for label, start, stop in zip(present, starts, [*starts[1:], len(order)], strict=True):
            if label >= 0:
                self.counts[label] += active[start:stop].sum(axis=0, dtype=width)
                self.totals[label] += stop - start


class Mean:
    """Mean and variance of each neuron over all samples (Chan, Golub, LeVeque 1983).

    Attributes:
        mean: [neurons], float64.
        samples: How many samples.
    """

    def __init__(self) -> None:
        self.mean: NDArray[np.float64] = np.zeros(0)
        self.samples = 0
        self._squares: NDArray[np.float64] = np.zeros(0)

    def update(self, values: Array, classes: Int64) -> None:
        """See `Accumulator`."""
        wide = values.astype(np.float64)
        count, mean = len(wide), wide.mean(axis=0)
        squares = ((wide - mean) ** 2).sum(axis=0)
        if not self.samples:
            self.mean, self._squares, self.samples = mean, squares, count
            return
        total, shift = self.samples + count, mean - self.mean
        self._squares += squares + shift**2 * (self.samples * count / total)
        self.mean += shift * (count / total)
        self.samples = total

    @property
    def variance(self) -> NDArray[np.float64]:
        """Population variance, [neurons]."""
        return self._squares / max(self.samples, 1)


class Maximum:
    """Largest and smallest value of each neuron.

    Attributes:
        maximum: [neurons]; empty before the first batch.
        minimum: [neurons].
    """

    def __init__(self) -> None:
        self.maximum: Array = np.zeros(0)
        self.minimum: Array = np.zeros(0)

    def update(self, values: Array, classes: Int64) -> None:
        """See `Accumulator`."""
        high, low = values.max(axis=0), values.min(axis=0)
        first = not self.maximum.size
        self.maximum = high if first else np.maximum(self.maximum, high)
        self.minimum = low if first else np.minimum(self.minimum, low)


class Sparsity:
    """Share of a layer's neurons that are at most 0, sample by sample.

    Attributes:
        lowest: Smallest share of any sample.
        highest: Largest share.
        samples: How many samples.
    """

    def __init__(self) -> None:
        self.lowest, self.highest, self.samples = 1.0, 0.0, 0
        self._sum = 0.0

    def update(self, values: Array, classes: Int64) -> None:
        """See `Accumulator`."""
        shares = (values <= 0).mean(axis=1)
        self.lowest = min(self.lowest, float(shares.min()))
        self.highest = max(self.highest, float(shares.max()))
        self._sum += float(shares.sum())
        self.samples += len(shares)

    @property
    def mean(self) -> float:
        """Mean share over the samples."""
        return self._sum / max(self.samples, 1)


def active_states(values: Array, threshold: Array | float = 0.0) -> NDArray[np.float32]:
    """1 where a value lies above its threshold and 0 elsewhere, float32 of the same shape."""
    return np.greater(values, threshold).astype(np.float32)
