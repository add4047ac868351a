"""The monitor as ONNX nodes says what the monitor in Python says, and leaves the model alone."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from auditor.activations.capture import CaptureOptions, Granularity
from auditor.activations.onnx_capture import OnnxCapture
from auditor.errors import OutputNotWritable, PatternMismatch, UnsupportedModel
from auditor.models.idx_file import read_idx
from auditor.models.onnx_model import OnnxModel
from auditor.patterns.evaluate import capture_for
from auditor.patterns.mine import mine_patterns
from auditor.patterns.monitor import (
    InputLabel,
    Monitor,
    MonitorLabels,
    fit_thresholds,
    make_monitor,
)
from auditor.patterns.monitor_graph import (
    METADATA_KEY,
    append_monitor,
    write_monitored,
)
from auditor.patterns.monitor_nodes import (
    DISTANCE_OUTPUT,
    LABEL_OUTPUT,
    above_half,
    round_down,
)
from auditor.patterns.pattern_set import Members
from tests.models.monitored import (
    PROBED_DISTANCES,
    PROBED_INPUTS,
    PROBED_LABELS,
    as_half,
    magnitude_network,
    magnitude_patterns,
)
from tests.models.onnx_networks import conv_network, dense_network, strided_network, write_model
from tests.models.planted_patterns import planted_network, planted_samples
from tests.models.tiny import array

DATA = Path(__file__).parents[3].parent / "shared" / "data"
MAGNITUDE = OnnxModel.from_proto(magnitude_network())


def _say(monitored: OnnxModel, inputs: NDArray[np.floating]) -> tuple[list[int], list[list[int]]]:
    found = monitored.session().run({monitored.inputs[0].name: inputs})
    return found[LABEL_OUTPUT].tolist(), found[DISTANCE_OUTPUT].tolist()


def _agrees(monitored: OnnxModel, inputs: NDArray[np.floating], expected: MonitorLabels) -> None:
    labels, distances = _say(monitored, inputs)
    assert labels == expected.labels.tolist()
    assert distances == expected.distances.tolist()


def _random_monitor(
    model: OnnxModel, shape: tuple[int, ...], options: CaptureOptions
) -> tuple[Monitor, NDArray[np.float32]]:
    """Random samples called by classes in turn; half of each class is within its threshold."""
    rng = np.random.default_rng(3)
    classes = model.outputs[0].shape[1] or 0
    count = 6 * classes
    # Faint samples leave whole channels inactive.
    strengths = rng.uniform(0, 1, (3, count, *(1 for _ in shape))) ** 3
    mined, held, probed = (rng.standard_normal((3, count, *shape)) * strengths).astype(np.float32)
    labels = np.arange(count) % classes
    capture = OnnxCapture(model, (), options)
    patterns = mine_patterns(capture, mined, labels, [0.6], members=Members.LABEL)
    monitor = make_monitor(patterns, 0.6)
    return fit_thresholds(monitor, capture, held, labels, Fraction(1, 2)), probed


def test_planted_labels_come_out_of_onnxruntime() -> None:
    monitored = append_monitor(make_monitor(magnitude_patterns(MAGNITUDE), 1), MAGNITUDE)
    assert _say(monitored, PROBED_INPUTS) == (PROBED_LABELS, PROBED_DISTANCES)


def test_the_other_outputs_are_the_plain_models() -> None:
    monitored = append_monitor(make_monitor(magnitude_patterns(MAGNITUDE), 1), MAGNITUDE)
    assert [str(spec) for spec in monitored.outputs] == [
        "y float32[?, 2]", "monitor_label int64[?]", "monitor_distance int64[?, 2]",
    ]  # fmt: skip
    plain = MAGNITUDE.session().run({"x": PROBED_INPUTS})["y"]
    assert monitored.session().run({"x": PROBED_INPUTS})["y"].tolist() == plain.tolist()
    assert [value.name for value in MAGNITUDE.proto.graph.output] == ["y"]


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (dense_network([5, 9, 7, 4]), (5,)),
        (dense_network([5, 9, 7, 4], batch=1), (5,)),
        (dense_network([5, 9, 4], activation="Sigmoid"), (5,)),
        (dense_network([5, 9, 4], activation="LeakyRelu"), (5,)),
        (conv_network(), (1, 8, 8)),
        (conv_network(batch_norm=True), (1, 8, 8)),
        (strided_network(), (2, 6, 5)),
        (as_half(dense_network([5, 9, 7, 4])), (5,)),
        (as_half(dense_network([5, 9, 4], activation="Tanh")), (5,)),
    ],
    ids=["dense", "batch of one", "sigmoid", "leaky", "conv", "normalised", "strided", "half",
         "half tanh"],
)  # fmt: skip
@pytest.mark.parametrize("granularity", list(Granularity))
def test_onnx_and_python_agree(
    network: onnx.ModelProto, shape: tuple[int, ...], granularity: Granularity
) -> None:
    model = OnnxModel.from_proto(network)
    options = CaptureOptions(granularity=granularity, batch_size=1)
    monitor, inputs = _random_monitor(model, shape, options)
    inputs = inputs.astype(model.inputs[0].dtype)
    expected = monitor.label_inputs(model, inputs, options)
    assert len(set(expected.labels.tolist())) > 1, "a test of one label tells little"
    monitored = append_monitor(monitor, model)
    session = monitored.session()
    for number, sample in enumerate(inputs):
        found = session.run({model.inputs[0].name: sample[None]})
        assert found[LABEL_OUTPUT].tolist() == [expected.labels[number]]
        assert found[DISTANCE_OUTPUT].tolist() == [expected.distances[number].tolist()]


@pytest.mark.parametrize("size", ["256x2", "256x4"])
def test_onnx_and_python_agree_on_mnist(size: str) -> None:
    path = DATA / "vnncomp" / "mnist_fc" / "onnx" / f"mnist-net_{size}.onnx.gz"
    images = DATA / "mnist" / "t10k-images-idx3-ubyte.gz"
    if not path.is_file() or not images.is_file():
        pytest.skip(f"networks or images of MNIST are not at {DATA}")
    model = OnnxModel.open(path)
    pixels = read_idx(images).reshape(-1, 784, 1).astype(np.float32) / 255
    labels = read_idx(DATA / "mnist" / "t10k-labels-idx1-ubyte.gz").astype(np.int64)
    patterns = mine_patterns(model, pixels[:8000], labels[:8000], [0.99])
    monitor = fit_thresholds(
        make_monitor(patterns, 0.99), model, pixels[8000:9000], labels[8000:9000], Fraction(99, 100)
    )
    noise = np.random.default_rng(0).normal(0, 0.3, (200, 784, 1)).astype(np.float32)
    inputs = np.concatenate([pixels[9000:9200], pixels[9200:9400] + noise])
    expected = monitor.label_inputs(model, inputs, CaptureOptions(batch_size=1))
    assert set(expected.labels.tolist()) == set(InputLabel)
    _agrees(append_monitor(monitor, model), inputs, expected)


def test_inputs_that_are_no_numbers_are_unexplained() -> None:
    """onnxruntime's Relu may turn NaN into 0; the monitor has to see it before."""
    monitor = make_monitor(magnitude_patterns(MAGNITUDE), 1, [2, 2])
    inputs = array([[1, -1], [np.nan, -1], [1, np.nan], [np.inf, 1], [4, -np.inf]])
    labels, _ = _say(append_monitor(monitor, MAGNITUDE), inputs)
    assert labels == [0, 2, 2, 2, 2]


