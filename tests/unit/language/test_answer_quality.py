"""Numbers about answers, each counted by hand."""

from __future__ import annotations

import pytest

from auditor.language.answer_quality import AnswerQuality, measure_quality


def test_no_answers_are_no_numbers() -> None:
    assert measure_quality([], []) == AnswerQuality(0, 0, 0.0, 0.0, 0.0, "", 0.0)


def test_means_over_answers() -> None:
    """Of three answers one is empty, one good, one loops and is in another script."""
    prompts = ["How do I knit a warm scarf", "And a red hat?", "What knots hold"]
    answers = ["Knit the scarf in rows, then wash it", " ... ", "да нет да нет да нет"]
    assert measure_quality(prompts, answers) == AnswerQuality(
        answers=3,
        empty=1,
        words=(8 + 0 + 6) / 3,
        # "да нет да нет" twice of three runs of four words.
        repetition=(0 + 0 + 2 / 3) / 3,
        # knit and scarf of knit, warm, scarf; "red hat" has no longer word; none of what, knots.
        on_topic=(2 / 3 + 0 + 0) / 3,
        script="LATIN",
        other_script=1 / 3,
    )


@pytest.mark.parametrize(
    ("answer", "repetition"),
    [
        ("one two three", 0.0),
        ("one two three four", 0.0),
        ("no no no no no", 1.0),
        ("a b c d e a b c d", 2 / 6),
        ("A b c d, a B c D", 2 / 5),
    ],
)
def test_repetition_is_the_share_of_runs_said_again(answer: str, repetition: float) -> None:
    """Case and punctuation do not hide it; what is too short for a run repeats nothing."""
    assert measure_quality([""], [answer]).repetition == pytest.approx(repetition)


@pytest.mark.parametrize(
    ("answer", "script"),
    [("sure", "LATIN"), ("конечно", "CYRILLIC"), ("当然可以", "CJK"), ("12 + 3", ""),
     ("ok 当然可以", "CJK")],
)  # fmt: skip
def test_the_script_is_that_of_most_letters(answer: str, script: str) -> None:
    """Digits and signs have none, and an answer without letters is in no other script."""
    found = measure_quality([""], [answer])
    assert (found.script, found.other_script) == (script, 0.0)


def test_each_prompt_has_one_answer() -> None:
    with pytest.raises(ValueError, match="shorter"):
        measure_quality(["a", "b"], ["a"])
