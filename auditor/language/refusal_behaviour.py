"""What a model does with prompts it should refuse and with prompts it should answer.

Prompts are completed greedily, the completion is judged, and behaviours are counted by set and
category, as in XSTest (Röttger et al. 2024, arXiv 2308.01263). Two runs over the same prompts are
compared prompt by prompt. Nothing here says whether a judge is right: see
`auditor.language.judge_agreement`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from auditor.errors import NothingToAudit
from auditor.language.asking import Asking, as_asked, complete, is_templated, require_room
from auditor.language.deflection import Deflection, DeflectionRules
from auditor.language.first_token import FirstTokenJudge
from auditor.language.generation import Completion
from auditor.language.language_model import LanguageModel
from auditor.language.prompt_sets import AskedPrompt
from auditor.language.refusal import Behaviour, Judgement, RefusalJudge
from auditor.language.refusal_record import RefusalBehaviour, Reply


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
    refuse_misfits(model, prompts, asking)
    texts = [as_asked(model, each.prompt.text, asking) for each in prompts]
    started = time.perf_counter()
    completions = complete(model, texts, asking, stop=stop, progress=progress)
    seconds = time.perf_counter() - started
    replies = _judged(prompts[: len(completions)], texts, completions, judge, rules)
    return RefusalBehaviour(
        replies, len(prompts), f"{judge.name} {judge.version}",
        "none" if rules is None else rules.version, is_templated(model, asking), seconds,
    )  # fmt: skip


def refuse_misfits(model: LanguageModel, prompts: Sequence[AskedPrompt], asking: Asking) -> None:
    """Refuse prompts that do not fit the model, before any is asked.

    Raises:
        ConfigurationError: One is empty or too long for its completion; names it.
    """
    for each in prompts:
        require_room(model, as_asked(model, each.prompt.text, asking), asking, each.name)


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
