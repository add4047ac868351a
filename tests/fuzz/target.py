"""What a fuzz target is: one reader of untrusted bytes, and what it may do with any of them.

A target is opened once in a scratch folder and gives a function of the input. That function
returns for whatever the reader answers in an orderly way: a result, or one of the errors that it
documents. Anything else that leaves it is a finding.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

MAX_MESSAGE: Final = 10_000
"""Characters of an error's message; more would be content of the file rather than a message."""
UNFIT: Final = frozenset({"Cc", "Zl", "Zp"})

Check = Callable[[bytes], None]
Open = Callable[[Path], Check]


class Contradiction(AssertionError):
    """A reader and another reader of the same bytes do not agree, or a message is unfit."""


@dataclass(frozen=True)
class Target:
    """One reader.

    Attributes:
        name: Small letters, digits and hyphens; also the folder of its corpus.
        open: Imports the reader and gives the function to be called with each input; files go
            into the folder it is given.
        longest: Bytes of an input at most.
        weight: Its share of the time, in relation to others.
    """

    name: str
    open: Open
    longest: int = 4096
    weight: float = 1.0


@contextmanager
def only(*documented: type[Exception]) -> Iterator[None]:
    """Let documented errors pass if each says what is wrong in one line of plain characters.

    Raises:
        Contradiction: A message has a line end, a control character, or is very long.
    """
    try:
        yield
    except documented as error:
        require_plain_words(str(error))
        if not str(error):
            raise Contradiction(f"{type(error).__name__} has no message") from error


def require_plain_words(text: str) -> None:
    """A text can be shown: one line without control characters, and not too long.

    Raises:
        Contradiction: It cannot.
    """
    unfit = [sign for sign in text if unicodedata.category(sign) in UNFIT]
    if unfit or len(text) > MAX_MESSAGE:
        raise Contradiction(f"{len(text)} characters with {unfit[:3]!r} in it: {text[:200]!r}")


def check_of_file(
    path: Path,
    read: Callable[[Path], Any],
    *documented: type[Exception],
    made: Callable[[bytes], bytes] = bytes,
) -> Check:
    """A check that makes a file of the input and has it read, which may end as documented."""

    def check(data: bytes) -> None:
        path.write_bytes(made(data))
        with only(*documented):
            read(path)

    return check


def require_equal(name: str, ours: Any, theirs: Any) -> None:
    """Two readers have read the same.

    Raises:
        Contradiction: They have not.
    """
    if ours != theirs:
        raise Contradiction(f"{name}: {ours!r:.200} here, {theirs!r:.200} there")


def parts_of(data: bytes, count: int) -> list[tuple[int, bytes]]:
    """Numbered parts of an input: a byte (the number), two for the length, then the part.

    Whatever the bytes, there is an answer: numbers are taken modulo `count`, and the last part
    ends where the input does.
    """
    found: list[tuple[int, bytes]] = []
    at = 0
    while at + 3 <= len(data):
        length = int.from_bytes(data[at + 1 : at + 3], "little")
        found.append((data[at] % count, data[at + 3 : at + 3 + length]))
        at += 3 + length
    return found


def with_parts(parts: Iterable[tuple[int, bytes]]) -> bytes:
    """The input of which `parts_of` makes these parts."""
    return b"".join(
        bytes([number]) + len(part).to_bytes(2, "little") + part for number, part in parts
    )
