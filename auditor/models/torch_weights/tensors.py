"""Tensors as a pickle describes them: a part of a storage, and how its numbers lie there.

Source: `_rebuild_tensor_v2` and `_rebuild_tensor_v3` in torch/_utils.py, and `persistent_load` in
torch/serialization.py (2.13).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Final

from auditor.models.safetensors_header import BITS

_LARGEST: Final = 2**63 - 1
_MOST_AXES: Final = 32


class NotRead(ValueError):
    """A value that plain weights do not have; the text is one line without a place."""


@dataclass(frozen=True)
class Storage:
    """Numbers in a row, which tensors are parts of.

    Attributes:
        key: What the file calls it.
        dtype: Type of the numbers in the names of safetensors.
        count: How many there are.
    """

    key: str
    dtype: str
    count: int

    @property
    def size(self) -> int:
        """Bytes."""
        return self.count * width_of(self.dtype)


@dataclass(frozen=True)
class PickledTensor:
    """A tensor that lies inside its storage.

    Attributes:
        storage: Where its numbers are.
        dtype: Their type; the storage may be one of plain bytes.
        offset: Of its first number, counted in numbers of its type.
        shape: Its axes.
        strides: Numbers from one place to the next, for each axis.
    """

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def __post_init__(self) -> None:
        """Check that every number lies in the storage.

        Raises:
            NotRead: One does not, or there are more than the storage has.
        """
        counts = (*self.shape, *self.strides, self.offset)
        if any(type(count) is not int or not 0 <= count <= _LARGEST for count in counts):
            raise NotRead("a tensor whose shape, strides and offset are not whole numbers >= 0")
        if len(self.shape) != len(self.strides) or len(self.shape) > _MOST_AXES:
            raise NotRead(f"a tensor of {len(self.shape)} axes and {len(self.strides)} strides")
        room = self.storage.size // width_of(self.dtype)
        if self.elements and self.offset + self.span > room:
            raise NotRead(f"a tensor that reaches to number {self.offset + self.span} of a "
                          f"storage of {room}")  # fmt: skip
        if self.elements > room:
            raise NotRead(f"a tensor of {self.elements} numbers in a storage of {room}")

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return prod(self.shape)

    @property
    def size(self) -> int:
        """Bytes."""
        return self.elements * width_of(self.dtype)

    @property
    def span(self) -> int:
        """Numbers of its storage from its first to behind its last."""
        reached = sum((count - 1) * stride
                      for count, stride in zip(self.shape, self.strides, strict=True))  # fmt: skip
        return reached + 1 if self.elements else 0

    @property
    def is_contiguous(self) -> bool:
        """Whether its numbers lie one behind the other in the order of its axes."""
        expected = 1
        for count, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if count != 1 and stride != expected:
                return self.elements == 0
            expected *= count
        return True


def width_of(dtype: str) -> int:
    """Bytes of one number."""
    return BITS[dtype] // 8
