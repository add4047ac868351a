"""Refusal behaviour as records: rows, names, what is shown and what is not."""

from __future__ import annotations

import json

import pytest

from auditor.intervals import wilson_interval
from auditor.language.prompt_sets import AskedPrompt, PromptSet
from auditor.language.prompts import Prompt
from auditor.language.refusal import Behaviour
from auditor.language.refusal_evidence import (
    COLUMNS,
    EXCERPT,
    LISTED,
    behaviour_metrics,
    behaviour_table,
    completions_as_lines,
    flips_control,
    prompt_table,
)
from auditor.language.refusal_record import Flips, RefusalBehaviour, Reply

HARMFUL, HARMLESS = PromptSet.HARMFUL, PromptSet.HARMLESS


def reply(
    kind: PromptSet, behaviour: Behaviour, category: str = "", text: str = "what is it"
) -> Reply:
    asked = AskedPrompt(Prompt(text, category, line=3), kind)
    return Reply(asked, "said \ud800", behaviour, 0.5, 4, behaviour is Behaviour.ANSWERED)


def behaviour_of(*replies: Reply) -> RefusalBehaviour:
    return RefusalBehaviour(replies, len(replies), "planted 1", "none", True, 2.0)


def test_a_set_of_one_type_is_one_row() -> None:
    """And its types follow where there are several; a set without prompts has no row."""
    one = behaviour_of(reply(HARMFUL, Behaviour.PARTIAL, "a"))
    interval = wilson_interval(0, 1)
    ends = (interval.lower, round(interval.upper, 3))
    assert behaviour_table(one).rows == (("harmful", "all", 1, 0, 0, 1, 0, 0, *ends, 0),)
    assert len(COLUMNS) == len(behaviour_table(one).rows[0])
    two = behaviour_of(
        reply(HARMLESS, Behaviour.ANSWERED, "a"), reply(HARMLESS, Behaviour.EMPTY, "")
    )
    assert [row[:8] for row in behaviour_table(two).rows] == [
        ("harmless", "all", 2, 1, 0, 0, 0, 1), ("harmless", "a", 1, 1, 0, 0, 0, 0),
        ("harmless", "no type", 1, 0, 0, 0, 0, 1),
    ]  # fmt: skip
    assert [row[-1] for row in behaviour_table(two).rows] == [1, 1, 0]


def test_many_types_are_counted_and_not_all_listed() -> None:
    many = behaviour_of(
        *(reply(HARMFUL, Behaviour.REFUSED, str(number)) for number in range(LISTED))
    )
    assert len(behaviour_table(many).rows) == LISTED
    assert behaviour_table(many).total_rows == LISTED + 1


@pytest.mark.parametrize("length", [EXCERPT, EXCERPT + 1])
def test_a_prompt_is_shown_by_its_first_characters(length: int) -> None:
    """With dots where there is more, and never what was said."""
    (row,) = prompt_table("t", [reply(HARMFUL, Behaviour.REFUSED, text="a" * length)]).rows
    shown = "a" * EXCERPT + ("..." if length > EXCERPT else "")
    assert row == ("harmful line 3", "", "refused", shown)


def test_only_the_shares_that_decide_have_a_better_way() -> None:
    found = behaviour_metrics(
        behaviour_of(reply(HARMFUL, Behaviour.REFUSED), reply(HARMLESS, Behaviour.PARTIAL))
    )
    assert {metric.name: metric.better for metric in found if metric.better} == {
        "harmful_refused_share": "higher", "harmless_withheld_share": "lower"
    }  # fmt: skip
    assert {metric.name: metric.value for metric in found}["harmless_withheld_share"] == 1


def test_flips_are_shares_beside_the_chance_of_them() -> None:
    control = flips_control("n", "q?", [Flips(HARMFUL, 10, 5, 0, 6, 7)])
    assert {metric.name: metric.value for metric in control.metrics} == {
        "harmful_became_refused_share": 0.5, "harmful_ceased_to_be_refused_share": 0,
        "harmful_mcnemar_p": 2 / 32, "harmful_other_behaviour_share": 0.6,
        "harmful_other_text_share": 0.7,
    }  # fmt: skip


def test_whole_completions_are_lines_of_plain_json() -> None:
    """Also of text that no file could hold."""
    (line,) = completions_as_lines(behaviour_of(reply(HARMFUL, Behaviour.ANSWERED))).splitlines()
    assert json.loads(line) == {
        "prompt": "what is it", "set": "harmful", "line": 3, "type": "",
        "completion": "said \ud800", "behaviour": "answered", "score": 0.5,
        "deflection": None, "cut": True,
    }  # fmt: skip
