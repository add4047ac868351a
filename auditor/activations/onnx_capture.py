"""Capturing an ONNX model's activations in onnxruntime.

The tensors at the chosen layers become extra outputs of a copy of the graph in memory;
the model's file is never touched. A batch axis that is fixed at 1 is opened in that copy
where a trial on the first samples shows that samples do not mix, which makes capture
many times faster; else every sample runs alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import onnx

from auditor.activations.capture import (
    Array,
    Batch,
    CaptureOptions,
    Inputs,
    Point,
    count_samples,
    flatten_values,
    refuse_nan,
    refuse_non_finite,
)
from auditor.activations.layers import ActivationLayer, activation_layers, choose_layers
from auditor.errors import ConfigurationError, UnsupportedModel
from auditor.models.input_file import fit_array
from auditor.models.onnx_model import OnnxModel
from auditor.models.session import Session

_TRIAL_SAMPLES: Final = 3
# Batched and single products add up in another order; more than that is mixing.
_TOLERANCE: Final = {"float16": 2e-2, "float32": 1e-3, "float64": 1e-9}


class OnnxCapture:
    """An ONNX model with the tensors at its activation layers exposed.

    Attributes:
        layers: What is captured, in graph order.
        options: How.
        digest: The model's.
        providers_in_use: Execution providers read back from onnxruntime.
    """

    def __init__(
        self,
        model: OnnxModel,
        layers: Sequence[int | str] = (),
        options: CaptureOptions | None = None,
    ) -> None:
        """Load the model with its layers exposed.

        Args:
            model: The model.
            layers: Names of layers, or positions among `activation_layers`; all if empty.
            options: See `CaptureOptions`.

        Raises:
            UnknownName: There is no such layer.
            UnsupportedModel: No hidden layer, no output, or onnxruntime cannot load it.
            DeviceUnavailable: CUDA was asked for and is not in use.
        """
        self.options = options or CaptureOptions()
        self.layers: tuple[ActivationLayer, ...] = choose_layers(
            activation_layers(model.proto.graph), layers
        )
        self.digest = model.digest
        self._model = model
        after = self.options.point is Point.AFTER
        self._tensors = tuple(layer.after if after else layer.before for layer in self.layers)
        self._output = model.outputs[0].name
        self._session = self._open(free_batch=True)
        self._one_by_one: bool | None = None
        self.providers_in_use = self._session.providers_in_use

    def batches(self, inputs: Inputs) -> Iterator[Batch]:
        """Run all samples in order; see `auditor.activations.capture.Capture`.

        Args:
            inputs: [samples, ...] for a model with one input, else arrays by name; also
                memory-mapped. Flat samples are given the input's shape, and numbers are
                converted to its type.

        Raises:
            NothingToAudit: There is no sample.
            ConfigurationError: A number is NaN or infinite, or inputs are missing.
            UnsupportedModel: A shape does not fit, or onnxruntime fails.
        """
        named = self._by_name(inputs)
        total = count_samples(named)
        if self._one_by_one is None and total > 1:  # one sample alone tells nothing
            self._one_by_one = self._samples_mix(named, total)
            if self._one_by_one:
                self._session = self._open(free_batch=False)
        step = 1 if self._one_by_one else self.options.batch_size
        for start in range(0, total, step):
            yield self._run(named, start, min(start + step, total))

    def _by_name(self, inputs: Inputs) -> dict[str, Array]:
        wanted = [spec.name for spec in self._model.inputs]
        if not isinstance(inputs, Mapping):
            if len(wanted) != 1:
                raise ConfigurationError(
                    f"one array for the inputs {', '.join(wanted)}; give them by name"
                )
            return {wanted[0]: inputs}
        if set(inputs) != set(wanted):
            raise ConfigurationError(f"inputs {sorted(inputs)}; the model's are {sorted(wanted)}")
        return dict(inputs)

    def _run(self, inputs: Mapping[str, Array], start: int, stop: int) -> Batch:
        feeds = {}
        for spec in self._model.inputs:
            feeds[spec.name] = fit_array(spec, inputs[spec.name][start:stop])
            refuse_non_finite(spec.name, feeds[spec.name], start)
        on_cuda = self._session.device == "cuda"
        found = self._session.run_bound(feeds) if on_cuda else self._session.run(feeds)
        values = []
        for layer, tensor in zip(self.layers, self._tensors, strict=True):
            flat = flatten_values(layer.name, found[tensor], stop - start, self.options.granularity)
            refuse_nan(layer.name, flat, start)
            values.append(flat)
        outputs = found[self._output].reshape(stop - start, -1)
        return Batch(start, outputs, tuple(values))

    def _open(self, *, free_batch: bool) -> Session:
        proto = exposed_graph(self._model.proto, self._tensors, free_batch=free_batch)
        exposed = replace(self._model, proto=proto)
        return exposed.session(self.options.device, threads=self.options.threads)

    def _samples_mix(self, inputs: Mapping[str, Array], total: int) -> bool:
        """Whether a batch of the first samples differs from each of them alone."""
        count = min(_TRIAL_SAMPLES, total)
        try:
            together = self._run(inputs, 0, count)
            alone = [self._run(inputs, number, number + 1) for number in range(count)]
        except UnsupportedModel:
            return True  # run one by one, the failure will show again and be named
        for position, value in enumerate((together.outputs, *together.values)):
            single = [(batch.outputs, *batch.values)[position] for batch in alone]
            expected = np.concatenate(single).astype(np.float64)
            scale = float(np.abs(expected[np.isfinite(expected)]).max(initial=0.0))
            tolerance = _TOLERANCE.get(str(value.dtype), 1e-3) * scale
            if not np.allclose(value, expected, rtol=0.0, atol=tolerance, equal_nan=True):
                return True
        return False


def exposed_graph(
    proto: onnx.ModelProto, tensors: Sequence[str], *, free_batch: bool
) -> onnx.ModelProto:
    """A copy of a model whose named tensors are outputs too.

    Args:
        proto: The model; it is not changed.
        tensors: Names of tensors of the main graph.
        free_batch: Also make the first axis of inputs and outputs symbolic where it is 1.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    graph = copy.graph
    if free_batch:
        fixed = {tensor.name for tensor in graph.initializer}
        for value in (*graph.input, *graph.output):
            axes = value.type.tensor_type.shape.dim
            if value.name not in fixed and axes and axes[0].dim_value == 1:
                axes[0].dim_param = "auditor_batch"
        del graph.value_info[:]  # notes of shapes with the old batch axis
    present = {value.name for value in graph.output}
    for name in dict.fromkeys(tensors):
        if name not in present:
            graph.output.append(onnx.ValueInfoProto(name=name))
    return copy
