"""The checker on |x| with hand-made certificates, and on what was done to real ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from auditor.verify.certificate.records import BATCH, GROUP
from auditor.verify.property import load_property
from tests.models.certificates import (
    ALL_SIDES,
    Question,
    absolute_value_question,
    batch,
    packed,
    pairs,
    random_question,
    records_of,
    sealed,
)

NOTHING = pairs([], [], [], [])


@pytest.fixture
def question(tmp_path: Path) -> Question:
    """|x| >= -0.5 on [-1, 1]: true, with slack for linear bounds."""
    return absolute_value_question(tmp_path, -0.5)


def leaf(slopes: tuple[int, int] = (0, 0), weight: int = 1) -> bytes:
    return pairs([0], [0], [weight], slopes)


def written(question: Question, size: tuple[int, int] = (1, 1)) -> bytes:
    """The producer's certificate of a question."""
    from auditor.verify.certificate.producer import write_certificate

    prop = load_property(question.property_file, num_inputs=size[0], num_outputs=size[1])
    done = write_certificate(
        question.model, question.property_file, prop, question.certificate, time_limit_s=60.0
    )
    assert not done.stopped
    return question.certificate.read_bytes()


def test_a_leaf_with_slopes_that_suffice_is_accepted(question: Question) -> None:
    checked = question.check([*question.opening, batch(1, [ALL_SIDES], leaf())])
    assert (checked.accepted, checked.nodes, checked.leaves) == (True, 1, 1)


@pytest.mark.parametrize("slopes", [(255, 0), (0, 255)])
def test_slopes_that_give_no_positive_bound_are_rejected(
    question: Question, slopes: tuple[int, int]
) -> None:
    """With slope 1 below one side only, the bound is -1 - (-0.5) < 0."""
    checked = question.check([*question.opening, batch(1, [ALL_SIDES], leaf(slopes))])
    assert (checked.accepted, checked.records) == (False, 2)


def test_a_weight_of_zero_proves_nothing(question: Question) -> None:
    assert not question.check([*question.opening, batch(1, [ALL_SIDES], leaf(weight=0))]).accepted


def test_a_neuron_without_bounds_may_not_be_relaxed(question: Question) -> None:
    for rows, sides in (([0, 0, 0], [0, 1, 2]), ([], [])):
        record = batch(1, [(rows, sides)], leaf())
        assert "bounded" in question.check([*question.opening, record]).reason


@pytest.mark.parametrize("value", [0.001, 0.5])
def test_no_choice_of_splits_and_slopes_proves_what_is_false(tmp_path: Path, value: float) -> None:
    """Each half of |x| is exact, so the two leaves see the true minimum 0."""
    question = absolute_value_question(tmp_path, value)
    halves = batch(2, [([0] * 4 + [1] * 4, [0, 1, 2, 3] * 2)], pairs([0, 1], [0, 0], [1, 1], []))
    split = batch(1, [ALL_SIDES], NOTHING, [(0, 1 << 21)])
    assert "refute" in question.check([*question.opening, split, halves]).reason
    for slopes in ((0, 0), (255, 255), (128, 127)):
        assert not question.check([*question.opening, batch(1, [ALL_SIDES], leaf(slopes))]).accepted


def test_the_same_halves_prove_what_is_true(tmp_path: Path) -> None:
    """y >= 0 is attained at 0: a tie, which the statement allows."""
    question = absolute_value_question(tmp_path, 0.0)
    halves = batch(2, [([0] * 4 + [1] * 4, [0, 1, 2, 3] * 2)], pairs([0, 1], [0, 0], [1, 1], []))
    split = batch(1, [ALL_SIDES], NOTHING, [(0, 1 << 21)])
    assert question.check([*question.opening, split, halves]).accepted
    phases = batch(1, [ALL_SIDES], NOTHING, [(-1, 0)])
    ends = batch(2, [([0] * 4 + [1] * 4, [0, 1, 2, 3] * 2)], pairs([0, 1], [0, 0], [1, 1], [0, 0]))
    assert not question.check([*question.opening, phases, ends]).accepted


def test_a_phase_multiplier_closes_what_slopes_alone_do_not(tmp_path: Path) -> None:
    """Where x <= 0, |x| >= -x + b x; where x >= 0, |x| >= x - b x: b = 1 closes both over
    the whole box, 0 and 2 neither."""
    question = absolute_value_question(tmp_path, -0.25)
    split = batch(1, [ALL_SIDES], NOTHING, [(-1, 0)])

    def leaves(amount: int, power: int) -> bytes:
        push = packed("u4", 2) + packed("u4", 0, 1) + packed("u4", 0, 0)
        push += packed("u4", amount, amount) + packed("i2", power, power)
        return pairs([0, 1], [0, 0], [1, 1], [255, 0], pushes=push)

    def verdict(amount: int, power: int = 0) -> bool:
        record = batch(2, [([], [])], leaves(amount, power))
        return question.check([*question.opening, split, record]).accepted

    assert [verdict(amount) for amount in (0, 1, 2)] == [False, True, False]
    assert not verdict(1, 300)
    assert not verdict(1, 301)
    assert not verdict(1, -(1 << 15))


