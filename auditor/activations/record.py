"""Running a model on many samples and keeping what its layers did."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from auditor.errors import UnsupportedModel
from auditor.models.torch_graph import TorchGraph

ACTIVATION_OPERATORS: Final = frozenset(
    {"Elu", "Gelu", "HardSigmoid", "LeakyRelu", "PRelu", "Relu", "Sigmoid", "Softplus", "Tanh"}
)


def activation_tensors(graph: TorchGraph) -> tuple[str, ...]:
    """Names of the tensors that activation functions produce, in graph order."""
    return tuple(node.outputs[0] for node in graph.nodes if node.op in ACTIVATION_OPERATORS)


def record_activations(
    graph: TorchGraph,
    rows: NDArray[Any],
    names: Sequence[str],
    *,
    input_shape: Sequence[int],
    batch_size: int = 256,
) -> dict[str, NDArray[np.float32]]:
    """The named tensors on every sample: float32 [samples, neurons] each, flattened.

    Args:
        graph: The model, with one input.
        rows: Flat samples, [samples, n].
        names: Tensors to keep, for example from `activation_tensors`.
        input_shape: Axes of one sample, without the batch axis.
        batch_size: Samples per run; 1 is used where the graph does not batch.

    Raises:
        UnsupportedModel: The graph has several inputs, a name does not occur, or a
            tensor does not have one entry per sample.
    """
    if len(graph.input_names) != 1:
        raise UnsupportedModel(f"{len(graph.input_names)} inputs; flat rows need exactly one")
    step = batch_size if graph.batches else 1
    parts: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}
    with torch.no_grad():
        for start in range(0, len(rows), step):
            block = np.asarray(rows[start : start + step])
            feed = {graph.input_names[0]: block.reshape(len(block), *input_shape)}
            values = graph.run(feed, keep=names)
            for name in names:
                flat = values[name].to(torch.float32).cpu().numpy()
                if step > 1 and flat.shape[0] != len(block):
                    raise UnsupportedModel(f"tensor '{name}' has no entry per sample")
                parts[name].append(flat.reshape(len(block), -1))
    return {name: np.concatenate(blocks) for name, blocks in parts.items() if blocks}
