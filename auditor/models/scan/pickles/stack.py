"""What is known of a pickle's stack and memo, in bounded memory.

A value is known as far as an import or an item assignment needs it: the text it is, the name it
was imported by, or only its kind. What does not fit into memory is forgotten, and what was
forgotten is unknown: a name that is taken from there is one that the pickle hides.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

_MOST_VALUES: Final = 5_000
_MOST_RECENT: Final = 5_000
_MOST_EARLY: Final = 50_000
_MOST_EARLY_BYTES: Final = 2**22
_MOST_OTHERS: Final = 10_000


class Kind(StrEnum):
    """What a value is, where no more is known of it; the text stands in messages."""

    UNKNOWN = "an unknown value"
    PLAIN = "a number"
    TEXT = "a text"
    BYTES = "bytes"
    LIST = "a list"
    TUPLE = "a tuple"
    DICT = "a dict"
    SET = "a set"
    TENSOR = "a tensor"


class Import(NamedTuple):
    """What was imported under a name, itself and not a result of it."""

    module: str
    name: str


Value = Kind | bytes | Import
"""`bytes` is a text as it stands in the pickle, in UTF-8."""


class SymbolicStack:
    """The values above and below the marks.

    Attributes:
        values: The last first; to push is to append.
        marks: How many values there were when each mark was put.
        short: Whether a value or mark was taken that is not there; the caller resets it.
        forgotten: Values and marks that were forgotten.
    """

    def __init__(self) -> None:
        self.values: list[Value] = []
        self.marks: list[int] = []
        self.short = False
        self.forgotten = 0

    def _missing(self) -> Value:
        # What was forgotten may have been there, unless a mark that is known lies in between.
        self.short = self.short or not self.forgotten or any(self.marks[-1:])
        return Kind.UNKNOWN

    def pop(self) -> Value:
        """Take the last value above the last mark."""
        if len(self.values) > (self.marks[-1] if self.marks else 0):
            return self.values.pop()
        return self._missing()

    def top(self) -> Value:
        """The last value above the last mark, left where it is."""
        if len(self.values) > (self.marks[-1] if self.marks else 0):
            return self.values[-1]
        return self._missing()

    def mark(self) -> None:
        """Put a mark behind the last value."""
        self.marks.append(len(self.values))

    def pop_mark(self) -> int:
        """Take the last mark; returns the index of the first value behind it.

        The values stay, for the caller to look at and delete.
        """
        if self.marks:
            return self.marks.pop()
        self._missing()
        return 0

    def pop_or_unmark(self) -> None:
        """Take the last value, or the mark if there is none behind it."""
        if self.marks and self.marks[-1] == len(self.values):
            self.marks.pop()
        else:
            self.pop()

    def bound(self) -> None:
        """Forget the oldest values and marks once there are too many."""
        over = len(self.values) - _MOST_VALUES
        if over > 0:
            del self.values[:over]
            self.marks[:] = [max(0, place - over) for place in self.marks]
            self.forgotten += over
        over = len(self.marks) - _MOST_VALUES
        if over > 0:
            del self.marks[:over]
            self.forgotten += over


class Memo:
    """Values by number. A number that was not kept, or never written, is unknown.

    Numbers follow each other in nearly all pickles, so that a list holds the recent ones.

    Attributes:
        recent: The values of the numbers from `first` on; to write the next number is to append.
        first: The number of the first of them.
        early: What is kept of the numbers before it.
        dense: Whether all that were written follow each other.
        counts: Whether they also begin at 0, so that the next is what `MEMOIZE` takes.
    """

    def __init__(self) -> None:
        self.recent: list[Value] = []
        self.first = 0
        self.dense = self.counts = True
        self._begin = 0
        self.early: dict[int, Value] = {}
        self._early_bytes = 0
        self._others: dict[int, Value] = {}
        self._lost = False

    def append(self, value: Value) -> None:
        """Write under the number of values that were written so far."""
        self.put(self.first + len(self.recent) - self._begin + len(self._others), value)

    def put(self, number: int | None, value: Value) -> None:
        """Write under a number; None if the number is unknown."""
        following = self.first + len(self.recent)
        if number is None or len(self._others) > _MOST_OTHERS:
            self._lost = True
            self.early.clear()
        elif number == following:
            self.recent.append(value)
            self._others.pop(number, None)
        elif following == self._begin:  # the first that is written, 1 in pickles of Python 2
            self.first = self._begin = number
            self.recent.append(value)
        elif self.first <= number < following:
            self.recent[number - self.first] = value
        elif self._begin <= number < self.first:
            self.early.pop(number, None)
        else:
            self._others[number] = value
        self.dense = not (self._others or self._lost)
        self.counts = self.dense and not self._begin

    def get(self, number: int | None) -> Value:
        """What was written under a number."""
        if number is None or self._lost:
            return Kind.UNKNOWN
        if self.first <= number < self.first + len(self.recent):
            return self.recent[number - self.first]
        return self.early.get(number, self._others.get(number, Kind.UNKNOWN))

    def bound(self) -> None:
        """Forget what is neither early nor recent once there is too much of it."""
        if len(self.recent) <= _MOST_RECENT:
            return
        for number, value in enumerate(self.recent, self.first):
            size = len(value) if isinstance(value, bytes) else 0
            room = self._early_bytes + size < _MOST_EARLY_BYTES and len(self.early) < _MOST_EARLY
            if room and value is not Kind.UNKNOWN and not self._lost:
                self.early[number] = value
                self._early_bytes += size
        self.first += len(self.recent)
        self.recent.clear()
