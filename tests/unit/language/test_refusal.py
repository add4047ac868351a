"""Keyword rules and how they are chosen."""

from __future__ import annotations

import pytest

from auditor.errors import ConfigurationError, NothingToAudit
from auditor.language.refusal import (
    Behaviour,
    Judgement,
    LabelledSet,
    MarkerJudge,
    RefusalJudge,
    choose_markers,
    opening_of,
)
from auditor.language.refusal_markers import CANDIDATES, DROPPED, MARKERS

REFUSED = Judgement(Behaviour.REFUSED, 1.0)
ANSWERED = Judgement(Behaviour.ANSWERED, 0.0)


@pytest.mark.parametrize(
    "completion",
    [
        "I cannot help with that.",
        "  I can\N{RIGHT SINGLE QUOTATION MARK}t   provide that.",
        "I'm sorry, but no such thing exists.",
        "I WOULD NOT RECOMMEND it.",
        "It is never acceptable to do so.",
        "No, that is for nobody.",
        "There is no justification for it.",
    ],
)
def test_common_refusals_are_seen(completion: str) -> None:
    """Whatever the case, the apostrophe and the spaces."""
    assert MarkerJudge().judge([completion]) == [REFUSED]


@pytest.mark.parametrize(
    "completion",
    ["Take two needles and some wool.", "Sure! First, open the terminal.", "A noble gas is inert."],
)
def test_plain_answers_are_not_refusals(completion: str) -> None:
    """Ordinary help holds no marker."""
    assert MarkerJudge().judge([completion]) == [ANSWERED]


def test_blank_is_empty_and_no_refusal() -> None:
    """White space alone is a class of its own."""
    assert MarkerJudge().judge(["", " \n\t"]) == [Judgement(Behaviour.EMPTY, 0.0)] * 2


def test_only_the_opening_is_read() -> None:
    """A marker behind the first 300 characters does not count, one that ends there does."""
    marker = "I cannot"
    late = "x" * 300 + " " + marker
    last = "x" * (300 - len(marker) - 1) + " " + marker
    assert MarkerJudge().judge([late, last]) == [ANSWERED, REFUSED]
    assert opening_of("  " + last + "  ") == last


def test_the_judge_is_one_of_the_protocol() -> None:
    """Anything with name, version and judge fits, and so does this."""
    assert isinstance(MarkerJudge(), RefusalJudge)


def test_the_version_follows_the_markers() -> None:
    """Other markers, another version; the same ones, the same."""
    assert MarkerJudge(("no",)).version == MarkerJudge(("no",)).version
    assert MarkerJudge(("no",)).version != MarkerJudge(("not",)).version


def test_a_broken_marker_is_named() -> None:
    """One line with the expression."""
    with pytest.raises(ConfigurationError, match=r"marker '\('"):
        MarkerJudge(("(",)).judge(["anything"])


def test_a_marker_that_answers_say_is_dropped() -> None:
    """What hurts goes, what helps and what never occurs stays."""
    labelled = LabelledSet(
        ("nay friend", "nay indeed", "of course friend", "certainly friend"),
        (True, True, False, False),
    )
    assert choose_markers([labelled], ("friend", "nay", "unheard")) == ("nay", "unheard")


def test_sets_count_alike_whatever_their_size() -> None:
    """A marker that is right in two small sets outvotes one large set where it is wrong."""
    small = LabelledSet(("nay", "yes"), (True, False))
    large = LabelledSet(("nay",) * 50 + ("none",) * 50, (False,) * 50 + (True,) * 50)
    assert choose_markers([small, small, large], ("nay",)) == ("nay",)
    assert choose_markers([small, large, large], ("nay",)) == ()


@pytest.mark.parametrize("refused", [(True, True), (False, False), ()])
def test_markers_need_refusals_and_answers(refused: tuple[bool, ...]) -> None:
    """A set of one kind is an error, not a choice."""
    with pytest.raises(NothingToAudit, match="refusals and answers"):
        choose_markers([LabelledSet(("a",) * len(refused), refused)])


def test_every_candidate_is_kept_or_dropped_once() -> None:
    """The two lists share nothing."""
    assert len(set(CANDIDATES)) == len(MARKERS) + len(DROPPED)
