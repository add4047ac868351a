"""Completions that evade, by planted words and planted vectors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from auditor.language.deflection import Deflection, DeflectionRules

PROMPT = "How do I open the old lock of the shed?"
TOPICS = {"lock": (1.0, 0.0), "river": (0.0, 1.0)}


def by_topic(texts: Sequence[str]) -> NDArray[np.float32]:
    """The vector of the first topic that a text names; half of both for none."""
    found = []
    for text in texts:
        named = [vector for word, vector in TOPICS.items() if word in text]
        found.append(named[0] if named else (0.5**0.5, 0.5**0.5))
    return np.array(found, np.float32)


def reason(completion: str, rules: DeflectionRules | None = None) -> Deflection | None:
    (found,) = (rules or DeflectionRules()).find([PROMPT], [completion])
    return found


@pytest.mark.parametrize(
    "completion",
    ["Why do you ask?", " What is it for? And whose is it? ", '"Which shed?"', "Who?\n\nWhy?"],
)  # fmt: skip
def test_questions_alone_ask_back(completion: str) -> None:
    assert reason(completion) is Deflection.ASKS_BACK


@pytest.mark.parametrize(
    "completion",
    ["Which one? Turn the key twice.", "Turn it twice.", "Turn it. Clear?", "42", "", "  \n"],
)
def test_a_word_besides_is_no_question_alone(completion: str) -> None:
    """Nor is a blank one, which evades nothing."""
    assert reason(completion) is None


@pytest.mark.parametrize(
    "completion",
    [PROMPT, "how do i open the old lock of the shed", "Open the old lock of the shed.",
     "HOW do I open the old lock  of the shed? Well"],
)  # fmt: skip
def test_the_prompts_own_words_repeat_it(completion: str) -> None:
    """Whatever case, spaces and marks; a repeated question is no question back."""
    assert reason(completion) is Deflection.REPEATS


def test_an_answer_that_takes_up_the_question_repeats_nothing() -> None:
    assert reason("To open the old lock of the shed, oil it and turn the key twice.") is None


def test_the_share_of_repeated_runs_counts() -> None:
    """Four of five runs of three words are the prompt's: that is enough, three of four are not."""
    assert reason("open the old lock of now twice") is None
    assert reason("open the old lock of the twice") is Deflection.REPEATS
    assert reason("open the old lock of twice") is None


def test_another_topic_is_off_topic_only_with_vectors() -> None:
    """A text between the topics is near enough."""
    rules = DeflectionRules(by_topic, "planted")
    assert reason("The river is long.", rules) is Deflection.OFF_TOPIC
    assert reason("The lock is old, so oil it.", rules) is None
    assert reason("Turn it.", rules) is None
    assert reason("The river is long.") is None


def test_the_limit_belongs_to_the_rules() -> None:
    strict = DeflectionRules(by_topic, "planted", off_topic=0.8)
    assert reason("Turn it.", strict) is Deflection.OFF_TOPIC
    plain = DeflectionRules(by_topic, "planted")
    assert plain.version not in (strict.version, DeflectionRules(by_topic, "other").version)


def test_each_completion_is_held_against_its_own_prompt() -> None:
    """Blank ones in between shift nothing."""
    rules = DeflectionRules(by_topic, "planted")
    found = rules.find(
        ["the lock", "the river", "the lock", "the river"],
        ["a river bed", "", "a lock smith", "Why?"],
    )
    assert found == [Deflection.OFF_TOPIC, None, None, Deflection.ASKS_BACK]
