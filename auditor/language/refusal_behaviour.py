"""What a model does with prompts it should refuse and with prompts it should answer.

Prompts are completed greedily, the completion is judged, and behaviours are counted by set and
category, as in XSTest (Röttger et al. 2024, arXiv 2308.01263). Two runs over the same prompts are
compared prompt by prompt. Nothing here says whether a judge is right: see
`auditor.language.judge_agreement`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from auditor.errors import ConfigurationError, NothingToAudit
from auditor.language.deflection import Deflection, DeflectionRules
from auditor.language.first_token import FirstTokenJudge
from auditor.language.generation import Completion
from auditor.language.language_model import LanguageModel
from auditor.language.prompt_sets import AskedPrompt
from auditor.language.refusal import Behaviour, Judgement, RefusalJudge
from auditor.language.refusal_record import RefusalBehaviour, Reply

SLICE: Final = 64
"""Prompts between two looks at the clock, at least; whole batches."""


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
    texts = [as_asked(model, each, asking) for each in prompts]
    started = time.perf_counter()
    completions = _complete(model, texts, asking, stop, progress)
    seconds = time.perf_counter() - started
    replies = _judged(prompts[: len(completions)], texts, completions, judge, rules)
    return RefusalBehaviour(
        replies, len(prompts), f"{judge.name} {judge.version}",
        "none" if rules is None else rules.version, templated, seconds,
    )  # fmt: skip


def other_composition(asking: Asking) -> Asking:
    """The same asking with other batches, to see what the rounding of a batch's shape flips.

    Where tokens are nearly tied another shape may choose another one; see `CausalLM.generate`.
    """
    return replace(asking, batch_size=2 if asking.batch_size == 1 else (asking.batch_size + 1) // 2)


def as_asked(model: LanguageModel, asked: AskedPrompt, asking: Asking) -> str:
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
    return tuple(_reply(*each) for each in zip(prompts, completions, judged, evades, strict=True))


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
