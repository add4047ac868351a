"""Hooks see what a torch module's activations did."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from auditor.activations.capture import CaptureOptions, Granularity, Point
from auditor.activations.onnx_capture import OnnxCapture
from auditor.activations.torch_capture import TorchCapture, state_digest
from auditor.errors import ConfigurationError, DeviceUnavailable, NothingToAudit, UnsupportedModel
from auditor.models.onnx_model import OnnxModel
from auditor.patterns.mine import mine_patterns
from tests.models.onnx_networks import dense_network
from tests.models.planted_patterns import planted_network, planted_samples


def _twin(proto_sizes: list[int]) -> tuple[nn.Module, OnnxModel]:
    """The same dense network as a torch module and as an ONNX model; ReLUs in place."""
    model = OnnxModel.from_proto(dense_network(proto_sizes))
    parts: list[nn.Module] = []
    for number in range(len(proto_sizes) - 1):
        linear = nn.Linear(proto_sizes[number], proto_sizes[number + 1])
        with torch.no_grad():
            linear.weight.copy_(torch.tensor(model.initialisers[f"w{number}"].T.copy()))
            linear.bias.copy_(torch.tensor(model.initialisers[f"b{number}"].copy()))
        parts += [linear, nn.ReLU(inplace=True)]
    return nn.Sequential(*parts[:-1]), model


@pytest.mark.parametrize("point", list(Point))
def test_hooks_and_onnxruntime_see_the_same(point: Point) -> None:
    module, model = _twin([5, 8, 6, 3])
    inputs = np.random.default_rng(0).standard_normal((11, 5)).astype(np.float32)
    options = CaptureOptions(point, batch_size=4)
    torch_batches = list(TorchCapture(module, torch.zeros(1, 5), (), options).batches(inputs))
    onnx_batches = list(OnnxCapture(model, (), options).batches(inputs))
    assert [b.start for b in torch_batches] == [b.start for b in onnx_batches] == [0, 4, 8]
    for mine, other in zip(torch_batches, onnx_batches, strict=True):
        np.testing.assert_allclose(mine.outputs, other.outputs, rtol=1e-4, atol=1e-5)
        for values, expected in zip(mine.values, other.values, strict=True):
            np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-5)


def test_an_activation_in_place_does_not_change_what_was_captured_before_it() -> None:
    module = nn.Sequential(nn.ReLU(inplace=True))
    (batch,) = TorchCapture(module, torch.zeros(1, 2)).batches(np.array([[-3.0, 2]], np.float32))
    assert batch.values[0].tolist() == [[-3.0, 2.0]]


class _Twice(nn.Module):
    """x -> relu(relu(x) - 1) with one ReLU module, called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.act(self.act(x) - 1)
        return result


def test_each_call_of_a_module_is_a_layer() -> None:
    capture = TorchCapture(_Twice(), torch.zeros(1, 2))
    assert [layer.name for layer in capture.layers] == ["act", "act#2"]
    (batch,) = capture.batches(np.array([[-3.0, 2]], np.float32))
    assert [values.tolist() for values in batch.values] == [[[-3.0, 2.0]], [[-1.0, 1.0]]]
    chosen = TorchCapture(_Twice(), torch.zeros(1, 2), ["act#2"])
    assert [layer.name for layer in chosen.layers] == ["act#2"]


def test_hooks_are_gone_afterwards() -> None:
    module, _ = _twin([5, 8, 3])
    list(TorchCapture(module, torch.zeros(1, 5)).batches(np.zeros((3, 5), np.float32)))
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in module.modules())


def test_channels_of_a_convolution() -> None:
    module = nn.Sequential(nn.Conv2d(1, 3, 2), nn.GELU(), nn.Flatten(), nn.Linear(27, 2))
    inputs = np.random.default_rng(0).standard_normal((5, 1, 4, 4)).astype(np.float32)
    units, channels = (
        next(iter(TorchCapture(
            module, torch.zeros(1, 1, 4, 4), (), CaptureOptions(granularity=granularity)
        ).batches(inputs))).values[0]
        for granularity in Granularity
    )  # fmt: skip
    assert units.shape == (5, 27)
    assert channels.tolist() == units.reshape(5, 3, 9).max(axis=2).tolist()


def test_a_torch_module_can_be_mined() -> None:
    proto = planted_network()
    model = OnnxModel.from_proto(proto)
    module = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    with torch.no_grad():
        for number, index in ((0, 0), (1, 2)):
            linear = module[index]
            assert isinstance(linear, nn.Linear)
            linear.weight.copy_(torch.tensor(model.initialisers[f"w{number}"].copy()))
            linear.bias.copy_(torch.tensor(model.initialisers[f"b{number}"].copy()))
    data = planted_samples([10, 10, 10], [9, 1, 5])
    mined = mine_patterns(TorchCapture(module, torch.zeros(1, 4)), *data, [1, 0.9])
    expected = mine_patterns(model, *data, [1, 0.9])
    assert mined.class_states(0, 0.9)["1"] == expected.class_states(0, 0.9)["relu0"]
    assert mined.model_digest == state_digest(module)


def test_the_digest_covers_every_parameter() -> None:
    module, _ = _twin([5, 8, 3])
    before = state_digest(module)
    with torch.no_grad():
        module[2].bias[1] += 1  # type: ignore[index]
    assert before.startswith("torch-state:")
    assert state_digest(module) != before


def test_what_cannot_be_captured_is_said() -> None:
    with pytest.raises(UnsupportedModel, match="no hidden activation layer"):
        TorchCapture(nn.Linear(2, 2), torch.zeros(1, 2))
    capture = TorchCapture(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), torch.zeros(1, 2))
    with pytest.raises(NothingToAudit):
        list(capture.batches(np.zeros((0, 2), np.float32)))
    with pytest.raises(ConfigurationError, match="takes one array"):
        list(capture.batches({"x": np.zeros((1, 2), np.float32)}))
    with pytest.raises(DeviceUnavailable, match="known are auto, cpu, cuda"):
        TorchCapture(nn.ReLU(), torch.zeros(1, 2), (), CaptureOptions(device="tpu"))
