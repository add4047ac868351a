"""The functional digest: equal for one function saved in many ways, else different."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn

from auditor.errors import UnsupportedModel, UnsupportedOperator
from auditor.models.functional_digest import (
    compare_functions,
    compute_functional_digest,
    digest_of_outputs,
)
from auditor.models.onnx_model import OnnxModel
from tests.models.onnx_networks import conv_network, dense_network, make_model, write_model
from tests.models.resaved import RESAVES, optimise_with_onnxruntime


def _digest(proto: onnx.ModelProto) -> str:
    return compute_functional_digest(OnnxModel.from_proto(proto))


def _network(seed: int) -> onnx.ModelProto:
    """Random dense networks of up to eight layers, every fourth a convolutional one."""
    rng = np.random.default_rng(seed)
    if seed % 4 == 3:
        return conv_network(seed)
    hidden = [int(size) for size in rng.integers(3, 120, size=int(rng.integers(1, 7)))]
    sizes = [int(rng.integers(2, 80)), *hidden, int(rng.integers(1, 12))]
    return dense_network(sizes, seed, activation=("Relu", "Tanh", "Sigmoid")[seed % 4])


@pytest.mark.parametrize("way", sorted(RESAVES))
@pytest.mark.parametrize("seed", range(4))
def test_a_model_saved_again_keeps_its_digest(way: str, seed: int, tmp_path: Path) -> None:
    proto = _network(seed)
    assert _digest(RESAVES[way](proto, tmp_path)) == _digest(proto)


@pytest.mark.parametrize(
    ("operator", "written"), [("LeakyRelu", {"alpha": 0.01}), ("HardSigmoid", {"alpha": 0.2})]
)
def test_a_default_written_out_keeps_the_digest(operator: str, written: dict[str, float]) -> None:
    """Attributes are float32, and so are their defaults."""
    short = dense_network([3, 4, 2], 5, activation=operator)
    long = dense_network([3, 4, 2], 5, activation=operator)
    for node in long.graph.node:
        if node.op_type == operator:
            del node.attribute[:]
            node.attribute.extend(helper.make_attribute(k, v) for k, v in written.items())
    for node in short.graph.node:
        if node.op_type == operator:
            del node.attribute[:]
    assert _digest(short) == _digest(long)


def test_external_data_and_compression_keep_the_digest(tmp_path: Path) -> None:
    proto = dense_network([30, 40, 5])
    onnx.save(
        proto, tmp_path / "m.onnx", save_as_external_data=True, location="w", size_threshold=0
    )
    (tmp_path / "m.gz").write_bytes(gzip.compress(proto.SerializeToString()))
    found = {
        compute_functional_digest(OnnxModel.open(tmp_path / name)) for name in ("m.onnx", "m.gz")
    }
    assert found == {_digest(dense_network([30, 40, 5]))}


def test_fused_operators_are_really_part_of_the_comparison(tmp_path: Path) -> None:
    fused = [optimise_with_onnxruntime(proto, tmp_path) for proto in (_network(0), _network(3))]
    operators = {node.op_type for model in fused for node in model.graph.node}
    assert {"FusedGemm", "FusedConv"} <= operators


@pytest.mark.parametrize("activation", ["Elu", "LeakyRelu", "HardSigmoid", "Softplus", "Sigmoid"])
def test_every_activation_that_is_fused_is_expressed(activation: str, tmp_path: Path) -> None:
    proto = dense_network([5, 6, 3], activation=activation)
    for node in proto.graph.node:
        if node.op_type in ("Elu", "LeakyRelu", "HardSigmoid"):
            node.attribute.append(helper.make_attribute("alpha", 0.3))
    assert _digest(optimise_with_onnxruntime(proto, tmp_path)) == _digest(proto)


@pytest.mark.slow
def test_six_ways_of_saving_200_networks_change_no_digest(tmp_path: Path) -> None:
    digests = set()
    for seed in range(200):
        proto = _network(seed)
        digest = _digest(proto)
        digests.add(digest)
        assert {_digest(way(proto, tmp_path)) for way in RESAVES.values()} == {digest}, seed
    assert len(digests) == 200


def _trained(seed: int, epochs: int, pixels: torch.Tensor, digits: torch.Tensor) -> nn.Sequential:
    torch.manual_seed(seed)
    width = 8 + 7 * (seed % 8)
    network = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(epochs):
        for part in torch.tensor_split(torch.randperm(len(pixels)), 8):
            optimiser.zero_grad()
            nn.functional.cross_entropy(network(pixels[part]), digits[part]).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    return network


def _exported(network: nn.Sequential) -> onnx.ModelProto:
    layers = [layer for layer in network if isinstance(layer, nn.Linear)]
    proto = dense_network([layers[0].in_features, *(layer.out_features for layer in layers)])
    for index, layer in enumerate(layers):
        weights = {f"w{index}": layer.weight.T, f"b{index}": layer.bias}
        for tensor in proto.graph.initializer:
            if tensor.name in weights:
                values = weights[tensor.name].detach().contiguous().numpy()
                tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return proto


def _step_changes_digest(seed: int, epochs: int) -> bool:
    """Whether one SGD step with rate 1e-3 on 32 digits changes the digest."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    pixels, digits = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
    network = _trained(seed, epochs, pixels, digits)
    before = _digest(_exported(network))
    batch = torch.randperm(len(pixels))[:32]
    network.zero_grad()
    nn.functional.cross_entropy(network(pixels[batch]), digits[batch]).backward()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        for parameter in network.parameters():
            assert parameter.grad is not None
            parameter.sub_(1e-3 * parameter.grad)
    return before != _digest(_exported(network))


