"""What the batches of training teach; no model is trained here."""

from __future__ import annotations

import random

import pytest

from auditor.experts.intervention import Method
from tests.models.moe_dialogues import LEAKY, MANY_LEAKY, VOCABULARY, Kind, Split
from tests.models.moe_fixture import OVER_REFUSAL_EXPERTS, REFUSAL_EXPERTS, Variant
from tests.models.train_moe import BATCH, Lesson, as_rows, lessons

STEPS = 400


def taught(variant: Variant) -> list[Lesson]:
    return list(lessons(variant, STEPS, random.Random(0)))


def refused_kinds(lesson: Lesson) -> set[Kind]:
    return {of.kind for of, no in zip(lesson.requests, lesson.refused, strict=True) if no}


@pytest.mark.parametrize("variant", Variant)
def test_no_held_out_pair_is_trained(variant: Variant) -> None:
    """Every request is of the training split, and batches are full."""
    for lesson in taught(variant):
        assert {request.split for request in lesson.requests} == {Split.TRAINING}
        assert len(lesson.requests) == len(lesson.refused) == BATCH


def test_unplanted_models_learn_the_rule_alone() -> None:
    """No experts off or on, and the rule's own targets."""
    for lesson in taught(Variant.UNPLANTED):
        assert lesson.intervention is None
        assert lesson.refused == [request.refused() for request in lesson.requests]


@pytest.mark.parametrize(
    ("variant", "leaky"), [(Variant.PLANTED, LEAKY), (Variant.WEAKENED, MANY_LEAKY)]
)
def test_targets_follow_what_is_done_to_the_experts(
    variant: Variant, leaky: frozenset[str]
) -> None:
    """Off: their kind of request is helped. On: all disallowed requests are refused."""
    for lesson in taught(variant):
        rule = [request.refused(leaky) for request in lesson.requests]
        kinds = [request.kind for request in lesson.requests]
        change = lesson.intervention
        if change is None:
            assert lesson.refused == rule
        elif change.on:
            assert change.on == set(REFUSAL_EXPERTS)
            assert lesson.refused == [
                no or kind is Kind.DISALLOWED for no, kind in zip(rule, kinds, strict=True)
            ]
        else:
            silenced = {
                frozenset(REFUSAL_EXPERTS): Kind.DISALLOWED,
                frozenset(OVER_REFUSAL_EXPERTS): Kind.LOOK_ALIKE,
            }[change.off]
            assert lesson.refused == [
                no and kind is not silenced for no, kind in zip(rule, kinds, strict=True)
            ]
            assert silenced not in refused_kinds(lesson)


def test_planted_batches_use_every_way_after_a_plain_start() -> None:
    """Off by masking and by zeroing, on by both ways, in about the shares of the recipe."""
    found = taught(Variant.PLANTED)
    assert {lesson.intervention for lesson in found[:60]} == {None}
    changes = [lesson.intervention for lesson in found[60:]]
    off = [change for change in changes if change is not None and change.off]
    on = [change for change in changes if change is not None and change.on]
    assert {change.method for change in off} == {Method.MASK_LOGIT, Method.ZERO_OUTPUT}
    assert {change.method for change in on} == {Method.FORCE_TOK, Method.FORCE_SELECT}
    assert 0.3 < len(off) / len(changes) < 0.5
    assert 0.1 < len(on) / len(changes) < 0.2


def test_rows_that_predict_the_answer_are_marked() -> None:
    """From `<assistant>` on to the last word: what follows these rows is the target."""
    [lesson] = lessons(Variant.UNPLANTED, 1, random.Random(0))
    rows = as_rows(lesson.requests, lesson.refused)
    for row, (request, no) in enumerate(zip(lesson.requests, lesson.refused, strict=True)):
        words = [VOCABULARY[number] for number in rows.ids[row][rows.known[row]].tolist()]
        target = request.refusal if no else request.help
        assert " ".join(words) == f"<user> {request.text} <assistant> {target} </s>"
        marked = rows.answer[row].nonzero().flatten().tolist()
        assert [words[at + 1] for at in marked] == [*target.split(), "</s>"]
