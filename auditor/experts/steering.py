"""Interventions on the experts of a torch model, for as long as a block runs.

    routed = find_routers(model)
    with steered(routed, Intervention(Method.MASK_LOGIT, off=frozenset({Expert(2, 5)}))):
        model(...)

`zero_weight` changes the weights where the choice reaches the experts, `zero_output` the experts'
own numbers. The other methods change the first table [tokens, experts] that the choosing module
computes and what its top-k sees; the rest of the family's rule (groups, correction buffer,
normalisation, scaling) is its own code, run on the changed numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from auditor.errors import ConfigurationError, UnsupportedModel
from auditor.experts.choice import Choice, change_weights
from auditor.experts.down_projection import zeroed
from auditor.experts.intervention import (
    FORCE_MARGIN,
    SELECT_BIAS,
    Intervention,
    LayerSize,
    Method,
    refuse_unfit,
)
from auditor.experts.routers import TOP_K, RoutedModel, Router

_TABLES: Final = (
    torch.nn.functional.linear, torch.matmul, torch.mm, torch.addmm, Tensor.matmul, Tensor.mm,
    Tensor.__matmul__,
)  # fmt: skip
_LOGIT_BIAS: Final = 1e4
"""What forces a choice that is made on logits, which have no bounds."""


@dataclass
class Steering:
    """What an intervention met while it ran.

    Attributes:
        rows: Tokens that passed through touched layers, padding among them.
        emptied: Of them, those whose chosen experts were all switched off (`zero_weight`).
    """

    rows: int = 0
    emptied: int = 0


@contextmanager
def steered(routed: RoutedModel, intervention: Intervention) -> Iterator[Steering]:
    """The model with an intervention; everything is as before when the block ends.

    Raises:
        ConfigurationError: An expert that is not there, more experts forced on than a layer
            chooses, or so many off that fewer than it chooses are left.
        UnsupportedModel: The method cannot be applied to this family's routers.
    """
    check_experts(routed, intervention)
    seen = Steering()
    with ExitStack() as stack:
        for layer in intervention.layers:
            router = routed.at(layer)
            off = sorted(each.expert for each in intervention.off if each.layer == layer)
            on = sorted(each.expert for each in intervention.on if each.layer == layer)
            stack.enter_context(_layer(router, intervention.method, off, on, seen))
        yield seen


def check_experts(routed: RoutedModel, intervention: Intervention) -> None:
    """Whether an intervention can be made on a model.

    Raises:
        ConfigurationError: See `auditor.experts.intervention.refuse_unfit`.
    """
    refuse_unfit(
        intervention,
        {each.layer: LayerSize(each.expert_count, each.chosen) for each in routed.routers},
    )


@contextmanager
def _layer(
    router: Router, method: Method, off: list[int], on: list[int], seen: Steering
) -> Iterator[None]:
    if method is Method.ZERO_OUTPUT:
        with zeroed(router, off):
            yield
    elif method is Method.ZERO_WEIGHT:
        handle = change_weights(router, _without(off, seen))
        try:
            yield
        finally:
            handle.remove()
    else:
        with _rerouted(router, lambda: _Rerouting(router, method, off, on)):
            yield


def _without(off: list[int], seen: Steering) -> Callable[[Choice], Tensor]:
    """Weights without some experts, each row scaled to its old sum."""

    def change(choice: Choice) -> Tensor:
        gone = torch.isin(choice.numbers, torch.tensor(off, device=choice.numbers.device))
        left = choice.weights.masked_fill(gone, 0)
        before, after = choice.weights.sum(-1, keepdim=True), left.sum(-1, keepdim=True)
        # Rows that lost nothing keep their very bits.
        scale = torch.where(after == 0, 0, before / torch.where(after == 0, 1, after))
        scale = torch.where(gone.any(-1, keepdim=True), scale, 1)
        seen.rows += len(gone)
        seen.emptied += int(gone.all(-1).sum())
        return (left * scale).to(choice.weights.dtype)

    return change


@contextmanager
def _rerouted(router: Router, mode: Callable[[], _Rerouting]) -> Iterator[None]:
    """The choosing module with its forward inside a mode that changes what it computes."""
    module: Any = router.module
    own = vars(module).get("forward")
    forward = module.forward

    def changed(*inputs: Any, **named: Any) -> Any:
        with mode() as rerouting:
            output = forward(*inputs, **named)
        rerouting.require_met()
        return output

    module.forward = changed
    try:
        yield
    finally:
        if own is None:
            del module.forward
        else:
            module.forward = own


class _Rerouting(TorchFunctionMode):
    """Changes logits and the choice of one run of a choosing module."""

    def __init__(self, router: Router, method: Method, off: list[int], on: list[int]) -> None:
        super().__init__()
        self.router, self.method, self.off, self.on = router, method, off, on
        self.logits: Tensor | None = None
        self.chose = False

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in TOP_K and args and args[0].numel() and self._is_table(args[0]):
            return self._choose(func, args, kwargs)
        result = func(*args, **kwargs)
        if self.logits is None and func in _TABLES and result.shape[-1] == self.router.expert_count:
            self.logits = self._logits(result)
            return self.logits
        return result

    def require_met(self) -> None:
        """Raise unless the module did what the method needs."""
        needed = self.chose if self.method is Method.FORCE_SELECT else self.logits is not None
        if not needed:
            raise UnsupportedModel(
                f"{self.method} cannot be applied to {self.router.name}: it chooses its experts "
                "in another way", place=f"decoder layer {self.router.layer}",
                way_out="use zero_output or zero_weight",
            )  # fmt: skip

    def _is_table(self, values: Tensor) -> bool:
        """Whether it says something of every expert for each token, perhaps by groups."""
        experts = self.router.expert_count
        if values.ndim == 2:
            return values.shape[1] == experts
        return values.ndim == 3 and values.shape[1] * values.shape[2] == experts

    def _logits(self, logits: Tensor) -> Tensor:
        if self.method is Method.MASK_LOGIT:
            changed = logits.clone()
            changed[..., self.off] = _least(logits.dtype)
            return changed
        if self.method is Method.FORCE_TOK:
            changed = torch.log_softmax(logits, -1) if self.router.softmax else logits.clone()
            largest, smallest = changed.amax(-1, keepdim=True), changed.amin(-1, keepdim=True)
            changed[..., self.on] = largest + FORCE_MARGIN
            changed[..., self.off] = smallest - FORCE_MARGIN
            return changed
        return logits

    def _choose(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        table = args[0]
        if self.method is Method.FORCE_TOK:
            return func(*args, **kwargs)
        flat = table.reshape(len(table), -1).clone()
        if self.method is Method.MASK_LOGIT:
            flat[:, self.off] = _least(flat.dtype)
        else:
            bias = _LOGIT_BIAS if self._on_logits(table) else SELECT_BIAS
            flat[:, self.on] += bias
            flat[:, self.off] -= bias
        found = func(flat.reshape(table.shape), *args[1:], **kwargs)
        if table.ndim == 3:  # sums of groups, which a correction buffer moves just so
            return found
        self.chose = True
        if self.method is Method.MASK_LOGIT:
            self._require_masked(found[1])
        # The bias is for the choice alone: weights come from the scores as they were.
        return torch.return_types.topk((torch.gather(table, -1, found[1]), found[1]))

    def _on_logits(self, table: Tensor) -> bool:
        logits = self.logits
        return logits is not None and torch.equal(
            table.reshape(len(table), -1).float(), logits.reshape(len(table), -1).float()
        )

    def _require_masked(self, numbers: Tensor) -> None:
        if torch.isin(numbers, torch.tensor(self.off, device=numbers.device)).any():
            raise ConfigurationError(
                f"so many experts of layer {self.router.layer} are off that the groups a token may "
                f"choose from hold fewer than {self.router.chosen}; switch fewer off"
            )


def _least(dtype: torch.dtype) -> float:
    """A number far below every logit, still finite."""
    return -1e4 if dtype is torch.float16 else -1e9
