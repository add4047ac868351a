"""What a repair by pruning is measured by, whatever kind of model it is.

Memorised items come back at a rate each, ordinary ones cost something each (lower is better). The
two arrays say all that choosing, controls and the gate need. Items are resampled whole, for
samples of one image, or spans of one document, are not independent.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from auditor.findings import Interval
from auditor.fixes.before_after import mean_interval
from auditor.memorization.masks.weight_masks import WeightMasks
from auditor.memorization.masks.weight_sites import WeightSite

Float64 = NDArray[np.float64]


class Split(StrEnum):
    """What is measured on."""

    CHOOSE = "choose"
    """To choose rule, layers and density by."""
    REPORT = "report"
    """For the record and the gate; nothing is chosen by it."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a model does.

    Attributes:
        rates: Share of the tries at which each memorised item comes back, [items].
        costs: Of each ordinary item, lower is better, [ordinary].
        also: Other measures, name to mean value, for the record alone.
    """

    rates: Float64
    costs: Float64
    also: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Recovery:
    """What an attack brought back.

    Attributes:
        attack: What was done, with its strength.
        rates: Of memorised items, [items].
        control: Of items that were never memorised, by the same attack on the same model, [items].
    """

    attack: str
    rates: Float64
    control: Float64

    @property
    def excess(self) -> float:
        """Recovery of memorised items above that of others."""
        return float(self.rates.mean() - self.control.mean())

    @property
    def interval(self) -> Interval:
        """95 % of the excess, items of both kinds resampled."""
        source = np.random.default_rng(0)
        draws = [
            values[source.integers(len(values), size=(2_000, len(values)))].mean(axis=1)
            for values in (self.rates, self.control)
        ]
        lower, upper = np.quantile(draws[0] - draws[1], [0.025, 0.975])
        return Interval(lower=float(lower), upper=float(upper), method="bootstrap by item")


@dataclass(frozen=True)
class Wording:
    """How a family's measures are called.

    Attributes:
        rate: Of memorised items.
        cost: Of ordinary ones.
        relative: Whether costs are nats, so that a loss is the rise of the perplexity as a share;
            otherwise it is the rise of the mean cost.
        items: What an item is, in the plural.
    """

    rate: str
    cost: str
    relative: bool
    items: str

    def loss(self, before: Outcome, after: Outcome) -> float:
        """How much worse ordinary items are."""
        return self.rise(float((after.costs - before.costs).mean()))

    def rise(self, difference: float) -> float:
        """What a difference of mean costs is called: itself, or the rise of the perplexity."""
        return float(np.expm1(difference)) if self.relative else difference

    def loss_interval(self, before: Outcome, after: Outcome) -> Interval | None:
        """95 % of the loss, ordinary items resampled; None of fewer than two."""
        found = paired_interval(before.costs, after.costs)
        if found is None or not self.relative:
            return found
        return found.model_copy(update={
            "lower": self.rise(found.lower), "upper": self.rise(found.upper)
        })  # fmt: skip


def paired_interval(before: Float64, after: Float64) -> Interval | None:
    """95 % of the mean difference of the same items; None of fewer than two."""
    return mean_interval(after - before, [str(number) for number in range(len(before))])


@dataclass(frozen=True, eq=False)
class Candidate:
    """Masks that may be the repair.

    Attributes:
        name: Rule, layers and share, for reports.
        sites: The layers.
        masks: What is pruned.
    """

    name: str
    sites: tuple[WeightSite, ...]
    masks: WeightMasks


class PruningStudy(Protocol):
    """A model with items it gives back, and ways to measure it."""

    @property
    def digest(self) -> str:
        """Of the untouched model."""
        ...

    @property
    def path(self) -> Path:
        """Folder of the untouched model."""
        ...

    @property
    def wording(self) -> Wording:
        """How its measures are called."""
        ...

    @property
    def parameters(self) -> dict[str, str]:
        """What it was given, for the record."""
        ...

    @property
    def names(self) -> Sequence[str]:
        """Of the candidates: every rule, set of layers and share that was asked for."""
        ...

    def candidate(self, name: str) -> Candidate:
        """The masks of a name."""
        ...

    def sites_of(self, layers: Collection[str]) -> tuple[WeightSite, ...] | None:
        """The set of layers with these names, if it is one that masks are made for."""
        ...

    def measure(self, split: Split) -> Outcome:
        """What the model does as it is at this moment."""
        ...

    def attacks(self) -> Sequence[Recovery]:
        """What attacks bring back from the model as it is at this moment."""
        ...

    def located_apart(self, candidate: Candidate) -> Sequence[str]:
        """Whether items share one subspace: overlap and cross-effect, one line each."""
        ...

    def hardened(self, candidate: Candidate) -> AbstractContextManager[bool]:
        """The model, already pruned, trained against the attack inside the block.

        Gives False, and changes nothing, if no such training was asked for.
        """
        ...

    def write(self, made: Path, candidate: Candidate) -> str:
        """Write the model as it is at this moment, with everything else its folder holds.

        Returns the digest of the folder; the candidate says which layers changed.
        """
        ...

    def write_graph(self, made: Path, candidate: Candidate) -> None:
        """Write the model as it is at this moment as an ONNX graph that agrees with torch.

        Where only the mask changed it, the untouched model's graph is edited.
        """
        ...
