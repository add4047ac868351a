"""What operators do to the part of a model that depends on the input.

Two forms exist: a chain of dense layers (`affine_chain.Chain`), folded as far as that is
exact, and a tensor of a graph (`graph_tensor.GraphTensor`), which keeps branches and
convolutions. Operators that make sense for both are written against this class.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from auditor.verify.network.chain import Float64

Self = TypeVar("Self", bound="Symbolic")


class Symbolic(ABC):
    """A tensor that depends on the model's input.

    Attributes:
        shape: Its shape with a batch of one.
    """

    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    @abstractmethod
    def reshaped(self: Self, shape: tuple[int, ...]) -> Self:
        """The same elements in the same order under another shape."""

    @abstractmethod
    def affine(
        self: Self, weight: Float64, bias: Float64, shape: tuple[int, ...], name: str
    ) -> Self:
        """This tensor after an affine map of its flat elements."""

    @abstractmethod
    def plus(self: Self, bias: Float64, name: str) -> Self:
        """This tensor plus a constant, flat and of its own size."""

    @abstractmethod
    def scaled(self: Self, factors: Float64, name: str) -> Self:
        """This tensor times a constant, element by element."""

    @abstractmethod
    def permuted(self: Self, order: NDArray[np.int64], shape: tuple[int, ...], name: str) -> Self:
        """The flat elements in another order."""

    @abstractmethod
    def rectified(self: Self, name: str) -> Self:
        """This tensor after a ReLU."""
