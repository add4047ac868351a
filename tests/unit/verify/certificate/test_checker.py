"""The checker on |x| with hand-made certificates, and on what was done to real ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from auditor.verify.certificate.checker import AGAIN
from auditor.verify.certificate.producer import write_certificate
from auditor.verify.certificate.records import BATCH, GROUP
from auditor.verify.onnx_subject import verify_file
from auditor.verify.proof import Proof
from tests.models.certificates import (
    Question,
    absolute_value_question,
    leaf,
    packed,
    random_question,
    records_of,
    sealed,
    split,
)


@pytest.fixture
def question(tmp_path: Path) -> Question:
    """|x| >= -0.5 on [-1, 1]: true, with slack for linear bounds."""
    return absolute_value_question(tmp_path, -0.5)


def written(question: Question) -> bytes:
    """The certificate that a search's proof becomes."""
    proofs: list[Proof] = []
    prop, _ = verify_file(question.model, question.property_file, time_limit_s=30, proofs=proofs)
    write_certificate(question.model, question.property_file, prop, proofs, question.certificate)
    return question.certificate.read_bytes()


def test_a_leaf_with_slopes_that_suffice_is_accepted(question: Question) -> None:
    checked = question.check([*question.opening, (BATCH, leaf(slopes=(0, 0)))])
    assert (checked.accepted, checked.nodes, checked.leaves) == (True, 1, 1)


@pytest.mark.parametrize("slopes", [(255, 0), (0, 255)])
def test_slopes_that_give_no_positive_bound_are_rejected(
    question: Question, slopes: tuple[int, int]
) -> None:
    """With slope 1 below one side only, the bound is -1 - (-0.5) < 0."""
    assert not question.check([*question.opening, (BATCH, leaf(slopes=slopes))]).accepted


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_weights_that_prove_nothing_are_rejected(question: Question, weight: float) -> None:
    record = BATCH, leaf(slopes=(0, 0), weight=weight)
    assert not question.check([*question.opening, record]).accepted


def test_a_claim_that_does_not_follow_is_rejected(question: Question) -> None:
    """The pre-activation x is at least -1 on the box, and no more."""
    for claim, accepted in ((-1.5, True), (-0.999, False)):
        record = BATCH, leaf(slopes=(0, 0), claims=(claim,))
        assert question.check([*question.opening, record]).accepted is accepted


@pytest.mark.parametrize("value", [0.001, 0.5])
def test_no_halves_prove_what_is_false(tmp_path: Path, value: float) -> None:
    question = absolute_value_question(tmp_path, value)
    halves = [(BATCH, split(0, 0.0)), *[(BATCH, leaf(slopes=(0, 255)))] * 2]
    assert not question.check([*question.opening, *halves]).accepted


def test_a_split_outside_of_its_box_is_rejected(question: Question) -> None:
    for middle in (-1.0, 1.0, 2.0, float("nan")):
        checked = question.check([*question.opening, (BATCH, split(0, middle))])
        assert not checked.accepted
        assert checked.records == 2


def test_an_open_node_is_not_accepted(question: Question) -> None:
    again = [(BATCH, split(AGAIN, 0.0))] * 50
    assert "covered" in question.check([*question.opening, *again]).reason
    assert question.check([*question.opening, *again, (BATCH, leaf(slopes=(0, 0)))]).accepted


def test_two_boxes_need_two_trees(tmp_path: Path) -> None:
    question = absolute_value_question(tmp_path, -0.5)
    question.property_file = tmp_path / "two.vnnlib"
    question.property_file.write_text(
        "(declare-const X_0 Real)\n(declare-const Y_0 Real)\n"
        "(assert (or (and (>= X_0 -1) (<= X_0 0)) (and (>= X_0 0) (<= X_0 1))))\n"
        "(assert (<= Y_0 -0.5))\n"
    )
    leaves = BATCH, leaf(slopes=(0, 0))
    second = [(GROUP, packed("u4", 1)), leaves]
    assert not question.check([*question.opening, leaves]).accepted
    assert question.check([*question.opening, leaves, *second]).accepted
    assert not question.check([*question.opening, leaves, *second, *second]).accepted


def test_every_cut_and_every_changed_byte_shows(question: Question) -> None:
    """Without sealing again, checksums alone reject."""
    content = sealed([*question.opening, (BATCH, leaf(slopes=(0, 0)))])
    assert question.check_bytes(content).accepted
    assert not question.check_bytes(content + b"\0").accepted
    for place in range(len(content)):
        assert not question.check_bytes(content[:place]).accepted
        changed = bytearray(content)
        changed[place] ^= 1
        assert not question.check_bytes(bytes(changed)).accepted


def test_the_header_names_model_property_and_semantics(question: Question) -> None:
    (kind, header), *rest = [*question.opening, (BATCH, leaf(slopes=(0, 0)))]
    for place in range(len(header)):
        changed = bytearray(header)
        changed[place] ^= 1
        assert not question.check([(kind, bytes(changed)), *rest]).accepted


def test_another_model_or_one_digit_of_the_property_is_rejected(tmp_path: Path) -> None:
    question = random_question(tmp_path, 3, [2, 6, 1], 1.0)
    content = written(question)
    assert question.check_bytes(content).accepted
    text = question.property_file.read_text()
    question.property_file.write_text(text.replace("upper: [1.0", "upper: [1.1"))
    assert "another" in question.check_bytes(content).reason
    question.property_file.write_text(text)
    (tmp_path / "other").mkdir()
    question.model = random_question(tmp_path / "other", 4, [2, 6, 1], 1.0).model
    assert "another" in question.check_bytes(content).reason


def test_dropped_and_exchanged_records_are_rejected(tmp_path: Path) -> None:
    question = random_question(tmp_path, 5, [2, 10, 8, 1], 0.02)
    records = records_of(written(question))
    assert question.check(records).accepted
    for place in range(len(records)):
        assert not question.check(records[:place] + records[place + 1 :]).accepted


def test_checking_loads_neither_torch_nor_the_compiled_search(question: Question) -> None:
    question.check([*question.opening, (BATCH, leaf(slopes=(0, 0)))])
    script = (
        "import sys\n"
        "from auditor.verify.certificate.checker import check_certificate\n"
        "done = check_certificate(*sys.argv[1:])\n"
        "engine = ('torch', 'numba', 'z3', 'onnxruntime', 'auditor.verify.bounds',\n"
        "          'auditor.verify.search', 'auditor.verify.network')\n"
        "print(done.accepted, [name for name in engine if name in sys.modules])\n"
    )
    paths = [str(p) for p in (question.certificate, question.model, question.property_file)]
    output = subprocess.run(
        [sys.executable, "-c", script, *paths],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[4],
    )  # fmt: skip
    assert output.stdout.strip() == "True []"
