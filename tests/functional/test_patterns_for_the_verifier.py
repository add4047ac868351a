"""A mined pattern, handed on as plain data, means the same to the verifier."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from auditor.activations.layers import activation_layers
from auditor.models.idx_file import read_idx
from auditor.models.onnx_model import OnnxModel
from auditor.patterns.evaluate import evaluate_patterns
from auditor.patterns.mine import mine_patterns
from auditor.patterns.pattern_set import Members
from auditor.verify.network import read_network
from auditor.verify.phases import phases_of
from auditor.verify.property import Pattern
from tests.models.onnx_networks import conv_network, dense_network, strided_network
from tests.models.planted_patterns import planted_network, planted_samples

DATA = Path(__file__).parents[2].parent / "shared" / "data"
Array = NDArray[Any]


def _assert_same_meaning(model: OnnxModel, inputs: Array, labels: Array, delta: float) -> int:
    """Every counted sample's states, computed by the verifier's network in float64, show in the
    share delta what the pattern fixes. Neurons closer to 0 than rounding are left out."""
    network = read_network(model.proto)
    mined = mine_patterns(model, inputs, labels, [delta], members=Members.LABEL)
    flat = inputs.reshape(len(inputs), -1)
    fixed = 0
    for label in np.flatnonzero(mined.totals):
        pattern = Pattern.of(mined.class_states(int(label), delta))
        fixed += pattern.count
        phases = phases_of(pattern, network)
        values = network.preactivations(flat[labels == label])
        for phase, before in zip(phases, values, strict=True):
            for sign in (1, -1):
                chosen = before[:, np.flatnonzero(phase == sign)] if phase.size else before[:, :0]
                shares = (chosen * sign > -1e-4).mean(axis=0)
                assert (shares >= delta - 1e-12).all()
    return fixed


@pytest.mark.parametrize("delta", [1.0, 0.9, 0.6])
@pytest.mark.parametrize(
    "proto",
    [conv_network(), conv_network(batch_norm=True), strided_network(),
     dense_network([6, 20, 15, 4]), dense_network([6, 20, 4], activation="LeakyRelu")],
    ids=["conv", "batch-norm", "strided", "dense", "leaky"],
)  # fmt: skip
def test_states_hold_in_the_verifiers_network(proto: onnx.ModelProto, delta: float) -> None:
    model = OnnxModel.from_proto(proto)
    shape = [axis.dim_value for axis in proto.graph.input[0].type.tensor_type.shape.dim][1:]
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((60, *shape)).astype(np.float32)
    labels = rng.integers(0, 3, 60)
    assert _assert_same_meaning(model, inputs, labels, delta) > 0


def test_the_planted_pattern_is_the_verifiers() -> None:
    model = OnnxModel.from_proto(planted_network())
    mined = mine_patterns(model, *planted_samples([10, 10, 10], [9, 1, 5]), [0.9])
    phases = phases_of(Pattern.of(mined.class_states(0, 0.9)), read_network(model.proto))
    assert phases[0].tolist() == [1, -1, -1, 1, -1, 1]


@pytest.mark.parametrize("name", ["mnist-net_256x2", "mnist-net_256x4"])
def test_mnist_patterns_hold_in_the_verifiers_network(name: str) -> None:
    path = DATA / "vnncomp" / "mnist_fc" / "onnx" / f"{name}.onnx.gz"
    images = DATA / "mnist" / "t10k-images-idx3-ubyte.gz"
    if not path.is_file() or not images.is_file():
        pytest.skip(f"{path} or {images} is not there")
    model = OnnxModel.open(path)
    network = read_network(model.proto)
    layers = activation_layers(model.proto.graph)
    assert [layer.name for layer in layers] == [layer.name for layer in network.relu_layers]
    pixels = read_idx(images)[:1000].reshape(1000, -1).astype(np.float32) / np.float32(255)
    labels = read_idx(DATA / "mnist" / "t10k-labels-idx1-ubyte.gz")[:1000]
    assert _assert_same_meaning(model, pixels, labels, 0.99) > 1000


@pytest.mark.parametrize(
    ("name", "fixed", "recall", "in_wrong", "conflicts"),
    [
        ("mnist-net_256x2", [0.652, 0.843, 0.932, 0.956], [0.972, 0.829, 0.590, 0.460],
         [61, 6, 0, 0], [15, 43, 45, 45]),
        ("mnist-net_256x4", [0.568, 0.694, 0.819, 0.874], [0.958, 0.777, 0.325, 0.094],
         [27, 3, 1, 0], [26, 45, 45, 45]),
    ],
)  # fmt: skip
def test_mnist_figures_are_those_measured_by_others(
    name: str, fixed: list[float], recall: list[float], in_wrong: list[int], conflicts: list[int]
) -> None:
    """Mined on 8,000 images, tested on 2,000: a table that another program made."""
    path = DATA / "vnncomp" / "mnist_fc" / "onnx" / f"{name}.onnx.gz"
    images = DATA / "mnist" / "t10k-images-idx3-ubyte.gz"
    if not path.is_file() or not images.is_file():
        pytest.skip(f"{path} or {images} is not there")
    model = OnnxModel.open(path)
    pixels = read_idx(images).reshape(10_000, -1).astype(np.float32) / np.float32(255)
    labels = read_idx(DATA / "mnist" / "t10k-labels-idx1-ubyte.gz")
    mined = mine_patterns(model, pixels[:8000], labels[:8000], [1, 0.99, 0.95, 0.9])
    found = evaluate_patterns(mined, model, pixels[8000:], labels[8000:])
    shares = mined.fixed.mean(axis=1) / mined.num_neurons
    assert shares.tolist() == pytest.approx(fixed, abs=5e-4)
    measured = [each.total_recall.value for each in found]
    assert measured == pytest.approx(recall, abs=1e-3)
    assert [each.in_wrong for each in found] == in_wrong
    assert [each.conflicts for each in found] == conflicts


def test_idx_files_are_read_as_they_are_unpacked(tmp_path: Path) -> None:
    path = DATA / "mnist" / "t10k-labels-idx1-ubyte.gz"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    plain = tmp_path / "labels-idx1-ubyte"
    plain.write_bytes(gzip.decompress(path.read_bytes()))
    labels = read_idx(path)
    assert labels.shape == (10_000,)
    assert labels.tolist() == read_idx(plain).tolist()
    assert np.bincount(labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
