"""One tree for all cases, on random classifiers whose class does not change on a box."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from auditor.findings import Verdict
from auditor.verify.network import network_from_onnx
from auditor.verify.onnx_subject import open_subject, read_property
from auditor.verify.proof import Proof
from auditor.verify.search import verify
from tests.models.certificates import Question, certified
from tests.models.onnx_networks import dense_network, write_model


def same_class(folder: Path, seed: int, radius: float) -> Question:
    """Does a classifier of three classes keep its class around a random input?"""
    proto = dense_network([6, 16, 16, 12, 3], seed, batch=1)
    center = np.random.default_rng(seed).standard_normal(6)
    lower, upper = (center - radius).round(3), (center + radius).round(3)
    network = network_from_onnx(proto)
    label = int(network.evaluate(0.5 * (lower + upper)[None])[0].argmax())
    text = (
        f"version: 1\nid: p\ninputs: {{box: {{lower: {lower.tolist()}, "
        f"upper: {upper.tolist()}}}}}\nthen:\n  - class: {label}\n"
    )
    return Question(folder, write_model(folder, proto), text)


@pytest.mark.parametrize(("seed", "radius"), [(23, 0.8), (35, 0.4), (37, 0.8)])
def test_splits_refute_every_case_and_the_certificate_repeats_it(
    tmp_path: Path, seed: int, radius: float
) -> None:
    question = same_class(tmp_path, seed, radius)
    outcome, content = certified(question, "relus")
    assert outcome.verdict is Verdict.HOLDS
    assert outcome.statistics.splits > 0
    assert sum(outcome.statistics.decided_share.values()) == pytest.approx(1.0)
    assert content is not None
    assert question.check_bytes(content).accepted


def test_a_class_that_changes_is_found(tmp_path: Path) -> None:
    outcome, content = certified(same_class(tmp_path, 23, 6.0), "relus")
    assert (outcome.verdict, content) == (Verdict.VIOLATED, None)


def test_nodes_below_the_root_bound_hidden_neurons_anew(tmp_path: Path) -> None:
    question = same_class(tmp_path, 23, 0.8)
    subject = open_subject(question.model)
    prop = read_property(question.property_file, subject.network)
    proofs: list[Proof] = []
    verify(subject.network, prop, engine="relus", proofs=proofs)
    (proof,) = proofs
    below = [lemma for node in proof.nodes[1:] for lemma in node.lemmas]
    assert below
    assert all(lemma.as_at_root and lemma.layer > 0 for lemma in below)
