"""AUD401 from a plan: planted codes are found with their documents, and bad input is one line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from auditor.language.causal_lm import CausalLM
from tests.functional.command import Ended, auditor
from tests.models.canary_lm import (
    PREFIX,
    SECRET,
    Variant,
    canary_tokenizer,
    manifest,
    plant,
    span_lines,
    trained_canary,
)
from tests.models.language_models import random_model, save_folder, word_tokenizer
from tests.models.small_index import write_documents

CORPUS = plant(0)
TOTAL = sum(manifest().models[Variant.PLANTED].measured.extracted[PREFIX])
PLAIN: dict[str, Any] = {
    "spans": "spans.jsonl", "prefix_lengths": [PREFIX], "continuation": SECRET, "unrelated": 0,
    "compare": False,
}  # fmt: skip

MISFITS: dict[str, tuple[dict[str, Any], str]] = {
    "empty": ({"spans": "empty.jsonl"}, "empty.jsonl holds no span"),
    "short": ({"spans": "short.jsonl"}, "short.jsonl:1 has 6 tokens, and a prefix of 32"),
    "strange": ({"spans": "strange.jsonl"}, "strange.jsonl:1 is another text after the tokenizer"),
    "unknown": ({"spans": "unknown.jsonl"}, "unknown.jsonl:1 holds a token that the model does"),
    "long": ({"prefix_lengths": [120]}, "need 136, the model sees 128; shorten one of them"),
    "reference": ({"reference": "other"}, "other has another tokenizer than the subject"),
    "numbers": ({"spans": "few.jsonl", "prefix_lengths": [2], "continuation": 2},
                "logits are not finite"),
}  # fmt: skip
"""What is asked, and the reason why it has no answer."""


def run_plan(folder: Path, subjects: Mapping[str, Path], checks: list[dict[str, Any]]) -> Ended:
    plan = {
        "version": 1, "name": "extraction", "title": "t",
        "subjects": [
            {"name": name, "path": str(path), "kind": "transformers"}
            for name, path in subjects.items()
        ],
        "checks": [{"check": "AUD401", **check} for check in checks],
    }  # fmt: skip
    (folder / "plan.yaml").write_text(json.dumps(plan), "utf-8")
    return auditor("run", "plan.yaml", "--out", "run", cwd=folder)


def answers(folder: Path) -> dict[str, dict[str, Any]]:
    """By the check's id."""
    report = json.loads((folder / "run" / "audit.json").read_text("utf-8"))
    return {result["id"].split(":", 1)[0]: result["answer"] for result in report["results"]}


def test_planted_codes_are_found_with_their_documents(tmp_path: Path) -> None:
    """Spans without copies, counted in an index that the command built; the gate fails."""
    canaries = CORPUS.canaries[30:]
    copies = sum(each.copies for each in CORPUS.canaries)
    write_documents(tmp_path / "corpus.jsonl", CORPUS.indexed()[:copies])
    built = auditor("trace", "index", "build", "corpus.jsonl", "--out", "index", cwd=tmp_path)
    assert built.code == 0, built.err
    (tmp_path / "spans.jsonl").write_text(span_lines(canaries, copies=False), "utf-8")
    (tmp_path / "never.jsonl").write_text(span_lines(CORPUS.unplanted, copies=False), "utf-8")
    params = PLAIN | {"index": "index", "control": "never.jsonl"}
    ended = run_plan(tmp_path, {"m": trained_canary()}, [{"params": params}])
    assert ended.code == 1, ended.err + ended.out
    answer = answers(tmp_path)["AUD401"]
    assert answer["verdict"] == "violated"
    assert answer["summary"].startswith(f"{TOTAL} of {len(canaries)} (")
    (finding,) = answer["findings"]
    rows = finding["evidence"][0]["rows"]
    assert len(rows) == TOTAL
    for name, count, *_, held in rows:
        assert count == int(name.split("-")[1])
        assert {each.split("/")[0] for each in held.split(", ")} == {name}
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert "Extraction by copies in the training text" in page
    assert not any(" ".join(each.secret[:4]) in page for each in canaries)


@pytest.fixture(scope="module")
def misfits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ended, dict[str, dict[str, Any]]]:
    """One run of everything that does not fit, and of a model in half precision."""
    folder = tmp_path_factory.mktemp("misfits")
    files = {
        "spans": span_lines(CORPUS.canaries[40:]), "empty": "\n",
        "short": '{"text": "the code is : 10 11"}', "few": '{"text": "the cat sees a red bird"}',
        "strange": json.dumps({"text": "Löwen und " * 30}),
        "unknown": json.dumps({"tokens": [900] * 60}),
    }  # fmt: skip
    for name, content in files.items():
        (folder / f"{name}.jsonl").write_text(content, "utf-8")
    broken = random_model("llama")
    broken.model.layers[0].mlp.up_proj.weight.data[0, 0] = float("nan")
    half = CausalLM.open(trained_canary()).model.half()
    subjects = {
        "m": trained_canary(), "broken": save_folder(folder / "broken", broken, word_tokenizer()),
        "half": save_folder(folder / "half", half, canary_tokenizer()),
    }  # fmt: skip
    save_folder(folder / "other", random_model("llama"), word_tokenizer())
    checks = [
        {"id": name, "params": PLAIN | update,
         "subjects": ["broken" if name == "numbers" else "m"]}
        for name, (update, _) in MISFITS.items()
    ]  # fmt: skip
    checks.append({"id": "half", "params": PLAIN, "subjects": ["half"]})
    return run_plan(folder, subjects, checks), answers(folder)


@pytest.mark.parametrize("name", MISFITS)
def test_what_does_not_fit_is_one_line(
    misfits: tuple[Ended, dict[str, dict[str, Any]]], name: str
) -> None:
    """The question stays open and the reason says why; nothing is a pass."""
    ended, found = misfits
    assert found[name]["verdict"] in ("error", "unknown")
    assert MISFITS[name][1] in found[name]["reason"]
    assert "\n" not in found[name]["reason"]
    assert "Traceback" not in ended.err + ended.out


def test_half_precision_is_computed_in_full(
    misfits: tuple[Ended, dict[str, dict[str, Any]]],
) -> None:
    """On the CPU too: the answer says in which precision weights are stored and used."""
    answer = misfits[1]["half"]
    assert answer["verdict"] == "violated"
    assert answer["facts"]["weights"] == "stored as F16, computed in float32"


def test_a_file_of_another_format_stops_the_run(tmp_path: Path) -> None:
    """Before any model is opened: exit code 2, one line, no report."""
    (tmp_path / "spans.jsonl").write_text("text,copies\nthe code,3\n", "utf-8")
    ended = run_plan(tmp_path, {"m": trained_canary()}, [{"params": PLAIN}])
    assert ended.code == 2, ended.err + ended.out
    assert "spans.jsonl:1: not a JSON object on one line" in ended.err
    assert "Traceback" not in ended.err
    assert not (tmp_path / "run" / "audit.json").exists()
