"""Routing maps of a torch model: which experts the tokens of each prompt went to.

Counting happens inside the model's own run, row by row, and only sums are kept: memory does not
grow with the number of tokens. Padding is masked out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auditor.errors import ConfigurationError, NothingToAudit, UnsupportedModel
from auditor.experts.choice import Choice, read_choices
from auditor.experts.routers import RoutedModel
from auditor.experts.routing_maps import Float32, RoutingMaps, TokenSet
from auditor.language.generation import plan_batches
from auditor.language.torch_network import forward_parameters, keeps_state

Progress = Callable[[int, int], None]


class Counted(NamedTuple):
    """Token ids of a text, and which of them are counted: `start` to before `stop`."""

    ids: Sequence[int]
    start: int
    stop: int


def counted_prompts(prompts: Sequence[Sequence[int]], token_set: TokenSet) -> list[Counted]:
    """All tokens of each prompt, or the last one alone.

    Raises:
        ConfigurationError: The token set is that of answers, which prompts do not have.
    """
    if token_set is TokenSet.ANSWER:
        raise ConfigurationError("prompts have no answer tokens; give texts with their answers")
    last = token_set is TokenSet.LAST
    return [Counted(ids, len(ids) - 1 if last else 0, len(ids)) for ids in prompts]


def capture_routing(
    routed: RoutedModel,
    texts: Sequence[Counted],
    token_set: TokenSet,
    *,
    batch_size: int = 16,
    progress: Progress | None = None,
) -> RoutingMaps:
    """The routing of every text, in order.

    Args:
        routed: The model; an intervention may be in force.
        texts: What runs, teacher-forced; at least one, each with at least one counted token.
        token_set: What the counted tokens are, for the record.
        batch_size: Texts at once.
        progress: Called with texts done and in all.

    Raises:
        NothingToAudit: No texts, or one without counted tokens.
        UnsupportedModel: A layer did not choose its number of experts for every counted token.
    """
    if not texts or any(not 0 <= each.start < each.stop <= len(each.ids) for each in texts):
        raise NothingToAudit("no tokens to count; give prompts that are not empty")
    shape = (len(texts), len(routed.layers), routed.expert_count)
    counts, mass = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    done = 0
    for batch in plan_batches([each.ids for each in texts], batch_size, keeps_state(routed.model)):
        table = _Counting(routed, [texts[at] for at in batch])
        counts[batch], mass[batch] = table.run()
        done += len(batch)
        if progress is not None:
            progress(done, len(texts))
    tokens = np.array([each.stop - each.start for each in texts], np.int64)
    _require_all(routed, counts, tokens)
    return RoutingMaps(routed.layers, token_set, counts, mass, tokens)


class _Counting:
    """One batch: sums by text, layer and expert."""

    def __init__(self, routed: RoutedModel, texts: Sequence[Counted]) -> None:
        self.routed, self.texts = routed, texts
        device = routed.model.device
        longest = max(len(each.ids) for each in texts)
        ids = torch.zeros((len(texts), longest), dtype=torch.long)
        mask, counted = torch.zeros_like(ids), torch.zeros_like(ids)
        for row, each in enumerate(texts):
            ids[row, : len(each.ids)] = torch.tensor(each.ids)
            mask[row, : len(each.ids)] = 1
            counted[row, each.start : each.stop] = 1
        self.ids, self.mask = ids.to(device), mask.to(device)
        self.rows = counted.flatten().nonzero().flatten().to(device)
        self.text = (self.rows // longest)[:, None]
        size = len(texts) * len(routed.layers) * routed.expert_count
        self.counts = torch.zeros(size, device=device)
        self.mass = torch.zeros(size, device=device)

    def run(self) -> tuple[Float32, Float32]:
        """Counts and weights, each [texts, layers, experts]."""
        handles = [
            read_choices(router, self._counter(number))
            for number, router in enumerate(self.routed.routers)
        ]
        known = forward_parameters(self.routed.model)
        places = torch.arange(self.ids.shape[1], device=self.ids.device).expand_as(self.ids)
        optional = {"position_ids": places, "logits_to_keep": 1}
        try:
            with torch.inference_mode():
                self.routed.model(
                    input_ids=self.ids, use_cache=False,
                    attention_mask=None if keeps_state(self.routed.model) else self.mask,
                    **{name: value for name, value in optional.items() if name in known},
                )  # fmt: skip
        finally:
            for handle in handles:
                handle.remove()
        shape = (len(self.texts), len(self.routed.layers), self.routed.expert_count)
        return self.counts.cpu().numpy().reshape(shape), self.mass.cpu().numpy().reshape(shape)

    def _counter(self, number: int) -> Callable[[Choice], None]:
        layers, experts = len(self.routed.layers), self.routed.expert_count

        def count(choice: Choice) -> None:
            numbers, weights = choice.numbers[self.rows], choice.weights[self.rows]
            at: Tensor = ((self.text * layers + number) * experts + numbers).flatten()
            self.counts.index_add_(0, at, torch.ones_like(at, dtype=torch.float32))
            self.mass.index_add_(0, at, weights.flatten().float())

        return count


def _require_all(routed: RoutedModel, counts: Float32, tokens: NDArray[np.int64]) -> None:
    """Every counted token chose as many experts as its layer chooses: none was missed."""
    for at, router in enumerate(routed.routers):
        expected = int(tokens.sum()) * router.chosen
        found = int(counts[:, at].sum(dtype=np.float64))
        if found != expected:
            raise UnsupportedModel(
                f"{found} choices of experts were seen for {int(tokens.sum())} tokens and "
                f"{expected} expected", place=router.name, way_out="this family is not supported",
            )  # fmt: skip
