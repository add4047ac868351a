"""Masks over the weights of a network: which numbers are set to zero.

A mask is a boolean tensor [outputs, inputs] for each layer, True where a weight goes. Masks are
compared by intersection over union, against what chance gives.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from auditor.errors import ConfigurationError
from auditor.memorization.masks.weight_sites import WeightSite


@dataclass(frozen=True, eq=False)
class WeightMasks:
    """What is pruned.

    Attributes:
        masks: Name of the layer: boolean tensor [outputs, inputs] on the CPU.
    """

    masks: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        for name, mask in self.masks.items():
            if mask.dtype is not torch.bool or mask.ndim != 2:
                raise ConfigurationError(
                    f"the mask of {name} is {mask.dtype} with {mask.ndim} axes; give a boolean one "
                    "[outputs, inputs]"
                )

    @property
    def pruned(self) -> int:
        """Weights that are set to zero."""
        return sum(int(mask.sum()) for mask in self.masks.values())

    @property
    def size(self) -> int:
        """Weights of the layers."""
        return sum(mask.numel() for mask in self.masks.values())

    @property
    def density(self) -> float:
        """Share of the layers' weights that are set to zero."""
        return self.pruned / self.size if self.size else 0.0

    @property
    def neurons(self) -> dict[str, Tensor]:
        """Columns that are pruned whole, boolean [inputs] for each layer."""
        return {name: mask.all(dim=0) for name, mask in self.masks.items()}

    def __or__(self, other: WeightMasks) -> WeightMasks:
        """Everything that either prunes; the layers of both."""
        return WeightMasks({
            name: self._of(name, other) | other._of(name, self)
            for name in {**self.masks, **other.masks}
        })  # fmt: skip

    def _of(self, name: str, other: WeightMasks) -> Tensor:
        mine = self.masks.get(name)
        return torch.zeros_like(other.masks[name]) if mine is None else mine


def overlap(first: WeightMasks, second: WeightMasks) -> float:
    """Intersection over union of two masks over the same layers; 0 where both are empty.

    Raises:
        ConfigurationError: They are of different layers or shapes.
    """
    if {name: mask.shape for name, mask in first.masks.items()} != {
        name: mask.shape for name, mask in second.masks.items()
    }:
        raise ConfigurationError("masks of different layers; compare masks of one network")
    both = sum(int((mask & second.masks[name]).sum()) for name, mask in first.masks.items())
    union = first.pruned + second.pruned - both
    return both / union if union else 0.0


def overlap_by_chance(first: float, second: float) -> float:
    """Intersection over union that two independent random masks of these densities have.

    For equal densities s it is s / (2 - s).
    """
    union = first + second - first * second
    return first * second / union if union else 0.0


@contextmanager
def pruned(sites: Sequence[WeightSite], masks: WeightMasks) -> Iterator[None]:
    """The network without the masked weights; every bit is as before when the block ends.

    Raises:
        ConfigurationError: See `prune`.
    """
    by_name = _fitting(sites, masks)
    kept = {name: site.weight.clone() for name, site in by_name.items()}
    prune(sites, masks)
    try:
        yield
    finally:
        with torch.no_grad():
            for name, site in by_name.items():
                site.weight.copy_(kept[name])


def prune(sites: Sequence[WeightSite], masks: WeightMasks) -> None:
    """Set the masked weights to zero, for good.

    Raises:
        ConfigurationError: A mask is of a layer that is not among the sites, or of another shape.
    """
    with torch.no_grad():
        for name, site in _fitting(sites, masks).items():
            site.weight[masks.masks[name].to(site.weight.device)] = 0


def _fitting(sites: Sequence[WeightSite], masks: WeightMasks) -> dict[str, WeightSite]:
    by_name = {site.name: site for site in sites}
    for name, mask in masks.masks.items():
        if name not in by_name:
            raise ConfigurationError(f"a mask for {name}, which is not among the layers given")
        shape = (by_name[name].outputs, by_name[name].inputs)
        if tuple(mask.shape) != shape:
            raise ConfigurationError(
                f"the mask of {name} is {list(mask.shape)} and its weight {list(shape)}; use a "
                "mask made for this model"
            )
    return {name: by_name[name] for name in masks.masks}
