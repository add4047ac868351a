"""Certificates: what is true gets one, what is false never does, whatever is changed."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.verify.certificate.forms import Arithmetic, Multipliers, Relaxation, backward
from auditor.verify.certificate.statement import read_tensors, regions
from auditor.verify.network import network_from_onnx, read_network
from auditor.verify.network.graph import GraphNetwork
from auditor.verify.property import load_property
from auditor.verify.search import Engine
from auditor.verify.semantics import Semantics
from tests.models.certificates import (
    Question,
    at_least,
    certified,
    random_question,
    records_of,
    sealed,
)
from tests.models.onnx_networks import dense_network, write_model
from tests.models.phase_enumeration import minimum_by_phases
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


@pytest.mark.parametrize("engine", ["boxes", "relus"])
@settings(max_examples=8, deadline=None)
@given(seed=SEEDS, margin=MARGINS)
def test_a_certificate_exists_exactly_for_what_is_true(
    engine: Engine, seed: int, margin: float
) -> None:
    """The minimum comes from enumerating all phases."""
    with TemporaryDirectory() as name:
        question = planted(Path(name), dense_network([2, 4, 3, 1], seed, batch=1), margin)
        _, content = certified(question, engine)
        assert (content is not None) == (margin > 0)
        assert content is None or question.check_bytes(content).accepted


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 1000), margin=MARGINS)
def test_convolutions_get_a_certificate_exactly_for_what_is_true(seed: int, margin: float) -> None:
    with TemporaryDirectory() as name:
        question = planted(Path(name), convolutional(seed), margin)
        _, content = certified(question)
        assert (content is not None) == (margin > 0)


@settings(max_examples=6, deadline=None)
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
def test_backward_bounds_lie_below_exact_values(seed: int, power: int, shares: list) -> None:  # type: ignore[type-arg]
    """With arbitrary slopes and phase multipliers, at exact rational points of the box."""
    with TemporaryDirectory() as name:
        proto = dense_network([3, 6, 5, 1], seed, batch=1)
        for tensor in proto.graph.initializer:
            if tensor.name == "w1":
                values = onnx.numpy_helper.to_array(tensor) * np.float32(2.0**power)
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
                chosen.append(Multipliers(slopes, 0 * neuron, neuron, pushes))
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
