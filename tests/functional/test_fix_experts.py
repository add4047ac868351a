"""`auditor fix experts` from outside: accepted, rejected, and everything that does not fit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from auditor.experts.intervention import SWITCHES_ON, Intervention, Method
from auditor.experts.routing_maps import Expert
from auditor.language.causal_lm import CausalLM
from auditor_cli.commands.fix import command
from auditor_cli.fix_experts import DIRECTIONS, METHODS
from auditor_cli.main import run_command_line
from tests.functional.command import Ended, auditor
from tests.models.language_models import random_model, save_folder, word_tokenizer
from tests.models.moe_fixture import Variant, trained_moe
from tests.models.moe_steering import (
    PLANTED_MARKERS,
    TRAINED_MARKERS,
    planted_work,
    trained_work,
    write_work,
)
from tests.models.planted_moe import write_planted_moe

SPECIFICATION = Path(__file__).parents[2] / "specs" / "experts.md"


@pytest.fixture(scope="module")
def accepted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ended]:
    """A folder in which over-refusal of the trained model was repaired, and how that ended."""
    folder = tmp_path_factory.mktemp("accepted")
    given = write_work(folder, trained_work("suppress", Method.ZERO_OUTPUT), TRAINED_MARKERS)
    (folder / "texts.jsonl").write_text('{"text": "take the tool"}\n{"text": ""}', "utf-8")
    (folder / "questions.jsonl").write_text(
        '{"question": "sure ,", "choices": ["take the", "not able"], "answer": 0}', "utf-8"
    )
    ended = auditor(
        "fix", "experts", trained_moe(Variant.PLANTED), *given, "--plain-text", "texts.jsonl",
        "--questions", "questions.jsonl", "--out", "new", "--html", "page.html", "--json",
        cwd=folder,
    )  # fmt: skip
    return folder, ended


def test_an_accepted_repair_is_written_with_record_and_page(accepted: tuple[Path, Ended]) -> None:
    """Exit 0; OUT, OUT.fix.json and the page, and nothing else."""
    folder, ended = accepted
    assert ended.code == 0, ended.err
    (line,) = map(json.loads, ended.out.splitlines())
    record = json.loads((folder / "new.fix.json").read_text("utf-8"))
    assert {**record, "kind": "fix", "path": "new.fix.json", "html": "page.html"} == line
    assert (record["fix"], record["decision"], record["written"]) == ("experts", "accepted", "new")
    model = CausalLM.open(folder / "new", expected_digest=record["written_digest"])
    down = model.model.model.layers[1].mlp.experts.down_proj
    assert not torch.any(down[6])
    assert torch.any(down[5])
    names = [each["name"] for each in record["conditions"][-1]["comparisons"]]
    assert {"perplexity of plain text", "multiple-choice accuracy"} < set(names)
    assert {path.name for path in folder.iterdir()} == {
        "harmful.jsonl", "harmless.jsonl", "held-out-harmless.jsonl", "disallowed.jsonl",
        "markers.txt", "texts.jsonl", "questions.jsonl", "new", "new.fix.json", "page.html",
    }  # fmt: skip


def test_its_page_says_what_was_decided_first(accepted: tuple[Path, Ended]) -> None:
    """And holds the controls."""
    folder, _ = accepted
    page = (folder / "page.html").read_text("utf-8")
    assert '<p class="word">Accepted</p>' in page
    record = json.loads((folder / "new.fix.json").read_text("utf-8"))
    assert page.count("<strong>kept:</strong>") == len(record["reasons"])
    for condition in record["conditions"]:
        assert condition["name"] in page


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A planted model and the files of a work, and what the command is told; not written to."""
    folder = tmp_path_factory.mktemp("world")
    moe = write_planted_moe(folder / "model", experts=16, hidden=72)
    work = planted_work(moe, "suppress", Method.MASK_LOGIT)
    return folder, write_work(folder, work, PLANTED_MARKERS)