def test_a_nan_score_is_unexplained_and_an_infinite_one_is_a_score() -> None:
    """log(a), log(2 a - 3): NaN where a is 1, minus infinity where it is 1.5."""
    model = OnnxModel.from_proto(magnitude_network(last="Log"))
    patterns = mine_patterns(model, array([[1.5, -1], [4, 1]]), [0, 1], [1])
    monitor = make_monitor(patterns, 1, [2, 2])
    inputs = array([[1.5, -1], [1, -1], [4, 1]])
    expected = monitor.label_inputs(model, inputs)
    assert expected.labels.tolist() == [0, 2, 0]
    _agrees(append_monitor(monitor, model), inputs, expected)


def test_a_class_without_samples_is_followed_by_nobody() -> None:
    model = OnnxModel.from_proto(planted_network())
    patterns = mine_patterns(model, *planted_samples([4, 0, 4], [2, 0, 2]), [1])
    inputs, _ = planted_samples([1, 1, 1], [1, 0, 0])
    assert _say(append_monitor(make_monitor(patterns, 1), model), inputs) == (
        [0, 2, 0], [[0, 7, 2], [2, 7, 2], [2, 7, 0]],
    )  # fmt: skip


def test_patterns_of_some_layers_watch_those() -> None:
    model = OnnxModel.from_proto(dense_network([5, 9, 7, 4]))
    rng = np.random.default_rng(0)
    data = rng.standard_normal((50, 5)).astype(np.float32), np.arange(50) % 4
    patterns = mine_patterns(model, *data, [0.7], members=Members.LABEL, layers=["act1"])
    monitor = make_monitor(patterns, 0.7, [1, 1, 1, 1])
    capture = capture_for(patterns, model)
    expected = monitor.label_inputs(capture, data[0])
    _agrees(append_monitor(monitor, model), data[0], expected)
    assert int(expected.distances.max()) <= 7


