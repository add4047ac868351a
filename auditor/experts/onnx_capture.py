"""Routing of an exported mixture-of-experts model, captured in onnxruntime without torch.

Logits, choices and weights of every router become outputs of a copy of the graph in memory, and
the model's own outputs are dropped there, so that nothing is computed behind the last router.
Texts run in batches, padded on the right, where no token before can see it; padding is never
counted. Nothing is generated: answers have to be made elsewhere and given as tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from auditor.errors import ConfigurationError, NothingToAudit, UnsupportedModel
from auditor.experts.onnx_routers import OnnxRouter, find_routers
from auditor.experts.routing_maps import RoutingMaps, TokenSet
from auditor.models.onnx_model import OnnxModel, TensorSpec

if TYPE_CHECKING:
    from auditor.experts.capture import Counted  # which needs torch

Array = NDArray[Any]

_IDS: Final = "input_ids"
_CACHE_AXES: Final = 4
_FLOATS: Final = ("float16", "float32", "float64")


@dataclass(frozen=True, eq=False)
class RoutedBatch:
    """What the routers did with one batch; layers in the order of the routers.

    Attributes:
        prompts: Positions of its prompts among those given.
        mask: Which tokens are not padding, bool [prompts, tokens].
        logits: Raw router logits, [layers][prompts, tokens, experts].
        indices: Chosen experts, int64 [layers][prompts, tokens, chosen].
        weights: What their outputs are mixed with, [layers][prompts, tokens, chosen].
    """

    prompts: tuple[int, ...]
    mask: NDArray[np.bool_]
    logits: tuple[Array, ...]
    indices: tuple[NDArray[np.int64], ...]
    weights: tuple[Array, ...]


class RoutingCapture:
    """An exported model with its routers exposed.

    Attributes:
        routers: By layer.
        providers_in_use: Execution providers read back from onnxruntime.
    """

    def __init__(
        self,
        model: OnnxModel,
        routers: Sequence[OnnxRouter] | None = None,
        *,
        device: str = "cpu",
        threads: int = 1,
    ) -> None:
        """Load the model with its routers exposed.

        Args:
            model: The export, edited or not, with or without a cache.
            routers: From `find_routers`; searched for if not given.
            device: `cpu`, `cuda`, or `auto`.
            threads: Threads inside one operator.

        Raises:
            UnsupportedModel: See `find_routers`; or an input that is not known how to fill.
            DeviceUnavailable: CUDA was asked for and is not in use.
        """
        self.routers = tuple(find_routers(model.proto) if routers is None else routers)
        self._inputs = model.inputs
        if _IDS not in {spec.name for spec in self._inputs}:
            raise UnsupportedModel(
                f"no input '{_IDS}'", place=str(model.path), way_out="export a language model"
            )
        exposed = replace(model, proto=expose_routing(model.proto, self.routers, alone=True))
        self._session = exposed.session(device, threads=threads)
        self.providers_in_use = self._session.providers_in_use

    def batches(
        self, prompts: Sequence[Sequence[int]], batch_size: int = 16
    ) -> Iterator[RoutedBatch]:
        """Run prompts, shortest first, and hand out what the routers did, batch by batch.

        Args:
            prompts: Token ids of each, at least one.
            batch_size: Prompts at once; memory grows with it and not with their number.

        Raises:
            ConfigurationError: A prompt without tokens, or a batch size below 1.
            UnsupportedModel: onnxruntime fails, or a weight of a token is not finite.
        """
        if batch_size < 1:
            raise ConfigurationError(f"batch size {batch_size}; give at least 1")
        for number, prompt in enumerate(prompts, 1):
            if not len(prompt):
                raise ConfigurationError(f"prompt {number} has no tokens; give at least one")
        order = sorted(range(len(prompts)), key=lambda position: len(prompts[position]))
        for start in range(0, len(order), batch_size):
            yield self._run(prompts, tuple(order[start : start + batch_size]))

    def _run(self, prompts: Sequence[Sequence[int]], chosen: tuple[int, ...]) -> RoutedBatch:
        lengths = np.array([len(prompts[position]) for position in chosen])
        mask = np.arange(lengths.max()) < lengths[:, None]
        ids = np.zeros(mask.shape, np.int64)
        ids[mask] = np.concatenate([np.asarray(prompts[position]) for position in chosen])
        found = self._session.run({spec.name: _fill(spec, ids, mask) for spec in self._inputs})

        def rows(name: str, router: OnnxRouter, width: int) -> Array:
            value = found[name]
            if value.size != mask.size * width:
                raise UnsupportedModel(
                    f"{list(value.shape)} values for {mask.size} tokens",
                    place=f"router at node '{router.node}' of layer {router.layer}",
                )
            return np.asarray(value.reshape(*mask.shape, width))

        weights = tuple(rows(each.weights, each, each.chosen) for each in self.routers)
        for router, values in zip(self.routers, weights, strict=True):
            if not np.isfinite(values[mask]).all():
                raise UnsupportedModel(
                    "a weight is not finite",
                    place=f"router at node '{router.node}' of layer {router.layer}",
                    way_out="run prompts of one length at a time, or in float32",
                )
        return RoutedBatch(
            chosen,
            mask,
            tuple(rows(each.logits, each, each.experts) for each in self.routers),
            tuple(rows(each.indices, each, each.chosen) for each in self.routers),
            weights,
        )


def capture_onnx(
    model: OnnxModel,
    texts: Sequence[Counted],
    token_set: TokenSet,
    routers: Sequence[OnnxRouter] | None = None,
    *,
    batch_size: int = 16,
    device: str = "cpu",
    threads: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> RoutingMaps:
    """The routing of every text, in order, as `auditor.experts.capture.capture_routing` has it.

    Args:
        model: The export, edited or not, with or without a cache.
        texts: What runs, teacher-forced; at least one, each with at least one counted token.
            `counted_prompts` makes them of prompts.
        token_set: What the counted tokens are, for the record.
        routers: From `find_routers`; searched for if not given.
        batch_size: Texts at once; memory grows with it and not with their number.
        device: `cpu`, `cuda`, or `auto`.
        threads: Threads inside one operator.
        progress: Called with texts done and in all.

    Raises:
        NothingToAudit: No texts, or one without counted tokens.
        ConfigurationError: A batch size below 1.
        UnsupportedModel, DeviceUnavailable: As for `RoutingCapture`.
    """
    if not texts or any(not 0 <= each.start < each.stop <= len(each.ids) for each in texts):
        raise NothingToAudit("no tokens to count; give prompts that are not empty")
    capture = RoutingCapture(model, routers, device=device, threads=threads)
    shape = (len(texts), len(capture.routers), capture.routers[0].experts)
    maps = RoutingMaps(
        tuple(router.layer for router in capture.routers), token_set,
        np.zeros(shape, np.float32), np.zeros(shape, np.float32),
        np.array([each.stop - each.start for each in texts], np.int64),
    )  # fmt: skip
    done = 0
    for batch in capture.batches([each.ids for each in texts], batch_size):
        _count(maps, batch, [texts[position] for position in batch.prompts])
        done += len(batch.prompts)
        if progress is not None:
            progress(done, len(texts))
    return maps


def expose_routing(
    model: onnx.ModelProto, routers: Sequence[OnnxRouter], *, alone: bool = False
) -> onnx.ModelProto:
    """A copy of a model that also puts out logits, indices and weights of its routers.

    Args:
        model: It is not changed.
        routers: Found in it, or in the base it was edited from.
        alone: Whether the outputs that the model has are dropped.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if alone:
        del copy.graph.output[:]
    present = {value.name for value in copy.graph.output}
    for router in routers:
        for name, kind, width in (
            (router.logits, router.logits_type, router.experts),
            (router.indices, onnx.TensorProto.INT64, router.chosen),
            (router.weights, router.weights_type, router.chosen),
        ):
            if name not in present:
                value = helper.make_tensor_value_info(name, kind, [None, width])
                copy.graph.output.append(value)
    return copy


