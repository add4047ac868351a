"""Certificates: what is true gets one, what is false never does, whatever is changed."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.verify.certificate.forms import NodeBounds, backward
from auditor.verify.certificate.producer import write_certificate
from auditor.verify.certificate.statement import read_network, regions
from auditor.verify.network import network_from_onnx
from auditor.verify.property import load_property
from auditor.verify.smt import decide_with_z3
from tests.models.certificates import Question, at_least, random_question, records_of, sealed
from tests.models.onnx_networks import dense_network, write_model
from tests.models.phase_enumeration import minimum_by_phases

SEEDS = st.integers(0, 10**6)


def certificate_of(question: Question, inputs: int) -> bytes | None:
    """The producer's certificate, or None where it finds none."""
    prop = load_property(question.property_file, num_inputs=inputs, num_outputs=1)
    done = write_certificate(
        question.model, question.property_file, prop, question.certificate, time_limit_s=10.0
    )
    return None if done.stopped else question.certificate.read_bytes()


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, margin=st.sampled_from([-0.1, -0.001, 0.001, 0.1]))
def test_a_certificate_exists_exactly_for_what_is_true(seed: int, margin: float) -> None:
    """The minimum comes from enumerating all phases; Z3 agrees on the statement."""
    with TemporaryDirectory() as name:
        proto = dense_network([2, 4, 3, 1], seed)
        network = network_from_onnx(proto)
        lowest = minimum_by_phases(network, np.full(2, -1.0), np.full(2, 1.0))
        text = at_least(round(lowest - margin, 9), [-1, -1], [1, 1])
        question = Question(Path(name), write_model(Path(name), proto), text)
        content = certificate_of(question, 2)
        assert (content is not None) == (margin > 0)
        if content is not None:
            assert question.check_bytes(content).accepted
        case = load_property(question.property_file, num_inputs=2, num_outputs=1).cases[0]
        answer = decide_with_z3(network, case, rlimit=20_000_000).status
        assert answer == ("unsat" if margin > 0 else "sat")


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 30), data=st.data())
def test_a_false_statement_is_never_accepted_whatever_byte_is_changed(
    seed: int, data: st.DataObject
) -> None:
    """A true statement's certificate under a false one's header, sealed anew."""
    with TemporaryDirectory() as name:
        question = random_question(Path(name), seed, [2, 4, 1], 0.05)
        content = certificate_of(question, 2)
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


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 30), data=st.data())
def test_a_changed_byte_is_noticed_without_sealing(seed: int, data: st.DataObject) -> None:
    with TemporaryDirectory() as name:
        question = random_question(Path(name), seed, [2, 4, 1], 0.2)
        content = certificate_of(question, 2)
        assert content is not None
        assert sealed(records_of(content)) == content
        place = data.draw(st.integers(0, len(content) - 1))
        changed = bytearray(content)
        changed[place] ^= data.draw(st.integers(1, 255))
        assert not question.check_bytes(bytes(changed)).accepted


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, data=st.data())
def test_integer_bounds_contain_exact_values(seed: int, data: st.DataObject) -> None:
    """Neurons at exact points of a box, and the unsafe row, lie within the bounds.

    Slopes are arbitrary bytes; the points are rationals and the network is evaluated
    exactly.
    """
    with TemporaryDirectory() as name:
        proto = dense_network([3, 6, 5, 1], seed)
        model = write_model(Path(name), proto)
        question = Question(Path(name), model, at_least(0.25, [-1, 0, 0.1], [1, 0, 0.3]))
        maps, _ = read_network(model)
        prop = load_property(question.property_file, num_inputs=3, num_outputs=1)
        (region,) = regions(maps, prop)
        box = np.zeros((1, 3)), region.ends[None]
        infinite = [np.full((1, width), np.inf) for width in region.widths]
        bounds = NodeBounds(
            region.layers, region.rows, ([-each for each in infinite], infinite), box
        )
        for width in region.widths:
            sides = np.arange(2 * width)
            bounds.tighten(np.zeros(2 * width, dtype=np.int64), sides)
        slopes = [
            np.array([data.draw(st.lists(st.integers(0, 255), min_size=w, max_size=w))]) / 255.0
            for w in region.widths
        ]
        nodes = np.zeros(1, dtype=np.int64)
        ends, forms = backward(
            region.layers, bounds.known, nodes, region.rows[-1].pick(nodes), box, slopes
        )
        lowest = Fraction(int(ends[0])) * Fraction(2) ** int(forms.exponents[0])
        layers = network_from_onnx(onnx.load(model)).layers
        case = prop.cases[0]
        for _ in range(4):
            shares = data.draw(st.tuples(*[st.fractions(0, 1, max_denominator=64)] * 3))
            value = tuple(
                low + share * (high - low)
                for low, high, share in zip(case.lower, case.upper, shares, strict=True)
            )
            for k, layer in enumerate(layers):
                value = layer.apply_exact(value)
                if k < len(region.widths):
                    assert all(
                        Fraction(float(low)) <= entry <= Fraction(float(high))
                        for low, entry, high in zip(
                            bounds.lower[k][0], value, bounds.upper[k][0], strict=True
                        )
                    )
                    value = tuple(max(entry, Fraction(0)) for entry in value)
            assert lowest <= case.rows[0].excess(value)
