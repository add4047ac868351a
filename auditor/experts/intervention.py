"""What is done to experts: five meanings of "off" and "on", which give different outputs.

Row = one token; z are router logits, p the router's scores, w the weights of the k chosen.

- `mask_logit`: z of the expert is far below all others before scores and choice; the next expert
  takes its place.
- `zero_weight` (Mixture of Tunable Experts, arXiv 2502.11096): after the choice w of the expert is
  0 and the others are scaled so that the row keeps its sum; nobody takes its place. A row whose
  chosen experts are all off keeps zeros and is counted.
- `zero_output`: the expert's output is 0 (down projection and its bias); nothing else changes.
- `force_tok` (SteerMoE, arXiv 2509.09660): logits become log-softmax; on is the row's largest plus
  0.01, off its smallest less 0.01.
- `force_select`: a bias on the choice alone, weights from the unbiased scores, as the correction
  buffer of DeepSeek-V3 does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from auditor.errors import ConfigurationError
from auditor.experts.routing_maps import Expert


class Method(StrEnum):
    """How an expert is switched; see the module."""

    MASK_LOGIT = "mask_logit"
    ZERO_WEIGHT = "zero_weight"
    ZERO_OUTPUT = "zero_output"
    FORCE_TOK = "force_tok"
    FORCE_SELECT = "force_select"


CHOOSES_OTHERS: Final = frozenset({Method.MASK_LOGIT, Method.FORCE_TOK, Method.FORCE_SELECT})
"""Methods by which another expert takes the place of one that is off."""
SWITCHES_ON: Final = frozenset({Method.FORCE_TOK, Method.FORCE_SELECT})
FORCE_MARGIN: Final = 0.01
"""How far `force_tok` goes beyond a row's largest or smallest log-probability."""
SELECT_BIAS: Final = 10.0
"""What `force_select` adds to the choice of an expert; scores lie in [0, 1]."""


@dataclass(frozen=True)
class Intervention:
    """Experts switched off and on by one method.

    Attributes:
        method: By which.
        off: Experts switched off.
        on: Experts switched on; only `force_tok` and `force_select` can.
    """

    method: Method
    off: frozenset[Expert] = frozenset()
    on: frozenset[Expert] = frozenset()

    def __post_init__(self) -> None:
        if not self.off and not self.on:
            raise ConfigurationError("an intervention without experts; name at least one")
        if self.on and self.method not in SWITCHES_ON:
            raise ConfigurationError(
                f"{self.method} switches experts off only; use force_select or force_tok for on"
            )
        if both := self.off & self.on:
            named = ", ".join(str(each) for each in sorted(both))
            raise ConfigurationError(f"experts both off and on: {named}; choose one")

    @property
    def layers(self) -> tuple[int, ...]:
        """The decoder layers it touches, sorted."""
        return tuple(sorted({each.layer for each in self.off | self.on}))

    @property
    def described(self) -> str:
        """One line for reports: `routing intervention on N experts`, method and experts."""
        parts = [f"{name} {_listed(experts)}" for name, experts in
                 (("off", self.off), ("on", self.on)) if experts]  # fmt: skip
        total = len(self.off) + len(self.on)
        plural = "" if total == 1 else "s"
        return f"routing intervention on {total} expert{plural} ({self.method}: {'; '.join(parts)})"


class LayerSize(NamedTuple):
    """How many routed experts a layer has, and how many of them a token gets."""

    experts: int
    chosen: int


def refuse_unfit(intervention: Intervention, layers: Mapping[int, LayerSize]) -> None:
    """Refuse what cannot be switched in layers of these sizes.

    Raises:
        ConfigurationError: Experts that are not there, more on in a layer than a token gets, or,
            where others take the place of those that are off, fewer left than it needs.
    """
    strangers = sorted(
        each for each in intervention.off | intervention.on
        if each.layer not in layers or not 0 <= each.expert < layers[each.layer].experts
    )  # fmt: skip
    if strangers:
        most = max(each.experts for each in layers.values())
        raise ConfigurationError(
            f"there is no expert {_listed(strangers)}: layers {', '.join(map(str, layers))} have "
            f"experts, numbered 0 to {most - 1}"
        )
    for layer in intervention.layers:
        experts, chosen = layers[layer]
        on = sum(each.layer == layer for each in intervention.on)
        off = sum(each.layer == layer for each in intervention.off)
        if on > chosen:
            raise ConfigurationError(
                f"{on} experts of layer {layer} are forced on, and a token gets {chosen}; switch "
                "fewer on"
            )
        if intervention.method in CHOOSES_OTHERS and experts - off < chosen:
            raise ConfigurationError(
                f"{off} of {experts} experts of layer {layer} are off, and a token needs "
                f"{chosen}; switch fewer off, or use zero_weight or zero_output"
            )


def _listed(experts: Iterable[Expert]) -> str:
    return " ".join(str(each) for each in sorted(experts))
