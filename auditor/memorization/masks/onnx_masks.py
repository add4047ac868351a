"""Masks written into an ONNX graph: the stored weights are found by their values.

An exporter renames tensors, transposes them, and shares equal ones. A layer's tensor is the one
that holds the very numbers of torch's weight, as it is or transposed; none, or several that are not
one tensor, is an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from auditor.errors import UnsupportedModel
from auditor.memorization.masks.weight_masks import WeightMasks
from auditor.memorization.masks.weight_sites import WeightSite
from auditor.models.onnx_model import iterate_tensors

Array = NDArray[np.float32]


def prune_onnx(
    graph: onnx.ModelProto, sites: Sequence[WeightSite], masks: WeightMasks
) -> onnx.ModelProto:
    """A copy of a graph whose masked weights are zero.

    Args:
        graph: Exported from the untouched model, its weights inside.
        sites: The layers of that model, unpruned.
        masks: What is pruned.

    Raises:
        UnsupportedModel: A layer's weight is not in the graph, or more than once.
    """
    changed = onnx.ModelProto()
    changed.CopyFrom(graph)
    stored = _by_shape(changed)
    for site in sites:
        mask = masks.masks.get(site.name)
        if mask is None or not bool(mask.any()):
            continue
        weight = site.weight.detach().float().cpu().numpy()
        tensor, transposed = _holder(stored, weight, site.name)
        pruned = np.where(mask.numpy(), np.float32(0), weight)
        _store(tensor, pruned.T if transposed else pruned)
    return changed


def _by_shape(graph: onnx.ModelProto) -> dict[tuple[int, ...], list[TensorProto]]:
    found: dict[tuple[int, ...], list[TensorProto]] = {}
    for _, tensor in iterate_tensors(graph.graph):
        if tensor.data_type == TensorProto.FLOAT and len(tensor.dims) == 2:
            found.setdefault(tuple(tensor.dims), []).append(tensor)
    return found


def _holder(
    stored: dict[tuple[int, ...], list[TensorProto]], weight: Array, place: str
) -> tuple[TensorProto, bool]:
    """The tensor that holds a weight, and whether it does so transposed."""
    found = [*_equal(stored, weight, transposed=False), *_equal(stored, weight.T, transposed=True)]
    # A symmetric square matrix is found both ways, and either is right.
    if not found or len({id(tensor) for tensor, _ in found}) > 1:
        raise UnsupportedModel(
            "its weight is not in the graph" if not found
            else f"its weight is in the graph {len(found)} times", place=place,
            way_out="prune before exporting, and export the pruned model",
        )  # fmt: skip
    return found[0]


def _equal(
    stored: dict[tuple[int, ...], list[TensorProto]], weight: Array, *, transposed: bool
) -> Iterator[tuple[TensorProto, bool]]:
    for tensor in stored.get(weight.shape, ()):
        if np.array_equal(numpy_helper.to_array(tensor), weight):
            yield tensor, transposed


def _store(tensor: TensorProto, values: Array) -> None:
    kept = tensor.name
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), kept))
