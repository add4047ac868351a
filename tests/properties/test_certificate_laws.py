"""Certificates: what is true gets one, what is false never does, whatever is changed."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.findings import Verdict
from auditor.verify.certificate.forms import Arithmetic, Multipliers, Relaxation, backward
from auditor.verify.certificate.producer import write_certificate
from auditor.verify.certificate.statement import read_tensors, regions
from auditor.verify.network import network_from_onnx
from auditor.verify.onnx_subject import verify_file
from auditor.verify.proof import Proof
from auditor.verify.property import load_property
from tests.models.certificates import Question, at_least, random_question, records_of, sealed
from tests.models.onnx_networks import dense_network, write_model
from tests.models.phase_enumeration import minimum_by_phases

SEEDS = st.integers(0, 10**6)


def certificate_of(question: Question) -> bytes | None:
    """The certificate of what the search holds, or None."""
    proofs: list[Proof] = []
    prop, outcome = verify_file(
        question.model, question.property_file, time_limit_s=10, proofs=proofs
    )
    if outcome.verdict is not Verdict.HOLDS:
        return None
    write_certificate(question.model, question.property_file, prop, proofs, question.certificate)
    return question.certificate.read_bytes()


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, margin=st.sampled_from([-0.1, -0.001, 0.001, 0.1]))
def test_an_accepted_certificate_exists_exactly_for_what_is_true(seed: int, margin: float) -> None:
    """The minimum comes from enumerating all phases."""
    with TemporaryDirectory() as name:
        proto = dense_network([2, 4, 3, 1], seed)
        network = network_from_onnx(proto)
        lowest = minimum_by_phases(network, np.full(2, -1.0), np.full(2, 1.0))
        text = at_least(round(lowest - margin, 9), [-1, -1], [1, 1])
        question = Question(Path(name), write_model(Path(name), proto), text)
        content = certificate_of(question)
        assert (content is not None) == (margin > 0)
        if content is not None:
            assert question.check_bytes(content).accepted


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 30), data=st.data())
def test_a_false_statement_is_never_accepted_whatever_byte_is_changed(
    seed: int, data: st.DataObject
) -> None:
    """A true statement's certificate under a false one's header, sealed anew."""
    with TemporaryDirectory() as name:
        question = random_question(Path(name), seed, [2, 4, 1], 0.05)
        content = certificate_of(question)
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
        content = certificate_of(question)
        assert content is not None
        assert sealed(records_of(content)) == content
        place = data.draw(st.integers(0, len(content) - 1))
        changed = bytearray(content)
        changed[place] ^= data.draw(st.integers(1, 255))
        assert not question.check_bytes(bytes(changed)).accepted


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, data=st.data())
def test_bounds_lie_below_exact_values_whatever_the_multipliers(
    seed: int, data: st.DataObject
) -> None:
    """Slopes are arbitrary; the points are rationals and the network is evaluated exactly."""
    with TemporaryDirectory() as name:
        proto = dense_network([3, 6, 5, 1], seed)
        model = write_model(Path(name), proto)
        question = Question(Path(name), model, at_least(0.25, [-1, 0, 0.1], [1, 0, 0.3]))
        tensors, _ = read_tensors(model)
        prop = load_property(question.property_file, num_inputs=3, num_outputs=1)
        (region,) = regions(tensors, prop)
        arithmetic = Arithmetic(region, noise=False)
        before = [arithmetic.ranges[t.sources[0]] for t in region.tensors if t.relu >= 0]
        known = [Relaxation.of(low[None], high[None]) for low, high in before]
        none = np.zeros(0, dtype=np.int64)
        chosen = [
            Multipliers(
                np.array([data.draw(st.lists(st.integers(0, 255), min_size=w, max_size=w))]) / 255,
                none, none, np.zeros(0),
            )
            for w in (6, 5)
        ]  # fmt: skip
        box = region.lower[None], region.upper[None]
        nodes = np.zeros(1, dtype=np.int64)
        last = len(region.tensors) - 1
        found = backward(arithmetic, last, np.ones((1, 1)), nodes, known, box, chosen)
        case, network = prop.cases[0], network_from_onnx(proto)
        for _ in range(4):
            shares = data.draw(st.tuples(*[st.fractions(0, 1, max_denominator=64)] * 3))
            point = tuple(
                low + share * (high - low)
                for low, high, share in zip(case.lower, case.upper, shares, strict=True)
            )
            excess = case.rows[0].excess(network.evaluate_exact(point))
            assert Fraction(float(found.lower[0])) <= excess
