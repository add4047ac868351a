"""The checker on |x| with hand-made certificates, and on what was done to real ones."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from auditor.verify.certificate.checker import AGAIN, EACH_CASE
from auditor.verify.certificate.records import BATCH, GROUP
from auditor.verify.semantics import Semantics
from tests.models.certificates import (
    Question,
    Record,
    absolute_value_question,
    at_least,
    batch,
    certified,
    choices,
    lemmas,
    packed,
    random_question,
    records_of,
    refutations,
    sealed,
    shrinking,
)
from tests.models.onnx_networks import write_model
from tests.models.tiny import absolute_value, array, relu_network

HALVES = batch(splits=[(0, 0.0)])
PHASES = batch(splits=[(-1, 0.0)])
# Over the halves of the box, with room for the error terms.
BOTH_SIGNS = lemmas([0, 0, 1, 1], [1, 2, 0, 3], [-1e-12] * 4)


@pytest.fixture
def question(tmp_path: Path) -> Question:
    """|x| >= -0.5 on [-1, 1]: true, with slack for linear bounds."""
    return absolute_value_question(tmp_path, -0.5)


def leaf(slopes: tuple[int, ...] = (0, 0), weight: float = 1.0) -> Record:
    return batch(refuted=refutations([0], [0], [weight], choices(slopes)))


def both(multipliers: bytes | None = None, before: bytes = lemmas()) -> Record:
    """Both of two nodes refuted."""
    return batch(2, before=before, refuted=refutations([0, 1], [0, 0], [1, 1], multipliers))


def accepts(question: Question, *records: Record) -> bool:
    return question.check([*question.opening, *records]).accepted


@pytest.mark.parametrize(("kind", "reason"), [(b"\2", "no slopes to repeat"), (b"\3", "kind")])
def test_lemmas_cannot_repeat_slopes_that_nobody_gave(
    question: Question, kind: bytes, reason: str
) -> None:
    checked = question.check([*question.opening, batch(before=lemmas([0], [0], [-2.0], kind))])
    assert not checked.accepted
    assert reason in checked.reason


def test_a_leaf_with_slopes_that_suffice_is_accepted(question: Question) -> None:
    checked = question.check([*question.opening, leaf()])
    assert (checked.accepted, checked.nodes, checked.leaves) == (True, 1, 1)


@pytest.mark.parametrize("slopes", [(255, 0), (0, 255)])
def test_slopes_that_give_no_positive_bound_are_rejected(
    question: Question, slopes: tuple[int, int]
) -> None:
    """With slope 1 below one side only, the bound is -1 - (-0.5) < 0."""
    checked = question.check([*question.opening, leaf(slopes)])
    assert (checked.accepted, checked.records) == (False, 2)


def test_a_weight_of_zero_proves_nothing(question: Question) -> None:
    assert not accepts(question, leaf(weight=0.0))


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf"), 5e-324])
def test_weights_that_are_negative_not_finite_or_extreme_prove_nothing(
    question: Question, weight: float
) -> None:
    assert not accepts(question, leaf(weight=weight))


@pytest.mark.parametrize("value", [1e-9, 0.001, 0.5])
def test_no_choice_of_splits_and_slopes_proves_what_is_false(tmp_path: Path, value: float) -> None:
    """Each half of |x| is exact, so the two leaves see the true minimum 0."""
    question = absolute_value_question(tmp_path, value)
    assert "refute" in question.check([*question.opening, HALVES, both(None, BOTH_SIGNS)]).reason
    assert not accepts(question, PHASES, both(None, BOTH_SIGNS))
    for slopes in ((0, 0), (255, 255), (128, 127)):
        assert not accepts(question, leaf(slopes))


def test_halves_prove_what_is_true_by_a_small_margin(tmp_path: Path) -> None:
    """One node over the whole box cannot with slopes (255, 0)."""
    question = absolute_value_question(tmp_path, -1e-9)
    assert accepts(question, HALVES, both(None, BOTH_SIGNS))
    assert not accepts(question, leaf((255, 0)))


def test_a_tie_gets_no_certificate(tmp_path: Path) -> None:
    """|x| >= 0 is true, and error terms leave no margin for it."""
    assert not accepts(absolute_value_question(tmp_path, 0.0), HALVES, both(None, BOTH_SIGNS))


def test_a_phase_multiplier_closes_what_slopes_alone_do_not(tmp_path: Path) -> None:
    """Where x <= 0, |x| >= -x + b x; where x >= 0, |x| >= x - b x: b = 1 closes both over
    the whole box, 0 and 2 neither."""
    question = absolute_value_question(tmp_path, -0.25)

    def verdict(*amounts: float) -> bool:
        pushes = [(row, 0, amount) for row in (0, 1) for amount in amounts]
        return accepts(question, PHASES, both(choices([255, 0], pushes)))

    assert [verdict(amount) for amount in (0.0, 1.0, 2.0)] == [False, True, False]
    for amount in (-1.0, float("nan"), float("inf"), 3e38):
        assert not verdict(amount)
    assert not verdict(0.5, 0.5)


def test_a_claim_that_follows_is_accepted_and_one_that_does_not_is_rejected(
    question: Question,
) -> None:
    """x >= -1, and so is -x."""
    follows = batch(before=lemmas([0] * 4, range(4), [-1.001] * 4), splits=[(AGAIN, 0.0)])
    assert accepts(question, follows, leaf())
    for claim in (-0.999, 0.0, 1.0, float("nan"), float("inf"), -float("inf")):
        for side in range(4):
            beyond = batch(before=lemmas([0], [side], [claim]), splits=[(AGAIN, 0.0)])
            assert not accepts(question, beyond, leaf())


def test_a_claim_after_shrinking_is_checked_as_well(question: Question) -> None:
    for claim, expected in ((-1.001, True), (-0.999, False)):
        record = batch(after=lemmas([0], [0], [claim]), splits=[(AGAIN, 0.0)])
        assert accepts(question, record, leaf()) == expected


def test_a_looser_claim_is_believed_and_weakens(tmp_path: Path) -> None:
    """The chord over [-1, 9] is higher than over [-1, 1]: relu(x) <= 0.75 no longer follows."""
    weights = [(array([[1]]), array([0])), (array([[-1]]), array([0]))]
    model = write_model(tmp_path, relu_network(weights))
    question = Question(tmp_path, model, at_least(-1.5, [-1], [1]))
    assert accepts(question, batch(refuted=refutations([0], [0], [1])))
    loose = lemmas([0], [1], [-9.0])
    assert not accepts(question, batch(before=loose, refuted=refutations([0], [0], [1])))
    again = batch(before=loose, splits=[(AGAIN, 0.0)])
    tight = batch(before=lemmas([0], [1], [-1.001]), refuted=refutations([0], [0], [1]))
    assert accepts(question, again, tight)


def shrink_question(tmp_path: Path) -> Question:
    """relu(x + 1) - 1, which is x on [-1, 1], is at least -0.5 on it: false. A violation has
    x <= -0.5."""
    layers = [(array([[1]]), array([1])), (array([[1]]), array([-1]))]
    return Question(
        tmp_path, write_model(tmp_path, relu_network(layers)), at_least(-0.5, [-1], [1])
    )


@pytest.mark.parametrize(("end", "expected"), [(-0.5, False), (-0.49, True), (-0.51, False)])
def test_a_box_shrinks_to_what_follows_and_no_further(
    tmp_path: Path, end: float, expected: bool
) -> None:
    """Beyond an end that does not follow the reason names it; else only the leaf fails."""
    question = shrink_question(tmp_path)
    forms = shrinking([0], [0], [1.0], [(0, 1, end)])
    record = batch(before=lemmas([0], [0], [-0.001]), shrunk=forms, splits=[(AGAIN, 0.0)])
    if expected:
        assert "covered" in question.check([*question.opening, record]).reason
    else:
        reason = question.check([*question.opening, record]).reason
        assert "end that does not follow" in reason


def test_a_lower_end_and_a_case_that_is_gone_have_to_follow(tmp_path: Path) -> None:
    """-0.9 would cut off real violations, and the case has some."""
    question = shrink_question(tmp_path)
    for ends, gone, reason in (
        ([(0, 0, -0.9)], [], "end that does not follow"),
        ([], [0], "not refuted by contraction"),
    ):
        record = batch(shrunk=shrinking([0], [0], [1.0], ends, gone), splits=[(AGAIN, 0.0)])
        assert reason in question.check([*question.opening, record]).reason


@pytest.fixture
def two_cases(tmp_path: Path) -> Question:
    """-0.5 <= |x| <= 2.5: a violation is one of two cases."""
    text = at_least(-0.5, [-1], [1]) + "  - at_most: {output: 0, value: 2.5}\n"
    return Question(tmp_path, write_model(tmp_path, absolute_value()), text)


def test_each_case_has_to_be_refuted(two_cases: Question) -> None:
    one = batch(refuted=refutations([0], [0], [1], choices([0, 0])), splits=[(AGAIN, 0.0)])
    other = batch(refuted=refutations([0], [1], [1]))
    assert accepts(two_cases, one, other)
    assert not accepts(two_cases, one)
    assert not accepts(two_cases, one, batch(refuted=refutations([0], [0], [1])))


def test_a_node_for_each_case_needs_its_own_proof(two_cases: Question) -> None:
    """The cases' nodes go on the stack in order."""
    apart = batch(splits=[(EACH_CASE, 0.0)])
    good = refutations([0, 1], [0, 1], [1, 1], choices([0, 0, 0, 0]))
    swapped = refutations([0, 1], [1, 0], [1, 1], choices([0, 0, 0, 0]))
    assert accepts(two_cases, apart, batch(2, refuted=good))
    assert not accepts(two_cases, apart, batch(2, refuted=swapped))
    assert not accepts(two_cases, apart, leaf())


