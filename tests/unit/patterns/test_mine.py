"""Mining finds what was planted, streams, and says what it cannot do."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from auditor.activations.capture import CaptureOptions, Granularity, Point
from auditor.activations.onnx_capture import OnnxCapture
from auditor.errors import ConfigurationError, NothingToAudit, UnknownName, UnsupportedModel
from auditor.models.onnx_model import OnnxModel
from auditor.patterns import mine
from auditor.patterns.mine import mine_patterns
from auditor.patterns.pattern_set import Members
from tests.models.onnx_networks import conv_network, dense_network, make_model
from tests.models.planted_patterns import ALWAYS, COIN, DEAD, planted_network, planted_samples

PLANTED = OnnxModel.from_proto(planted_network())


def test_the_planted_pattern_is_found_exactly() -> None:
    """Own neuron and the constant one active, the others and the dead one inactive; the coin
    of class 0 falls 9 to 1, of class 1 1 to 9, of class 2 5 to 5."""
    inputs, labels = planted_samples([10, 10, 10], [9, 1, 5])
    found = mine_patterns(PLANTED, inputs, labels, [1, 0.9])
    assert found.class_states(0, 1) == {"relu0": ((0, ALWAYS), (1, 2, DEAD))}
    assert found.class_states(0, 0.9) == {"relu0": ((0, ALWAYS, COIN), (1, 2, DEAD))}
    assert found.class_states(1, 0.9) == {"relu0": ((1, ALWAYS), (0, 2, DEAD, COIN))}
    assert found.class_states(2, 0.9) == {"relu0": ((2, ALWAYS), (0, 1, DEAD))}
    assert found.constant_neurons == (1, 1)
    assert found.fixed.tolist() == [[5, 5, 5], [6, 6, 5]]
    assert found.totals.tolist() == [10, 10, 10]


def test_exactly_zero_is_inactive() -> None:
    inputs = np.array([[1.0, 0, 0, 0.0], [0, 1.0, 0, 0.0], [0, 0, 1.0, 0.0]], np.float32)
    found = mine_patterns(PLANTED, inputs, [0, 1, 2], [1])
    assert COIN in found.class_states(0, 1)["relu0"][1]


@pytest.mark.parametrize("batch_size", [1, 7, 30, 1000])
def test_the_batch_size_does_not_matter(batch_size: int) -> None:
    inputs, labels = planted_samples([10, 10, 10], [9, 1, 5])
    order = np.random.default_rng(0).permutation(30)
    options = CaptureOptions(batch_size=batch_size)
    found = mine_patterns(PLANTED, inputs[order], labels[order], [0.9], options=options)
    whole = mine_patterns(PLANTED, inputs, labels, [0.9])
    assert found.layers[0].counts.tolist() == whole.layers[0].counts.tolist()


def test_who_counts_can_be_chosen() -> None:
    """Two samples of class 0 bear the label 1."""
    inputs, labels = planted_samples([4, 4, 4], [4, 4, 4])
    labels[:2] = 1
    totals = {
        members: mine_patterns(PLANTED, inputs, labels, [1], members=members).totals.tolist()
        for members in Members
    }
    assert totals == {
        Members.CORRECT: [2, 4, 4],
        Members.LABEL: [2, 6, 4],
        Members.PREDICTION: [4, 4, 4],
    }


def test_a_class_without_samples_has_no_pattern() -> None:
    inputs, labels = planted_samples([3, 0, 3], [3, 0, 3])
    found = mine_patterns(PLANTED, inputs, labels, [1])
    assert found.totals.tolist() == [3, 0, 3]
    assert found.fixed.tolist() == [[6, 0, 6]]
    with pytest.raises(ConfigurationError, match="class 1 has no pattern: no sample counted"):
        found.class_states(1, 1)
    with pytest.raises(ConfigurationError, match="class 3; the model has the classes 0 to 2"):
        found.class_states(3, 1)
    with pytest.raises(ConfigurationError, match=r"no pattern for delta 0.7; there are 1.0"):
        found.class_states(0, 0.7)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, 3], "label 3 of sample 2; the model has the classes 0 to 2"),
        ([0, -1, 1], "label -1 of sample 1"),
        ([0, 1], "2 labels for more samples"),
        ([0, 1, 2, 0], "4 labels for 3 samples"),
        ([0.0, 1.0, 2.0], "labels of type float64"),
        ([[0, 1, 2]], r"shape \[1, 3\]"),
    ],
)
def test_wrong_labels_are_named(labels: list[int], message: str) -> None:
    inputs, _ = planted_samples([1, 1, 1], [0, 0, 0])
    with pytest.raises(ConfigurationError, match=message):
        mine_patterns(PLANTED, inputs, labels, [1])


def test_wrong_labels_are_named_by_their_number_in_the_whole_data() -> None:
    inputs, labels = planted_samples([5, 5, 5], [0, 0, 0])
    labels[13] = 9
    with pytest.raises(ConfigurationError, match="label 9 of sample 13"):
        mine_patterns(PLANTED, inputs, labels, [1], options=CaptureOptions(batch_size=4))


def test_no_samples_and_none_that_count_are_nothing_to_audit() -> None:
    with pytest.raises(NothingToAudit, match="no samples to run the model on"):
        mine_patterns(PLANTED, np.zeros((0, 4), np.float32), [], [1])
    inputs, labels = planted_samples([2, 2, 0], [0, 0, 0])
    with pytest.raises(NothingToAudit, match="none of 4 samples counts as correct"):
        mine_patterns(PLANTED, inputs, 1 - labels, [1])


def test_no_delta_is_refused() -> None:
    inputs, labels = planted_samples([1, 1, 1], [0, 0, 0])
    with pytest.raises(ConfigurationError, match="no delta"):
        mine_patterns(PLANTED, inputs, labels, [])


def test_a_network_without_hidden_layers_is_refused() -> None:
    model = OnnxModel.from_proto(dense_network([4, 3]))
    with pytest.raises(UnsupportedModel, match="no hidden activation layer"):
        mine_patterns(model, np.ones((2, 4), np.float32), [0, 1], [1])


def test_a_single_output_has_no_classes() -> None:
    model = OnnxModel.from_proto(dense_network([4, 5, 1]))
    with pytest.raises(UnsupportedModel, match="1 value per sample, so there are no classes"):
        mine_patterns(model, np.ones((2, 4), np.float32), [0, 0], [1])


def test_inputs_that_are_no_numbers_are_named() -> None:
    inputs, labels = planted_samples([2, 2, 2], [0, 0, 0])
    inputs[4, 1] = np.nan
    with pytest.raises(ConfigurationError, match="sample 4 of input 'x' holds nan"):
        mine_patterns(PLANTED, inputs, labels, [1], options=CaptureOptions(batch_size=3))


def test_a_layer_that_computes_nan_is_named() -> None:
    """3e38 + 3e38 overflows to infinity, and infinity times 0 is no number."""
    nodes = [
        helper.make_node("Add", ["x", "x"], ["big"], "double"),
        helper.make_node("Mul", ["big", "zero"], ["z"], "times"),
        helper.make_node("Relu", ["z"], ["y"], "relu"),
    ]
    weights = {"zero": np.zeros(2, np.float32)}
    proto = make_model(nodes, {"x": ["n", 2]}, {"y": ["n", 2]}, weights)
    inputs = np.array([[1.0, 2.0], [1.0, 3e38]], np.float32)
    with pytest.raises(UnsupportedModel, match="layer 'relu': sample 1 makes neuron 1 NaN"):
        mine_patterns(OnnxModel.from_proto(proto), inputs, [0, 1], [1])


def test_a_float16_model_gives_the_states_of_its_float16_values() -> None:
    model = OnnxModel.from_proto(_in_float16(planted_network()))
    inputs, labels = planted_samples([10, 10, 10], [9, 1, 5])
    found = mine_patterns(model, inputs, labels, [0.9])
    expected = mine_patterns(PLANTED, inputs, labels, [0.9])
    assert found.layers[0].counts.tolist() == expected.layers[0].counts.tolist()
    assert found.class_states(0, 0.9) == expected.class_states(0, 0.9)


def test_activations_without_a_sign_get_a_threshold_for_each_neuron() -> None:
    """A sigmoid's states split at the median of the values before it."""
    proto = planted_network()
    proto.graph.node[1].op_type = "Sigmoid"
    model = OnnxModel.from_proto(proto)
    inputs, labels = planted_samples([10, 10, 10], [10, 0, 5])
    found = mine_patterns(model, inputs, labels, [1], threshold_quantile=0.5)
    (layer,) = found.layers
    assert layer.thresholds is not None
    assert layer.thresholds[:3].tolist() == [-0.5, -0.5, -0.5]
    assert layer.counts[:, :3].tolist() == [[10, 0, 0], [0, 10, 0], [0, 0, 10]]
    with pytest.raises(UnsupportedModel, match="layer 'relu0': Sigmoid has no two linear pieces"):
        found.class_states(0, 1)