@pytest.mark.parametrize("epochs", [0, 10])
def test_one_training_step_changes_the_digest(epochs: int) -> None:
    assert _step_changes_digest(1, epochs)


@pytest.mark.slow
def test_one_training_step_changes_the_digest_of_200_networks() -> None:
    changed = [_step_changes_digest(seed, (0, 3, 20, 60)[seed % 4]) for seed in range(200)]
    assert sum(changed) == 200


def test_folding_a_batch_norm_is_another_function_within_float32_rounding(tmp_path: Path) -> None:
    original = OnnxModel.from_proto(conv_network(batch_norm=True))
    folded = OnnxModel.from_proto(optimise_with_onnxruntime(original.proto, tmp_path))
    comparison = compare_functions(original, folded)
    assert 0 < comparison.relative < 1e-6


def test_a_model_equals_itself() -> None:
    model = OnnxModel.from_proto(dense_network([5, 4, 3]))
    comparison = compare_functions(model, model)
    assert (comparison.absolute, comparison.relative) == (0.0, 0.0)


def _scaled(factor: float) -> OnnxModel:
    node = helper.make_node("Mul", ["x", "w"], ["y"])
    weights = {"w": np.array([[factor]], np.float32)}
    return OnnxModel.from_proto(make_model([node], {"x": [1, 1]}, {"y": [1, 1]}, weights))


def test_a_planted_difference_is_measured() -> None:
    # y = x against y = 1.25 x: a fifth of the larger output at every probe but zero.
    assert compare_functions(_scaled(1.0), _scaled(1.25)).relative == pytest.approx(0.2)


def test_models_with_other_inputs_are_not_compared() -> None:
    with pytest.raises(UnsupportedModel, match="different inputs"):
        compare_functions(_scaled(1.0), OnnxModel.from_proto(dense_network([5, 1])))


def test_an_operator_that_is_not_supported_is_named() -> None:
    node = helper.make_node("Einsum", ["x"], ["y"], "here", equation="ij->ij")
    with pytest.raises(UnsupportedOperator, match="here"):
        _digest(make_model([node], {"x": [1, 2]}, {"y": [1, 2]}))


@pytest.mark.parametrize("noise", [1e-13, -1e-13])
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0, 1 / 3, -1.0, 2.0**-20, 1e6])
def test_round_numbers_lie_away_from_the_borders_of_the_grid(value: float, noise: float) -> None:
    outputs = [np.array([value, 1e6])]
    moved = [np.array([value * (1 + noise) + noise, 1e6])]
    assert digest_of_outputs([outputs]) == digest_of_outputs([moved])


def test_nan_and_both_infinities_are_told_apart() -> None:
    kinds = [np.nan, np.inf, -np.inf, 0.0]
    assert len({digest_of_outputs([[np.array([kind, 1.0])]]) for kind in kinds}) == 4


def test_large_outputs_are_sampled_from_end_to_end(tmp_path: Path) -> None:
    values = np.zeros(1000)
    values[0] = 1.0
    changed = values.copy()
    changed[-16:] = 1.0
    assert digest_of_outputs([[values]]) != digest_of_outputs([[changed]])


def test_a_model_read_from_a_file_has_the_digest_of_its_graph(tmp_path: Path) -> None:
    proto = dense_network([3, 2])
    model = OnnxModel.open(write_model(tmp_path, proto))
    assert compute_functional_digest(model) == _digest(proto)
