"""The sentences of a text, as byte ranges, and those that cover a part of it."""

from __future__ import annotations

import re
from itertools import zip_longest
from typing import Final

MOST_WORDS: Final = 120
"""Words of a piece, and of a passage: the models that judge do not read on."""
# Possessive, and not begun inside a run of marks: time stays linear in the text.
_END: Final = re.compile(rb"(?<![.!?])[.!?]++[\"')\]]*+(?=\s|$)|\n\s*\n")


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


def covering_sentences(text: bytes, start: int, stop: int) -> list[str]:
    """The whole sentences that text[start:stop] touches, in pieces of at most `MOST_WORDS` words.

    All pieces of a sentence are given, so what is judged does not depend on where in the sentence
    the part stands, and nothing is hidden behind many words.
    """
    found = []
    for first, last in sentence_ranges(text):
        if first < stop and last > start:
            inside = text[first:last]
            words = inside.split()
            pieces = [inside] if len(words) <= MOST_WORDS else [
                b" ".join(words[at : at + MOST_WORDS]) for at in range(0, len(words), MOST_WORDS)
            ]  # fmt: skip
            found += [piece.decode("utf-8", "replace") for piece in pieces]
    return found


def passage_sentences(text: bytes, start: int, stop: int) -> list[str]:
    """The sentences that text[start:stop] touches and those around it, nearest first.

    Sentences before and behind are taken in turn as long as all of them together have at most
    `MOST_WORDS` words.
    """
    ranges = sentence_ranges(text)
    touched = [number for number, (a, b) in enumerate(ranges) if a < stop and b > start]
    found = covering_sentences(text, start, stop)
    if not touched:
        return found
    words = sum(len(sentence.split()) for sentence in found)
    around = zip_longest(reversed(range(touched[0])), range(touched[-1] + 1, len(ranges)))
    for number in (each for pair in around for each in pair if each is not None):
        inside = text[slice(*ranges[number])].decode("utf-8", "replace")
        words += len(inside.split())
        if words > MOST_WORDS:
            break
        found.append(inside)
    return found
