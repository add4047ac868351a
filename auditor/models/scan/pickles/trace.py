"""What was found on the way through one pickle."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from auditor.models.scan.pickles.stack import Import
from auditor.models.scan.pickles.window import WalkEnded

_MOST_NAMES: Final = 1000
_MOST_NOTES: Final = 20


class Note(NamedTuple):
    """Something met on the way: the byte, and what it is in words."""

    offset: int
    text: str


@dataclass
class PickleTrace:
    """What one pickle does, up to its STOP or to where it stops being one.

    Attributes:
        start: Byte at which it begins.
        end: Byte behind its STOP, or at which the walk ended.
        opcodes: How many were walked.
        calls: Opcodes that call what was imported.
        persistent: Opcodes that ask the reader for an object, as torch does for storages.
        left: Values and marks on the stack at the end.
        imports: Names in the order of their first byte.
        unlisted: Imports beyond those that are listed.
        hidden: Imports whose names cannot be told from the bytes; the first of them.
        hidden_count: All of them.
        structure: What an unpickler would stumble over, or must not do; the first of it.
        structure_count: All of it.
        ended: Why it has no STOP, or None.
        over: Whether it has more opcodes than are walked.
    """

    start: int
    end: int = 0
    opcodes: int = 0
    calls: int = 0
    persistent: int = 0
    left: int = 0
    imports: dict[Import, int] = field(default_factory=dict)
    unlisted: int = 0
    hidden: list[Note] = field(default_factory=list)
    hidden_count: int = 0
    structure: list[Note] = field(default_factory=list)
    structure_count: int = 0
    ended: WalkEnded | None = None
    over: bool = False

    @property
    def broken_at(self) -> int | None:
        """The first byte at which an unpickler would give up, or None."""
        ended = [self.ended.offset] if self.ended else []
        return min([*ended, *(note.offset for note in self.structure[:1])], default=None)

    @property
    def whole(self) -> bool:
        """Whether it was walked to its STOP."""
        return self.ended is None and not self.over

    def add_import(self, found: Import, offset: int) -> None:
        """Keep a name with its first byte; count it if there are too many."""
        if found in self.imports:
            return
        if len(self.imports) < _MOST_NAMES:
            self.imports[found] = offset
        else:
            self.unlisted += 1

    def add_hidden(self, offset: int, text: str) -> None:
        """Keep an import whose name cannot be told, or count it."""
        self.hidden_count += 1
        if len(self.hidden) < _MOST_NOTES:
            self.hidden.append(Note(offset, text))

    def add_structure(self, offset: int, text: str) -> None:
        """Keep what is wrong, or count it."""
        self.structure_count += 1
        if len(self.structure) < _MOST_NOTES:
            self.structure.append(Note(offset, text))

    def absorb(self, following: PickleTrace) -> None:
        """Add what the pickle behind this one does, so that both are told as one."""
        for found, offset in following.imports.items():
            self.add_import(found, offset)
        for note in following.hidden:
            self.add_hidden(*note)
        for note in following.structure:
            self.add_structure(*note)
        self.hidden_count += following.hidden_count - len(following.hidden)
        self.structure_count += following.structure_count - len(following.structure)
        self.unlisted += following.unlisted
        self.opcodes += following.opcodes
        self.calls += following.calls
        self.persistent += following.persistent
        self.end, self.ended, self.over = following.end, following.ended, following.over
