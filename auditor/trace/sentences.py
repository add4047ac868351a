"""The sentences of a text, as byte ranges, and those that cover a part of it."""

from __future__ import annotations

import re
from typing import Final

MOST_WORDS: Final = 120
"""Words of a context; sentences are left off before it gets longer."""
_END: Final = re.compile(rb"[.!?]+[\"')\]]*(?=\s|$)|\n\s*\n")


def sentence_ranges(text: bytes) -> list[tuple[int, int]]:
    """First byte of each sentence, and one behind its last; white space between is of none.

    A sentence ends at full stops, question and exclamation marks before white space, at empty
    lines, and with the text.
    """
    found: list[tuple[int, int]] = []
    begin = 0
    for end in [*(match.end() for match in _END.finditer(text)), len(text)]:
        inside = text[begin:end]
        start = begin + len(inside) - len(inside.lstrip())
        stop = begin + len(inside.rstrip())
        if stop > start:
            found.append((start, stop))
        begin = end
    return found


def covering_sentences(text: bytes, start: int, stop: int) -> str:
    """The whole sentences that text[start:stop] touches, at most `MOST_WORDS` words of them."""
    touched = [(a, b) for a, b in sentence_ranges(text) if a < stop and b > start]
    if not touched:
        return ""
    inside = text[touched[0][0] : touched[-1][1]]
    words = inside.split()
    if len(words) > MOST_WORDS:
        inside = b" ".join(words[:MOST_WORDS])
    return inside.decode("utf-8", "replace")