def _count(maps: RoutingMaps, batch: RoutedBatch, texts: Sequence[Counted]) -> None:
    """Write one batch into the arrays of the maps."""
    starts, stops = (
        np.array(edges)[:, None]
        for edges in ([each.start for each in texts], [each.stop for each in texts])
    )
    columns = np.arange(batch.mask.shape[1])
    counted = (starts <= columns) & (columns < stops)
    experts, positions = maps.counts.shape[2], list(batch.prompts)
    rows = np.nonzero(counted)[0][:, None]
    size = len(texts) * experts
    for layer, (indices, weights) in enumerate(zip(batch.indices, batch.weights, strict=True)):
        places = (rows * experts + indices[counted]).ravel()
        counts = np.bincount(places, minlength=size)
        mass = np.bincount(places, weights[counted].ravel().astype(np.float64), minlength=size)
        maps.counts[positions, layer] = counts.reshape(-1, experts)
        maps.mass[positions, layer] = mass.reshape(-1, experts)


def _fill(spec: TensorSpec, ids: NDArray[np.int64], mask: NDArray[np.bool_]) -> Array:
    """What an input of a language model gets where nothing was read before."""
    if spec.name == _IDS:
        return ids
    if spec.name == "attention_mask":
        return mask.astype(spec.dtype)
    positions = np.arange(ids.shape[1])
    if spec.name == "position_ids":
        return np.broadcast_to(positions, ids.shape).astype(spec.dtype)
    if spec.name == "cache_position":
        return positions.astype(spec.dtype)
    if len(spec.shape) == _CACHE_AXES and spec.dtype in _FLOATS:
        _, heads, tokens, size = spec.shape
        if heads is not None and tokens is None and size is not None:
            return np.zeros((len(ids), heads, 0, size), spec.dtype)
    raise UnsupportedModel(
        f"input {spec} is not known how to fill",
        way_out="export the model with input_ids, attention_mask, position_ids and a cache only",
    )
