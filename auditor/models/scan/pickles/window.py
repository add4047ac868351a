"""The part of a pickle that is in memory: one window that moves over the stream.

Whoever walks it indexes `content` directly and asks for more once `safe` is reached, so that
nothing is called for an opcode that needs nothing. The window is behind the stream by at most
`_WINDOW` bytes and a margin, however long the arguments are.
"""

from __future__ import annotations

from typing import Final

from auditor.models.scan.byte_source import ByteSource

_WINDOW: Final = 2**16
_MARGIN: Final = 300
"""More than an opcode with its short argument: a length byte and 255 bytes of text."""
_SKIP: Final = 2**30


class WalkEnded(Exception):
    """A pickle cannot be walked any further.

    Attributes:
        rule: `truncated` or `malformed`.
        problem: What is wrong there.
        offset: Byte of the stream.
    """

    def __init__(self, rule: str, problem: str, offset: int) -> None:
        self.rule, self.problem, self.offset = rule, problem, offset
        super().__init__(problem)


class PickleWindow:
    """The bytes around the place where a walk is.

    Attributes:
        content: Bytes in memory; behind `end` there may be zeros that are not in the stream.
        end: How many of them are in the stream.
        safe: An opcode that begins before it lies in `content` with its short argument. Behind
            the stream's end that is so because of the zeros, and the next `refill` says so.
        base: Offset of the first of them in the stream.
    """

    def __init__(self, source: ByteSource) -> None:
        self._source, self._ended = source, False
        self.content, self.end, self.safe, self.base = b"", 0, 0, source.position

    @property
    def ended(self) -> bool:
        """Whether the stream has no more bytes than `content`."""
        return self._ended

    def refill(self, at: int) -> int:
        """Move the window to its byte `at`; returns the index of that byte afterwards.

        Raises:
            WalkEnded: The stream has no such byte.
        """
        at = self._load(at)
        if at >= self.end:
            where = "before its STOP" if at == self.end else "inside an argument"
            raise WalkEnded("truncated", f"the stream ends {where}", self.base + self.end)
        return at

    def _load(self, at: int) -> int:
        if self._ended:
            return at
        rest = self.content[at : self.end]
        more = self._source.read(_WINDOW)
        self.base += at
        self.content = rest + more
        self.end = len(self.content)
        self.safe = self.end - _MARGIN
        if len(more) < _WINDOW:
            self._ended, self.safe = True, self.end
            self.content += bytes(_MARGIN)
        return 0

    def skip(self, at: int, count: int) -> int:
        """Go past bytes, which may be many; returns the index behind them.

        Raises:
            WalkEnded: There are fewer.
        """
        if at + count <= self.end:
            return at + count
        left, size = count - (self.end - at), self._source.size
        short = self._ended or (size is not None and left > max(0, size - self._source.position))
        while left and not short:
            step = min(left, _SKIP)
            short = self._source.skip(step) < step
            left -= step
        if short:
            problem = f"the stream ends inside an argument of {count} bytes"
            raise WalkEnded("truncated", problem, self.base + at)
        self.base += at + count
        self.content, self.end, self.safe = b"", 0, 0
        return 0

    def read(self, at: int, count: int) -> tuple[bytes, int]:
        """So many bytes, which have to be few, and the index behind them."""
        if at + count > self.end:
            at = self.refill(at)
        if at + count > self.end:
            self.skip(at, count)
        return self.content[at : at + count], at + count

    def line(self, at: int, most: int) -> tuple[bytes | None, int]:
        """The bytes up to the next newline, and the index behind it; None if there are more.

        At the end of the stream the last byte is taken for the newline, as CPython does.
        """
        stop = self.content.find(b"\n", at, self.end)
        if stop >= 0:
            return (self.content[at:stop] if stop - at <= most else None), stop + 1
        kept = b""
        while stop < 0:
            kept += self.content[at : min(self.end, at + most + 2)]
            kept = kept[: most + 2]
            if self._ended:
                return (kept[:-1] if len(kept) <= most + 1 else None), self.end
            self._load(self.end)
            at, stop = 0, self.content.find(b"\n", 0, self.end)
        kept += self.content[: min(stop, most + 1)]
        return (kept if len(kept) <= most else None), stop + 1

    def rest_from(self, offset: int) -> int:
        """Bytes from `offset` to the end of the stream; 0 if all of them are zero.

        Nothing can be walked afterwards.
        """
        source = self._source
        zero = offset >= self.base and not self.content[offset - self.base : self.end].strip(b"\0")
        while zero and (more := source.read(_WINDOW)):
            zero = not more.strip(b"\0")
        while source.skip(_SKIP) > 0:
            pass
        return 0 if zero else source.position - offset
