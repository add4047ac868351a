"""Literals of Python as they stand in the header of a .npy file, and no others.

Texts, whole numbers, True, False, None, tuples, lists and one kind of dict, whose keys are texts
that stand once. Nothing is evaluated, and nesting is limited.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NoReturn

_TOKEN: Final = re.compile(
    r"[ \t\n\r\x0c]*(?:(?P<text>[bu]?(?:'[^'\"\\\n]*'|\"[^\"\\\n]*\"))"
    r"|(?P<number>-?[0-9]{1,40})L?|(?P<word>True|False|None)|(?P<sign>[][(){},:]))"
)
_WORDS: Final = {"True": True, "False": False, "None": None}
_MOST_NESTED: Final = 16
_SPACES: Final = " \t\n\r\x0c"

Literal = str | int | bool | None | Sequence["Literal"] | dict[str, "Literal"]


class LiteralError(Exception):
    """The text is no such literal; says at which character."""


class _Reader:
    """Reads from left to right."""

    def __init__(self, text: str) -> None:
        self.text, self.position = text, 0

    def refuse(self, problem: str) -> NoReturn:
        raise LiteralError(f"{problem} at character {self.position}")

    def take(self, sign: str) -> bool:
        """Go past a sign if it is the next one."""
        found = _TOKEN.match(self.text, self.position)
        if found is None or found["sign"] != sign:
            return False
        self.position = found.end()
        return True

    def value(self, depth: int) -> Literal:
        """The next value, whatever it is."""
        if depth > _MOST_NESTED:
            self.refuse(f"nested deeper than {_MOST_NESTED}")
        found = _TOKEN.match(self.text, self.position)
        if found is None or (found["sign"] or "(") not in "[({":
            self.refuse("neither a text, a number nor an opening bracket")
        self.position = found.end()
        if found["text"] is not None:
            return found["text"].lstrip("bu")[1:-1]
        if found["number"] is not None:
            return int(found["number"])
        if found["word"] is not None:
            return _WORDS[found["word"]]
        if found["sign"] == "[":
            return self.items("]", depth)[0]
        if found["sign"] == "(":
            items, commas = self.items(")", depth)
            return items[0] if len(items) == 1 and not commas else tuple(items)
        return self.entries(depth)

    def items(self, end: str, depth: int) -> tuple[list[Literal], int]:
        """The values up to a closing bracket, and how many commas there were."""
        found: list[Literal] = []
        commas = 0
        while not self.take(end):
            if len(found) > commas:
                self.refuse("no comma")
            found.append(self.value(depth + 1))
            commas += self.take(",")
        return found, commas

    def entries(self, depth: int) -> dict[str, Literal]:
        """The keys and values up to a closing bracket."""
        found: dict[str, Literal] = {}
        whole = True
        while not self.take("}"):
            key = self.value(depth + 1) if whole else None
            if not isinstance(key, str) or key in found or not self.take(":"):
                self.refuse("no new key")
            found[key] = self.value(depth + 1)
            whole = self.take(",")
        return found


def read_literal(text: str) -> Literal:
    """The literal that is the whole text.

    Raises:
        LiteralError: It is none, or there is more behind it.
    """
    reader = _Reader(text)
    found = reader.value(0)
    if reader.text[reader.position :].strip(_SPACES):
        reader.refuse("more behind the value")
    return found
