"""A causal language model of a transformers folder, exported to a folder with an ONNX graph.

`onnx_tracing` makes the graph. The new folder is there only once onnxruntime gave the model's own
logits. Weights are float32; quantisation and float16 are not written.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import onnx

from auditor.files import refuse_existing, refuse_unwritable, unfinished_folder
from auditor.language.causal_lm import CausalLM
from auditor.language.onnx_comparison import (
    TOLERANCE,
    Difference,
    compare,
    plan_comparisons,
)
from auditor.language.onnx_lm import GENERATION, OnnxCausalLM
from auditor.language.onnx_tracing import cache_shapes, clean_graph, trace_graph, unsupported
from auditor.models.limits import Limits
from auditor.models.onnx_folder import DATA, GRAPH, read_onnx_folder
from auditor.models.transformers_folder import copy_beside_weights

# protobuf ends at 2 GiB; a larger part of that beside the graph is quicker to read and to edit.
INLINE_BYTES: Final = 2**30
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

    @property
    def largest_share(self) -> float:
        """The largest difference as a share of the logits' scale, at most `TOLERANCE`."""
        return max(each.share for each in self.differences)


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
    shapes = cache_shapes(model)
    comparisons = plan_comparisons(model)
    progress(0.1, "tracing and translating the graph")
    graph = trace_graph(model, shapes)
    clean_graph(graph, model.folder.digest)
    nodes = len(graph.graph.node)
    with unfinished_folder(out, model.folder.path) as made:
        write_graph(graph, made, inline_bytes)
        copy_beside_weights(model.folder, made)
        _note_ends(model, made)
        del graph
        progress(0.8, "comparing with torch")
        network = OnnxCausalLM.open(made).network
        differences = tuple(compare(network, each) for each in comparisons)
        _require_close(differences, model)
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
            raise unsupported(model, problem)


def _rope_types(value: Any) -> set[str]:
    """Every `rope_type` in a configuration; some families have one for each type of layer."""
    children = value.values() if isinstance(value, dict) else ()
    found = {str(value["rope_type"])} if isinstance(value, dict) and "rope_type" in value else set()
    return found.union(*map(_rope_types, children))


def write_graph(graph: onnx.ModelProto, made: Path, inline_bytes: int = INLINE_BYTES) -> None:
    """Write model.onnx into a folder, over the one that is there.

    Args:
        graph: The model, its weights inside.
        made: The folder.
        inline_bytes: Above this many bytes weights go to model.onnx.data.
    """
    held = sum(len(tensor.raw_data) for tensor in graph.graph.initializer)
    onnx.save_model(
        graph, str(made / GRAPH), save_as_external_data=held > inline_bytes,
        all_tensors_to_one_file=True, location=DATA,
    )  # fmt: skip


def _note_ends(model: CausalLM, made: Path) -> None:
    """Ends of text, if only the model knew them."""
    if not (made / GENERATION).exists():
        ends = {"eos_token_id": model.model.generation_config.eos_token_id}
        (made / GENERATION).write_text(json.dumps(ends), "utf-8")


def _require_close(differences: Sequence[Difference], model: CausalLM) -> None:
    # NaN is no small difference.
    far = [each for each in differences if not each.share <= TOLERANCE]
    if far:
        raise unsupported(
            model, f"its graph gives other logits than torch: {far[0]}; the bound is {TOLERANCE:g}"
        )
