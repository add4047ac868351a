"""The functional digest: a name for what a model computes, not for its bytes.

The model is evaluated on canonical probes in float64, and its outputs are cut to a
grid and hashed. A model that was saved again (renamed, reordered, constants moved,
operators fused, external data) computes the same numbers up to float64 rounding
and keeps its digest; a training step changes numbers by far more than the grid.

No digest can be continuous and change as well: somewhere between two functions it
has to jump. With `values` hashed numbers, a grid of `CELL` and rounding differences
of `noise` (both relative to the output scale) an equal function gets another digest
with probability about `values x noise / CELL`. For 340 values and noise of 3e-15
(more than measured on networks of up to eight layers) that is 7e-5; equal
operations in equal order give equal bits and no risk at all. A change of mean size
`change` is missed with probability about `exp(-values x change / CELL)`.

Rewriting that rounds weights to float32 again (folding a batch normalisation into a
convolution, quantisation) is another function by about 1e-7, and gets another
digest: compare such models with `compare_functions`, which has a tolerance.

The probes are public: somebody who wants two different models with one digest can
build them. Against that there is only the file digest.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from auditor.errors import UnsupportedModel
from auditor.models.onnx_model import OnnxModel
from auditor.models.probes import probe_inputs
from auditor.models.torch_graph import TorchGraph

Array = NDArray[Any]

VERSION: Final = "fn1"
CELL: Final = 2.0**-26
RANDOM_PROBES: Final = 32
VALUES_PER_OUTPUT: Final = 64
# Keeps round numbers (0, 1/2, 1, softmax at 1) away from the borders of the grid and
# of the scale, where rounding could push them over.
_GRID_SHIFT: Final = 0.5 + 0.118033988749895
_SCALE_SHIFT: Final = 1.3717
# A probe whose outputs are this far below the largest is measured on a coarser grid.
_SMALLEST_EXPONENT: Final = 20


@dataclass(frozen=True)
class FunctionComparison:
    """How far two models differ on the canonical probes.

    Attributes:
        absolute: Largest difference of an output.
        relative: Largest difference divided by the largest output of its probe.
        probes: How many probes were compared.
    """

    absolute: float
    relative: float
    probes: int


def compute_functional_digest(model: OnnxModel) -> str:
    """`fn1:<hex>`, equal for models that compute the same function; see the module.

    Raises:
        UnsupportedOperator: The torch executor cannot express an operator.
        UnsupportedModel: The model takes no numeric inputs, or fails on every shape
            that the probes give to symbolic axes.
    """
    return digest_of_outputs(evaluate_probes(model))


def evaluate_probes(model: OnnxModel) -> list[list[Array]]:
    """Outputs on the canonical probes in float64: one list per probe, in output order."""
    graph = TorchGraph(model.proto, torch.float64)
    found = []
    with torch.no_grad():
        for probe in probe_inputs(model.inputs, random_probes=RANDOM_PROBES):
            outputs = graph.run(probe)
            found.append(
                [outputs[name].to(torch.float64).cpu().numpy() for name in graph.output_names]
            )
    return found


def digest_of_outputs(outputs: list[list[Array]]) -> str:
    """The digest of outputs given as one list of arrays per probe."""
    if not outputs or not outputs[0]:
        raise UnsupportedModel("the model has no outputs to digest")
    digest = hashlib.sha256(b"auditor functional digest 1")
    for position in range(len(outputs[0])):
        values = [_sample(probe[position]) for probe in outputs]
        largest = [_magnitude(value) for value in values]
        top = _exponent(max(largest))
        for probe, value, magnitude in zip(outputs, values, largest, strict=True):
            exponent = max(_exponent(magnitude), top - _SMALLEST_EXPONENT)
            digest.update(f"{probe[position].size}/{exponent};".encode())
            digest.update(_quantise(value, exponent).tobytes())
    return f"{VERSION}:{digest.hexdigest()}"


def compare_functions(left: OnnxModel, right: OnnxModel) -> FunctionComparison:
    """How far two models with the same inputs differ on the canonical probes, in float64.

    A difference between finite and non-finite outputs counts as infinite.

    Raises:
        UnsupportedModel: They take different inputs or give outputs of other sizes.
        UnsupportedOperator: The torch executor cannot express an operator.
    """
    if [(s.shape[1:], s.dtype) for s in left.inputs] != [
        (s.shape[1:], s.dtype) for s in right.inputs
    ]:
        raise UnsupportedModel(f"{left.path} and {right.path} take different inputs")
    absolute = relative = 0.0
    pairs = list(zip(evaluate_probes(left), evaluate_probes(right), strict=True))
    for mine, theirs in pairs:
        if [value.size for value in mine] != [value.size for value in theirs]:
            raise UnsupportedModel(f"{left.path} and {right.path} give outputs of other sizes")
        for ours, other in zip(mine, theirs, strict=True):
            difference = _difference(ours.ravel(), other.ravel())
            absolute = max(absolute, difference)
            relative = max(relative, difference / (_magnitude(other) or 1.0))
    return FunctionComparison(absolute, relative, len(pairs))


def _difference(left: Array, right: Array) -> float:
    same = (left == right) | (np.isnan(left) & np.isnan(right))
    if bool(same.all()):
        return 0.0
    with np.errstate(invalid="ignore"):
        gaps = np.abs(left[~same] - right[~same])
    return float(np.where(np.isfinite(gaps), gaps, np.inf).max())


def _sample(output: Array) -> Array:
    flat = output.ravel()
    if flat.size <= VALUES_PER_OUTPUT:
        return flat
    return flat[np.arange(VALUES_PER_OUTPUT) * flat.size // VALUES_PER_OUTPUT]


def _magnitude(values: Array) -> float:
    finite = np.abs(values[np.isfinite(values)])
    return float(finite.max()) if finite.size else 0.0


def _exponent(magnitude: float) -> int:
    return int(np.frexp(magnitude * _SCALE_SHIFT)[1]) if magnitude else -1000


def _quantise(values: Array, exponent: int) -> NDArray[np.int64]:
    """Cell numbers on the grid `2**exponent x CELL`; markers for what is not finite."""
    finite = np.isfinite(values)
    scaled = np.ldexp(np.where(finite, values, 0.0), -exponent) / CELL
    cells = np.floor(scaled + _GRID_SHIFT).astype("<i8")
    markers = np.where(np.isnan(values), 3, np.where(values > 0, 1, 2)) + 2**62
    return np.where(finite, cells, markers).astype("<i8")
