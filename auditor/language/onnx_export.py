"""A causal language model of a transformers folder as an ONNX graph with a key-value cache.

torch.onnx.export (dynamo) over the model's forward; experts run as `batched_mm`, the form in
which every expert stays in the graph. The new folder is there only once onnxruntime gave the
model's own logits. Weights are float32; quantisation and float16 are not written.
"""

from __future__ import annotations

import io
import json
import logging
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import onnx
import torch
from torch import Tensor

from auditor.errors import OperationFailed, UnsupportedModel
from auditor.files import refuse_existing, refuse_unwritable
from auditor.language.causal_lm import CausalLM
from auditor.language.onnx_comparison import (
    TOLERANCE,
    TRACED_ROWS,
    Difference,
    compare,
    plan_comparisons,
    traced_shape,
)
from auditor.language.onnx_lm import GENERATION, OnnxCausalLM
from auditor.language.onnx_network import IDS, LOGITS, MASK, POSITIONS, cache_names
from auditor.language.opening import quiet_transformers
from auditor.models.limits import Limits
from auditor.models.onnx_folder import DATA, GRAPH, read_onnx_folder
from auditor.models.transformers_folder import INDEX

OPSET: Final = 20
# protobuf ends at 2 GiB; a larger part of that beside the graph is quicker to read and to edit.
INLINE_BYTES: Final = 2**30
SCOPES: Final = "pkg.torch.onnx.name_scopes"
"""Metadata of a node: the modules it came from. What else the exporter notes is removed."""
SOURCE: Final = "auditor.source"
"""Metadata of the graph: digest of the folder it was exported from."""

# Rotary positions whose frequencies change with the longest position seen.
_STRETCHED: Final = frozenset({"dynamic", "longrope"})

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class Exported:
    """A model that was written.

    Attributes:
        path: The new folder.
        digest: `sha256:<hex>` of it.
        source: Digest of the folder it came from.
        size: Bytes of the new folder's files.
        nodes: Nodes of the graph.
        differences: What was compared with torch, none above `TOLERANCE`.
    """

    path: Path
    digest: str
    source: str
    size: int
    nodes: int
    differences: tuple[Difference, ...]

    @property
    def largest_difference(self) -> float:
        """The largest absolute difference of a logit."""
        return max(each.largest for each in self.differences)


def export_causal_lm(
    folder: Path,
    out: Path,
    *,
    inline_bytes: int = INLINE_BYTES,
    progress: Progress = lambda share, text: None,
) -> Exported:
    """Write a folder with model.onnx, configuration and tokenizer, checked against torch.

    Args:
        folder: A causal language model as transformers saves it; it stays as it is.
        out: The new folder. Nothing is there if this fails.
        inline_bytes: Above this many bytes weights go to model.onnx.data.
        progress: Told what is going on.

    Raises:
        OutputNotWritable: Something is there already, or nothing can be written there.
        FileMissing, RefusedModel: As for `CausalLM.open`.
        UnsupportedModel: No causal language model, one without a plain key-value cache, too
            large, one that the exporter refuses, or logits that differ by more than `TOLERANCE`.
        OperationFailed: The disk failed.
    """
    refuse_existing(out, "an exported model")
    refuse_unwritable(out)
    progress(0.0, "opening the model")
    model = CausalLM.open(folder)
    _require_exportable(model)
    shapes = _cache_shapes(model)
    comparisons = plan_comparisons(model)
    progress(0.1, "tracing and translating the graph")
    graph = _trace(model, shapes)
    _clean(graph, model.folder.digest)
    nodes = len(graph.graph.node)
    with _unfinished(out, model.folder.path) as made:
        _write(graph, made, inline_bytes)
        _copy_the_rest(model, made)
        del graph
        progress(0.8, "comparing with torch")
        network = OnnxCausalLM.open(made).network
        differences = tuple(compare(network, each) for each in comparisons)
        _require_close(differences, model)
        made.rename(out)
    written = read_onnx_folder(out)
    progress(1.0, "written")
    return Exported(out, written.digest, model.folder.digest, written.size, nodes, differences)


