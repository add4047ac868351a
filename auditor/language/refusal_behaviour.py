"""What a model does with prompts it should refuse and with prompts it should answer.

Prompts are completed greedily, the completion is judged, and behaviours are counted by set and
category, as in XSTest (Röttger et al. 2024, arXiv 2308.01263). Two runs over the same prompts are
compared prompt by prompt. Nothing here says whether a judge is right: see
`auditor.language.judge_agreement`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from auditor.errors import ConfigurationError, NothingToAudit
from auditor.intervals import Share
from auditor.language.deflection import Deflection, DeflectionRules
from auditor.language.first_token import FirstTokenJudge
from auditor.language.generation import Completion
from auditor.language.language_model import LanguageModel
from auditor.language.prompts import Prompt
from auditor.language.refusal import Behaviour, Judgement, RefusalJudge
from auditor.paired import mcnemar

SLICE: Final = 64
"""Prompts between two looks at the clock, at least; whole batches."""

WITHHELD: Final = frozenset({Behaviour.REFUSED, Behaviour.PARTIAL, Behaviour.EMPTY})
"""What counts against a model on prompts that deserve an answer: silence is none."""


class PromptSet(StrEnum):
    """Whether a prompt should be refused."""

    HARMFUL = "harmful"
    HARMLESS = "harmless"


@dataclass(frozen=True)
class AskedPrompt:
    """A prompt and what should become of it."""

    prompt: Prompt
    kind: PromptSet

    @property
    def name(self) -> str:
        """Set and place in the file, to name it without saying it."""
        return f"{self.kind} line {self.prompt.line}"


@dataclass(frozen=True)
class Asking:
    """How prompts are put.

    Attributes:
        new_tokens: Of a completion at most.
        chat: Whether the tokenizer's chat template is used where there is one.
        batch_size: Prompts at once.
        seed: Handed on; greedy completions do not depend on it.
    """

    new_tokens: int = 128
    chat: bool = True
    batch_size: int = 16
    seed: int = 0


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


def measure_behaviour(
    model: LanguageModel,
    prompts: Sequence[AskedPrompt],
    judge: RefusalJudge,
    asking: Asking | None = None,
    *,
    rules: DeflectionRules | None = None,
    stop: Callable[[], bool] = lambda: False,
    progress: Callable[[int, int], None] | None = None,
) -> RefusalBehaviour:
    """Complete prompts greedily and judge what is said.

    Args:
        model: The model.
        prompts: In any order; none is asked unless all fit the model.
        judge: Says what completions do. A `FirstTokenJudge` has to be of this model.
        asking: How.
        rules: Find deflections among what the judge calls answered; none are found without.
        stop: Asked between slices; the first slice is always completed.
        progress: Called with prompts done and in all.

    Raises:
        NothingToAudit: No prompts.
        ConfigurationError: A prompt that is too long or empty, by name; a setting out of range.
    """
    asking = asking or Asking()
    if not prompts:
        raise NothingToAudit("no prompts to ask; give at least one")
    templated = asking.chat and bool(model.tokenizer.chat_template)
    texts = [_as_asked(model, each, asking) for each in prompts]
    started = time.perf_counter()
    completions = _complete(model, texts, asking, stop, progress)
    seconds = time.perf_counter() - started
    replies = _judged(prompts[: len(completions)], texts, completions, judge, rules)
    return RefusalBehaviour(
        replies, len(prompts), f"{judge.name} {judge.version}",
        "none" if rules is None else rules.version, templated, seconds,
    )  # fmt: skip


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


def other_composition(asking: Asking) -> Asking:
    """The same asking with other batches, to see what the rounding of a batch's shape flips.

    Where tokens are nearly tied another shape may choose another one; see `CausalLM.generate`.
    """
    return replace(asking, batch_size=2 if asking.batch_size == 1 else (asking.batch_size + 1) // 2)


def _as_asked(model: LanguageModel, asked: AskedPrompt, asking: Asking) -> str:
    """The prompt as the model gets it.

    Raises:
        ConfigurationError: It is empty, or too long for the model with its completion.
    """
    text = model.chat(asked.prompt.text) if asking.chat else asked.prompt.text
    tokens = len(model.encode(text))
    if not tokens:
        raise ConfigurationError(f"{asked.name} has no tokens; give at least one word")
    if tokens + asking.new_tokens > model.max_tokens:
        raise ConfigurationError(
            f"{asked.name} has {tokens} tokens and {asking.new_tokens} are to follow, the model "
            f"sees {model.max_tokens}; shorten one of them"
        )
    return text


def _complete(
    model: LanguageModel, texts: Sequence[str], asking: Asking, stop: Callable[[], bool],
    progress: Callable[[int, int], None] | None,
) -> list[Completion]:  # fmt: skip
    size = asking.batch_size * max(1, SLICE // max(1, asking.batch_size))
    found: list[Completion] = []
    while len(found) < len(texts) and (not found or not stop()):
        found += model.generate(
            texts[len(found) : len(found) + size], max_new_tokens=asking.new_tokens,
            seed=asking.seed, batch_size=asking.batch_size,
        )  # fmt: skip
        if progress is not None:
            progress(len(found), len(texts))
    return found


def _judged(
    prompts: Sequence[AskedPrompt], texts: Sequence[str], completions: Sequence[Completion],
    judge: RefusalJudge, rules: DeflectionRules | None,
) -> tuple[Reply, ...]:  # fmt: skip
    said = [each.text for each in completions]
    judged = (
        judge.judge_prompts(texts[: len(said)], said)
        if isinstance(judge, FirstTokenJudge) else judge.judge(said)
    )  # fmt: skip
    evades: list[Deflection | None] = [None] * len(said)
    if rules is not None:
        evades = rules.find([each.prompt.text for each in prompts], said)
    return tuple(
        _reply(*each) for each in zip(prompts, completions, judged, evades, strict=True)
    )


def _reply(
    asked: AskedPrompt, completion: Completion, judged: Judgement, evades: Deflection | None
) -> Reply:
    # A refusal may be off topic and stays one.
    deflects = evades is not None and judged.behaviour is Behaviour.ANSWERED
    return Reply(
        asked, completion.text, Behaviour.DEFLECTED if deflects else judged.behaviour,
        judged.score, len(completion.token_ids), not completion.ended,
        evades if deflects else None,
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
