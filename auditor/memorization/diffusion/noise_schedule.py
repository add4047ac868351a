"""The noise a diffusion model was trained with, and the steps that lead from it to an image.

Two kinds: variance is kept and the model predicts noise or velocity (Ho et al. 2020, Salimans and
Ho 2022, arXiv 2202.00512), sampled by DDIM; or image and noise are the ends of a straight path and
the model predicts its velocity (rectified flow, Liu et al. 2022, arXiv 2209.03003), sampled by
Euler steps.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class NoiseSchedule(ABC):
    """Noise between an image and pure noise.

    Attributes:
        scheduler: Of diffusers.
    """

    scheduler: Any
    sampled_by: ClassVar[str]
    """What the sampler is called in reports."""

    @property
    def timesteps(self) -> int:
        """How many the training noise has; the last has the most noise."""
        return int(self.scheduler.config.num_train_timesteps)

    @abstractmethod
    def draw(self, count: int, source: torch.Generator) -> Tensor:
        """Timesteps drawn evenly, [count]."""

    @abstractmethod
    def spread(self, count: int) -> Tensor:
        """Timesteps from the least noise to the most, [count]."""

    @abstractmethod
    def add_noise(self, clean: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """Clean images [images, C, h, w] with noise of a timestep each, [images]."""

    @abstractmethod
    def noise_of(self, predicted: Tensor, noisy: Tensor, times: Tensor | float) -> Tensor:
        """The noise that a prediction says is in noisy images."""

    @abstractmethod
    def sampler(self, steps: int) -> Any:
        """A scheduler of diffusers of its own, with its timesteps set."""


class VariancePreserving(NoiseSchedule):
    """Noise of DDIM's scheduler: whole timesteps from 0."""

    sampled_by = "DDIM"

    def draw(self, count: int, source: torch.Generator) -> Tensor:
        """Timesteps drawn evenly, [count]."""
        return torch.randint(self.timesteps, (count,), generator=source)

    def spread(self, count: int) -> Tensor:
        """Timesteps from the least noise to the most, [count]."""
        return torch.linspace(0, self.timesteps - 1, count).long()

    def add_noise(self, clean: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """Clean images [images, C, h, w] with noise of a timestep each, [images]."""
        noisy: Tensor = self.scheduler.add_noise(clean, noise, times)
        return noisy

    def noise_of(self, predicted: Tensor, noisy: Tensor, times: Tensor | float) -> Tensor:
        """The noise that a prediction says is in noisy images."""
        if self.scheduler.config.prediction_type != "v_prediction":
            return predicted
        kept = self.scheduler.alphas_cumprod.to(noisy)[torch.as_tensor(times).long().cpu()]
        kept = kept.reshape(-1, 1, 1, 1)
        noise: Tensor = kept.sqrt() * predicted + (1 - kept).sqrt() * noisy
        return noise

    def sampler(self, steps: int) -> Any:
        """A scheduler of diffusers of its own, with its timesteps set."""
        made = type(self.scheduler).from_config(self.scheduler.config)
        made.set_timesteps(steps)
        return made


@dataclass(frozen=True, eq=False)
class StraightPath(NoiseSchedule):
    """A flow: at timestep t of T an image is (1 - t/T) clean + t/T noise.

    Attributes:
        image_tokens: Patches of an image; more of them move steps towards noise, where the
            scheduler says so.
        even: Whether steps are even from 1 to 1/steps before they are moved, as Flux has them.
    """

    image_tokens: int
    even: bool
    sampled_by: ClassVar[str] = "Euler"

    def draw(self, count: int, source: torch.Generator) -> Tensor:
        """Timesteps drawn evenly, [count]."""
        return torch.randint(1, self.timesteps + 1, (count,), generator=source).float()

    def spread(self, count: int) -> Tensor:
        """Timesteps from the least noise to the most, [count]."""
        return torch.linspace(1, self.timesteps, count)

    def add_noise(self, clean: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """Clean images [images, C, h, w] with noise of a timestep each, [images]."""
        share = self._share(times, clean)
        return (1 - share) * clean + share * noise

    def noise_of(self, predicted: Tensor, noisy: Tensor, times: Tensor | float) -> Tensor:
        """The noise that a prediction says is in noisy images."""
        return noisy + (1 - self._share(times, noisy)) * predicted

    def _share(self, times: Tensor | float, like: Tensor) -> Tensor:
        return (torch.as_tensor(times).to(like) / self.timesteps).reshape(-1, 1, 1, 1)

    def sampler(self, steps: int) -> Any:
        """A scheduler of diffusers of its own, with its timesteps set."""
        made = type(self.scheduler).from_config(self.scheduler.config)
        known: dict[str, Any] = {}
        if self.even and not made.config.get("use_flow_sigmas"):
            known["sigmas"] = np.linspace(1.0, 1 / steps, steps)
        if made.config.use_dynamic_shifting:
            known["mu"] = self._moved(made.config)
        made.set_timesteps(steps, **known)
        return made

    def _moved(self, config: Any) -> float:
        """How far steps are moved towards noise: linear in the patches of an image."""
        few, many = config.base_image_seq_len, config.max_image_seq_len
        slope = (config.max_shift - config.base_shift) / (many - few)
        return float(config.base_shift + slope * (self.image_tokens - few))