BAD = {
    "no nodes": batch(0),
    "more nodes than wait": batch(2, refuted=refutations([0], [0], [1], choices([0, 0]))),
    "far more nodes": (BATCH, packed("u4", 2**32 - 1) + leaf()[1][4:]),
    "lemma's node": batch(before=lemmas([1], [0], [-2.0]), splits=[(AGAIN, 0.0)]),
    "lemma's side": batch(before=lemmas([0], [4], [-2.0]), splits=[(AGAIN, 0.0)]),
    "later lemma's node": batch(after=lemmas([1], [0], [-2.0]), splits=[(AGAIN, 0.0)]),
    "later lemma's side": batch(after=lemmas([0], [4], [-2.0]), splits=[(AGAIN, 0.0)]),
    "too many lemmas": batch(
        before=lemmas([0] * 5, [0, 1, 2, 3, 3], [-2.0] * 5), splits=[(AGAIN, 0.0)]
    ),
    "refuted node": batch(refuted=refutations([1], [0], [1], choices([0, 0]))),
    "refuted case": batch(refuted=refutations([0], [1], [1], choices([0, 0]))),
    "a slope missing": leaf((0,)),
    "a slope too many": leaf((0, 0, 0)),
    "pushed row": batch(refuted=refutations([0], [0], [1], choices([0, 0], [(1, 0, 0.0)]))),
    "pushed neuron": batch(refuted=refutations([0], [0], [1], choices([0, 0], [(0, 2, 0.0)]))),
    "pushed twice": batch(
        refuted=refutations([0], [0], [1], choices([0, 0], [(0, 0, 0.0), (0, 0, 0.0)]))
    ),
    "shrinking pair": batch(shrunk=shrinking([1], [0], [1.0]), splits=[(AGAIN, 0.0)]),
    "shrinking order": batch(shrunk=shrinking([0], [255], [1.0]), splits=[(AGAIN, 0.0)]),
    "gone pair": batch(shrunk=shrinking([0], [0], [1.0], gone=[1]), splits=[(AGAIN, 0.0)]),
    "end's node": batch(shrunk=shrinking([0], [0], [1.0], [(1, 0, -1.0)]), splits=[(AGAIN, 0.0)]),
    "end's side": batch(shrunk=shrinking([0], [0], [1.0], [(0, 2, -1.0)]), splits=[(AGAIN, 0.0)]),
    "end not a number": batch(
        shrunk=shrinking([0], [0], [1.0], [(0, 0, float("nan"))]), splits=[(AGAIN, 0.0)]
    ),
    "no split": batch(),
    "split input": batch(splits=[(1, 0.0)]),
    "split neuron": batch(splits=[(-3, 0.0)]),
    "split at the lower end": batch(splits=[(0, -1.0)]),
    "split at the upper end": batch(splits=[(0, 1.0)]),
    "split outside": batch(splits=[(0, 7.0)]),
    "split at NaN": batch(splits=[(0, float("nan"))]),
    "split at infinity": batch(splits=[(0, float("inf"))]),
    "a leaf that is split": (BATCH, leaf()[1] + packed("i4", 0) + packed("f8", 0.0)),
    "a byte too many": (BATCH, leaf()[1] + b"\0"),
    "a byte too few": (BATCH, leaf()[1][:-1]),
    "empty": (BATCH, b""),
    "unknown kind": (b"X", b""),
    "region again": (GROUP, packed("u4", 0)),
    "next region": (GROUP, packed("u4", 1)),
}


