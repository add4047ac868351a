"""What a diffusion model memorised of suspected prompts, held beside ordinary ones.

Copies are counted where training images are given; without them what remains is how alike the
images of one prompt are, against the same of ordinary prompts. Detection is reported beside it and
is no measure of what is left of a memory: a signal may outlive the copies, and the reverse.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from auditor.memorization.detection import Detection, measure_detection
from auditor.memorization.diffusion.prompt_measures import PromptMeasures
from auditor.memorization.grouped_share import GroupedShare, measure_share

SIGNALS: Final[Mapping[str, Callable[[PromptMeasures], float]]] = MappingProxyType({
    "gap_first_step": attrgetter("first_gap"),
    "gap_mean": attrgetter("mean_gap"),
    "agreement": attrgetter("agreement"),
})  # fmt: skip
"""What tells memorised prompts, larger where they are."""


@dataclass(frozen=True)
class SuspectedPrompt:
    """A prompt that may be memorised.

    Attributes:
        text: The prompt.
        line: In its file.
        group: What it is resampled with: its image, or the group that its file names.
        image: Name of its training image, or empty.
        row: Row of that image, or None.
    """

    text: str
    line: int
    group: str
    image: str = ""
    row: int | None = None


@dataclass(frozen=True, eq=False)
class DiffusionMemorization:
    """What was measured.

    Attributes:
        prompts: Suspected prompts that were sampled, in order.
        suspected: Of each of them.
        ordinary: Of each ordinary prompt that was sampled.
        planned: Prompts of both kinds that were to be sampled.
        threshold: Similarity above which a sample is a copy.
        seed: Of the intervals.
    """

    prompts: tuple[SuspectedPrompt, ...]
    suspected: tuple[PromptMeasures, ...]
    ordinary: tuple[PromptMeasures, ...]
    planned: int
    threshold: float
    seed: int

    @property
    def done(self) -> int:
        """Prompts that were sampled."""
        return len(self.suspected) + len(self.ordinary)

    @property
    def groups(self) -> list[str]:
        """Of the suspected prompts."""
        return [prompt.group for prompt in self.prompts]

    @property
    def has_images(self) -> bool:
        """Whether samples were compared with training images."""
        return any(each.similarity is not None for each in self.suspected)

    @cached_property
    def copies(self) -> GroupedShare | None:
        """Samples of suspected prompts that are copies; None without images."""
        return self._copies(self.suspected, self.groups)

    @cached_property
    def ordinary_copies(self) -> GroupedShare | None:
        """Samples of ordinary prompts that are copies of any of the images."""
        return self._copies(self.ordinary, [str(row) for row in range(len(self.ordinary))])

    @cached_property
    def flagged(self) -> GroupedShare:
        """Suspected prompts whose images agree more than those of 99 % of the ordinary ones."""
        return self.detections["agreement"].found

    @cached_property
    def detections(self) -> dict[str, Detection]:
        """Of each signal, by its name."""
        return {
            name: measure_detection(
                name, [of(each) for each in self.suspected],
                [of(each) for each in self.ordinary], self.groups, self.seed,
            )
            for name, of in SIGNALS.items()
        }  # fmt: skip

    def copied(self, measures: PromptMeasures) -> NDArray[np.bool_]:
        """Which samples of a prompt are copies, [samples]."""
        if measures.similarity is None:
            return np.zeros(0, bool)
        return measures.similarity > self.threshold

    def _copies(
        self, measured: Sequence[PromptMeasures], groups: Sequence[str]
    ) -> GroupedShare | None:
        if not self.has_images or not measured:
            return None
        hits = [self.copied(each) for each in measured]
        names = [name for name, each in zip(groups, hits, strict=True) for _ in each]
        return measure_share(np.concatenate(hits), names, self.seed)
