"""What is captured from a model, batch by batch, and the options that all captures share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from auditor.activations.layers import ActivationLayer
from auditor.errors import ConfigurationError, NothingToAudit, UnsupportedModel

Array = NDArray[Any]
Inputs = Array | Mapping[str, Array]


class Point(StrEnum):
    """Which side of an activation function is captured."""

    BEFORE = "before"
    AFTER = "after"


class Granularity(StrEnum):
    """What counts as one neuron of a layer.

    `unit`: every element, flattened in row-major order. `channel`: the first axis after
    the samples, valued at its largest element, so that a channel is active where any of
    its units is. For a dense layer both are the same.
    """

    UNIT = "unit"
    CHANNEL = "channel"


@dataclass(frozen=True)
class CaptureOptions:
    """How a model is run and what is kept.

    Attributes:
        point: Before or after the activation functions.
        granularity: Per unit or per channel.
        batch_size: Samples per run, at least 1; memory grows with it and not with the
            number of samples.
        device: `cpu`, `cuda`, or `auto`.
        threads: Threads inside one operator.
    """

    point: Point = Point.BEFORE
    granularity: Granularity = Granularity.UNIT
    batch_size: int = 512
    device: str = "cpu"
    threads: int = 1

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigurationError(f"batch size {self.batch_size}; give at least 1")


@dataclass(frozen=True, eq=False)
class Batch:
    """What consecutive samples made a model do.

    Attributes:
        start: Number of the first sample.
        outputs: The model's first output, [samples, outputs].
        values: The captured layers in order, [samples, neurons] each.
    """

    start: int
    outputs: Array
    values: tuple[Array, ...]

    @property
    def stop(self) -> int:
        """Number of the sample after the last."""
        return self.start + len(self.outputs)


class Capture(Protocol):
    """A model whose layers are watched while it runs."""

    @property
    def layers(self) -> tuple[ActivationLayer, ...]:
        """The layers that are captured, in order."""

    @property
    def options(self) -> CaptureOptions:
        """How."""

    @property
    def digest(self) -> str:
        """Which model it is."""

    def batches(self, inputs: Inputs) -> Iterator[Batch]:
        """Run all samples in order, one batch at a time; nothing is kept between batches."""


def count_samples(inputs: Mapping[str, Array]) -> int:
    """How many samples all inputs bring.

    Raises:
        NothingToAudit: None.
        ConfigurationError: The inputs bring different numbers of samples.
    """
    counts = {name: len(value) if np.ndim(value) else 0 for name, value in inputs.items()}
    if len(set(counts.values())) > 1:
        raise ConfigurationError(
            f"inputs bring different numbers of samples: {counts}; give each as many"
        )
    total = next(iter(counts.values()), 0)
    if not total:
        raise NothingToAudit("no samples to run the model on; give at least one")
    return total


def refuse_non_finite(name: str, block: Array, start: int) -> None:
    """Refuse inputs that are no numbers, naming the first sample.

    Raises:
        ConfigurationError: NaN or infinity in the block.
    """
    if not np.issubdtype(block.dtype, np.floating) or np.isfinite(block).all():
        return
    for wrong in np.argwhere(~np.isfinite(block))[:1]:
        raise ConfigurationError(
            f"sample {start + wrong[0]} of input '{name}' holds {block[tuple(wrong)]}; "
            "remove it or mend it"
        )


def flatten_values(name: str, value: Array, samples: int, granularity: Granularity) -> Array:
    """A captured tensor as [samples, neurons].

    Raises:
        UnsupportedModel: It has no entry per sample.
    """
    if value.ndim == 0 or value.shape[0] != samples:
        raise UnsupportedModel(
            f"values of shape {list(value.shape)} for {samples} samples",
            place=f"layer '{name}'",
            way_out="choose layers that treat samples one by one",
        )
    if granularity is Granularity.CHANNEL and value.ndim > 2:
        reduced: Array = value.reshape(samples, value.shape[1], -1).max(axis=2)
        return reduced
    return value.reshape(samples, -1)


def refuse_nan(name: str, values: Array, start: int) -> None:
    """Refuse layers that computed NaN: it is neither active nor inactive.

    Raises:
        UnsupportedModel: Naming the layer and the first sample.
    """
    if not np.issubdtype(values.dtype, np.floating) or not np.isnan(values.min(initial=0)):
        return  # the minimum of anything and NaN is NaN: the quickest look there is
    for sample, neuron in np.argwhere(np.isnan(values))[:1]:
        raise UnsupportedModel(
            f"sample {start + sample} makes neuron {neuron} NaN",
            place=f"layer '{name}'",
            way_out="look for overflow (float16) or weights that are not finite",
        )