@pytest.mark.parametrize("what", BAD)
def test_a_record_out_of_order_or_range_is_rejected(question: Question, what: str) -> None:
    assert accepts(question, leaf())
    assert not accepts(question, BAD[what])
    assert not accepts(question, BAD[what], leaf())
    assert not accepts(question, leaf(), BAD[what])


def test_a_certificate_that_stops_early_is_rejected(question: Question) -> None:
    records = [*question.opening, HALVES]
    for count in range(len(records) + 1):
        assert not question.check(records[:count]).accepted


def test_a_second_header_and_a_longer_region_record_are_rejected(question: Question) -> None:
    header, group = question.opening
    assert not question.check([header, header, group, leaf()]).accepted
    assert not question.check([group, leaf()]).accepted
    assert not question.check([header, (GROUP, packed("u4", 0, 0)), leaf()]).accepted


def test_a_deep_chain_is_walked_to_its_end(question: Question) -> None:
    """10,000 nodes that are put back, one after the other."""
    checked = question.check([*question.opening, *[batch(splits=[(AGAIN, 0.0)])] * 10_000, leaf()])
    assert (checked.accepted, checked.nodes, checked.leaves) == (True, 10_001, 1)


def test_memory_does_not_grow_with_the_chain(question: Question) -> None:
    peaks = []
    for depth in (1, 20, 1000):  # the first one loads what is loaded once
        records = [*question.opening, *[batch(splits=[(AGAIN, 0.0)])] * depth, leaf()]
        content = sealed(records)
        tracemalloc.start()
        assert question.check_bytes(content).accepted
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < peaks[1] + 200_000


