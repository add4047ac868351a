"""Where a network may carry memorised items: named linear layers of a transformer.

Found by place and shape. The last matrix of a feed-forward block and the output of an attention
block write into the residual stream; a column of the first is a neuron. Fused experts hold many
matrices in one tensor and are refused, never left out.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import torch
from torch import Tensor, nn

from auditor.errors import ConfigurationError, UnsupportedModel


class SiteKind(StrEnum):
    """What a linear layer is for."""

    FEED_FORWARD = "feed_forward"
    """The last matrix of a feed-forward block: [width, neurons].

    In the single blocks of Flux attention and feed-forward end in one matrix, and this is it.
    """
    FEED_FORWARD_IN = "feed_forward_in"
    """The first matrix of a diffusion block's feed-forward: [neurons or twice as many, width]."""
    ATTENTION = "attention"
    """The output of self-attention: [width, width]."""
    CROSS_ATTENTION = "cross_attention"
    """The output of attention to the text, or to text and image at once: [width, width]."""
    CROSS_KEY = "cross_key"
    """Reads the text: [width, text width]."""
    CROSS_VALUE = "cross_value"
    """Reads the text: [width, text width]."""


_PLACES: Final = (
    # diffusers' blocks
    (SiteKind.FEED_FORWARD, r"(?:^|\.)ff(?:_context)?\.net\.2$"),
    (SiteKind.FEED_FORWARD, r"(?:^|\.)single_transformer_blocks\.\d+\.proj_out$"),
    (SiteKind.FEED_FORWARD_IN, r"(?:^|\.)ff(?:_context)?\.net\.0\.proj$"),
    (SiteKind.FEED_FORWARD_IN, r"(?:^|\.)single_transformer_blocks\.\d+\.proj_mlp$"),
    (SiteKind.ATTENTION, r"(?:^|\.)attn1\.to_out\.0$"),
    (SiteKind.CROSS_ATTENTION, r"(?:^|\.)attn2\.to_out\.0$"),
    (SiteKind.CROSS_KEY, r"(?:^|\.)attn2\.to_k$"),
    (SiteKind.CROSS_VALUE, r"(?:^|\.)attn2\.to_v$"),
    # of joint attention, where the text has queries, keys and values of its own
    (SiteKind.CROSS_ATTENTION, r"(?:^|\.)transformer_blocks\.\d+\.attn\.to_(?:out\.0|add_out)$"),
    (SiteKind.CROSS_KEY, r"(?:^|\.)transformer_blocks\.\d+\.attn\.add_k_proj$"),
    (SiteKind.CROSS_VALUE, r"(?:^|\.)transformer_blocks\.\d+\.attn\.add_v_proj$"),
    # transformers' decoder layers
    (SiteKind.FEED_FORWARD,
     r"\.\d+\.(?:[a-z_]*(?:mlp|feed_forward|ffn)\.)?(?:down_proj|dense_4h_to_h|c_proj|fc2|fc_out|w2|wo)$"),
    (SiteKind.ATTENTION,
     r"\.\d+\.(?:self_attn|self_attention|attn|attention)\.(?:attention\.)?"
     r"(?:o_proj|out_proj|c_proj|dense|wo)$"),
)  # fmt: skip
_SECOND: Final = re.compile(r"^(?:.*\.)?attn2\.(to_out\.0|to_k|to_v)$")
_TEXT_KEY: Final = ".attn.add_k_proj"
_COMPILED: Final = tuple((kind, re.compile(pattern)) for kind, pattern in _PLACES)


@dataclass(frozen=True, eq=False)
class WeightSite:
    """A linear layer.

    Attributes:
        name: Path of its module.
        kind: What it is for.
        module: A `Linear`, or transformers' `Conv1D`, whose weight is transposed.
        transposed: Whether the stored weight is [inputs, outputs].
    """

    name: str
    kind: SiteKind
    module: Any
    transposed: bool

    @property
    def weight(self) -> Tensor:
        """The weight as [outputs, inputs]; a view, so that writing to it changes the model."""
        stored: Tensor = self.module.weight.data
        return stored.T if self.transposed else stored

    @property
    def parameter(self) -> str:
        """Name of the stored tensor."""
        return f"{self.name}.weight"

    @property
    def outputs(self) -> int:
        """Rows of `weight`."""
        return int(self.weight.shape[0])

    @property
    def inputs(self) -> int:
        """Columns of `weight`: neurons, at a feed-forward block."""
        return int(self.weight.shape[1])