def test_layers_are_chosen_by_name_or_position() -> None:
    model = OnnxModel.from_proto(dense_network([4, 5, 6, 3]))
    inputs = np.random.default_rng(0).standard_normal((20, 4)).astype(np.float32)
    labels = np.zeros(20, np.int64)
    for wanted in (["act1"], [1]):
        found = mine_patterns(model, inputs, labels, [1], layers=wanted, members=Members.LABEL)
        assert [(layer.name, layer.neurons) for layer in found.layers] == [("act1", 6)]
    with pytest.raises(UnknownName, match="unknown layer 'act7'; did you mean"):
        mine_patterns(model, inputs, labels, [1], layers=["act7"])


def test_channels_are_active_where_any_of_their_units_is() -> None:
    model = OnnxModel.from_proto(conv_network())
    inputs = np.random.default_rng(0).standard_normal((40, 1, 8, 8)).astype(np.float32)
    labels = np.zeros(40, np.int64)
    units = OnnxCapture(model)
    states = np.concatenate([batch.values[0] > 0 for batch in units.batches(inputs)])
    expected = states.reshape(40, 4, 64).any(axis=2).sum(axis=0)
    options = CaptureOptions(granularity=Granularity.CHANNEL)
    found = mine_patterns(model, inputs, labels, [1], members=Members.LABEL, options=options)
    assert found.layers[0].counts[0].tolist() == expected.tolist()
    with pytest.raises(UnsupportedModel, match="which of its units is active"):
        found.class_states(0, 1)