def test_a_deep_tree_needs_no_recursion(question: Question) -> None:
    """40 splits of the input, each of the upper part, then all leaves."""
    depth = 40
    splits = [batch(splits=[(0, 1.0 - 2.0 ** -(level + 1))]) for level in range(depth)]
    count = depth + 1
    leaves = batch(count, refuted=refutations(
        range(count), [0] * count, [1] * count, choices([0, 0] * count)))  # fmt: skip
    checked = question.check([*question.opening, *splits, leaves])
    assert (checked.accepted, checked.leaves) == (True, count)


def test_no_part_of_a_real_certificate_can_be_left_out_or_exchanged(tmp_path: Path) -> None:
    question = random_question(tmp_path, 3, [2, 12, 12, 1], 0.001)
    _, content = certified(question)
    assert content is not None
    records = records_of(content)
    assert len(records) >= 4
    for place in range(len(records)):
        assert not question.check(records[:place] + records[place + 1 :]).accepted
    for place in range(len(records) - 1):
        swapped = records.copy()
        swapped[place : place + 2] = swapped[place + 1], swapped[place]
        assert not question.check(swapped).accepted


def test_every_cut_and_every_changed_byte_shows(question: Question) -> None:
    """Without sealing again, checksums alone reject."""
    content = sealed([*question.opening, leaf()])
    assert question.check_bytes(content).accepted
    assert not question.check_bytes(content + b"\0").accepted
    for place in range(len(content)):
        assert not question.check_bytes(content[:place]).accepted
        changed = bytearray(content)
        changed[place] ^= 1
        assert not question.check_bytes(bytes(changed)).accepted


