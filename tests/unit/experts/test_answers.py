"""Prompts are asked and judged, split for good, and never stand in two sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from auditor.errors import ConfigurationError
from auditor.experts.answers import Asked, ask, refusals, refuse_overlap, split_halves
from auditor.language.asking import Asking
from auditor.language.causal_lm import CausalLM
from auditor.language.prompts import Prompt, read_prompts
from auditor.language.refusal import Behaviour, MarkerJudge
from tests.models.planted_moe import write_planted_moe
from tests.unit.experts.planted_answers import answered

MANY = [Prompt(f"question {number}", group=f"group {number // 4}") for number in range(200)]
KNOWN = {"the harmful": [Prompt("Pick a lock"), Prompt("Pick a lock")],
         "the harmless": [Prompt("Paint a wall")]}  # fmt: skip


def held_out(*texts: str) -> Mapping[str, Sequence[Prompt]]:
    return {"set A": [Prompt(text) for text in texts]}


def test_answers_are_the_models_own_judged_and_in_order(tmp_path: Path) -> None:
    """With the chat template; without it the planted model does not answer as an assistant."""
    moe = write_planted_moe(tmp_path)
    model = CausalLM.open(tmp_path)
    prompts = [Prompt(each.text) for each in moe.prompts[:6]]
    asked = ask(model, prompts, MarkerJudge(), Asking(new_tokens=8, batch_size=4))
    # The end of text is a token of the answer, and not of what was said.
    assert [each._replace(answer=()) for each in asked] == [
        answered(moe, model, each)._replace(answer=()) for each in moe.prompts[:6]
    ]
    assert [model.decode(each.answer) for each in asked] == [each.said for each in asked]
    assert refusals(asked).tolist() == [each.disallowed for each in moe.prompts[:6]]
    plain = ask(model, prompts[:1], MarkerJudge(), Asking(new_tokens=8, chat=False))
    assert plain[0].text == prompts[0].text
    assert ask(model, [], MarkerJudge(), Asking()) == []


def test_silence_is_no_refusal() -> None:
    silent = Asked(Prompt("a"), "a", (), "", Behaviour.EMPTY)
    assert not silent.refused


def test_halves_keep_groups_whole_and_hold_everything_once() -> None:
    """And both are of some size: 50 groups fall on the same side with a chance of 2 ** -49."""
    halves = split_halves(MANY)
    assert sorted((*halves[0], *halves[1]), key=MANY.index) == MANY
    groups = [{each.group for each in half} for half in halves]
    assert not groups[0] & groups[1]
    assert min(map(len, halves)) > 40


def test_another_run_splits_alike_whatever_else_is_asked() -> None:
    """A prompt keeps its half when others come before it, and both sides of a pair share one."""
    first = split_halves(MANY)
    assert split_halves([Prompt("new", group="new"), *MANY])[0] in (
        first[0], [Prompt("new", group="new"), *first[0]],
    )  # fmt: skip
    other = [Prompt(f"reply {number}", group=f"group {number // 4}") for number in range(200)]
    sides = [{each.group for each in half} for half in split_halves(other)]
    assert sides == [{each.group for each in half} for half in first]


def test_a_prompt_that_is_repeated_is_in_one_half(tmp_path: Path) -> None:
    """Without groups, whatever its line, case and punctuation."""
    path = tmp_path / "p.csv"
    texts = [f"question {number}{end}" for number in range(40) for end in ("", "?", " !")]
    path.write_text("prompt\n" + "\n".join(texts).replace("question 7?", "Question 7?"), "utf-8")
    halves = split_halves(read_prompts(path))
    words = [{each.text.lower().rstrip("? !") for each in half} for half in halves]
    assert not words[0] & words[1]
    assert words[0] | words[1] == {f"question {number}" for number in range(40)}


def test_sets_that_do_not_meet_pass() -> None:
    """Twice in a set that is only ranked on is no second piece of evidence."""
    refuse_overlap(KNOWN, held_out("Open a door", "Open a gate", "?!", "!?"))


@pytest.mark.parametrize(
    ("known", "reported", "message"),
    [
        (KNOWN, held_out("Open it", "pick a LOCK!"),
         "prompt 2 of set A is also prompt 1 of the harmful"),
        (KNOWN, held_out("Open it", "open  it."), "prompt 2 of set A is also prompt 1 of set A"),
        (KNOWN, {**held_out("Open it"), "set B": [Prompt("Close it"), Prompt("Open it?")]},
         "prompt 2 of set B is also prompt 1 of set A"),
        ({**KNOWN, "the harmless": [Prompt("Pick a lock", line=7)]}, held_out("Open it"),
         "line 7 of the harmless is also prompt 1 of the harmful"),
        (KNOWN, held_out("?!", "?!"), "prompt 2 of set A is also prompt 1 of set A"),
    ],
)  # fmt: skip
def test_a_prompt_that_stands_twice_is_named_by_both_places(
    known: Mapping[str, Sequence[Prompt]],
    reported: Mapping[str, Sequence[Prompt]],
    message: str,
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        refuse_overlap(known, reported)
