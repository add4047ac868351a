"""Capturing the activations of any torch module through hooks.

Activation functions called as modules (`torch.nn.ReLU` and its like) are found; those
called as plain functions inside a `forward` are not seen by hooks. A module that is
called several times in one run gives one layer for each call.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from auditor.activations.capture import (
    Batch,
    CaptureOptions,
    Inputs,
    Point,
    count_samples,
    flatten_values,
    refuse_nan,
    refuse_non_finite,
)
from auditor.activations.layers import ActivationLayer, choose_layers
from auditor.errors import ConfigurationError, DeviceUnavailable, UnsupportedModel

# torch's class: ONNX's operator.
ACTIVATION_MODULES: Final[dict[type[nn.Module], str]] = {
    nn.ReLU: "Relu", nn.LeakyReLU: "LeakyRelu", nn.PReLU: "PRelu", nn.ReLU6: "Clip",
    nn.Hardtanh: "Clip", nn.ELU: "Elu", nn.CELU: "Celu", nn.SELU: "Selu", nn.GELU: "Gelu",
    nn.SiLU: "Swish", nn.Hardswish: "HardSwish", nn.Mish: "Mish", nn.Sigmoid: "Sigmoid",
    nn.Hardsigmoid: "HardSigmoid", nn.Softplus: "Softplus", nn.Softsign: "Softsign",
    nn.Tanh: "Tanh",
}  # fmt: skip


class TorchCapture:
    """A torch module with hooks at its activation modules.

    Attributes:
        layers: What is captured, in the order of the calls.
        options: How.
        digest: `torch-state:<hex>`, SHA-256 of the parameters and buffers with their names.
    """

    def __init__(
        self,
        module: nn.Module,
        sample: Tensor,
        layers: Sequence[int | str] = (),
        options: CaptureOptions | None = None,
    ) -> None:
        """Look at one run of the module to see which activations it calls.

        Args:
            module: Takes one tensor and returns one. It is put into evaluation mode and
                on the device of the options.
            sample: Inputs to run once, [samples, ...].
            layers: Names of modules (`name#2` for a second call), or positions; all if empty.
            options: See `CaptureOptions`; threads are torch's own setting.

        Raises:
            UnknownName: There is no such layer.
            UnsupportedModel: No activation module is called.
            DeviceUnavailable: CUDA was asked for and is not there.
        """
        self.options = options or CaptureOptions()
        self._device = _device(self.options.device)
        self._module = module.eval().to(self._device)
        self._input_dtype = sample.dtype
        seen: list[ActivationLayer] = []
        with self._hooked(lambda layer, value: seen.append(layer), frozenset()):
            self._call(sample)
        self.layers: tuple[ActivationLayer, ...] = choose_layers(seen, layers)
        self.digest = state_digest(module)

    def batches(self, inputs: Inputs) -> Iterator[Batch]:
        """Run all samples in order; see `auditor.activations.capture.Capture`.

        Args:
            inputs: [samples, ...] as the module takes them.

        Raises:
            NothingToAudit: There is no sample.
            ConfigurationError: A number is NaN or infinite, or several inputs are given.
            UnsupportedModel: A layer has no entry per sample, or is not called every time.
        """
        if isinstance(inputs, Mapping):
            raise ConfigurationError("a torch module takes one array, not inputs by name")
        total = count_samples({"input": inputs})
        wanted = frozenset(layer.name for layer in self.layers)
        for start in range(0, total, self.options.batch_size):
            block = np.asarray(inputs[start : start + self.options.batch_size])
            refuse_non_finite("input", block, start)
            found: dict[str, np.ndarray[Any, Any]] = {}
            with self._hooked(lambda layer, value, kept=found: kept.update({layer.name: value}),
                              wanted):  # fmt: skip
                outputs = self._call(torch.from_numpy(np.array(block)).to(self._input_dtype))
            values = []
            for layer in self.layers:
                if layer.name not in found:
                    raise UnsupportedModel("not called on every run", place=f"layer '{layer.name}'")
                flat = flatten_values(
                    layer.name, found[layer.name], len(block), self.options.granularity
                )
                refuse_nan(layer.name, flat, start)
                values.append(flat)
            yield Batch(start, _to_numpy(outputs).reshape(len(block), -1), tuple(values))

    def _call(self, inputs: Tensor) -> Tensor:
        with torch.no_grad():
            outputs = self._module(inputs.to(self._device))
        if not isinstance(outputs, Tensor):
            raise UnsupportedModel(
                f"the module returns a {type(outputs).__name__}",
                way_out="wrap it to return a tensor",
            )
        return outputs

    @contextmanager
    def _hooked(self, keep: Any, wanted: frozenset[str]) -> Iterator[None]:
        """Hooks that hand the wanted layers, or all, to `keep`; they are gone afterwards."""
        calls: dict[str, int] = {}

        def note(name: str, operator: str, value: Tensor) -> None:
            calls[name] = calls.get(name, 0) + 1
            label = name if calls[name] == 1 else f"{name}#{calls[name]}"
            if not wanted or label in wanted:
                keep(ActivationLayer(label, operator, label, label), _to_numpy(value))

        with ExitStack() as hooks:
            for name, module in self._module.named_modules():
                operator = ACTIVATION_MODULES.get(type(module))
                if operator is not None:
                    handle = _attach(module, name or "module", operator, note, self.options.point)
                    hooks.callback(handle.remove)
            yield


def _attach(module: nn.Module, name: str, operator: str, note: Any, point: Point) -> Any:
    if point is Point.BEFORE:
        return module.register_forward_pre_hook(
            lambda _, arguments: note(name, operator, arguments[0])
        )
    return module.register_forward_hook(lambda _, __, output: note(name, operator, output))


def state_digest(module: nn.Module) -> str:
    """`torch-state:<hex>` of a module's parameters and buffers; its code is not covered."""
    hasher = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        array = tensor.detach().cpu().contiguous()
        hasher.update(f"\n{name} {array.dtype} {list(array.shape)}\n".encode())
        hasher.update(array.reshape(-1).view(torch.uint8).numpy().tobytes())
    return f"torch-state:{hasher.hexdigest()}"


def _to_numpy(value: Tensor) -> np.ndarray[Any, Any]:
    """A copy on the CPU: activations in place change their input after the hook."""
    tensor = value.detach()
    tensor = tensor.float() if tensor.dtype is torch.bfloat16 else tensor
    return np.array(tensor.cpu().numpy())


def _device(device: str) -> str:
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device not in ("cpu", "cuda"):
        raise DeviceUnavailable(device, "known are auto, cpu, cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceUnavailable("cuda", "torch finds no CUDA device")
    return device