def test_the_header_names_model_property_and_semantics(question: Question) -> None:
    """Every byte of it matters, sealed again or not."""
    (kind, header), *rest = [*question.opening, leaf()]
    for place in range(len(header)):
        changed = bytearray(header)
        changed[place] ^= 1
        assert not question.check([(kind, bytes(changed)), *rest]).accepted


def test_another_model_or_one_digit_of_the_property_is_rejected(tmp_path: Path) -> None:
    question = absolute_value_question(tmp_path, -0.5)
    content = sealed([*question.opening, leaf()])
    assert question.check_bytes(content).accepted
    text = question.property_file.read_text()
    question.property_file.write_text(text.replace("-0.5", "-0.6"))
    assert not question.check_bytes(content).accepted
    question.property_file.write_text(text)
    other = relu_network([(array([[1], [-1]]), array([0, 1])), (array([[1, 1]]), array([0]))])
    write_model(tmp_path, other)
    assert "another model" in question.check_bytes(content).reason


def test_two_boxes_need_two_trees(tmp_path: Path) -> None:
    question = absolute_value_question(tmp_path, -0.5)
    question.property_file = tmp_path / "p.vnnlib"
    question.property_file.write_text(
        "(declare-const X_0 Real)\n(declare-const Y_0 Real)\n"
        "(assert (or (and (>= X_0 -1) (<= X_0 0)) (and (>= X_0 0) (<= X_0 1))))\n"
        "(assert (<= Y_0 -0.5))\n"
    )
    tree = batch(refuted=refutations([0], [0], [1]))
    second = [(GROUP, packed("u4", 1)), tree]
    assert not accepts(question, tree)
    assert accepts(question, tree, *second)
    assert not accepts(question, tree, *second, *second)


def test_float32_needs_a_margin_of_its_roundings(tmp_path: Path) -> None:
    """The same leaves; -1e-9 is enough for the reals only, and the header says which."""
    for value, semantics, expected in (
        (-1e-9, Semantics.REAL, True), (-1e-9, Semantics.FLOAT32, False),
        (-1e-3, Semantics.FLOAT32, True),
    ):  # fmt: skip
        question = absolute_value_question(tmp_path, value)
        question.semantics = semantics
        signs = lemmas([0, 0, 1, 1], [1, 2, 0, 3], [-1e-5] * 4)
        assert accepts(question, HALVES, both(None, signs)) == expected


def test_a_network_that_may_overflow_in_float32_has_no_certificate_of_it(tmp_path: Path) -> None:
    """relu(2^127 x) and back: exact over the reals, infinity times anything as executed."""
    layers = [(array([[2.0**127], [0]]), array([2.0**127, 1])), (array([[0, 1]]), array([0]))]
    question = Question(
        tmp_path, write_model(tmp_path, relu_network(layers)), at_least(0.5, [-1], [1])
    )
    one = batch(refuted=refutations([0], [0], [1]))
    assert accepts(question, one)
    question.semantics = Semantics.FLOAT32
    assert not accepts(question, one)


def test_checking_loads_neither_torch_nor_the_compiled_search(question: Question) -> None:
    assert accepts(question, leaf())
    script = (
        "import sys\n"
        "from auditor.verify.certificate.checker import check_certificate\n"
        "done = check_certificate(*sys.argv[1:])\n"
        "engine = ('torch', 'numba', 'z3', 'onnxruntime', 'auditor.verify.bounds',\n"
        "          'auditor.verify.search', 'auditor.verify.network', 'auditor.verify.proof',\n"
        "          'auditor.verify.problem', 'auditor.verify.rounding',\n"
        "          'auditor.verify.semantics', 'auditor.verify.certificate.producer')\n"
        "print(done.accepted, [name for name in engine if name in sys.modules])\n"
    )
    paths = [str(p) for p in (question.certificate, question.model, question.property_file)]
    output = subprocess.run(
        [sys.executable, "-c", script, *paths],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[4],
    )  # fmt: skip
    assert output.stdout.strip() == "True []"
