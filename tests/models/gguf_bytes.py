"""GGUF files written byte by byte, so that any number in them can be wrong."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple


class Value(NamedTuple):
    """A metadata entry: its key, the number of its type, and its bytes."""

    key: str | bytes
    kind: int
    content: bytes


class Described(NamedTuple):
    """A tensor's entry: name, axes, number of its type, and where its numbers begin."""

    name: str | bytes
    shape: Sequence[int]
    kind: int = 0
    begin: int = 0


class GgufBytes:
    """Writes files of one version and byte order.

    Args:
        version: Of the format.
        order: `<` or `>`.
    """

    def __init__(self, version: int = 3, order: str = "<") -> None:
        self._version, self._order = version, order
        self._width = "I" if version == 1 else "Q"

    def number(self, value: int, layout: str = "I") -> bytes:
        """A number of this layout of `struct`."""
        return struct.pack(self._order + layout, value)

    def length(self, value: int) -> bytes:
        """A count or a length."""
        return self.number(value, self._width)

    def text(self, text: str | bytes) -> bytes:
        """A text with its length before it."""
        content = text.encode() if isinstance(text, str) else text
        return self.length(len(content)) + content

    def array(self, kind: int, items: Sequence[bytes]) -> bytes:
        """An array of values."""
        return self.number(kind) + self.length(len(items)) + b"".join(items)

    def file(
        self,
        values: Sequence[Value] = (),
        tensors: Sequence[Described] = (),
        data: bytes = b"",
        *,
        keys: int | None = None,
        count: int | None = None,
        alignment: int = 32,
    ) -> bytes:
        """A whole file.

        Args:
            values: Metadata in order.
            tensors: Entries in order.
            data: What follows the padding behind them.
            keys: Metadata entries as the header counts them.
            count: Tensors as the header counts them.
            alignment: Of the padding before the data.
        """
        head = b"GGUF" + self.number(self._version)
        head += self.length(len(tensors) if count is None else count)
        head += self.length(len(values) if keys is None else keys)
        for value in values:
            head += self.text(value.key) + self.number(value.kind) + value.content
        for tensor in tensors:
            head += self.text(tensor.name) + self.number(len(tensor.shape))
            head += b"".join(self.length(axis) for axis in tensor.shape)
            head += self.number(tensor.kind) + self.number(tensor.begin, "Q")
        return head + bytes(-len(head) % alignment) + data