@pytest.mark.parametrize(
    "record",
    [
        batch(0, [([], [])], NOTHING),
        batch(2, [ALL_SIDES], leaf()),
        batch(1, [([1, 0, 0, 0], [0, 1, 2, 3])], leaf()),
        batch(1, [([0, 0, 0, 0], [0, 1, 2, 4])], leaf()),
        batch(1, [([0] * 5, [0, 1, 2, 3, 3])], leaf()),
        batch(1, [ALL_SIDES], pairs([1], [0], [1], [0, 0])),
        batch(1, [ALL_SIDES], pairs([0], [1], [1], [0, 0])),
        batch(1, [ALL_SIDES], pairs([0], [0], [1], [0])),
        batch(1, [ALL_SIDES], NOTHING),
        batch(1, [ALL_SIDES], NOTHING, [(0, 0)]),
        batch(1, [ALL_SIDES], NOTHING, [(0, 1 << 22)]),
        batch(1, [ALL_SIDES], NOTHING, [(1, 5)]),
        batch(1, [ALL_SIDES], NOTHING, [(-3, 0)]),
        batch(1, [ALL_SIDES], NOTHING, [(-1, 1)]),
        batch(1, [ALL_SIDES], leaf(), [(0, 5)]),
        (BATCH, batch(1, [ALL_SIDES], leaf())[1] + b"\0"),
        (b"X", b""),
        (GROUP, packed("u4", 0)),
        (GROUP, packed("u4", 1)),
    ],
)
def test_a_record_out_of_order_or_range_is_rejected(
    question: Question, record: tuple[bytes, bytes]
) -> None:
    good = batch(1, [ALL_SIDES], leaf())
    assert question.check([*question.opening, good]).accepted
    assert not question.check([*question.opening, record]).accepted
    assert not question.check([*question.opening, record, good]).accepted
    assert not question.check([*question.opening, good, record]).accepted


def test_a_certificate_that_stops_early_is_rejected(question: Question) -> None:
    for count in range(3):
        records = [*question.opening, batch(1, [ALL_SIDES], NOTHING, [(0, 1 << 21)])][: count + 1]
        assert not question.check(records).accepted
    assert not question.check([]).accepted


def test_a_deep_tree_needs_no_recursion(question: Question) -> None:
    """A chain of 3,000 one-sided splits, then all leaves in batches."""
    depth = 3000
    first = batch(1, [ALL_SIDES], NOTHING, [(0, 1)])
    chain = [batch(1, [([], [])], NOTHING, [(0, level)]) for level in range(2, depth + 1)]
    left, leaves = depth + 1, []
    while left:
        count = min(left, 1000)
        leaves.append(batch(count, [([], [])], pairs(
            range(count), [0] * count, [1] * count, [0, 0] * count)))  # fmt: skip
        left -= count
    checked = question.check([*question.opening, first, *chain, *leaves])
    assert (checked.accepted, checked.leaves) == (True, depth + 1)


def test_no_part_of_a_real_certificate_can_be_left_out_or_exchanged(tmp_path: Path) -> None:
    question = random_question(tmp_path, 3, [2, 12, 12, 1], 0.02)
    records = records_of(written(question, (2, 1)))
    assert len(records) >= 5
    assert question.check(records).accepted
    for place in range(len(records)):
        assert not question.check(records[:place] + records[place + 1 :]).accepted
    for place in range(len(records) - 1):
        swapped = records.copy()
        swapped[place : place + 2] = swapped[place + 1], swapped[place]
        assert not question.check(swapped).accepted


def test_every_cut_and_every_changed_byte_shows(question: Question) -> None:
    """Without sealing again, checksums alone reject."""
    content = sealed([*question.opening, batch(1, [ALL_SIDES], leaf())])
    assert question.check_bytes(content).accepted
    assert not question.check_bytes(content + b"\0").accepted
    for place in range(len(content)):
        assert not question.check_bytes(content[:place]).accepted
        changed = bytearray(content)
        changed[place] ^= 1
        assert not question.check_bytes(bytes(changed)).accepted


def test_the_header_names_model_property_and_semantics(question: Question) -> None:
    """Every byte of it matters, sealed again or not."""
    (kind, header), *rest = [*question.opening, batch(1, [ALL_SIDES], leaf())]
    for place in range(len(header)):
        changed = bytearray(header)
        changed[place] ^= 1
        assert not question.check([(kind, bytes(changed)), *rest]).accepted


def test_another_model_or_one_digit_of_the_property_is_rejected(tmp_path: Path) -> None:
    question = random_question(tmp_path, 3, [2, 6, 1], 1.0)
    content = written(question, (2, 1))
    assert question.check_bytes(content).accepted
    text = question.property_file.read_text()
    question.property_file.write_text(text.replace("upper: [1.0", "upper: [1.1"))
    assert "another" in question.check_bytes(content).reason
    question.property_file.write_text(text)
    (tmp_path / "other").mkdir()
    question.model = random_question(tmp_path / "other", 4, [2, 6, 1], 1.0).model
    assert "another" in question.check_bytes(content).reason


def test_two_boxes_need_two_trees(tmp_path: Path) -> None:
    question = absolute_value_question(tmp_path, -0.5)
    question.property_file = tmp_path / "two.vnnlib"
    question.property_file.write_text(
        "(declare-const X_0 Real)\n(declare-const Y_0 Real)\n"
        "(assert (or (and (>= X_0 -1) (<= X_0 0)) (and (>= X_0 0) (<= X_0 1))))\n"
        "(assert (<= Y_0 -0.5))\n"
    )
    leaves = batch(1, [ALL_SIDES], pairs([0], [0], [1], []))
    second = [(GROUP, packed("u4", 1)), leaves]
    assert not question.check([*question.opening, leaves]).accepted
    assert question.check([*question.opening, leaves, *second]).accepted
    assert not question.check([*question.opening, leaves, *second, *second]).accepted


def test_checking_loads_neither_torch_nor_the_compiled_search(question: Question) -> None:
    question.check([*question.opening, batch(1, [ALL_SIDES], leaf())])
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
