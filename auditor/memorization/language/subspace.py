"""Where a language model carries memorised text: its layers at the tokens it recites.

Only positions count from which a token of the continuation is predicted: what reads the prefix is
shared by all text. Two measures: how strongly the inputs of layers are driven there, and what a
weight does for the tokens that are true.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import torch
from torch import Tensor

from auditor.errors import NothingToAudit, UnsupportedModel
from auditor.language.causal_lm import CausalLM
from auditor.language.teacher_forcing import ContinuationReading
from auditor.memorization.descent import trainable
from auditor.memorization.language.training_spans import TrainingSpan
from auditor.memorization.masks.input_norms import InputNorms, recording
from auditor.memorization.masks.weight_sites import WeightSite

Progress = Callable[[int, int], None]
IGNORED: Final = -100
"""The label of a token that is not asked about, as transformers has it."""


def language_norms(
    model: CausalLM, sites: Sequence[WeightSite], spans: Sequence[TrainingSpan], *,
    batch_size: int = 16, progress: Progress = lambda done, total: None,
) -> InputNorms:  # fmt: skip
    """How strongly each span drives the inputs of layers while its continuation is read.

    Args:
        model: The model.
        sites: Its layers.
        spans: Each counts once, however long it is.
        batch_size: Spans at once.
        progress: Called with spans done and in all.

    Raises:
        NothingToAudit: There is no span.
        UnsupportedModel: An activation is not finite.
    """
    if not spans:
        raise NothingToAudit("no spans to locate; give at least one")
    with recording(sites, len(spans)) as recorder, torch.inference_mode():
        for first in range(0, len(spans), batch_size):
            batch = spans[first : first + batch_size]
            ids, mask, labels = span_batch(model, batch)
            # The token at a place is predicted from the place before it.
            predicted = torch.zeros_like(mask)
            predicted[:, :-1] = labels[:, 1:] != IGNORED
            recorder.expect(range(first, first + len(batch)), predicted)
            model.model(input_ids=ids, attention_mask=mask, use_cache=False)
            progress(first + len(batch), len(spans))
    return recorder.finished()


def recital_effects(
    model: CausalLM, sites: Sequence[WeightSite], spans: Sequence[TrainingSpan], *,
    batch_size: int = 16, progress: Progress = lambda done, total: None,
) -> dict[str, Tensor]:  # fmt: skip
    """What each weight does for the true tokens of continuations, to first order.

    By so much the log-odds of a true token fall if the weight is set to zero, mean over tokens and
    then over spans. Log-odds and not nats: the loss of what is known by heart is flat.

    Args:
        model: The model; its parameters and their gradients stay as they are.
        sites: Its layers.
        spans: Each counts once.
        batch_size: Spans at once.
        progress: Called with spans done and in all.

    Returns:
        [outputs, inputs] for each layer, on the CPU; below 0 where a weight stands in the way.

    Raises:
        NothingToAudit: There is no span.
        UnsupportedModel: An effect is not finite, or a layer has none.
    """
    if not spans:
        raise NothingToAudit("no spans to locate; give at least one")
    weights = [site.module.weight for site in sites]
    totals = [torch.zeros_like(each, dtype=torch.float32) for each in weights]
    with trainable(weights), torch.enable_grad():
        for first in range(0, len(spans), batch_size):
            batch = spans[first : first + batch_size]
            odds = log_odds(model, batch).sum()
            found = torch.autograd.grad(odds, weights, allow_unused=True)
            for site, total, gradient in zip(sites, totals, found, strict=True):
                if gradient is None:
                    raise UnsupportedModel("no logit depends on it", place=site.parameter)
                total += gradient.float()
            progress(first + len(batch), len(spans))
    return {
        site.name: _effect(site, total / len(spans))
        for site, total in zip(sites, totals, strict=True)
    }


def _effect(site: WeightSite, gradient: Tensor) -> Tensor:
    effect = (site.weight.detach() * (gradient.T if site.transposed else gradient)).cpu()
    if not bool(torch.isfinite(effect).all()):
        raise UnsupportedModel(
            "a gradient is NaN or infinite", place=site.parameter, way_out="look at the weights"
        )
    return effect


def log_odds(model: CausalLM, spans: Sequence[TrainingSpan]) -> Tensor:
    """Of the true token against all others, mean over each continuation, [spans]."""
    ids, mask, labels = span_batch(model, spans)
    logits = model.model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1]
    asked = labels[:, 1:] != IGNORED
    true, known = labels[:, 1:][asked][:, None], logits[asked].float()
    odds = known.gather(1, true)[:, 0] - known.scatter(1, true, -torch.inf).logsumexp(1)
    of_span = asked.nonzero()[:, 0]
    mean: Tensor = odds.new_zeros(len(spans)).index_add(0, of_span, odds) / asked.sum(1)
    return mean


def span_batch(model: CausalLM, spans: Sequence[TrainingSpan]) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids, attention mask and labels of spans, each [spans, tokens], padded on the right.

    Labels are the ids of continuations; everything else is ignored by transformers' loss.
    """
    start = () if model.start is None else (model.start,)
    longest = len(start) + max(len(span.prefix) + len(span.continuation) for span in spans)
    ids = torch.zeros((len(spans), longest), dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, IGNORED)
    for row, span in enumerate(spans):
        whole = (*start, *span.prefix, *span.continuation)
        ids[row, : len(whole)] = torch.tensor(whole)
        mask[row, : len(whole)] = 1
        begin = len(whole) - len(span.continuation)
        labels[row, begin : len(whole)] = torch.tensor(span.continuation)
    device = model.device
    return ids.to(device), mask.to(device), labels.to(device)


def read_spans(model: CausalLM, spans: Sequence[TrainingSpan]) -> list[ContinuationReading]:
    """How the model reads each continuation behind its whole prefix, in order."""
    start = () if model.start is None else (model.start,)
    return model.read_continuations(
        [(*start, *span.prefix) for span in spans], [span.continuation for span in spans]
    )