def test_a_capture_after_the_activations_is_refused() -> None:
    capture = OnnxCapture(PLANTED, (), CaptureOptions(point=Point.AFTER))
    with pytest.raises(ConfigurationError, match="states before an activation"):
        mine_patterns(capture, np.ones((1, 4), np.float32), [0], [1])


def test_more_states_than_fit_are_refused_before_they_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mine, "MAX_STATES", 35)
    inputs, labels = planted_samples([3, 3, 3], [0, 0, 0])
    assert mine_patterns(PLANTED, inputs, labels, [1]).num_neurons == 6
    with pytest.raises(ConfigurationError, match="2 deltas x 3 classes x 6 neurons are more"):
        mine_patterns(PLANTED, inputs, labels, [1, 0.9])


def test_memory_does_not_grow_with_the_samples(tmp_path: Path) -> None:
    """Inputs are mapped from a file; ten times the samples peak at the same memory."""
    model = OnnxModel.from_proto(dense_network([16, 64, 64, 10]))
    capture = OnnxCapture(model, (), CaptureOptions(batch_size=200))
    peaks = []
    for samples in (2_000, 20_000):
        inputs = np.lib.format.open_memmap(
            tmp_path / f"{samples}.npy", mode="w+", dtype=np.float32, shape=(samples, 16)
        )
        labels = np.zeros(samples, np.int64)
        mine_patterns(capture, inputs[:400], labels[:400], [1], members=Members.LABEL)
        tracemalloc.start()
        mine_patterns(capture, inputs, labels, [1, 0.9], members=Members.LABEL)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] * 1.2


def _in_float16(proto: onnx.ModelProto) -> onnx.ModelProto:
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    for tensor in proto.graph.initializer:
        half = onnx.numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(onnx.numpy_helper.from_array(half, tensor.name))
    return proto
