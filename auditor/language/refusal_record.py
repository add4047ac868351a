"""What a model did with prompts: replies, their counts by set and type, and flips between runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from auditor.errors import ConfigurationError
from auditor.intervals import Share
from auditor.language.deflection import Deflection
from auditor.language.prompt_sets import AskedPrompt, PromptSet
from auditor.language.refusal import Behaviour
from auditor.paired import mcnemar

WITHHELD: Final = frozenset({Behaviour.REFUSED, Behaviour.PARTIAL, Behaviour.EMPTY})
"""What counts against a model on prompts that deserve an answer: silence is none."""


@dataclass(frozen=True)
class Reply:
    """What a model did with a prompt.

    Attributes:
        asked: The prompt.
        text: The completion.
        behaviour: By the judge; deflected by the rules for it.
        score: The judge's.
        tokens: Of the completion.
        cut: Whether it was cut at the limit instead of ending by itself.
        deflection: How it deflects, if it does.
    """

    asked: AskedPrompt
    text: str
    behaviour: Behaviour
    score: float
    tokens: int
    cut: bool
    deflection: Deflection | None = None


@dataclass(frozen=True)
class Counts:
    """How often each behaviour occurred among some prompts.

    Attributes:
        kind: Their set.
        category: Their category, or None for the whole set.
        total: How many.
        of: By behaviour; absent ones did not occur.
        cut: Completions cut at the limit.
    """

    kind: PromptSet
    category: str | None
    total: int
    of: Mapping[Behaviour, int]
    cut: int

    def share(self, *behaviours: Behaviour) -> Share:
        """Share of the prompts with any of these behaviours."""
        return Share(sum(self.of.get(each, 0) for each in behaviours), self.total)


@dataclass(frozen=True)
class RefusalBehaviour:
    """What a model did with all prompts.

    Attributes:
        replies: One for each prompt that was asked, in order.
        planned: How many were to be asked.
        judge: Name and version.
        deflection: Version of the rules, or `none`.
        templated: Whether prompts went through a chat template.
        seconds: Wall clock of the completions alone.
    """

    replies: tuple[Reply, ...]
    planned: int
    judge: str
    deflection: str
    templated: bool
    seconds: float

    @property
    def tokens(self) -> int:
        """Of all completions."""
        return sum(reply.tokens for reply in self.replies)

    @property
    def tokens_per_second(self) -> float:
        """Of completions, prompts read and batches waited for included."""
        return self.tokens / self.seconds if self.seconds else 0.0

    @property
    def minutes(self) -> float:
        """Wall clock of the completions."""
        return self.seconds / 60

    def counts(self, kind: PromptSet) -> Counts:
        """Of a whole set."""
        return _count([each for each in self.replies if each.asked.kind is kind], kind, None)

    def by_category(self, kind: PromptSet) -> tuple[Counts, ...]:
        """Of each category of a set, in order of first mention."""
        here = [each for each in self.replies if each.asked.kind is kind]
        names = dict.fromkeys(each.asked.prompt.category for each in here)
        return tuple(
            _count([each for each in here if each.asked.prompt.category == name], kind, name)
            for name in names
        )


@dataclass(frozen=True)
class Flips:
    """What differs between two runs over the same prompts of one set.

    Attributes:
        kind: The set.
        total: Prompts that both were asked.
        became_refused: Refused in the second run alone.
        ceased: Refused in the first run alone.
        changed: Any other behaviour, refusals included.
        other_text: Completions that differ in any character.
    """

    kind: PromptSet
    total: int
    became_refused: int
    ceased: int
    changed: int
    other_text: int

    @property
    def chance(self) -> float:
        """Two-sided exact McNemar test: chance of refusals flipping as unevenly by chance."""
        return mcnemar(self.became_refused, self.ceased)


def compare_runs(before: RefusalBehaviour, after: RefusalBehaviour) -> tuple[Flips, ...]:
    """Flips of each set that both runs asked, harmful first.

    Where one of them was stopped early, the prompts that both were asked are compared.

    Raises:
        ConfigurationError: The runs are not about the same prompts.
    """
    pairs = list(zip(before.replies, after.replies, strict=False))
    for was, now in pairs:
        if was.asked != now.asked:
            raise ConfigurationError(
                f"{was.asked.name} stands against {now.asked.name}; compare runs over the same "
                "prompts in the same order"
            )
    return tuple(
        _flips(kind, here) for kind in PromptSet
        if (here := [pair for pair in pairs if pair[0].asked.kind is kind])
    )  # fmt: skip


def _count(replies: Sequence[Reply], kind: PromptSet, category: str | None) -> Counts:
    return Counts(
        kind, category, len(replies), dict(Counter(each.behaviour for each in replies)),
        sum(each.cut for each in replies),
    )  # fmt: skip


def _flips(kind: PromptSet, pairs: Sequence[tuple[Reply, Reply]]) -> Flips:
    refused = [
        (was.behaviour is Behaviour.REFUSED, now.behaviour is Behaviour.REFUSED)
        for was, now in pairs
    ]
    return Flips(
        kind, len(pairs), refused.count((False, True)), refused.count((True, False)),
        sum(was.behaviour is not now.behaviour for was, now in pairs),
        sum(was.text != now.text for was, now in pairs),
    )  # fmt: skip
