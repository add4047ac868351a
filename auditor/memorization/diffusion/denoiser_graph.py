"""The denoiser of a diffusion model as an ONNX graph, checked against torch.

Inputs are `noisy` [images, C, h, w], `timestep` [images], `embedding` [images, rows, width], as
float32, int64 (float32 of a flow) and float32; the output is `noise` [images, C, h, w], or velocity
where the model was trained to predict that. Sizes of images and of embeddings are those of the
model; only the number of images is free.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from auditor.errors import OperationFailed, UnsupportedModel
from auditor.language.onnx_tracing import OPSET, clean_graph, quiet_exporter
from auditor.memorization.diffusion.model import DiffusionModel
from auditor.models.onnx_model import OnnxModel

NAMES: Final = ("noisy", "timestep", "embedding")
NOISE: Final = "noise"
TOLERANCE: Final = 1e-5
"""Largest difference of a prediction, as a share of the largest one where that is above 1."""
_TRACED, _COMPARED = 2, 3


class _Predicting(nn.Module):
    """A denoiser called as `DiffusionModel.predict` calls it, without its checks."""

    def __init__(self, model: DiffusionModel) -> None:
        super().__init__()
        self.denoiser = model.denoiser
        self._conditioning = model.conditioning

    def forward(self, noisy: Tensor, timestep: Tensor, embedding: Tensor) -> Tensor:
        """Predicted noise."""
        return self._conditioning.predict(self.denoiser, noisy, timestep, embedding)


def trace_denoiser(model: DiffusionModel) -> onnx.ModelProto:
    """The graph of a denoiser as it is at this moment.

    Raises:
        UnsupportedModel: It masks the padding of its prompts, or the exporter refuses it.
    """
    if model.conditioning.masks_padding:
        raise UnsupportedModel(
            "its denoiser does not look at padding, which a graph of fixed inputs cannot say",
            place=str(model.folder.path), way_out="use the torch folder",
        )  # fmt: skip
    images = torch.export.Dim("images")
    inputs = _inputs(model, _TRACED)
    with torch.no_grad(), quiet_exporter():
        try:
            program: Any = torch.onnx.export(
                _Predicting(model).eval(), inputs, dynamo=True, verbose=False,
                opset_version=OPSET, input_names=list(NAMES), output_names=[NOISE],
                dynamic_shapes={name: {0: images} for name in NAMES},
            )  # fmt: skip
        except torch.onnx.OnnxExporterError as error:
            raise UnsupportedModel(
                f"the exporter refuses its denoiser: {str(error).strip().splitlines()[0][:200]}",
                place=str(model.folder.path), way_out="use the torch folder",
            ) from error  # fmt: skip
    graph: onnx.ModelProto = program.model_proto
    clean_graph(graph, model.folder.digest)
    _mend_squeezes(graph.graph)
    return graph


def _mend_squeezes(graph: onnx.GraphProto) -> None:
    """Let pass what torch does not squeeze: an axis that is longer than 1, which ONNX refuses."""
    shapes = {
        value.name: [axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*graph.value_info, *graph.input)
    }
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type != "Squeeze" or len(node.input) < 2 or node.input[1] not in constants:
            continue
        shape = shapes.get(node.input[0], [])
        axes = constants[node.input[1]].reshape(-1).tolist()
        if shape and all(shape[axis] > 1 for axis in axes):
            node.op_type = "Identity"
            del node.input[1:]


def require_alike(graph: onnx.ModelProto, model: DiffusionModel, what: Path) -> float:
    """The largest difference between a graph and torch, as a share; on other noise than traced.

    Raises:
        OperationFailed: It is above `TOLERANCE`.
    """
    inputs = _inputs(model, _COMPARED)
    session = OnnxModel.from_proto(graph, what).session(model.device)
    fed = {name: each.cpu().numpy() for name, each in zip(NAMES, inputs, strict=True)}
    found = session.run(fed)[NOISE]
    with torch.no_grad():
        expected = model.predict(*inputs).cpu().numpy()
    scale = float(np.abs(expected).max(initial=1.0))
    furthest = float(np.abs(found - expected).max()) / scale
    if not furthest <= TOLERANCE:
        raise OperationFailed(
            f"the graph to be written to {what} differs from torch by {furthest:.2g} of the "
            f"largest prediction ({TOLERANCE:.0g} allowed); nothing was written"
        )
    return furthest


def _inputs(model: DiffusionModel, images: int) -> tuple[Tensor, Tensor, Tensor]:
    noisy = model.draw_noise(range(images))
    times = model.schedule.spread(images + 1)[:-1].to(noisy.device)
    source = torch.Generator().manual_seed(images)
    spread = torch.randn((images, *model.unconditional.shape[1:]), generator=source)
    return noisy, times, model.unconditional + spread.to(noisy)
