"""The graph of a language model with its key-value cache as inputs and outputs, by torch.onnx.

Experts run as `batched_mm`, the form in which every expert stays in the graph (pull request
huggingface/transformers#42697). Of the exporter's notes only the modules' names are kept.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any, Final, NamedTuple

import onnx
import torch
from torch import Tensor

from auditor.errors import UnsupportedModel
from auditor.language.causal_lm import CausalLM
from auditor.language.onnx_comparison import TRACED_ROWS, traced_shape
from auditor.language.onnx_network import IDS, LOGITS, MASK, POSITIONS, cache_names
from auditor.language.opening import quiet_transformers

OPSET: Final = 20
SCOPES: Final = "pkg.torch.onnx.name_scopes"
"""Metadata of a node: the modules it came from. What else the exporter notes is removed."""
SOURCE: Final = "auditor.source"
"""Metadata of the graph: digest of the folder it was exported from."""


class LayerShape(NamedTuple):
    """Heads and width of the keys and of the values that a layer keeps."""

    key_heads: int
    key_width: int
    value_heads: int
    value_width: int


def cache_shapes(model: CausalLM) -> list[LayerShape]:
    """What each layer keeps.

    Raises:
        UnsupportedModel: A layer keeps something else.
    """
    from transformers.cache_utils import DynamicLayer

    ids = torch.zeros((1, 2), dtype=torch.long)
    with torch.inference_mode(), quiet_transformers():
        _, cache = model.network.step(ids, torch.ones_like(ids), None)
    shapes = []
    for number, layer in enumerate(getattr(cache, "layers", ())):
        keys: Any = getattr(layer, "keys", None)
        values: Any = getattr(layer, "values", None)
        if not isinstance(layer, DynamicLayer) or keys is None or values is None:
            raise unsupported(
                model, f"layer {number} keeps {type(layer).__name__}, no keys and values of its own"
            )
        shapes.append(LayerShape(keys.shape[1], keys.shape[3], values.shape[1], values.shape[3]))
    return shapes


def trace_graph(model: CausalLM, shapes: Sequence[LayerShape]) -> onnx.ModelProto:
    """The graph of a model with a cache of these shapes, by the exporter.

    The model's experts run as `batched_mm` afterwards.

    Raises:
        UnsupportedModel: The exporter refuses the model.
    """
    past, new = traced_shape(model.max_tokens)
    rows, dim = TRACED_ROWS, torch.export.Dim
    batch, tokens, before = dim("batch"), dim("tokens"), dim("past")
    ids = torch.zeros((rows, new), dtype=torch.long)
    positions = torch.arange(past, past + new).expand_as(ids).contiguous()
    mask = torch.ones((rows, past + new), dtype=torch.long)
    cache = [
        (torch.zeros(rows, heads, past, width), torch.zeros(rows, value_heads, past, value_width))
        for heads, width, value_heads, value_width in shapes
    ]
    axes = {0: batch, 2: before}
    inputs, outputs = cache_names(len(shapes))
    model.model.set_experts_implementation("batched_mm")
    network = model.network
    wrapped = _WithCache(model.model, network.cache_name, "position_ids" in network.takes)
    with torch.no_grad(), quiet_transformers(), quiet_exporter():
        try:
            program: Any = torch.onnx.export(
                wrapped.eval(), (ids, mask, positions, cache), dynamo=True, verbose=False,
                opset_version=OPSET, input_names=[IDS, MASK, POSITIONS, *inputs],
                output_names=[LOGITS, *outputs],
                dynamic_shapes={
                    "ids": {0: batch, 1: tokens}, "mask": {0: batch, 1: dim.DYNAMIC},
                    "positions": {0: batch, 1: tokens}, "past": [(axes, axes)] * len(shapes),
                },
            )  # fmt: skip
        except torch.onnx.OnnxExporterError as error:
            raise unsupported(model, f"the exporter refuses it: {_reason(error)}") from error
    proto: onnx.ModelProto = program.model_proto
    return proto


def clean_graph(graph: onnx.ModelProto, source: str) -> None:
    """Leave of the exporter's notes only where nodes came from; some hold paths of this machine."""
    for node in graph.graph.node:
        kept = [each for each in node.metadata_props if each.key == SCOPES]
        scopes = [onnx.StringStringEntryProto(key=each.key, value=each.value) for each in kept]
        del node.metadata_props[:]
        node.metadata_props.extend(scopes)
        node.ClearField("doc_string")
    parts = graph.graph
    named: list[Any] = [
        graph, parts, *parts.initializer, *parts.input, *parts.output, *parts.value_info
    ]  # fmt: skip
    for part in named:
        del part.metadata_props[:]
        part.ClearField("doc_string")
    onnx.helper.set_model_props(graph, {SOURCE: source})


def unsupported(model: CausalLM, problem: str) -> UnsupportedModel:
    """The error of a model that cannot be exported."""
    return UnsupportedModel(
        problem,
        place=str(model.folder.path),
        way_out="audit the folder itself, which torch runs",
    )


class _WithCache(torch.nn.Module):
    """A model whose cache goes in and comes out as tensors."""

    def __init__(self, model: Any, cache_name: str, takes_positions: bool) -> None:
        super().__init__()
        self.model = model
        self.cache_name, self.takes_positions = cache_name, takes_positions

    def forward(
        self, ids: Tensor, mask: Tensor, positions: Tensor, past: Sequence[tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, ...]:
        """Logits, then keys and values of each layer with those of the new tokens."""
        from transformers.cache_utils import DynamicCache

        # Without a configuration every layer keeps all it saw: windows are in the mask.
        cache: Any = DynamicCache()
        for number, (keys, values) in enumerate(past):
            cache.update(keys, values, number)
        optional = {"position_ids": positions} if self.takes_positions else {}
        output = self.model(
            input_ids=ids, attention_mask=mask, use_cache=True,
            **{self.cache_name: cache}, **optional,
        )  # fmt: skip
        kept = [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]
        return (output.logits, *kept)


def _reason(error: BaseException) -> str:
    """The exporter's own message is many lines of advice; what stopped it is the cause."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:200]


@contextmanager
def quiet_exporter() -> Iterator[None]:
    """No warnings, logs or output inside: of a model it refuses torch prints the whole graph."""
    before, unread = logging.root.manager.disable, io.StringIO()
    with warnings.catch_warnings(), redirect_stdout(unread), redirect_stderr(unread):
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(before)