def test_the_file_is_new_and_says_where_it_comes_from(tmp_path: Path) -> None:
    source = write_model(tmp_path, magnitude_network())
    before = source.read_bytes()
    model = OnnxModel.open(source)
    monitor = fit_thresholds(
        make_monitor(magnitude_patterns(model), 0.9), model, PROBED_INPUTS[:2], [0, 1],
        Fraction(99, 100),
    )  # fmt: skip
    target = tmp_path / "new" / "monitored.onnx"
    written = write_monitored(monitor, model, target)
    opened = OnnxModel.open(target)
    assert (written.path, written.digest) == (target, opened.digest)
    assert source.read_bytes() == before
    (entry,) = [e for e in opened.proto.metadata_props if e.key == METADATA_KEY]
    assert json.loads(entry.value) == {
        "version": 1, "model": model.digest, "delta": "9/10", "thresholds": [0, 0],
        "quantile": "99/100", "heldout": [1, 1], "members": "correct", "granularity": "unit",
        "layers": ["relu0"], "labels": ["explained", "contradicted", "unexplained"],
    }  # fmt: skip
    assert _say(opened, PROBED_INPUTS)[0] == PROBED_LABELS


def test_constants_are_finite() -> None:
    """Checks that look for NaN in a model's tensors have nothing to find."""
    assert not append_monitor(make_monitor(magnitude_patterns(MAGNITUDE), 1), MAGNITUDE).nonfinite


def test_the_same_monitor_gives_the_same_bytes(tmp_path: Path) -> None:
    monitor = make_monitor(magnitude_patterns(MAGNITUDE), 1)
    paths = [tmp_path / name for name in ("a.onnx", "b.onnx")]
    for path in paths:
        write_monitored(monitor, MAGNITUDE, path)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_an_existing_file_is_never_written_over(tmp_path: Path) -> None:
    source = write_model(tmp_path, magnitude_network())
    model = OnnxModel.open(source)
    monitor = make_monitor(magnitude_patterns(model), 1)
    before = source.read_bytes()
    with pytest.raises(OutputNotWritable, match="it exists"):
        write_monitored(monitor, model, source)
    assert source.read_bytes() == before
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputNotWritable):
        write_monitored(monitor, model, tmp_path / "file" / "new.onnx")


def test_another_model_is_refused() -> None:
    monitor = make_monitor(magnitude_patterns(MAGNITUDE), 1)
    with pytest.raises(PatternMismatch, match="the monitor was mined from"):
        append_monitor(monitor, OnnxModel.from_proto(dense_network([2, 2, 2])))


def test_a_monitored_model_takes_no_second_monitor() -> None:
    monitored = append_monitor(make_monitor(magnitude_patterns(MAGNITUDE), 1), MAGNITUDE)
    again = make_monitor(magnitude_patterns(monitored), 1)
    with pytest.raises(UnsupportedModel, match="it has a monitor"):
        append_monitor(again, monitored)


def test_an_opset_that_is_too_old_is_refused() -> None:
    old = magnitude_network()
    old.opset_import[0].version = 8
    model = OnnxModel.from_proto(old)
    with pytest.raises(UnsupportedModel, match="opset 8; the monitor's operators need 9"):
        append_monitor(make_monitor(magnitude_patterns(model), 1), model)


def test_rounding_down_keeps_every_comparison() -> None:
    """For all float16 numbers, above the value is above what it is rounded to."""
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    every = every[np.isfinite(every)]
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0, 10.0**k, 20) for k in (-8, -2, 2)] + [[0.0, 1.0, -0.1]])
    rounded = round_down(values, np.dtype(np.float16))
    assert rounded.dtype == np.float16
    for value, low in zip(values, rounded, strict=True):
        assert ((every.astype(np.float64) > value) == (every > low)).all()


def test_midway_between_half_numbers_tells_them_apart_before_and_after_rounding() -> None:
    values = np.array([0.0, 1.0, -1.0, 0.1, 1000.0], np.float16)
    limits = above_half(values)
    single = (values.astype(np.float32)[:, None] + np.linspace(-2, 2, 4001)).astype(np.float32)
    rounded = single.astype(np.float16)
    between = single != limits[:, None]  # of ties the even neighbour is taken
    assert ((single > limits[:, None]) == (rounded > values[:, None]))[between].all()
    assert ((rounded > limits[:, None]) == (rounded > values[:, None])).all()