def find_sites(
    model: nn.Module, kinds: Collection[SiteKind] = (SiteKind.FEED_FORWARD,), place: str = ""
) -> tuple[WeightSite, ...]:
    """Every linear layer of these kinds, in the order of the model.

    Args:
        model: A denoiser of diffusers, or a language model of transformers.
        kinds: What is wanted.
        place: Name of the model in messages.

    Raises:
        ConfigurationError: No kind is asked for.
        UnsupportedModel: None can be matched for some kind, a layer lacks one where others have it,
            or the model holds fused experts.
    """
    if not kinds:
        raise ConfigurationError("no kind of layer is asked for; name at least one")
    place = place or type(model).__name__
    _refuse_fused(model, place)
    found = [site for site in _matched(model) if site.kind in kinds]
    for kind in kinds:
        _require_whole([site for site in found if site.kind is kind], kind, model, place)
    return tuple(found)


def _matched(model: nn.Module) -> Iterator[WeightSite]:
    joint = {
        name.removesuffix(_TEXT_KEY)
        for name, _ in model.named_modules() if name.endswith(_TEXT_KEY)
    }  # fmt: skip
    for name, module in model.named_modules():
        kind = next((kind for kind, form in _COMPILED if form.search(name)), None)
        second = _SECOND.match(name)
        if second is not None and name.partition(".attn2.")[0] in joint:
            # Beside joint attention, the second attention is of the image to itself.
            kind = SiteKind.ATTENTION if second[1] == "to_out.0" else None
        weight = getattr(module, "weight", None)
        if kind is None or not isinstance(weight, Tensor) or weight.ndim != 2:
            continue
        if isinstance(module, nn.Linear):
            yield WeightSite(name, kind, module, transposed=False)
        elif type(module).__name__ == "Conv1D":
            yield WeightSite(name, kind, module, transposed=True)


def _require_whole(sites: list[WeightSite], kind: SiteKind, model: nn.Module, place: str) -> None:
    way_out = f"ask for another kind of layer: {', '.join(SiteKind)}"
    if not sites:
        raise UnsupportedModel(
            f"none of its layers can be matched as {kind}", place=place, way_out=way_out
        )
    expected = _decoder_layers(model)
    if expected is not None and len(sites) != expected:
        raise UnsupportedModel(
            f"{len(sites)} layers are matched as {kind} and it has {expected}", place=place,
            way_out=way_out,
        )  # fmt: skip


def _decoder_layers(model: nn.Module) -> int | None:
    """How many decoder layers a language model says it has; None of anything else."""
    config: Any = getattr(model, "config", None)
    if not hasattr(config, "get_text_config"):
        return None
    layers = getattr(config.get_text_config(decoder=True), "num_hidden_layers", None)
    return layers if isinstance(layers, int) else None


def _refuse_fused(model: nn.Module, place: str) -> None:
    for name, module in model.named_modules():
        stacked = [each for each in module.parameters(recurse=False) if each.ndim == 3]
        if stacked and "expert" in name:
            raise UnsupportedModel(
                f"{name} holds {stacked[0].shape[0]} experts in one tensor", place=place,
                way_out="models whose feed-forward blocks are single matrices are supported",
            )  # fmt: skip


def require_finite(sites: Collection[WeightSite]) -> None:
    """Refuse weights that are NaN or infinite.

    Raises:
        UnsupportedModel: Names the tensor.
    """
    for site in sites:
        if not bool(torch.isfinite(site.weight).all()):
            raise UnsupportedModel(
                "a weight is NaN or infinite", place=site.parameter, way_out="look at the weights"
            )