def _require_exportable(model: CausalLM) -> None:
    """Refuse what no graph with a plain cache can express, before anything takes long.

    Raises:
        UnsupportedModel: With the reason.
    """
    size = sum(4 * each.numel() for each in model.model.parameters())
    most = Limits().external_bytes
    stretched = _rope_types(model.model.config.to_dict()) & _STRETCHED
    for problem, applies in (
        (f"its weights take {size} bytes as float32 and a graph at most {most}", size > most),
        ("it keeps a state beside keys and values", model.network.keeps_state),
        (f"its positions ({', '.join(sorted(stretched))} RoPE) depend on how long the text is, "
         "with a cache otherwise than without", bool(stretched)),
        (f"it sees {model.max_tokens} tokens and tracing takes 4", model.max_tokens < 4),
    ):  # fmt: skip
        if applies:
            raise _unsupported(model, problem)


def _rope_types(value: Any) -> set[str]:
    """Every `rope_type` in a configuration; some families have one for each type of layer."""
    children = value.values() if isinstance(value, dict) else ()
    found = {str(value["rope_type"])} if isinstance(value, dict) and "rope_type" in value else set()
    return found.union(*map(_rope_types, children))


def _unsupported(model: CausalLM, problem: str) -> UnsupportedModel:
    return UnsupportedModel(
        problem,
        place=str(model.folder.path),
        way_out="audit the folder itself, which torch runs",
    )


def _cache_shapes(model: CausalLM) -> list[tuple[int, int, int, int]]:
    """Heads and width of keys, and of values, of each layer.

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
            raise _unsupported(
                model, f"layer {number} keeps {type(layer).__name__}, no keys and values of its own"
            )
        shapes.append((keys.shape[1], keys.shape[3], values.shape[1], values.shape[3]))
    return shapes


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


def _trace(model: CausalLM, shapes: Sequence[tuple[int, int, int, int]]) -> onnx.ModelProto:
    """The graph, by the exporter.

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
    with torch.no_grad(), quiet_transformers(), _quiet_exporter():
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
            raise _unsupported(model, f"the exporter refuses it: {_reason(error)}") from error
    proto: onnx.ModelProto = program.model_proto
    return proto


def _clean(graph: onnx.ModelProto, source: str) -> None:
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


@contextmanager
def _unfinished(out: Path, source: Path) -> Iterator[Path]:
    """A hidden folder beside `out` that is gone afterwards, unless it was renamed."""
    made = out.with_name(f".{out.name}.{os.getpid()}.unfinished")
    try:
        made.mkdir(parents=True)
        yield made
    except OSError as error:
        reason = error.strerror or str(error)
        raise OperationFailed(f"cannot write {out}: {reason}; {source} is as it was") from None
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _write(graph: onnx.ModelProto, made: Path, inline_bytes: int) -> None:
    held = sum(len(tensor.raw_data) for tensor in graph.graph.initializer)
    onnx.save_model(
        graph, str(made / GRAPH), save_as_external_data=held > inline_bytes,
        all_tensors_to_one_file=True, location=DATA,
    )  # fmt: skip


def _copy_the_rest(model: CausalLM, made: Path) -> None:
    """Configuration, tokenizer and template; and the ends of text, if only the model knew them."""
    for name in model.folder.files:
        if not name.endswith(".safetensors") and name != INDEX:
            (made / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(model.folder.path / name, made / name)
    if not (made / GENERATION).exists():
        ends = {"eos_token_id": model.model.generation_config.eos_token_id}
        (made / GENERATION).write_text(json.dumps(ends), "utf-8")


def _require_close(differences: Sequence[Difference], model: CausalLM) -> None:
    # NaN is no small difference.
    far = [each for each in differences if not each.largest <= TOLERANCE]
    if far:
        raise _unsupported(
            model, f"its graph gives other logits than torch: {far[0]}; the bound is {TOLERANCE:g}"
        )


def _reason(error: BaseException) -> str:
    """The exporter's own message is many lines of advice; what stopped it is the cause."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:200]


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """No warnings, logs or output inside: of a model it refuses torch prints the whole graph."""
    before, unread = logging.root.manager.disable, io.StringIO()
    with warnings.catch_warnings(), redirect_stdout(unread), redirect_stderr(unread):
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(before)
