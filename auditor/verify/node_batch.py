"""Nodes of a search tree kept as tensors whose first axis runs over the nodes."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor


@dataclass
class NodeBatch:
    """Base of dataclasses that hold one tensor per attribute of the nodes."""

    def __len__(self) -> int:
        return len(self.parts()[0])

    def pick(self, index: Tensor | slice) -> Self:
        """Some of the nodes."""
        return type(self)(*(part[index] for part in self.parts()))

    def followed_by(self, other: Self) -> Self:
        """These nodes and then others."""
        pairs = zip(self.parts(), other.parts(), strict=True)
        return type(self)(*(torch.cat(pair) for pair in pairs))

    def parts(self) -> tuple[Tensor, ...]:
        """All attributes in order."""
        return tuple(getattr(self, each.name) for each in fields(self))
