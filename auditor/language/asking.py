"""How a model is asked: through its chat template or not, how far, in which batches.

One record and one way for everything that asks: drift, refusals, repairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from auditor.errors import ConfigurationError
from auditor.language.generation import Completion, Progress

if TYPE_CHECKING:
    from transformers import LogitsProcessor

    from auditor.language.language_model import LanguageModel

SLICE: Final = 64
"""Prompts between two looks at the clock, at least; whole batches."""


@dataclass(frozen=True)
class Asking:
    """How prompts are put.

    Attributes:
        new_tokens: Of a completion at most.
        chat: Whether the tokenizer's chat template is used where there is one.
        batch_size: Prompts at once.
        seed: Of sampling; greedy completions do not depend on it.
        temperature: 0 takes the likeliest token.
    """

    new_tokens: int = 64
    chat: bool = True
    batch_size: int = 16
    seed: int = 0
    temperature: float = 0.0


def as_asked(model: LanguageModel, prompt: str, asking: Asking) -> str:
    """A prompt as the model gets it."""
    return model.chat(prompt) if asking.chat else prompt


def require_room(model: LanguageModel, text: str, asking: Asking, place: str) -> None:
    """Refuse a text that has no token, or leaves no room for its completion.

    Args:
        model: Who is asked.
        text: As it is asked.
        asking: How.
        place: Where the prompt stands, to name it without saying it.

    Raises:
        ConfigurationError: Names the place.
    """
    tokens = len(model.encode(text))
    if not tokens:
        raise ConfigurationError(f"{place} has no tokens; give at least one word")
    if tokens + asking.new_tokens > model.max_tokens:
        raise ConfigurationError(
            f"{place} has {tokens} tokens and {asking.new_tokens} are to follow, the model sees "
            f"{model.max_tokens}; shorten it, or ask for fewer tokens"
        )


def complete(
    model: LanguageModel,
    texts: Sequence[str],
    asking: Asking,
    *,
    processors: Sequence[LogitsProcessor] = (),
    stop: Callable[[], bool] | None = None,
    progress: Progress | None = None,
) -> list[Completion]:
    """Completions of texts as they are asked, in order.

    Args:
        model: Who is asked.
        texts: From `as_asked`.
        asking: How.
        processors: See `auditor.language.text_model.TextModel.generate`.
        stop: Asked between slices; the first slice is always completed, later ones may be
            missing. All are completed in one go without it.
        progress: Called with prompts done and in all.
    """
    size = len(texts)
    if stop is not None:
        size = asking.batch_size * max(1, SLICE // max(1, asking.batch_size))
    found: list[Completion] = []

    def told(done: int, total: int) -> None:
        if progress is not None:
            progress(len(found) + done, len(texts))

    while len(found) < len(texts) and not (found and stop is not None and stop()):
        found += model.generate(
            texts[len(found) : len(found) + size], max_new_tokens=asking.new_tokens,
            seed=asking.seed, temperature=asking.temperature, processors=processors,
            batch_size=asking.batch_size, progress=told,
        )  # fmt: skip
    return found


def completer(
    model: LanguageModel, asking: Asking, processors: Sequence[LogitsProcessor] = ()
) -> Callable[[Sequence[str]], list[str]]:
    """What a model says to prompts, as texts."""

    def said(prompts: Sequence[str]) -> list[str]:
        texts = [as_asked(model, each, asking) for each in prompts]
        return [each.text for each in complete(model, texts, asking, processors=processors)]

    return said


def other_composition(asking: Asking) -> Asking:
    """The same asking with other batches, to see what the rounding of a batch's shape flips.

    Where tokens are nearly tied another shape may choose another one; see `TextModel.generate`.
    """
    return replace(asking, batch_size=2 if asking.batch_size == 1 else (asking.batch_size + 1) // 2)


def is_templated(model: LanguageModel, asking: Asking) -> bool:
    """Whether prompts go through a chat template."""
    return asking.chat and bool(model.tokenizer.chat_template)


def put_in_words(templated: bool, wanted: bool) -> str:
    """How prompts are put, for reports."""
    if templated:
        return "the tokenizer's chat template"
    return "as they are: " + (
        "the tokenizer has no chat template" if wanted else "no chat template wanted"
    )
