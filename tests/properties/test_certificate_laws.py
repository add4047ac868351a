"""Certificates: what is true gets one, what is false never does, whatever is changed."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from auditor.verify.certificate import checker
from auditor.verify.certificate.forms import Arithmetic, Multipliers, Relaxation, backward
from auditor.verify.certificate.statement import Region, read_tensors, regions
from auditor.verify.engine_choice import Engine
from auditor.verify.network import network_from_onnx, read_network
from auditor.verify.network.graph import GraphNetwork
from auditor.verify.property import load_property
from auditor.verify.semantics import Semantics
from tests.models.certificates import (
    Question,
    at_least,
    batch,
    certified,
    choices,
    lemmas,
    random_question,
    records_of,
    refutations,
    sealed,
)
from tests.models.onnx_networks import dense_network, make_model, write_model
from tests.models.phase_enumeration import minimum_by_phases
from tests.models.tiny import array, relu_network
from tests.properties.test_graph_verdicts import convolutional, dense_chain

SEEDS = st.integers(0, 10**6)
MARGINS = st.sampled_from([-0.1, -0.001, 0.001, 0.1])


def planted(folder: Path, proto: onnx.ModelProto, margin: float) -> Question:
    """Is output 0 at least its exact minimum on [-1, 1] less a margin?"""
    network = read_network(proto)
    chain = dense_chain(network) if isinstance(network, GraphNetwork) else network
    low = np.full(chain.num_inputs, -1.0)
    lowest = minimum_by_phases(chain, low, -low)
    text = at_least(round(lowest - margin, 9), low.tolist(), (-low).tolist())
    return Question(folder, write_model(folder, proto), text)


def assert_certified_if_true(question: Question, margin: float, engine: Engine = "auto") -> None:
    """A certificate is accepted and only for what is true; splitting inputs always finds one.

    Splitting ReLUs may leave a sub-problem open, which then is the reason.
    """
    outcome, content = certified(question, engine)
    assert margin > 0 or content is None
    assert content is None or question.check_bytes(content).accepted
    if margin > 0 and content is None:
        assert engine != "boxes"
        assert "without open ReLUs" in outcome.reason


@pytest.mark.parametrize("engine", ["boxes", "relus"])
@settings(max_examples=8, deadline=None)
@given(seed=SEEDS, margin=MARGINS)
def test_a_certificate_exists_exactly_for_what_is_true(
    engine: Engine, seed: int, margin: float
) -> None:
    """The minimum comes from enumerating all phases."""
    with TemporaryDirectory() as name:
        question = planted(Path(name), dense_network([2, 4, 3, 1], seed, batch=1), margin)
        assert_certified_if_true(question, margin, engine)


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 1000), margin=MARGINS)
def test_convolutions_get_a_certificate_exactly_for_what_is_true(seed: int, margin: float) -> None:
    with TemporaryDirectory() as name:
        question = planted(Path(name), convolutional(seed), margin)
        assert_certified_if_true(question, margin)


def residual(seed: int) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """A residual network, and the same function as a chain: `h + W h` is `(W + 1) h`."""
    random = np.random.default_rng(seed)
    weights = [random.integers(-12, 13, shape) / 8 for shape in ((2, 3), (3, 3), (3, 1))]
    biases = [random.integers(-4, 5, n) / 8 for n in (3, 3, 1)]
    tensors = {f"w{k}": w.astype(np.float32) for k, w in enumerate(weights)}
    tensors |= {f"b{k}": b.astype(np.float32) for k, b in enumerate(biases)}
    nodes = [
        helper.make_node("Gemm", ["x", "w0", "b0"], ["z0"], "g0"),
        helper.make_node("Relu", ["z0"], ["h0"], "r0"),
        helper.make_node("Gemm", ["h0", "w1", "b1"], ["z1"], "g1"),
        helper.make_node("Add", ["z1", "h0"], ["s1"], "a1"),
        helper.make_node("Relu", ["s1"], ["h1"], "r1"),
        helper.make_node("Gemm", ["h1", "w2", "b2"], ["y"], "g2"),
    ]
    graph = make_model(nodes, {"x": [1, 2]}, {"y": [1, 1]}, tensors)
    nodes[2:4] = [helper.make_node("Gemm", ["h0", "w1", "b1"], ["s1"], "g1")]
    tensors["w1"] = tensors["w1"] + np.eye(3, dtype=np.float32)
    return graph, make_model(nodes, {"x": [1, 2]}, {"y": [1, 1]}, tensors)


@settings(max_examples=6, deadline=None)
@given(seed=SEEDS, margin=MARGINS)
def test_residual_sums_get_a_certificate_exactly_for_what_is_true(seed: int, margin: float) -> None:
    with TemporaryDirectory() as name:
        graph, chain = residual(seed)
        question = planted(Path(name), chain, margin)
        write_model(Path(name), graph)
        assert_certified_if_true(question, margin)


class WithoutErrors(Arithmetic):
    """A checker that believes its floats."""

    def __init__(self, region: Region, noise: bool) -> None:
        super().__init__(region, noise)
        self.errors = [0.0 * each for each in self.errors]
        self.factor = self.floor = 0.0


def test_only_a_checker_without_error_terms_is_fooled_by_absorption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1/2 - x <= 1/4 on [0.1, 1] is false; beside 2^54 the half vanishes."""
    large = 2.0**54
    layers = [(array([[1]]), array([large])), (array([[1]]), array([-large])),
              (array([[-1]]), array([0.5]))]  # fmt: skip
    text = at_least(0, [0.1], [1]).replace("at_least", "at_most").replace("0}\n", "0.25}\n")
    question = Question(tmp_path, write_model(tmp_path, relu_network(layers)), text)
    chosen = choices([]) + choices([255])
    forged = batch(before=lemmas() * 2, after=lemmas() * 2,
                   refuted=refutations([0], [0], [1], chosen))  # fmt: skip
    assert "refute" in question.check([*question.opening, forged]).reason
    monkeypatch.setattr(checker, "Arithmetic", WithoutErrors)
    assert question.check([*question.opening, forged]).accepted


