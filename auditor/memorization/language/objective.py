"""What a pruned language model should do: no longer expect memorised text, read all else as before.

The untouched model is the teacher on ordinary text. No training data is needed but the spans.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from auditor.errors import ConfigurationError
from auditor.language.causal_lm import CausalLM
from auditor.memorization.language.subspace import IGNORED, read_spans, span_batch
from auditor.memorization.language.training_spans import TrainingSpan


class LanguageObjective:
    """A loss to learn masks by: continuations become unlikely, ordinary text stays as it was.

    The nats of each token of a memorised continuation are raised to `aim` and no further, for a
    model that is sure of anything else would be as strange. On ordinary text the distribution of
    each next token is held to the untouched model's.
    """

    def __init__(
        self, model: CausalLM, memorised: Sequence[TrainingSpan], ordinary: Sequence[TrainingSpan],
        *, aim: float, hold: float = 1.0, batch: int = 16, seed: int = 0,
    ) -> None:  # fmt: skip
        """Take the model as it is now for the teacher.

        Args:
            model: What will be masked.
            memorised: Spans it recites.
            ordinary: Spans it should go on to read as it does, prefix and continuation.
            aim: Nats of a token of a continuation, above which nothing more is wanted; see
                `mean_span_nats`.
            hold: Weight of what holds ordinary text.
            batch: Spans of each kind at each step.
            seed: Of what is drawn.

        Raises:
            ConfigurationError: There are no spans of a kind, or a setting is out of range.
        """
        if not memorised or not ordinary or not aim > 0 or not hold >= 0 or batch < 1:
            raise ConfigurationError(
                f"{len(memorised)} memorised and {len(ordinary)} ordinary spans, an aim of "
                f"{aim:g} nats, holding by {hold:g}, batches of {batch}; give at least one of "
                "each, a positive aim, and 0 or more to hold by"
            )
        self._model, self._teacher = model, copy.deepcopy(model.model)
        self._memorised, self._ordinary = memorised, ordinary
        self._aim, self._hold, self._batch = aim, hold, batch
        self._source = torch.Generator().manual_seed(seed)

    def loss(self, step: int) -> Tensor:
        """The loss of one draw; `step` is not used, for every draw is another."""
        recited = self._shortfall(self._drawn(self._memorised))
        return recited + self._hold * self._divergence(self._drawn(self._ordinary))

    def _shortfall(self, spans: Sequence[TrainingSpan]) -> Tensor:
        """How many nats a token is short of the aim, mean over the tokens of continuations."""
        ids, mask, labels = span_batch(self._model, spans)
        logits = self._model.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        asked = labels[:, 1:] != IGNORED
        nats = torch.nn.functional.cross_entropy(
            logits[:, :-1][asked].float(), labels[:, 1:][asked], reduction="none"
        )
        return (self._aim - nats).clamp_min(0).mean()

    def _divergence(self, spans: Sequence[TrainingSpan]) -> Tensor:
        """KL(teacher, model) of the next token, mean over all tokens of ordinary spans."""
        ids, mask, _ = span_batch(self._model, spans)
        known: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, "use_cache": False}
        with torch.no_grad():
            teacher = self._teacher(**known).logits.float().log_softmax(-1)
        student = self._model.model(**known).logits.float().log_softmax(-1)
        # A token that is ruled out has no part in it; 0 times minus infinity would be no number.
        apart = torch.where(teacher.isfinite(), teacher.exp() * (teacher - student), 0.0).sum(-1)
        held: Tensor = (apart * mask).sum() / mask.sum()
        return held

    def _drawn(self, spans: Sequence[TrainingSpan]) -> list[TrainingSpan]:
        rows = torch.randint(len(spans), (min(self._batch, len(spans)),), generator=self._source)
        return [spans[at] for at in rows.tolist()]


def mean_span_nats(model: CausalLM, spans: Sequence[TrainingSpan]) -> float:
    """Nats of a token of continuations as the model is now, mean over spans.

    Of ordinary spans that are like memorised ones it is what these would have if the model had
    never seen them.
    """
    return float(np.mean([each.nats.mean() for each in read_spans(model, spans)]))
