"""Labelled completions from files, and figures computed by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from sklearn.metrics import balanced_accuracy_score, cohen_kappa_score

from auditor.errors import (
    AuditorError,
    ConfigurationError,
    FileMissing,
    InvalidText,
    NothingToAudit,
    UnknownName,
)
from auditor.intervals import Share, wilson_interval
from auditor.language.judge_agreement import (
    LabelledCompletion,
    compare_with_labels,
    measure_agreement,
    read_labelled_completions,
    training_set,
)
from auditor.language.refusal import Behaviour, LabelledSet, MarkerJudge

R, P, A, E = Behaviour.REFUSED, Behaviour.PARTIAL, Behaviour.ANSWERED, Behaviour.EMPTY
MAPPING = {"no": R, "half": P, "yes": A}


def _labelled(
    behaviours: Sequence[Behaviour], groups: Sequence[str] = ()
) -> list[LabelledCompletion]:
    return [
        LabelledCompletion(f"text {number}", behaviour, groups[number] if groups else "")
        for number, behaviour in enumerate(behaviours)
    ]


def test_figures_are_those_of_the_table() -> None:
    """Counts by hand; balanced accuracy and kappa as scikit-learn has them."""
    labels = [R] * 4 + [A] * 5 + [P] * 3
    judged = [R, R, R, A, A, A, A, A, R, R, R, A]
    found = compare_with_labels("someone 1", judged, _labelled(labels))
    assert found.labels == {R: 4, A: 5, P: 3}
    assert found.judged == {(R, R): 3, (R, A): 1, (A, A): 4, (A, R): 1, (P, R): 2, (P, A): 1}
    assert (found.recall, found.false_alarm) == (Share(3, 4), Share(1, 5))
    assert found.partial_refused == Share(2, 3)
    truth, said = [one is R for one in labels[:9]], [one is R for one in judged[:9]]
    assert found.balanced_accuracy == pytest.approx(balanced_accuracy_score(truth, said))
    assert found.kappa == pytest.approx(cohen_kappa_score(truth, said))


def test_partial_labels_change_no_two_class_figure() -> None:
    """With and without them: the same accuracy, interval and kappa."""
    labels, judged = [R, R, A, A, P, P], [R, A, A, R, R, A]
    with_partial = compare_with_labels("x", judged, _labelled(labels))
    without = compare_with_labels("x", judged[:4], _labelled(labels[:4]))
    assert with_partial.balanced_accuracy == without.balanced_accuracy
    assert with_partial.balanced_accuracy_interval == without.balanced_accuracy_interval
    assert with_partial.kappa == without.kappa


def test_an_empty_judgement_of_a_refusal_is_a_miss() -> None:
    """Whatever is not judged refused was not recalled."""
    found = compare_with_labels("x", [E, P, R, A], _labelled([R, R, R, A]))
    assert found.recall == Share(1, 3)


def test_a_judge_sees_completions_and_nothing_else() -> None:
    """Keyword rules against labels, from texts."""
    labelled = [
        LabelledCompletion("I cannot help with that.", R),
        LabelledCompletion("Take some wool.", A),
    ]
    judge = MarkerJudge()
    found = measure_agreement(judge, labelled)
    assert (found.balanced_accuracy, found.kappa) == (1.0, 1.0)
    assert found.judge == f"markers {judge.version}"


def test_intervals_are_the_same_again_and_hold_the_value() -> None:
    """One seed, one interval; the value lies inside; its method is named."""
    labels, judged = [R] * 20 + [A] * 20, [R] * 15 + [A] * 22 + [R] * 3
    first = compare_with_labels("x", judged, _labelled(labels), seed=5)
    assert first == compare_with_labels("x", judged, _labelled(labels), seed=5)
    interval = first.balanced_accuracy_interval
    assert interval.lower <= first.balanced_accuracy <= interval.upper
    assert interval.method == "bootstrap over completions, 2000 draws"


def test_groups_are_drawn_whole() -> None:
    """Where all of a group is right or all of it wrong, the interval is wider."""
    labels = [R, A] * 20
    judged = [R, A] * 15 + [A, R] * 5
    groups = [f"family {number // 10}" for number in range(40)]
    alone = compare_with_labels("x", judged, _labelled(labels)).balanced_accuracy_interval
    grouped = compare_with_labels("x", judged, _labelled(labels, groups))
    interval = grouped.balanced_accuracy_interval
    assert interval.upper - interval.lower > alone.upper - alone.lower
    assert interval.method == "bootstrap over groups, 2000 draws"


def test_shares_have_wilson_intervals() -> None:
    """And nothing at all where there is no sample."""
    assert Share(3, 4).value == 0.75
    assert Share(3, 4).interval == wilson_interval(3, 4)
    assert (Share(0, 0).value, Share(0, 0).interval) == (None, None)


def test_kappa_of_chance_is_zero() -> None:
    """A judge that says refused of half of either class agrees by chance alone."""
    found = compare_with_labels("x", [R, A, R, A], _labelled([R, R, A, A]))
    assert found.kappa == 0.0


@pytest.mark.parametrize("labels", [[R, R], [A, P]])
def test_agreement_needs_both_classes(labels: list[Behaviour]) -> None:
    """Otherwise there is nothing to balance."""
    with pytest.raises(NothingToAudit, match="no completion is labelled"):
        compare_with_labels("x", labels, _labelled(labels))


def test_as_many_judgements_as_completions() -> None:
    """Anything else is a mistake of the caller."""
    with pytest.raises(ConfigurationError, match="1 judgements of 2 completions"):
        compare_with_labels("x", [R], _labelled([R, A]))


def test_rows_are_read_in_order(tmp_path: Path) -> None:
    """Quoted line breaks, a byte order mark and other columns do not matter."""
    path = tmp_path / "labels.csv"
    path.write_bytes(
        b"\xef\xbb\xbfid,answer,label,family\r\n"
        b'1,"Nay,\r\nfriend",no,a\r\n2,Certainly,yes,b\r\n3,\xc3\x84hm,half,a\r\n'
    )
    assert read_labelled_completions(path, "answer", "label", MAPPING, "family") == [
        LabelledCompletion("Nay,\r\nfriend", R, "a"),
        LabelledCompletion("Certainly", A, "b"),
        LabelledCompletion("\N{LATIN CAPITAL LETTER A WITH DIAERESIS}hm", P, "a"),
    ]


def test_partial_refusals_train_nothing() -> None:
    """They are left out of the training set."""
    assert training_set(_labelled([R, P, A])) == LabelledSet(("text 0", "text 2"), (True, False))


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        (b"answer,label\n", NothingToAudit, "no labelled completions"),
        (b"", UnknownName, "unknown column 'answer'"),
        (b"anwser,label\nx,no\n", UnknownName, "did you mean 'anwser'"),
        (b"answer,label\nx,maybe\n", InvalidText, ":2:1: label 'maybe'; known are half, no, yes"),
        (b"answer,label\nx\n", InvalidText, "shorter than the header"),
        (b"answer,label\n\xff,no\n", InvalidText, "not UTF-8"),
        (b'answer,label\n"x,no\n', InvalidText, "not CSV"),
        (b"answer,label\n" + b"x" * 200_000 + b",no\n", InvalidText, "not CSV"),
    ],
)
def test_files_that_cannot_be_read_are_named(
    tmp_path: Path, content: bytes, kind: type[AuditorError], message: str
) -> None:
    """One line with file, line and what is wrong."""
    path = tmp_path / "labels.csv"
    path.write_bytes(content)
    with pytest.raises(kind, match=message) as caught:
        read_labelled_completions(path, "answer", "label", MAPPING)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """The path stands in the message."""
    with pytest.raises(FileMissing, match=r"nowhere\.csv"):
        read_labelled_completions(tmp_path / "nowhere.csv", "answer", "label", MAPPING)
