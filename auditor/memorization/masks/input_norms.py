"""How strongly the inputs of layers are driven by each prompt, streamed.

Of each prompt the mean square of every input column is kept, for each group of rows (all steps of a
sampler pooled, or one group for each step). Prompts can be put together afterwards in any way, so
splits, bootstraps and permutations run the network once.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from auditor.errors import NothingToAudit, UnsupportedModel
from auditor.memorization.masks.weight_sites import SiteKind, WeightSite


@dataclass(frozen=True, eq=False)
class InputNorms:
    """Mean squares of input columns.

    Attributes:
        squares: Name of the layer: [prompts, groups, inputs], float64, on the CPU.
        rows: Rows (image or text tokens) behind each mean, [prompts, groups].
    """

    squares: dict[str, Tensor]
    rows: Tensor

    @property
    def prompts(self) -> int:
        """How many prompts were run."""
        return int(self.rows.shape[0])

    def norms(self, site: str, prompts: Sequence[int] | None = None) -> Tensor:
        """Root mean square of each input over some prompts, [groups, inputs].

        A mean over prompts, not a sum: sets of different size compare. Each prompt counts once,
        however many rows it has.

        Args:
            site: Name of the layer.
            prompts: Which; all if None.

        Raises:
            NothingToAudit: There is no prompt.
        """
        chosen = self.squares[site] if prompts is None else self.squares[site][list(prompts)]
        if not len(chosen):
            raise NothingToAudit("norms of no prompt; give at least one")
        return chosen.mean(dim=0).sqrt()


class NormRecorder:
    """Adds up what layers are given while prompts run; see `recording`."""

    def __init__(
        self, sites: Sequence[WeightSite], prompts: int, groups: int, unit: Container[SiteKind]
    ) -> None:
        self._unit = unit
        self._sums = {
            site.name: torch.zeros(prompts, groups, site.inputs, dtype=torch.float64)
            for site in sites
        }
        self._rows = {site.name: torch.zeros(prompts, groups, dtype=torch.int64) for site in sites}
        self._prompts: Tensor | None = None
        self._mask: Tensor | None = None
        self._group = 0

    def expect(self, prompts: Sequence[int], mask: Tensor | None = None, group: int = 0) -> None:
        """Say what the next run of the network holds.

        Args:
            prompts: Number of the prompt of each row of the batch; -1 for rows that do not count,
                such as the unconditional half of a guided step.
            mask: True where a token counts, [batch, tokens]; all count if None.
            group: Which group the rows belong to.
        """
        self._prompts = torch.tensor(list(prompts), dtype=torch.int64)
        self._mask, self._group = mask, group

    def ignore(self) -> None:
        """Say that the next runs of the network do not count."""
        self._prompts = None

    def finished(self) -> InputNorms:
        """What was seen.

        Raises:
            NothingToAudit: A prompt has no row.
        """
        rows = next(iter(self._rows.values()))
        if not bool((rows > 0).all()):
            raise NothingToAudit("a prompt was not run; run every one of them")
        squares = {name: total / self._rows[name][..., None] for name, total in self._sums.items()}
        return InputNorms(squares, rows)

    def seen(self, site: WeightSite, values: Tensor) -> None:
        """Add the input of a layer, [batch, tokens, inputs] or [batch * tokens, inputs]."""
        if self._prompts is None:
            return
        batch = len(self._prompts)
        if values.numel() % (batch * site.inputs):
            raise UnsupportedModel(
                f"an input of shape {list(values.shape)} for a batch of {batch}", place=site.name,
                way_out="layers whose rows belong to prompts are supported",
            )  # fmt: skip
        values = values.reshape(batch, -1, site.inputs).float()
        if not bool(torch.isfinite(values).all()):
            raise UnsupportedModel(
                "an activation is NaN or infinite", place=site.name,
                way_out="look at the weights, or run in float32",
            )  # fmt: skip
        if site.kind in self._unit:
            values = torch.nn.functional.normalize(values, dim=-1)
        counted = torch.ones(values.shape[:2], dtype=torch.bool, device=values.device)
        if self._mask is not None and self._mask.shape == counted.shape:
            counted = self._mask.to(values.device).bool()
        sums = (values.square() * counted[..., None]).sum(dim=1).double().cpu()
        rows = counted.sum(dim=1).cpu()
        known = self._prompts >= 0
        self._sums[site.name][:, self._group].index_add_(0, self._prompts[known], sums[known])
        self._rows[site.name][:, self._group].index_add_(0, self._prompts[known], rows[known])


@contextmanager
def recording(
    sites: Sequence[WeightSite], prompts: int, groups: int = 1, *,
    unit_rows: Container[SiteKind] = (),
) -> Iterator[NormRecorder]:  # fmt: skip
    """Record the inputs of layers while the block runs the network; hooks are gone afterwards.

    Args:
        sites: Which layers.
        prompts: How many prompts there are.
        groups: Groups of rows that are kept apart, such as steps of a sampler.
        unit_rows: Kinds of layers whose rows are first scaled to length 1, which takes out how
            much energy a token has (ConceptPrune).

    Raises (while the block runs):
        UnsupportedModel: An activation is not finite, or its rows do not belong to prompts.
    """
    recorder = NormRecorder(sites, prompts, groups, unit_rows)

    def hook(site: WeightSite) -> Any:
        return site.module.register_forward_pre_hook(
            lambda _, inputs: recorder.seen(site, inputs[0].detach())
        )

    with ExitStack() as stack:
        for site in sites:
            stack.callback(hook(site).remove)
        yield recorder
