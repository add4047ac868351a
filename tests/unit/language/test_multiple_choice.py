"""The capability proxy: which choice is likeliest, and what a file of questions has to hold."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from auditor.errors import FileMissing, InvalidText, NothingToAudit
from auditor.language.causal_lm import CausalLM
from auditor.language.multiple_choice import Question, answer_questions, read_questions
from tests.models.language_models import Family, random_model, save_folder, word_tokenizer

GOOD = {"question": "the cat", "choices": ["sees a bird", "fish"], "answer": 1}


class Words:
    """Nats by word; a text's first word has none, unless a start token stands before it."""

    def __init__(self, start: bool, **nats: float) -> None:
        self.start, self.nats = start, nats

    def encode(self, text: str) -> list[int]:
        return [0] * (len(text.split()) + self.start)

    def token_nll(self, texts: Sequence[str]) -> list[NDArray[np.float64]]:
        found = [np.array([self.nats[word] for word in text.split()]) for text in texts]
        for nats in found:
            nats[: 0 if self.start else 1] = np.nan
        return found


@pytest.mark.parametrize("start", [False, True])
def test_the_mean_nats_of_all_tokens_of_a_choice_decide(start: bool) -> None:
    """A long choice is not put at a disadvantage, and its first token counts like the others."""
    model = Words(start, q=9.0, dear=4.0, cheap=1.0, middle=2.0)
    questions = [
        Question("q q", ("middle", "cheap cheap cheap cheap"), 1),
        Question("q q", ("dear cheap", "middle"), 1),
        Question("q", ("dear cheap cheap cheap", "middle"), 0),
        Question("q", ("cheap", "cheap"), 1),
    ]
    assert answer_questions(model, questions) == [True, True, True, False]


def test_no_questions_have_no_answers() -> None:
    assert answer_questions(Words(False), []) == []


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_models_choice_is_the_one_by_hand(family: Family, tmp_path: Path) -> None:
    """With a token that the tokenizer puts before every text, and without."""
    tokenizer = word_tokenizer(start=family == "llama")
    model = CausalLM.open(save_folder(tmp_path, random_model(family), tokenizer))
    choices = ("sees a bird", "likes the old river", "and", "finds a small fish")

    def nats(choice: str) -> float:
        asked, ids = len(model.encode("the cat")), model.encode(f"the cat {choice}")
        with torch.inference_mode():
            logs = model.model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
        return -float(np.mean([float(logs[at - 1, ids[at]]) for at in range(asked, len(ids))]))

    best = int(np.argmin([nats(choice) for choice in choices]))
    questions = [Question("the cat", choices, right) for right in range(len(choices))]
    assert answer_questions(model, questions) == [right == best for right in range(len(choices))]


def write(folder: Path, *lines: Any) -> Path:
    path = folder / "questions.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines), "utf-8")
    return path


def test_questions_are_read_in_order(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD, {**GOOD, "question": "who", "answer": 0})
    choices = ("sees a bird", "fish")
    assert read_questions(path) == [Question("the cat", choices, 1), Question("who", choices, 0)]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"question": None}, "no field 'question' with a string"),
        ({"question": " "}, "field 'question' is empty"),
        ({"choices": None}, "no field 'choices' with a list of two texts or more"),
        ({"choices": ["fish"]}, "no field 'choices'"),
        ({"choices": ["fish", ""]}, "no field 'choices'"),
        ({"choices": ["fish", 3]}, "no field 'choices'"),
        ({"choices": "fish"}, "no field 'choices'"),
        ({"answer": None}, "no field 'answer' with the position of a choice, 0 to 1"),
        ({"answer": 2}, "no field 'answer'"),
        ({"answer": -1}, "no field 'answer'"),
        ({"answer": True}, "no field 'answer'"),
        ({"answer": "1"}, "no field 'answer'"),
    ],
)
def test_a_line_that_is_no_question_is_named(
    tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    path = write(tmp_path, GOOD, {**GOOD, **changed})
    with pytest.raises(InvalidText, match=rf"questions.jsonl:2: {message}"):
        read_questions(path)


def test_files_without_questions(tmp_path: Path) -> None:
    """Not there, empty, and something else."""
    with pytest.raises(FileMissing, match="questions not found"):
        read_questions(tmp_path / "no.jsonl")
    with pytest.raises(NothingToAudit, match="holds no questions"):
        read_questions(write(tmp_path))
    with pytest.raises(InvalidText, match=r":1: not a JSON object"):
        read_questions(write(tmp_path, ["a"]))
