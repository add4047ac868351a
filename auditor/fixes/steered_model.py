"""A routing intervention written to a new model, which is held to act as the steered one does.

Where the family's weights can say the method it is a transformers folder, else an ONNX folder whose
graph is edited. Only `auditor.fixes.experts` calls this, after its gate has accepted.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from auditor.errors import FileChanged, OperationFailed, UnsupportedModel
from auditor.experts.intervention import Intervention, Method
from auditor.experts.onnx_edit import edit_onnx
from auditor.experts.routers import RoutedModel, find_routers
from auditor.experts.routing_maps import Expert
from auditor.experts.steering import steered
from auditor.experts.weight_edit import can_edit, edit_weights
from auditor.files import unfinished_folder
from auditor.fixes.model_folder import save_model
from auditor.language.causal_lm import CausalLM
from auditor.language.language_model import NextTokenModel
from auditor.language.onnx_export import export_causal_lm, write_graph
from auditor.language.onnx_lm import OnnxCausalLM
from auditor.models.onnx_folder import GRAPH, read_model_folder
from auditor.models.onnx_model import OnnxModel
from auditor.models.transformers_folder import copy_beside_weights

TOLERANCE: Final = 1e-4
"""Largest difference of a log-probability between the written model and the steered one, as a share
of the largest log-probability where that is above 1: float32 rounds in proportion."""
MOST_GRAPH_BYTES: Final = 2**31 - 1
"""What a graph that is edited may take: protobuf writes no more at once."""


def require_writable(routed: RoutedModel, method: Method) -> None:
    """Refuse, before long work, a method that could not be written in the end.

    Raises:
        UnsupportedModel: It needs a graph, and the model is too large for one that can be edited.
    """
    first = frozenset({Expert(routed.layers[0], 0)})
    size = 4 * routed.coverage.parameters
    if size > MOST_GRAPH_BYTES and not can_edit(routed, Intervention(method, off=first)):
        raise UnsupportedModel(
            f"the weights of this family cannot say {method}, and as a graph they take {size} "
            f"bytes where {MOST_GRAPH_BYTES} can be edited", place=type(routed.model).__name__,
            way_out="use zero_output",
        )  # fmt: skip


def write_steered(
    model: CausalLM, routed: RoutedModel, intervention: Intervention, out: Path,
    prompts: Sequence[str],
) -> str:  # fmt: skip
    """Write a model with an intervention in it; returns the digest of the new folder.

    Args:
        model: The untouched model.
        routed: Its routers.
        intervention: What was accepted.
        out: The new folder.
        prompts: As the model is asked, at least one whose answer the intervention changes: on
            these the written model has to agree with the steered.

    Raises:
        ConfigurationError: The graph's routers cannot do what the intervention says.
        UnsupportedModel: The weights cannot say the method and the model cannot be exported.
        FileChanged: The old folder is no longer the one that was measured.
        OperationFailed: The disk failed, or the written model acts otherwise; nothing is left.
    """
    with steered(routed, intervention):
        expected = model.next_token_log_probabilities(prompts)
    with unfinished_folder(out, model.folder.path) as made:
        if can_edit(routed, intervention):
            _write_weights(model, intervention, made)
            written: NextTokenModel = CausalLM.open(made, model.device)
        else:
            _write_graph(model, intervention, made)
            written = OnnxCausalLM.open(made, model.device)
        _require_alike(written.next_token_log_probabilities(prompts), expected, out)
    return read_model_folder(out).digest


def _write_weights(model: CausalLM, intervention: Intervention, made: Path) -> None:
    changed = CausalLM.open(model.folder.path, model.device, model.folder.digest)
    edit_weights(find_routers(changed.model), intervention)
    save_model(changed, model, made)


def _write_graph(model: CausalLM, intervention: Intervention, made: Path) -> None:
    exported = made / "exported"
    source = export_causal_lm(model.folder.path, exported).source
    if source != model.folder.digest:
        raise FileChanged(model.folder.path, model.folder.digest, source)
    graph = OnnxModel.open(exported / GRAPH)
    write_graph(edit_onnx(graph.proto, intervention, base_digest=graph.digest), made)
    copy_beside_weights(read_model_folder(exported), made)
    shutil.rmtree(exported)


def _require_alike(found: NDArray[np.float32], expected: NDArray[np.float32], out: Path) -> None:
    # Tokens that are all but impossible may differ by much in their logarithms.
    likely = expected > np.log(1e-6)
    furthest = float(np.abs(found[likely] - expected[likely]).max(initial=0.0))
    scale = float(np.abs(expected[np.isfinite(expected)]).max(initial=1.0))
    if not furthest <= TOLERANCE * scale:
        raise OperationFailed(
            f"the model to be written to {out} differs from the steered one by {furthest:.2g} in a "
            f"log-probability ({TOLERANCE * scale:.1g} allowed); nothing was written"
        )