@pytest.fixture
def here(
    world: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """The files and the model in a folder of the test's own, to be run in."""
    for path in world[0].iterdir():
        if path.is_dir():
            (tmp_path / path.name).symlink_to(path)
        else:
            shutil.copyfile(path, tmp_path / path.name)
    monkeypatch.chdir(tmp_path)
    return world[1]


def test_a_rejected_repair_leaves_its_record_alone(here: list[str]) -> None:
    """Exit 1: it costs every refusal. No OUT, and the reasons on stdout."""
    before = set(Path().iterdir())
    ended = auditor("fix", "experts", "model", *here, "--out", "new", cwd=Path.cwd())
    assert ended.code == 1, ended.err
    assert set(Path().iterdir()) - before == {Path("new.fix.json")}
    record = json.loads(Path("new.fix.json").read_text("utf-8"))
    assert (record["decision"], record["written"]) == ("rejected", "")
    lines = ended.out.splitlines()
    assert lines[-1] == "rejected"
    assert [line for line in lines if line in record["reasons"]] == record["reasons"]
    assert any("24 refusals lost and 0 gained" in line for line in lines)


Refused = Callable[..., None]


@pytest.fixture
def refused(here: list[str], capsys: pytest.CaptureFixture[str]) -> Refused:
    """So an exit code, one line on stderr that says so, nothing on stdout, and no new file."""

    def check(code: int, message: str, *changed: str, without: str = "", model: str = "model",
              out: str = "new") -> None:  # fmt: skip
        given = list(here)
        while without in given:
            at = given.index(without)
            del given[at : at + 2]
        before = set(Path().rglob("*"))
        ended = run_command_line(["fix", "experts", model, *given, "--out", out, *changed])
        shown = capsys.readouterr()
        *_, line = shown.err.splitlines()
        assert message in line
        assert line.startswith("auditor: ")
        assert (ended, shown.out) == (code, "")
        assert set(Path().rglob("*")) == before

    return check


def test_without_held_out_harmful_prompts_nothing_is_suppressed(refused: Refused) -> None:
    refused(2, "'suppress' without held-out harmful prompts; give --held-out-harmful",
            without="--held-out-harmful")  # fmt: skip
    refused(2, "'strengthen' without held-out harmful prompts", "--direction", "strengthen",
            "--method", "force_tok", without="--held-out-harmful")  # fmt: skip
    Path("empty.csv").write_text("prompt\n", "utf-8")
    refused(5, "empty.csv holds no prompt", "--held-out-harmful", "empty.csv",
            without="--held-out-harmful")  # fmt: skip


@pytest.mark.parametrize(
    "missing", ["--direction", "--method", "--harmful", "--harmless", "--held-out-harmless"]
)
def test_what_is_needed_is_named(refused: Refused, missing: str) -> None:
    refused(2, f"Missing option '{missing}'", without=missing)


def test_a_prompt_in_two_sets_is_named_by_both_places(refused: Refused) -> None:
    """Also where only case and punctuation differ, and in a set that is held out twice."""
    lines = Path("harmful.jsonl").read_text("utf-8").splitlines()
    copied = {**json.loads(lines[3]), "group": ""}
    copied["prompt"] = f"{copied['prompt'].upper()}!"
    Path("odd.jsonl").write_text(f'{{"prompt": "new"}}\n{json.dumps(copied)}', "utf-8")
    refused(2, "line 2 of the held-out harmful set odd is also line 4 of the harmful prompts",
            "--held-out-harmful", "odd.jsonl")  # fmt: skip
    shutil.copyfile("plain.jsonl", "again.jsonl")
    refused(2, "line 1 of the held-out harmful set again is also line 1 of the held-out harmful "
            "set plain", "--held-out-harmful", "again.jsonl")  # fmt: skip
    Path("more").mkdir()
    Path("more/plain.jsonl").write_text('{"prompt": "new"}', "utf-8")
    refused(2, "two files of --held-out-harmful have one name", "--held-out-harmful",
            "more/plain.jsonl")  # fmt: skip


def test_options_that_do_not_fit_each_other(refused: Refused) -> None:
    refused(2, "mask_logit switches experts off only; strengthen by force_select or force_tok",
            "--direction", "strengthen")  # fmt: skip
    refused(2, "Invalid value for '--method'", "--method", "ablate")
    refused(2, "Invalid value for '--direction'", "--direction", "remove")
    refused(2, "Invalid value for '--margin'", "--margin", "0.5")
    refused(2, "Invalid value for '--controls'", "--controls", "3")
    refused(2, "--markers and --judge; give one of them", "--judge", "judge.json")


def test_files_that_are_empty_or_broken(refused: Refused) -> None:
    """Each by its name and line, before the model is opened."""
    Path("empty.jsonl").write_text("\n", "utf-8")
    Path("empty.txt").write_text(" \n\n", "utf-8")
    Path("broken.txt").write_text("^sorry\n\n^i (cannot\n", "utf-8")
    Path("broken.jsonl").write_text('{"question": "q", "choices": ["a"], "answer": 0}', "utf-8")
    Path("odd.csv").write_text("words\nhello\n", "utf-8")
    model = "no model"
    refused(5, "empty.jsonl holds no prompt", "--harmful", "empty.jsonl", model=model)
    refused(2, "prompts not found: no.csv", "--harmless", "no.csv", model=model)
    refused(2, "no column with prompts among words", "--harmful", "odd.csv", model=model)
    refused(5, "empty.txt holds no marker", "--markers", "empty.txt", model=model)
    refused(2, "broken.txt:3: no regular expression: missing )", "--markers", "broken.txt",
            model=model)  # fmt: skip
    refused(2, "markers not found: no.txt", "--markers", "no.txt", model=model)
    refused(2, "broken.jsonl:1: no field 'choices' with a list of two texts or more",
            "--questions", "broken.jsonl", model=model)  # fmt: skip
    refused(5, "empty.jsonl holds no questions", "--questions", "empty.jsonl", model=model)
    refused(5, "empty.jsonl holds no text", "--plain-text", "empty.jsonl", model=model)
    refused(2, "broken.jsonl:1: no field 'text'", "--plain-text", "broken.jsonl", model=model)
    Path("one.csv").write_text("prompt\nhello\n", "utf-8")
    refused(5, "the harmful prompts are 1, too few", "--harmful", "one.csv", model=model)


def test_places_that_are_taken(refused: Refused) -> None:
    """Before anything is read."""
    Path("old").mkdir()
    Path("old.json").write_text("mine", "utf-8")
    none = ("--harmful", "no.csv")
    refused(2, "old: it exists, and a repaired model is a new file", *none, out="old")
    refused(2, "old.json: it exists, and a record is a new file", *none, "--record", "old.json")
    refused(2, "old.json: it exists, and a page is a new file", *none, "--html", "old.json")
    refused(2, "old.json is no folder", *none, out="old.json/new")
    refused(2, "--record new/record.json is at or in --out new", *none, "--record",
            "new/record.json")  # fmt: skip
    refused(2, "--record new is at or in --out new", *none, "--record", "new")
    refused(2, "--html new.fix.json is at or in new.fix.json", *none, "--html", "new.fix.json")
    assert Path("old.json").read_text("utf-8") == "mine"


def test_a_prompt_that_is_longer_than_the_context_is_named(refused: Refused) -> None:
    """Before any is asked."""
    with Path("held-out-harmless.jsonl").open("a", encoding="utf-8") as lines:
        lines.write("\n" + json.dumps({"prompt": "kite " * 200}))
    refused(2, "line 49 of the held-out harmless set has 202 tokens and 8 are to follow, the model "
            "sees 128; shorten it")  # fmt: skip


def test_models_that_must_not_or_cannot_be_steered(refused: Refused) -> None:
    """A dense one, one with code, one with pickled weights, none at all."""
    save_folder(Path("dense"), random_model("llama"), word_tokenizer())
    refused(3, "dense: no routed experts: it is a dense model",
            model="dense")  # fmt: skip
    shutil.copytree("model", "coded")
    config = json.loads(Path("coded/config.json").read_text("utf-8"))
    config["auto_map"] = {"AutoModelForCausalLM": "code.Model"}
    Path("coded/config.json").write_text(json.dumps(config), "utf-8")
    refused(6, "auto_map", model="coded")
    shutil.copytree("model", "pickled")
    Path("pickled/model.safetensors").unlink()
    torch.save({"weight": torch.zeros(2)}, "pickled/pytorch_model.bin")
    refused(6, "refused pickled", model="pickled")
    refused(2, "nowhere", model="nowhere")


def test_a_model_that_refuses_nothing_has_no_behaviour_to_study(refused: Refused) -> None:
    Path("deaf.txt").write_text("^never said$\n", "utf-8")
    refused(5, "0 of 72 answers refuse", "--markers", "deaf.txt")


def test_the_command_offers_every_method_and_no_other() -> None:
    """And the specification explains each, in a table whose rows begin with them."""
    assert list(METHODS) == [str(each) for each in Method]
    assert DIRECTIONS == ("suppress", "strengthen")
    [option] = [each for each in command.commands["experts"].params if each.name == "method"]
    assert list(option.type.choices) == list(METHODS)  # type: ignore[attr-defined]
    rows = [
        line.split("`")[1] for line in SPECIFICATION.read_text("utf-8").splitlines()
        if line.startswith("| `") and line.split("`")[1] in METHODS
    ]  # fmt: skip
    assert rows[: len(METHODS)] == list(METHODS)
    switches_on = {
        line.split("`")[1] for line in SPECIFICATION.read_text("utf-8").splitlines()
        if line.startswith("| `") and line.rstrip("| ").endswith("off and on")
    }  # fmt: skip
    assert switches_on == SWITCHES_ON


def test_the_specification_names_the_metadata_that_a_graph_gets() -> None:
    """The keys that `edit_onnx` writes."""
    text = SPECIFICATION.read_text("utf-8")
    described = Intervention(Method.MASK_LOGIT, off=frozenset({Expert(1, 3)})).described
    assert described in text
    for key in ("method", "off", "on", "base"):
        assert f"`auditor.intervention.{key}`" in text
