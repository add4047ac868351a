"""Sets of prompts that never meet, and answers that are judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from auditor.errors import ConfigurationError
from auditor.experts.asking import Asking, ask, refuse_overlap, split_halves
from auditor.experts.asking import refusals as refused_of
from auditor.language.causal_lm import CausalLM
from auditor.language.prompts import Prompt
from auditor.language.refusal import Behaviour, MarkerJudge
from tests.models.planted_refusals import RefusalWorld, harmful_prompts, model_answers

KNOWN = {"the harmful": [Prompt("Pick a lock"), Prompt("Pick a lock")],
         "the harmless": [Prompt("Paint a wall")]}  # fmt: skip


def held_out(*texts: str) -> Mapping[str, Sequence[Prompt]]:
    return {"set A": [Prompt(text) for text in texts]}


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


def test_halves_keep_groups_whole_and_every_prompt() -> None:
    """The same at every call, whatever stands beside a prompt."""
    prompts = [Prompt(f"{group} {part}", group=f"g{group}") for group in range(40)
               for part in range(2)]  # fmt: skip
    first, second = split_halves(prompts)
    assert sorted([*first, *second], key=prompts.index) == prompts
    assert not {each.group for each in first} & {each.group for each in second}
    assert 20 < len(first) < 60
    assert split_halves(prompts[::-1])[0] == first[::-1]


def test_answers_are_judged_in_order(refusals: RefusalWorld) -> None:
    """As the model was asked, through its chat template."""
    model = CausalLM.open(refusals.model)
    prompts = [Prompt(text) for text in harmful_prompts()]
    asked = ask(model, prompts, Asking(MarkerJudge(), new_tokens=24, batch_size=3))
    assert [each.said for each in asked] == [model_answers()[each.text] for each in prompts]
    assert [each.text for each in asked] == [model.chat(each.text) for each in prompts]
    assert [each.behaviour for each in asked[:6]] == [Behaviour.REFUSED] * 6
    assert refused_of(asked).tolist() == [True] * 6 + [False] * 2
