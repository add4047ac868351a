"""A model loaded into onnxruntime, with the providers that are really in use.

Providers are always passed explicitly and read back: onnxruntime goes on without a
provider it cannot start, and only says so on standard error.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from auditor.errors import DeviceUnavailable, UnsupportedModel

if TYPE_CHECKING:
    from auditor.models.onnx_model import OnnxModel, TensorSpec

Array = NDArray[Any]

_CPU: Final = "CPUExecutionProvider"
_CUDA: Final = "CUDAExecutionProvider"
# TF32 rounds the factors of matrix products to 10 bits; the audited numbers are float32.
_CUDA_OPTIONS: Final = {"use_tf32": "0"}
_FAILURES: Final = (
    ort_errors.EPFail,
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)


class Session:
    """One onnxruntime session of one model.

    Attributes:
        device: `cpu` or `cuda`.
        optimised: Whether graph optimisations are on.
        providers_in_use: Execution providers read back from onnxruntime, in order.
    """

    def __init__(self, model: OnnxModel, inner: Any, device: str, *, optimised: bool) -> None:
        self._inner = inner
        self.inputs, self.outputs = model.inputs, model.outputs
        self.device, self.optimised = device, optimised
        self.providers_in_use: tuple[str, ...] = tuple(inner.get_providers())

    @staticmethod
    def create(
        model: OnnxModel, device: str = "cpu", *, optimised: bool = True, threads: int = 1
    ) -> Session:
        """Load a model.

        Args:
            model: The model.
            device: `cpu`, `cuda`, or `auto` for CUDA where it works.
            optimised: All graph optimisations, or none.
            threads: Threads inside one operator.

        Raises:
            DeviceUnavailable: CUDA was asked for and is not in use.
            UnsupportedModel: onnxruntime cannot load the model.
        """
        device = resolve_device(device)
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 3 if device == "cpu" else 4
        levels = ort.GraphOptimizationLevel
        options.graph_optimization_level = (
            levels.ORT_ENABLE_ALL if optimised else levels.ORT_DISABLE_ALL
        )
        providers = [(_CUDA, _CUDA_OPTIONS)] if device == "cuda" else []
        try:
            inner = ort.InferenceSession(
                model.proto.SerializeToString(), options, providers=[*providers, _CPU]
            )
        except (*_FAILURES, ValueError) as error:
            raise UnsupportedModel(
                f"onnxruntime cannot load the model: {_first_line(error)}",
                place=str(model.path),
                way_out="export it for a lower opset or with standard operators",
            ) from error
        session = Session(model, inner, device, optimised=optimised)
        if device == "cuda" and session.providers_in_use[:1] != (_CUDA,):
            raise DeviceUnavailable("cuda", f"in use are {', '.join(session.providers_in_use)}")
        return session

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name.

        A model whose batch axis is fixed at 1 is run once per sample when every
        input brings more than one; the results are joined along the first axis.

        Raises:
            UnsupportedModel: An input is missing, unknown, or of the wrong shape, or
                onnxruntime fails.
        """
        feeds = {spec.name: self._prepare(spec, inputs) for spec in self.inputs}
        unknown = sorted(set(inputs) - set(feeds))
        if unknown:
            raise UnsupportedModel(f"the model has no input {unknown[0]!r}")
        samples = self._samples_to_loop_over(feeds)
        if samples is None:
            return self._run_once(feeds)
        runs = [
            self._run_once({name: value[i : i + 1] for name, value in feeds.items()})
            for i in range(samples)
        ]
        return {spec.name: _join([run[spec.name] for run in runs]) for spec in self.outputs}

    def run_bound(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs of one batch by name, through an IO binding.

        Outputs are made on the session's device and brought back together at the end, so
        that nothing waits for a copy between operators.

        Raises:
            UnsupportedModel: As for `run`.
        """
        feeds = {spec.name: self._prepare(spec, inputs) for spec in self.inputs}
        binding = self._inner.io_binding()
        names = [spec.name for spec in self.outputs]
        try:
            for name, value in feeds.items():
                binding.bind_cpu_input(name, value)
            for name in names:
                binding.bind_output(name, self.device)
            self._inner.run_with_iobinding(binding)
            values = binding.copy_outputs_to_cpu()
        except _FAILURES as error:
            raise UnsupportedModel(f"onnxruntime failed: {_first_line(error)}") from error
        return dict(zip(names, values, strict=True))

    def run_flat(self, x: Array) -> Array:
        """The output of one flat sample: [n] in, [m] out, for one input and one output."""
        row: Array = self.run_rows(np.asarray(x).reshape(1, -1))[0]
        return row

    def run_rows(self, rows: Array) -> Array:
        """Flat samples in, flat outputs out: [samples, n] to [samples, m].

        Raises:
            UnsupportedModel: More than one input or output, or n is another size.
        """
        if len(self.inputs) != 1 or len(self.outputs) != 1:
            raise UnsupportedModel(
                f"{len(self.inputs)} inputs and {len(self.outputs)} outputs",
                way_out="flat rows need exactly one of each; use run() with names",
            )
        spec = self.inputs[0]
        rows = np.asarray(rows)
        if rows.ndim != 2 or rows.shape[1] != spec.size:
            raise UnsupportedModel(
                f"rows of shape {list(rows.shape)} for input '{spec.name}' of {spec.size} values"
            )
        shape = tuple(axis or 1 for axis in spec.shape)
        if spec.shape and spec.shape[0] in (1, None):
            outputs = self.run({spec.name: rows.reshape(len(rows), *shape[1:])})
            return np.asarray(outputs[self.outputs[0].name]).reshape(len(rows), -1)
        single = [self.run({spec.name: row.reshape(shape)}) for row in rows]
        return np.stack([outputs[self.outputs[0].name].reshape(-1) for outputs in single])

    def _prepare(self, spec: TensorSpec, inputs: Mapping[str, Array]) -> Array:
        if spec.name not in inputs:
            raise UnsupportedModel(f"no value for input '{spec.name}'")
        value = np.asarray(inputs[spec.name])
        fits = value.ndim == len(spec.shape) and all(
            expected in (None, actual) or (axis == 0 and expected == 1)
            for axis, (expected, actual) in enumerate(zip(spec.shape, value.shape, strict=True))
        )
        if not fits:
            raise UnsupportedModel(
                f"shape {list(value.shape)} for input '{spec.name}' of shape {list(spec.shape)}"
            )
        if not np.can_cast(value.dtype, spec.dtype, casting="same_kind"):
            raise UnsupportedModel(f"{value.dtype} for input '{spec.name}' of {spec.dtype}")
        return np.ascontiguousarray(value, dtype=spec.dtype)

    def _samples_to_loop_over(self, feeds: Mapping[str, Array]) -> int | None:
        fixed = [feeds[s.name].shape[0] for s in self.inputs if s.shape and s.shape[0] == 1]
        if not fixed or max(fixed) == 1 == min(fixed):
            return None
        sizes = {value.shape[0] if value.ndim else 0 for value in feeds.values()}
        if len(sizes) != 1 or sizes == {0}:
            raise UnsupportedModel(f"inputs bring different or no samples: {sorted(sizes)}")
        return sizes.pop()

    def _run_once(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        names = [spec.name for spec in self.outputs]
        try:
            values = self._inner.run(names, dict(feeds))
        except _FAILURES as error:
            raise UnsupportedModel(f"onnxruntime failed: {_first_line(error)}") from error
        return dict(zip(names, values, strict=True))


def resolve_device(device: str) -> str:
    """`cpu` or `cuda`; `auto` becomes CUDA where onnxruntime really runs on it.

    Raises:
        DeviceUnavailable: CUDA was asked for and does not work, or the name is unknown.
    """
    if device == "cpu":
        return "cpu"
    if device == "auto":
        return "cuda" if cuda_works() else "cpu"
    if device != "cuda":
        raise DeviceUnavailable(device, "known are auto, cpu, cuda")
    if not cuda_works():
        raise DeviceUnavailable("cuda", "onnxruntime cannot start its CUDA provider here")
    return "cuda"


@cache
def cuda_works() -> bool:
    """Whether onnxruntime runs a one-node model on CUDA in this process."""
    import torch  # its wheel brings the CUDA libraries that onnxruntime needs

    if _CUDA not in ort.get_available_providers() or not torch.cuda.is_available():
        return False
    if hasattr(ort, "preload_dlls"):
        ort.preload_dlls()
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["y"])], "probe", value[:1], value[1:]
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        inner = ort.InferenceSession(
            proto.SerializeToString(), options, providers=[(_CUDA, _CUDA_OPTIONS), _CPU]
        )
        return bool(inner.get_providers()[0] == _CUDA)
    except _FAILURES:
        return False


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _join(parts: list[Array]) -> Array:
    first = parts[0]
    return np.concatenate(parts) if first.ndim and first.shape[0] == 1 else np.stack(parts)
