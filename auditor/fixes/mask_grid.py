"""Candidates of a pruning on a grid: every rule, set of layers and share that is tried."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import product
from typing import Final, NamedTuple

import numpy as np

from auditor.fixes.pruning_study import Candidate
from auditor.memorization.masks.mask_rules import MaskRule
from auditor.memorization.masks.shared_subspace import SharedSubspace
from auditor.memorization.masks.weight_masks import WeightMasks
from auditor.memorization.masks.weight_sites import SiteKind, WeightSite

_NEURONS: Final = "whole neurons"


class MaskSetting(NamedTuple):
    """How one mask is made.

    Attributes:
        rule: Scores weights.
        kinds: The layers, pruned together.
        share: Of each row; of each layer's neurons if these are pruned whole.
        neurons: Whether whole neurons (columns) are pruned, or single weights.
    """

    rule: MaskRule
    kinds: tuple[SiteKind, ...]
    share: float
    neurons: bool = False

    @property
    def name(self) -> str:
        """For reports."""
        whole = f", {_NEURONS}" if self.neurons else ""
        return f"{self.rule}, {' + '.join(self.kinds)}{whole}, {self.share:g}"

    @classmethod
    def read(cls, name: str) -> MaskSetting:
        """The setting of a name."""
        rule, kinds, *whole, share = name.split(", ")
        layers = tuple(map(SiteKind, kinds.split(" + ")))
        return cls(MaskRule(rule), layers, float(share), whole == [_NEURONS])


def settings_of(
    rules: Sequence[MaskRule], layers: Sequence[tuple[SiteKind, ...]], shares: Sequence[float],
    *, neurons: bool = False,
) -> dict[str, MaskSetting]:  # fmt: skip
    """Every rule, set of layers and share, by name, layers outermost."""
    found = (
        MaskSetting(rule, kinds, share, neurons)
        for kinds, rule, share in product(layers, rules, shares)
    )
    return {each.name: each for each in found}


class GridStudy(ABC):
    """The part of a `PruningStudy` that makes candidates."""

    @property
    @abstractmethod
    def settings(self) -> Mapping[str, MaskSetting]:
        """What is tried, by name; see `settings_of`."""

    @property
    @abstractmethod
    def sites(self) -> Mapping[tuple[SiteKind, ...], tuple[WeightSite, ...]]:
        """The layers of each set."""

    @abstractmethod
    def masks(self, setting: MaskSetting, which: Sequence[int] | None = None) -> WeightMasks:
        """Masks of some memorised items, by number; of all if None."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the candidates."""
        return tuple(self.settings)

    def candidate(self, name: str) -> Candidate:
        """The masks of a name, made anew."""
        setting = self.settings[name]
        return Candidate(name, self.sites[setting.kinds], self.masks(setting))

    def candidates(self) -> Iterator[Candidate]:
        """All of them, each made when it is asked for."""
        yield from map(self.candidate, self.names)

    def sites_of(self, layers: Collection[str]) -> tuple[WeightSite, ...] | None:
        """The set of layers with these names, if masks are made for it."""
        wanted = set(layers)
        found = (each for each in self.sites.values() if {site.name for site in each} == wanted)
        return next(found, None)

    def every_site(self) -> list[WeightSite]:
        """Each layer once, of whatever sets."""
        return list({site.name: site for sites in self.sites.values() for site in sites}.values())


def overlap_line(shared: SharedSubspace) -> str:
    """How much masks of disjoint halves overlap, for the record."""
    return (
        f"masks by {MaskRule.WANDA_DIFF} of disjoint halves overlap by {shared.mean:.2f} "
        f"(chance {shared.chance:.2f}; labels swapped {np.mean(shared.shuffled):.2f}, p "
        f"{shared.p_value:.2g})"
    )
