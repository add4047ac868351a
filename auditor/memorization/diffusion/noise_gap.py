"""How much a prompt moves the predicted noise: large for memorised prompts, from the first step on.

Source: Wen et al. 2024, "Detecting, Explaining, and Mitigating Memorization in Diffusion Models"
(arXiv 2407.21720): the 2-norm of the noise predicted for the prompt less that for the empty one.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from auditor.memorization.diffusion.model import Step

Float32 = NDArray[np.float32]


class NoiseGaps:
    """Collects gaps while a model samples: give it as `on_step`."""

    def __init__(self) -> None:
        self._found: dict[int, list[float]] = {}

    def __call__(self, step: Step) -> None:
        """Note the gap of each image of a batch at one step."""
        difference = (step.conditional - step.unconditional).float().flatten(1)
        for row, gap in zip(step.rows, torch.linalg.vector_norm(difference, dim=1), strict=True):
            self._found.setdefault(row, []).append(float(gap))

    @property
    def gaps(self) -> Float32:
        """Of each image at each step, [images, steps]; column 0 is the step with most noise."""
        return np.array([self._found[row] for row in sorted(self._found)], np.float32)
