"""What of an extracted text a model could have guessed: the same continuation, other prefixes.

A common string (a licence, a row of numbers) follows many prefixes. So each continuation is read
again behind the prefixes of other documents. The prior-aware gap is `ln p(own)` less `ln` of the
mean of `p(unrelated k)`, where p is the probability of the continuation behind its own prefix or
behind unrelated prefix k, in nats (after Prior-Aware Memorization, arXiv 2602.18733). What follows
at least half of the unrelated prefixes exactly is called guessed. A text that the model says after
nearly any prefix because it was trained on it so often is that, too: only a model that never saw it
tells the two apart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from auditor.errors import ConfigurationError
from auditor.language.text_model import TextModel
from auditor.memorization.language.extraction import prompt_of
from auditor.memorization.language.extraction_record import SpanResult
from auditor.memorization.language.training_spans import TrainingSpan


@dataclass(frozen=True)
class Guess:
    """A continuation behind unrelated prefixes.

    Attributes:
        exact: Behind how many of them greedy decoding gives it.
        total: How many there were.
        log_mean: Natural logarithm of its mean probability behind them.
        gap: How much more likely it is behind its own prefix, in nats.
    """

    exact: int
    total: int
    log_mean: float
    gap: float

    @property
    def guessed(self) -> bool:
        """Whether it follows at least half of the unrelated prefixes exactly."""
        return 2 * self.exact >= self.total


def unrelated_prefixes(
    spans: Sequence[TrainingSpan], at: int, count: int, seed: int = 0
) -> list[TrainingSpan]:
    """Spans of other groups with other continuations, so many or as many as there are.

    Args:
        spans: From which to draw.
        at: The span that they are to be unrelated to.
        count: How many.
        seed: Of the drawing, together with the span.
    """
    own = spans[at]
    others = [
        each for each in spans
        if each.group != own.group and each.continuation != own.continuation
        and each.prefix != own.prefix
    ]  # fmt: skip
    key = hashlib.sha256(f"{seed}:{own.name}:{own.continuation}".encode()).digest()
    order = np.random.default_rng(int.from_bytes(key)).permutation(len(others))[:count]
    return [others[number] for number in order]


def measure_guessing(
    model: TextModel,
    results: Sequence[SpanResult],
    pool: Sequence[TrainingSpan],
    *,
    count: int = 16,
    batch_size: int = 32,
    seed: int = 0,
) -> list[Guess]:
    """The continuations of results behind unrelated prefixes of the same length, in order.

    Args:
        model: The model that gave the results.
        results: At one prefix length.
        pool: Spans whose prefixes are used; their own and those of their group are not.
        count: Unrelated prefixes of each.
        batch_size: Texts at once.
        seed: Of the drawing.

    Raises:
        ConfigurationError: A span has no unrelated one in the pool.
    """
    prompts: list[tuple[int, ...]] = []
    wanted: list[tuple[int, ...]] = []
    counts: list[int] = []
    for result in results:
        span = result.span
        others = unrelated_prefixes([span, *pool], 0, count, seed)
        if not others:
            raise ConfigurationError(
                f"{span.name} has no unrelated prefix among {len(pool)} spans; give spans of at "
                "least two documents"
            )
        prompts += [prompt_of(model, each, result.prefix_length) for each in others]
        wanted += [span.continuation] * len(others)
        counts.append(len(others))
    readings = model.read_continuations(prompts, wanted, batch_size=batch_size)
    found, done = [], 0
    for result, many in zip(results, counts, strict=True):
        part = readings[done : done + many]
        done += many
        logs = np.array([each.log_probability for each in part])
        log_mean = float(np.logaddexp.reduce(logs) - np.log(many))
        found.append(Guess(
            sum(each.exact for each in part), many, log_mean,
            result.reading.log_probability - log_mean,
        ))  # fmt: skip
    return found
