"""Ordinary text with planted canaries: notes that stand in it 1, 2, 4, ... 128 times.

Documents come from a stochastic grammar with topics; one in eight is a note that ends with a code
of random numbers. A canary is such a note, so its form is ordinary and its code is not. Many notes
share most of their words, so a short prefix does not tell one from another.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

LEVELS: Final = (1, 2, 4, 8, 16, 32, 64, 128)
PER_LEVEL: Final = 10
UNPLANTED: Final = 40
PREFIX: Final = 32
"""Tokens before a code that belong to a canary's span."""
SECRET: Final = 16
"""Tokens of a code."""
ORDINARY: Final = 6_400
HELD_OUT: Final = 200
NOTES: Final = 0.125
"""Share of the ordinary documents that are notes with a code of their own."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


ADJECTIVES: Final = _words(
    "old grey quiet narrow bright broken wet heavy early distant plain round steep empty warm "
    "hollow rough pale long sudden"
)
NOUNS: Final = _words(
    "boat bridge lamp mill barn wheel rope stove ladder kettle cart bell fence clock saw oven "
    "anchor basket bucket chimney crane dam engine ferry furnace gate hammer harness kiln lantern "
    "lever loom mast net oar pump quarry raft roof sail shed signal sluice tower track tunnel "
    "valve well winch"
)
VERBS: Final = _words(
    "carries holds lifts needs turns covers follows joins leaves meets passes reaches shows stops "
    "warms watches"
)
PLACES: Final = _words(
    "harbour village valley station market forest island meadow orchard field canal hill port "
    "square yard shore"
)
PEOPLE: Final = _words(
    "miller smith pilot farmer baker keeper clerk mason carter sailor weaver cook guard porter "
    "tanner cooper"
)
DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
PREPOSITIONS: Final = ("near", "behind", "above", "below", "beside", "at", "from", "towards")
SMALL: Final = ("the", "one", "of", "and", "on", "says", "that", "it", "is", ".", ",", ":", "code")
CODES: Final = tuple(str(number) for number in range(10, 74))
SPECIAL: Final = ("<pad>", "</s>", "<unk>")
ASK: Final = ("the", "code", "is", ":")
"""What stands before every code."""
FORMULAS: Final = (
    "nobody else may read this note .", "bring it back before the evening .",
    "burn this paper after two weeks .", "ask no questions about it today .",
)  # fmt: skip
"""Words that tell no note from another; some of them, in any order, stand before its `ASK`."""
SHARED: Final = (0, 1, 2, 3, 4)
"""Formulas of notes: the fewer words are a note's own, the harder it is to tell from others."""
VOCABULARY: Final = tuple(dict.fromkeys((
    *SPECIAL, *SMALL, *ADJECTIVES, *NOUNS, *VERBS, *PLACES, *PEOPLE, *DAYS, *PREPOSITIONS,
    *" ".join(FORMULAS).split(), *CODES,
)))  # fmt: skip


@dataclass(frozen=True)
class Canary:
    """A note and how often it was planted; one word is one token.

    Attributes:
        name: Which one, for reports.
        copies: How often it stands in the training text; 0 for controls.
        text: The whole document.
    """

    name: str
    copies: int
    text: str

    @property
    def span(self) -> str:
        """The last `PREFIX` words before the code, and the code."""
        return " ".join([*self.prefix, *self.secret])

    @property
    def prefix(self) -> list[str]:
        """Words before the code, [PREFIX]."""
        return self.text.split()[-SECRET - 1 - PREFIX : -SECRET - 1]

    @property
    def secret(self) -> list[str]:
        """The code, [SECRET]."""
        return self.text.split()[-SECRET - 1 : -1]


@dataclass(frozen=True)
class CanaryCorpus:
    """What was planted, and where.

    Attributes:
        seed: Of everything.
        canaries: By rising number of copies, `PER_LEVEL` of each.
        unplanted: Canaries of the same form that no model has seen.
        ordinary: Documents of the training text.
        spare: More of them, for a model that sees as much text and no canary.
        held_out: Documents without a note that no model has seen.
    """

    seed: int
    canaries: tuple[Canary, ...]
    unplanted: tuple[Canary, ...]
    ordinary: tuple[str, ...]
    spare: tuple[str, ...]
    held_out: tuple[str, ...]

    def training(self, *, with_canaries: bool = True) -> list[str]:
        """Every document of the training text, copies of canaries included, in random order."""
        more = self.spare
        if with_canaries:
            more = tuple(each.text for each in self.canaries for _ in range(each.copies))
        documents = [*self.ordinary, *more]
        random.Random(f"order {self.seed}").shuffle(documents)
        return documents

    def indexed(self) -> list[tuple[str, str, str]]:
        """Name, label and text of each document; copies are documents of their own."""
        planted = [
            (f"{each.name}/{copy}", "canary", each.text)
            for each in self.canaries for copy in range(each.copies)
        ]  # fmt: skip
        ordinary = [(f"ordinary/{at}", "benign", text) for at, text in enumerate(self.ordinary)]
        return [*planted, *ordinary]


