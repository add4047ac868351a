"""`auditor language complete` from outside: raw text, tables, JSON lines, and its errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from auditor.language.causal_lm import CausalLM
from tests.functional.command import auditor
from tests.models.language_models import random_model, save_folder, word_tokenizer

PROMPTS = ("the red cat", "a small [fish]", "who finds the river")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a language model `lm` and prompts in `prompts.jsonl`."""
    place = tmp_path_factory.mktemp("complete")
    template = "{{ '<user> ' + messages[0]['content'] + ' <assistant>' }}"
    save_folder(place / "lm", random_model("llama"), word_tokenizer(template=template))
    lines = "".join(json.dumps({"prompt": each}) + "\n" for each in PROMPTS)
    (place / "prompts.jsonl").write_text(lines)
    return place


def completions(place: Path, *, chat: bool) -> list[str]:
    """What the model says, from Python."""
    model = CausalLM.open(place / "lm")
    asked = [model.chat(each) if chat else each for each in PROMPTS]
    return [each.text for each in model.generate(asked, max_new_tokens=6)]


def test_one_prompt_gives_its_completion_and_nothing_else(place: Path) -> None:
    """Standard output is a text file that can be traced."""
    for flag, chat in (("--chat", True), ("--no-chat", False)):
        ended = auditor(
            "language", "complete", "lm", "--prompt", PROMPTS[0], "--new-tokens", "6", flag,
            cwd=place,
        )  # fmt: skip
        assert ended.code == 0, ended.err
        assert ended.out == completions(place, chat=chat)[0] + "\n"


def test_records_hold_prompts_and_texts(place: Path) -> None:
    """A line for each prompt, in order, with what `trace shield` reads."""
    ended = auditor(
        "language", "complete", "lm", "--prompts", "prompts.jsonl", "--new-tokens", "6", "--json",
        cwd=place,
    )  # fmt: skip
    assert ended.code == 0, ended.err
    records = [json.loads(line) for line in ended.out.splitlines()]
    assert [record["prompt"] for record in records] == list(PROMPTS)
    assert [record["text"] for record in records] == completions(place, chat=True)
    assert {record["model"] for record in records} == {CausalLM.open(place / "lm").folder.digest}


def test_a_table_shows_brackets_as_they_are(place: Path) -> None:
    """Nothing of a prompt or completion is taken for markup."""
    ended = auditor(
        "language", "complete", "lm", "--prompts", "prompts.jsonl", "--new-tokens", "2", cwd=place
    )
    assert ended.code == 0, ended.err
    assert [line[:14].rstrip() for line in ended.out.splitlines()] == [
        "prompt", "the red cat", "a small [fish]", "who finds the",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("lm",), 2, "one of --prompt and --prompts"),
        (("lm", "--prompt", "a", "--prompts", "prompts.jsonl"), 2, "one of --prompt and --prompts"),
        (("lm", "--prompts", "nowhere.csv"), 2, "prompts not found: nowhere.csv"),
        (("nowhere", "--prompt", "the"), 2, "nowhere"),
        (("lm", "--prompt", "the", "--new-tokens", "4000"), 2, "the model sees 64"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    place: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    """Each error names the value and the way out."""
    ended = auditor("language", "complete", *arguments, cwd=place)
    assert ended.code == code
    assert message in ended.err
    assert "Traceback" not in ended.err