@settings(max_examples=6, deadline=None)
@example(seed=66426, margin=0.001)  # few neurons are on, so that the last sum's own noise matters
@given(seed=SEEDS, margin=MARGINS)
def test_float32_executions_get_a_certificate_exactly_for_what_is_true(
    seed: int, margin: float
) -> None:
    with TemporaryDirectory() as name:
        question = planted(Path(name), dense_network([2, 4, 3, 1], seed, batch=1), margin)
        question.semantics = Semantics.FLOAT32
        _, content = certified(question)
        assert (content is not None) == (margin > 0)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 30), data=st.data())
def test_a_false_statement_is_never_accepted_whatever_byte_is_changed(
    seed: int, data: st.DataObject
) -> None:
    """A true statement's certificate under a false one's header, sealed anew."""
    with TemporaryDirectory() as name:
        question = random_question(Path(name), seed, [2, 4, 1], 0.05)
        _, content = certified(question)
        assert content is not None
        records = records_of(content)
        text = question.property_file.read_text()
        value = float(text.rsplit("value: ", 1)[1].rstrip("}\n"))
        # 0.06 above a bound that lies 0.05 below a value the network takes.
        question.property_file.write_text(at_least(round(value + 0.06, 6), [-1, -1], [1, 1]))
        forged = [question.opening[0], *records[1:]]
        assert not question.check(forged).accepted
        for _ in range(5):
            place = data.draw(st.integers(1, len(forged) - 1))
            kind, payload = forged[place]
            changed = bytearray(payload)
            changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
            forged[place] = (kind, bytes(changed))
            assert not question.check(forged).accepted


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 30), data=st.data())
def test_a_changed_byte_is_noticed_without_sealing(seed: int, data: st.DataObject) -> None:
    with TemporaryDirectory() as name:
        question = random_question(Path(name), seed, [2, 4, 1], 0.2)
        _, content = certified(question)
        assert content is not None
        assert sealed(records_of(content)) == content
        changed = bytearray(content)
        changed[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
        assert not question.check_bytes(bytes(changed)).accepted


@settings(max_examples=40, deadline=None)
@given(
    seed=SEEDS, power=st.sampled_from([-40, 0, 40]),
    shares=st.lists(st.fractions(0, 1, max_denominator=64), min_size=3, max_size=3),
)  # fmt: skip
def test_backward_bounds_lie_below_exact_values(
    seed: int, power: int, shares: list[Fraction]
) -> None:
    """With arbitrary slopes and phase multipliers, at exact rational points of the box."""
    with TemporaryDirectory() as name:
        proto = dense_network([3, 6, 5, 1], seed, batch=1)
        for tensor in proto.graph.initializer:
            if tensor.name == "w1":
                values = numpy_helper.to_array(tensor) * np.float32(2.0**power)
                tensor.raw_data = values.tobytes()
        question = Question(
            Path(name), write_model(Path(name), proto), at_least(0.25, [-1, 0, 0.1], [1, 0, 0.3])
        )
        prop = load_property(question.property_file, num_inputs=3, num_outputs=1)
        (region,) = regions(read_tensors(question.model)[0], prop)
        arithmetic, nodes = Arithmetic(region, False), np.zeros(1, dtype=np.int64)
        known, chosen, random = [], [], np.random.default_rng(seed)
        for tensor in region.tensors:
            if tensor.relu >= 0:
                low, high = (end[None] for end in arithmetic.ranges[tensor.sources[0]])
                known.append(Relaxation.of(low, high))
                neuron = np.arange(low.shape[1])
                slopes, pushes = random.random(low.shape), random.random(low.shape[1])
                chosen.append(Multipliers(slopes, 0 * neuron, neuron, np.asarray(pushes)))
        box = region.lower[None], region.upper[None]
        target = len(region.tensors) - 1
        found = backward(arithmetic, target, np.ones((1, 1)), nodes, known, box, chosen)
        case, lowest = prop.cases[0], float(found.lower[0])
        value = tuple(
            low + share * (high - low)
            for low, high, share in zip(case.lower, case.upper, shares, strict=True)
        )
        for layer in network_from_onnx(onnx.load(question.model)).layers:
            value = layer.apply_exact(value)
            value = tuple(max(each, type(each)(0)) for each in value) if layer.relu else value
        assert lowest <= case.rows[0].excess(value)
