"""What cannot end in a decision is refused before a model is opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from auditor.errors import (
    AuditorError,
    ConfigurationError,
    FileMissing,
    NothingToAudit,
    OutputNotWritable,
    UnknownName,
)
from auditor.experts.intervention import Method
from auditor.fixes.expert_steering import ExpertSteering, refuse_unreadable
from auditor.fixes.expert_trial import HeldOut
from auditor.fixes.experts import fix_by_experts
from auditor.language.asking import Asking
from auditor.language.causal_lm import CausalLM
from auditor.language.prompts import Prompt
from auditor.language.refusal import MarkerJudge
from tests.models.language_models import random_model, save_folder, word_tokenizer


def prompts(*texts: str) -> list[Prompt]:
    return [Prompt(text, group=text) for text in texts]


HARMFUL, HARMLESS = prompts(*"abcdef"), prompts(*"ghijkl")
HELD_OUT = HeldOut({"plain": prompts("m", "n"), "odd": prompts("o")}, prompts("p", "q"))
WORK = ExpertSteering(
    "suppress", Method.ZERO_OUTPUT, HARMFUL, HARMLESS, HELD_OUT, MarkerJudge(), Asking()
)


def held_out(harmful: dict[str, Sequence[Prompt]], harmless: Sequence[Prompt]) -> HeldOut:
    return HeldOut(harmful, harmless)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"direction": "supress"}, UnknownName, "did you mean 'suppress'"),
        ({"margin": 0.2}, ConfigurationError, "the margin is at most 0.05"),
        ({"direction": "strengthen"}, ConfigurationError,
         "zero_output switches experts off only; strengthen by force_select or force_tok"),
        ({"sizes": ()}, ConfigurationError, "sizes none; give growing numbers from 1 up"),
        ({"sizes": (2, 1)}, ConfigurationError, "sizes 2 1; give growing numbers"),
        ({"sizes": (0, 1)}, ConfigurationError, "sizes 0 1; give growing numbers"),
        ({"held_out": held_out({}, prompts("p"))}, ConfigurationError,
         "no held-out prompts to judge 'suppress' by"),
        ({"held_out": held_out({"plain": prompts("m"), "odd": []}, prompts("p"))},
         ConfigurationError, "no held-out prompts"),
        ({"held_out": held_out({"plain": prompts("m")}, [])}, ConfigurationError,
         "no held-out prompts"),
        ({"held_out": held_out({"plain": prompts("m", "A!")}, prompts("p"))}, ConfigurationError,
         "prompt 2 of the held-out harmful set plain is also prompt 1 of the harmful prompts"),
        ({"held_out": held_out({"plain": prompts("m")}, prompts("p", "h"))}, ConfigurationError,
         "prompt 2 of the held-out harmless set is also prompt 2 of the harmless prompts"),
        ({"held_out": held_out({"harmless": prompts("m")}, prompts("p", "m"))}, ConfigurationError,
         "prompt 2 of the held-out harmless set is also prompt 1 of the held-out harmful set "
         "harmless"),
        ({"held_out": held_out({"plain": prompts("m", "m")}, prompts("p"))}, ConfigurationError,
         "prompt 2 of the held-out harmful set plain is also prompt 1 of the held-out harmful set"),
        ({"held_out": held_out({"plain": prompts("m"), "odd": prompts("M.")}, prompts("p"))},
         ConfigurationError, "prompt 1 of the held-out harmful set odd is also prompt 1"),
        ({"harmless": prompts("g", "a", "h", "i")}, ConfigurationError,
         "prompt 2 of the harmless prompts is also prompt 1 of the harmful prompts"),
        ({"harmful": [Prompt(text, group="one") for text in "abc"]}, NothingToAudit,
         "the harmful prompts are 3, too few to rank on one half and choose on the other"),
        ({"harmless": []}, NothingToAudit, "the harmless prompts are 0, too few"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_before_a_model_is_opened(
    tmp_path: Path, changed: dict[str, Any], error: type[AuditorError], message: str
) -> None:
    """There is none here."""
    with pytest.raises(error, match=message):
        fix_by_experts(tmp_path / "no model", tmp_path / "new", replace(WORK, **changed))
    assert list(tmp_path.iterdir()) == []


def test_what_fits_gets_as_far_as_the_model(tmp_path: Path) -> None:
    """Else the cases above would say nothing."""
    with pytest.raises(FileMissing, match="no model"):
        fix_by_experts(tmp_path / "no model", tmp_path / "new", WORK)


def test_a_place_that_is_taken_is_refused_before_a_model_is_opened(tmp_path: Path) -> None:
    (tmp_path / "new").write_text("mine")
    with pytest.raises(OutputNotWritable, match="it exists, and a repaired model is a new file"):
        fix_by_experts(tmp_path / "no model", tmp_path / "new", WORK)
    with pytest.raises(OutputNotWritable, match="new is no folder"):
        fix_by_experts(tmp_path / "no model", tmp_path / "new/inside", WORK)


@pytest.mark.parametrize(("chat", "tokens"), [(True, 62), (False, 60)])
def test_a_prompt_that_leaves_no_room_for_its_answer_is_named(
    tmp_path: Path, chat: bool, tokens: int
) -> None:
    """By set and line, with the tokens of the chat template where it is used."""
    tokenizer = word_tokenizer(template="{{ '<user> ' + messages[0]['content'] + ' <assistant>' }}")
    model = CausalLM.open(save_folder(tmp_path, random_model(), tokenizer))
    fits = replace(WORK, asking=Asking(4, chat))
    refuse_unreadable(fits, model)
    strata = {"plain": [*HELD_OUT.harmful["plain"], Prompt("cat " * 60, line=9)]}
    long = replace(fits, held_out=HeldOut(strata, HELD_OUT.harmless))
    if not chat:
        refuse_unreadable(long, model)  # 60 and 4 are all that it sees
        long = replace(long, asking=Asking(5, chat))
    with pytest.raises(ConfigurationError, match=(
        f"line 9 of the held-out harmful set plain has {tokens} tokens and {4 + (not chat)} are to "
        "follow, the model sees 64"
    )):  # fmt: skip
        refuse_unreadable(long, model)
