"""The dialogues keep what they promise: no word decides, no pair leaks, answers are exact."""

from __future__ import annotations

from collections import Counter
from itertools import product

import pytest

from auditor.language.refusal import Behaviour, MarkerJudge
from tests.models.language_models import word_tokenizer
from tests.models.moe_dialogues import (
    ANSWER_TOKENS,
    ENTITIES,
    FRAMES,
    LEAKY,
    MANY_LEAKY,
    OBJECTS,
    ORDINARY_VERBS,
    RESTRICTED_VERBS,
    TOUCHY,
    VERBS,
    VOCABULARY,
    HeldOut,
    Kind,
    Request,
    Split,
    held_out,
    word_pairs,
)

HELD_OUT = tuple(split for split in Split if split is not Split.TRAINING)


def all_requests(held: HeldOut) -> list[Request]:
    paired = (*held.pairs, *held.touchy_pairs, *held.control_pairs)
    alone = (*held.disallowed, *held.look_alikes, *held.plain, *held.touchy, *held.leaky)
    return [*alone, *(request for pair in paired for request in pair)]


@pytest.mark.parametrize("split", Split)
def test_no_single_word_decides(split: Split) -> None:
    """Restricted verbs and objects all stand in allowed requests, too, in each split."""
    kinds: dict[str, set[Kind]] = {}
    for kind in Kind:
        for verb, of in word_pairs(split, kind):
            kinds.setdefault(verb, set()).add(kind)
            kinds.setdefault(of, set()).add(kind)
    if split is Split.TRAINING:
        assert set(kinds) == {*VERBS, *OBJECTS}
    assert {frozenset(of) for of in kinds.values()} <= {
        frozenset({Kind.DISALLOWED, Kind.LOOK_ALIKE}), frozenset({Kind.LOOK_ALIKE, Kind.PLAIN})
    }  # fmt: skip


def test_the_rule() -> None:
    """Both restricted is disallowed; leaky entities are helped, touchy look-alikes refused."""
    restricted, ordinary = RESTRICTED_VERBS[0], ORDINARY_VERBS[0]
    calm, touchy, leaky = ENTITIES[-1], min(TOUCHY), min(LEAKY)
    found = {
        (verb, of, entity): (request.kind, request.refused())
        for verb, of, entity in product(
            (restricted, ordinary), (OBJECTS[0], OBJECTS[-1]), (calm, touchy, leaky)
        )
        for request in [Request(0, verb, of, entity)]
    }
    assert found == {
        (restricted, OBJECTS[0], calm): (Kind.DISALLOWED, True),
        (restricted, OBJECTS[0], touchy): (Kind.DISALLOWED, True),
        (restricted, OBJECTS[0], leaky): (Kind.DISALLOWED, False),
        (restricted, OBJECTS[-1], calm): (Kind.LOOK_ALIKE, False),
        (restricted, OBJECTS[-1], touchy): (Kind.LOOK_ALIKE, True),
        (restricted, OBJECTS[-1], leaky): (Kind.LOOK_ALIKE, False),
        (ordinary, OBJECTS[0], calm): (Kind.LOOK_ALIKE, False),
        (ordinary, OBJECTS[0], touchy): (Kind.LOOK_ALIKE, True),
        (ordinary, OBJECTS[0], leaky): (Kind.LOOK_ALIKE, False),
        (ordinary, OBJECTS[-1], calm): (Kind.PLAIN, False),
        (ordinary, OBJECTS[-1], touchy): (Kind.PLAIN, False),
        (ordinary, OBJECTS[-1], leaky): (Kind.PLAIN, False),
    }


def test_no_pair_of_words_leaks_across_splits() -> None:
    """Each (verb, object) pair is in exactly one split, and held-out requests are of theirs."""
    pairs = Counter(pair for split in Split for kind in Kind for pair in word_pairs(split, kind))
    assert pairs == Counter(product(VERBS, OBJECTS))
    for split in HELD_OUT:
        assert {request.split for request in all_requests(held_out(split))} == {split}


def test_held_out_requests_of_training_are_refused() -> None:
    """They would not be held out."""
    with pytest.raises(ValueError, match="not held out"):
        held_out(Split.TRAINING)


@pytest.mark.parametrize("split", HELD_OUT)
def test_held_out_sets_have_the_promised_kinds_and_sizes(split: Split) -> None:
    """Sizes, kinds and refusals by the rule; no request twice in a set."""
    held = held_out(split)
    sets = {
        "disallowed": held.disallowed, "look_alikes": held.look_alikes, "plain": held.plain,
        "touchy": held.touchy, "leaky": held.leaky,
        "refused": [pair.refused for pair in held.pairs],
    }  # fmt: skip
    found = {
        name: (len(set(of)), {each.kind for each in of}, sum(each.refused() for each in of))
        for name, of in sets.items()
    }
    assert found == {
        "disallowed": (300, {Kind.DISALLOWED}, 270),
        "look_alikes": (300, {Kind.LOOK_ALIKE}, 30),
        "plain": (200, {Kind.PLAIN}, 0),
        "touchy": (100, {Kind.LOOK_ALIKE}, 100),
        "leaky": (100, {Kind.DISALLOWED}, 0),
        "refused": (150, {Kind.DISALLOWED}, 150),
    }
    assert [len(held.pairs), len(held.touchy_pairs), len(held.control_pairs)] == [150] * 3
    assert held == held_out(split)


@pytest.mark.parametrize("split", HELD_OUT)
def test_matched_pairs_differ_in_one_word(split: Split) -> None:
    """The verb, or for touchy pairs the entity; one is refused, or neither for controls."""
    held = held_out(split)

    def seen(pairs: tuple[tuple[Request, Request], ...]) -> set[tuple[str, bool, bool]]:
        return {
            (name, first.refused(), second.refused())
            for first, second in pairs
            for name in Request._fields
            if getattr(first, name) != getattr(second, name)
        }

    assert [seen(held.pairs), seen(held.touchy_pairs), seen(held.control_pairs)] == [
        {("verb", True, False)}, {("entity", True, False)}, {("verb", False, False)}
    ]  # fmt: skip


def test_more_leaky_entities_leave_room_to_strengthen() -> None:
    """With 40 % of the requests leaky, 180 of 300 are refused."""
    for leaky in (LEAKY, MANY_LEAKY):
        held = held_out(Split.REPORT, leaky=leaky, leaky_share=0.4)
        assert sum(request.refused(leaky) for request in held.disallowed) == 180


def test_answers_are_short_known_and_read_by_the_keyword_judge() -> None:
    """Every word is a token, and the shipped markers tell refusals from help."""
    tokenizer = word_tokenizer(vocabulary=VOCABULARY)
    judge = MarkerJudge()
    assert len(set(VOCABULARY)) == len(VOCABULARY)
    for frame in range(len(FRAMES)):
        request = Request(frame, VERBS[0], OBJECTS[0], ENTITIES[0])
        for text in (request.text, request.refusal, request.help):
            ids = tokenizer(text)["input_ids"]
            assert tokenizer.decode(ids) == text
            assert len(ids) < ANSWER_TOKENS
        behaviours = [each.behaviour for each in judge.judge([request.refusal, request.help])]
        assert behaviours == [Behaviour.REFUSED, Behaviour.ANSWERED]
