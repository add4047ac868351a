"""AUD303 from a plan: a report of planted refusal experts, and one clear line for bad input."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.functional.command import Ended, auditor
from tests.models.language_models import random_model, save_folder, word_tokenizer
from tests.models.moe_dialogues import CHAT_TEMPLATE, Split, held_out
from tests.models.moe_families import VOCABULARY, small_moe
from tests.models.moe_fixture import trained_moe

pytestmark = pytest.mark.slow  # each starts torch in processes of its own


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The planted model, prompts in pairs, and a plan."""
    shutil.copytree(trained_moe("planted"), tmp_path / "lm")
    pairs = held_out(Split.RANKING).pairs[:40]
    for side, name in enumerate(("harmful", "harmless")):
        lines = [
            json.dumps({"prompt": pair[side].text, "group": f"pair {number}"})
            for number, pair in enumerate(pairs)
        ]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines), "utf-8")
    write_plan(tmp_path)
    return tmp_path


def write_plan(folder: Path, **params: object) -> None:
    plain = {"harmful": "harmful.jsonl", "harmless": "harmless.jsonl", "new_tokens": 14}
    plan = {
        "version": 1, "name": "concentration", "title": "t",
        "subjects": [{"name": "lm", "path": "lm", "kind": "transformers"}],
        "checks": [{"check": "AUD303", "params": plain | {"controls": 20} | params}],
    }  # fmt: skip
    (folder / "plan.yaml").write_text(json.dumps(plan), "utf-8")


def run(folder: Path) -> tuple[Ended, dict[str, Any]]:
    """The command, and the answer of its one check."""
    ended = auditor("run", "plan.yaml", "--out", "run", "--progress", "none", cwd=folder)
    assert "Traceback" not in ended.err
    (result,) = json.loads((folder / "run" / "audit.json").read_text("utf-8"))["results"]
    return ended, result["answer"]


def one_line(text: str) -> str:
    assert "\n" not in text
    return text


def test_planted_refusal_experts_fail_the_gate(folder: Path) -> None:
    """Where the plan says it is severe; with the sentence, tables and map in the report."""
    write_plan(folder, severity="high")
    ended, answer = run(folder)
    assert (ended.code, answer["verdict"]) == (1, "violated")
    assert answer["summary"].startswith("Refusals are carried by 2 routed experts: 0 of ")
    page = (folder / "run" / "report.html").read_text("utf-8")
    for part in (
        "Refusals are carried by 2 routed experts", "Refusals left without experts",
        "Experts by what the model did", "Divergence of routing", "1:3 2:5",
    ):  # fmt: skip
        assert part in page


def test_a_dense_model_gets_no_verdict(folder: Path) -> None:
    shutil.rmtree(folder / "lm")
    save_folder(folder / "lm", random_model("llama"), word_tokenizer(template=CHAT_TEMPLATE))
    ended, answer = run(folder)
    assert (ended.code, answer["verdict"]) == (3, "unknown")
    assert one_line(answer["reason"]).endswith(
        "lm: no routed experts: it is a dense model, or of a family whose configuration does not "
        "say how many; give a mixture-of-experts model"
    )


def test_routers_that_cannot_be_matched_get_no_verdict(folder: Path) -> None:
    """JetMoE routes its attention, too; nothing is measured of a part of a model."""
    shutil.rmtree(folder / "lm")
    words = tuple(f"w{number}" for number in range(VOCABULARY - 6))
    tokenizer = word_tokenizer(
        template=CHAT_TEMPLATE, vocabulary=("<pad>", "<s>", "</s>", "<unk>", "<user>",
                                            "<assistant>", *words),
    )  # fmt: skip
    save_folder(folder / "lm", small_moe("jetmoe"), tokenizer)
    ended, answer = run(folder)
    assert (ended.code, answer["verdict"]) == (3, "unknown")
    assert "a decoder layer holds more than one group of routed experts" in one_line(
        answer["reason"]
    )


def test_a_tokenizer_without_a_template_works_and_is_reported(folder: Path) -> None:
    (folder / "lm" / "chat_template.jinja").unlink()
    _, answer = run(folder)
    assert answer["facts"]["prompts are put"] == "as they are: the tokenizer has no chat template"
    assert answer["verdict"] != "error"


def test_an_empty_prompt_file_is_named(folder: Path) -> None:
    """Nothing can be asked: the check ends in an error of one line, and the gate stays open."""
    (folder / "harmless.jsonl").write_text("\n", "utf-8")
    ended, answer = run(folder)
    assert (ended.code, answer["verdict"]) == (3, "error")
    assert one_line(answer["reason"]).endswith("harmless.jsonl holds no prompt")


def test_a_prompt_longer_than_the_context_is_named(folder: Path) -> None:
    """By set and line; what it says is not repeated."""
    long = json.dumps({"prompt": "how " * 70})
    (folder / "harmful.jsonl").write_text(f"{long}\n", "utf-8")
    ended, answer = run(folder)
    assert (ended.code, answer["verdict"]) == (3, "error")
    assert one_line(answer["reason"]) == (
        "harmful line 1 has 72 tokens and 14 are to follow, the model sees 64; "
        "shorten it, or ask for fewer tokens"
    )


def test_a_model_that_refuses_nothing_has_no_behaviour_to_study(folder: Path) -> None:
    (folder / "harmful.jsonl").write_text(
        "\n".join(json.dumps({"prompt": each.text}) for each in held_out(Split.RANKING).plain[:30]),
        "utf-8",
    )
    ended, answer = run(folder)
    assert (ended.code, answer["verdict"]) == (3, "unknown")
    assert one_line(answer["reason"]).endswith("or there is no behaviour to study")


@pytest.mark.parametrize("spoil", ["auto_map", "pickle"])
def test_a_folder_that_brings_code_is_refused(folder: Path, spoil: str) -> None:
    """Exit 6, and nothing of it was executed."""
    if spoil == "auto_map":
        config = json.loads((folder / "lm" / "config.json").read_text("utf-8"))
        config["auto_map"] = {"AutoModelForCausalLM": "modeling.Model"}
        (folder / "lm" / "config.json").write_text(json.dumps(config), "utf-8")
    else:
        (folder / "lm" / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": [1.0]}))
    ended, answer = run(folder)
    assert (ended.code, answer["verdict"]) == (6, "skipped")
    assert spoil in one_line(answer["reason"])


@pytest.mark.parametrize(
    ("params", "problem"),
    [
        ({"tokens": "answer"}, "tokens answer is not counted here; give prompt or last"),
        ({"judge": "first-token"}, "judge"),
        ({"few": 0}, "few"),
        ({"harmful": "nowhere.jsonl"}, "nowhere.jsonl"),
        ({"harmless": "harmful.jsonl"}, "is named for both sets"),
    ],
)
def test_a_plan_that_does_not_fit_writes_nothing(
    folder: Path, params: dict[str, object], problem: str
) -> None:
    write_plan(folder, **params)
    ended = auditor("run", "plan.yaml", "--out", "run", "--progress", "none", cwd=folder)
    assert ended.code == 2
    assert problem in one_line(ended.err.rstrip("\n"))
    assert not (folder / "run").exists()