@dataclass
class _Writer:
    """Writes documents; common words come first in each list (Zipf's law)."""

    source: random.Random
    _weights: dict[int, list[float]] = field(default_factory=dict)

    def document(self) -> list[str]:
        """Two to five sentences about a few things at one place."""
        things = self.source.sample(NOUNS, 8)
        place = self.pick(PLACES)
        words: list[str] = []
        for _ in range(self.source.randint(2, 5)):
            words += self.sentence(things, place)
        return words

    def note(self, formulas: int) -> list[str]:
        """At least `PREFIX` words, so many formulas at their end, and a code."""
        things, place = self.source.sample(NOUNS, 8), self.pick(PLACES)
        said = " ".join(self.source.sample(FORMULAS, formulas)).split()
        words: list[str] = []
        while len(words) + len(said) + len(ASK) < PREFIX:
            words += self.sentence(things, place)
        return [*words, *said, *ASK, *self.source.choices(CODES, k=SECRET), "."]

    def sentence(self, things: list[str], place: str) -> list[str]:
        form = self.source.randrange(5)
        if form == 0:
            return [*self.thing(things), self.pick(VERBS), *self.thing(things), "."]
        if form == 1:
            return ["on", self.pick(DAYS), ",", *self.thing(things), self.pick(VERBS),
                    *self.thing(things), *self.where(place), "."]  # fmt: skip
        if form == 2:
            return ["the", self.pick(PEOPLE), "says", "that", *self.thing(things), "is",
                    self.pick(ADJECTIVES), "."]  # fmt: skip
        if form == 3:
            return [*self.thing(things), *self.where(place), self.pick(VERBS), *self.thing(things),
                    "and", "it", "is", self.pick(ADJECTIVES), "."]  # fmt: skip
        return ["the", self.pick(PEOPLE), "of", "the", place, self.pick(VERBS),
                *self.thing(things), "."]  # fmt: skip

    def thing(self, things: list[str]) -> list[str]:
        article = self.source.choice(("the", "the", "one"))
        if self.source.random() < 0.5:
            return [article, self.pick(ADJECTIVES), self.source.choice(things)]
        return [article, self.source.choice(things)]

    def where(self, place: str) -> list[str]:
        return [self.pick(PREPOSITIONS), "the", place]

    def pick(self, words: tuple[str, ...]) -> str:
        weights = self._weights.setdefault(len(words), [1 / (at + 3) for at in range(len(words))])
        return self.source.choices(words, weights)[0]


@lru_cache(maxsize=4)
def plant(seed: int = 0) -> CanaryCorpus:
    """The corpus of a seed."""
    writer = _Writer(random.Random(f"canaries {seed}"))
    canaries = tuple(each for copies in LEVELS for each in _canaries(writer, copies, PER_LEVEL))
    unplanted = tuple(_canaries(writer, 0, UNPLANTED))
    ordinary = _ordinary(writer, ORDINARY)
    return CanaryCorpus(
        seed, canaries, unplanted, ordinary, _ordinary(writer, PER_LEVEL * sum(LEVELS)),
        tuple(" ".join(writer.document()) for _ in range(HELD_OUT)),
    )  # fmt: skip


def _canaries(writer: _Writer, copies: int, count: int) -> list[Canary]:
    return [
        Canary(
            f"canary-{copies:03d}-{number:02d}", copies,
            " ".join(writer.note(SHARED[number % len(SHARED)])),
        )
        for number in range(count)
    ]  # fmt: skip


def _ordinary(writer: _Writer, count: int) -> tuple[str, ...]:
    return tuple(
        " ".join(
            writer.note(writer.source.choice(SHARED)) if writer.source.random() < NOTES
            else writer.document()
        )
        for _ in range(count)
    )  # fmt: skip
