"""Bytes that are read once, from the front, whether they lie in a file or are being inflated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

_CHUNK: Final = 2**20


class ByteSource:
    """A stream that can be peeked at, read and skipped, and never gone back in.

    Args:
        read: Returns up to so many bytes, and none at the end; may raise what the stream raises.
        skip: Skips so many bytes and returns how many there were; None reads them.
        size: Bytes in all where they are known; a member of an archive may lie about it.
    """

    def __init__(
        self,
        read: Callable[[int], bytes],
        *,
        skip: Callable[[int], int] | None = None,
        size: int | None = None,
    ) -> None:
        self._read, self._skip, self.size = read, skip, size
        self._ahead = b""
        self.position = 0
        """Bytes read or skipped so far."""

    def peek(self, count: int) -> bytes:
        """The next bytes, fewer at the end; they are not consumed."""
        while len(self._ahead) < count:
            more = self._read(count - len(self._ahead))
            if not more:
                break
            self._ahead += more
        return self._ahead[:count]

    def read(self, count: int) -> bytes:
        """The next bytes, fewer only at the end. Memory is `count`, however long the source is."""
        parts, left = [self._ahead[:count]], count - len(self._ahead[:count])
        self._ahead = self._ahead[count:]
        while left > 0:
            more = self._read(min(left, _CHUNK))
            if not more:
                break
            parts.append(more)
            left -= len(more)
        found = b"".join(parts)
        self.position += len(found)
        return found

    def skip(self, count: int) -> int:
        """Go past bytes; returns how many there were, fewer only at the end."""
        kept = min(count, len(self._ahead))
        self._ahead = self._ahead[kept:]
        self.position += kept
        left, gone = count - kept, kept
        if left and self._skip is not None:
            skipped = self._skip(left)
            self.position += skipped
            return gone + skipped
        while left > 0:
            more = self._read(min(left, _CHUNK))
            if not more:
                break
            left, gone = left - len(more), gone + len(more)
            self.position += len(more)
        return gone
