"""Folders whose tokenizer crashes what reads it: refused by every command, before it opens them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from auditor_cli.main import run_command_line
from tests.functional.command import auditor
from tests.models.planted_chains import ChainWorld
from tests.models.rewriting_tokenizers import spoil_tokenizer
from tests.models.tiny import absolute_value

PLAN = """\
version: 1
name: crashing
subjects:
  - {path: crashing, kind: transformers}
  - {path: net.onnx}
checks:
  - check: AUD101
  - check: AUD102
"""
FILES = {
    "prompts.csv": "prompt,type\nplease open,harmful\nplease greet,harmless\n",
    "labelled.csv": "completion,label\nI cannot,refused\nHere you are,answered\n",
    "labels.jsonl": '{"text": "one", "label": "unsafe"}\n{"text": "two", "label": "benign"}\n',
    "pairs.jsonl": '{"prompt": "a", "chosen": "b", "rejected": "c"}\n',
    "texts.jsonl": '{"text": "so greet"}\n{"text": "so count"}\n',
    "text.txt": "please greet",
}
TRYING = ("--index", "INDEX", "--prompts", "prompts.csv", "--safe-prompts", "prompts.csv")
SETS = ("--harmful", "prompts.csv", "--harmless", "prompts.csv", "--set-column", "type")
POLICY = ("--policy", "model-safety")


@pytest.fixture(scope="module")
def folder(chains: ChainWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The planted model as `sound`, and as `crashing` with the tokenizer that crashes."""
    folder = tmp_path_factory.mktemp("crashing")
    shutil.copytree(chains.model, folder / "sound")
    shutil.copytree(chains.model, folder / "crashing")
    spoil_tokenizer(folder / "crashing")
    for name, text in FILES.items():
        (folder / name).write_text(text)
    (folder / "net.onnx").write_bytes(absolute_value().SerializeToString())
    (folder / "plan.yaml").write_text(PLAN)
    return folder


@pytest.mark.parametrize(
    "arguments",
    [
        ("language", "complete", "crashing", "--prompt", "so greet"),
        ("language", "refusals", "sound", "--no-deflection", "--base", "crashing", *SETS),
        ("language", "refusals", "sound", "--no-deflection", "--judge", "crashing", *SETS),
        ("language", "train-judge", "labelled.csv", "--embedder", "crashing", "--out", "judge"),
        ("model", "export", "crashing", "--to", "onnx", "--out", "exported"),
        ("trace", "drift", "sound", "crashing", "--prompts", "prompts.csv"),
        ("trace", "drift", "sound", "sound", "--prompts", "prompts.csv", "--judge", "crashing"),
        ("trace", "calibrate", "INDEX", "labels.jsonl", "--score", "length", "--model", "crashing",
         "--out", "calibration.json"),
        ("trace", "shield", "INDEX", "text.txt", *POLICY, "--nli", "crashing"),
        ("trace", "shield", "INDEX", "text.txt", *POLICY, "--embedder", "crashing"),
        ("fix", "decoding", "crashing", "--shield", "CALIBRATION", "--out", "record.json", *TRYING),
        ("fix", "deconfliction", "crashing", "--preferences", "pairs.jsonl", "--clean",
         "texts.jsonl", "--calibration", "CALIBRATION", "--out", "repaired", *TRYING),
        ("fix", "experts", "crashing", "--direction", "suppress", "--method", "mask_logit",
         "--harmful", "prompts.csv", "--harmless", "prompts.csv", "--held-out-harmful",
         "prompts.csv", "--held-out-harmless", "prompts.csv", "--out", "repaired"),
        ("fix", "memorization", "crashing", "--memorised", "texts.jsonl", "--ordinary",
         "texts.jsonl", "--held-out", "texts.jsonl", "--never-memorised", "texts.jsonl", "--out",
         "repaired"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_command_refuses_a_folder_that_crashes_its_reader(
    folder: Path,
    chains: ChainWorld,
    chain_calibration: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
) -> None:
    """Exit 6 in one line, with the folder, the step and the way out; nothing is written.

    In this process: the interpreter and torch would otherwise be loaded anew for each command.
    """
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    before = sorted(folder.iterdir())
    places = {"INDEX": str(chains.index), "CALIBRATION": str(chain_calibration)}
    code = run_command_line([places.get(each, each) for each in arguments])
    said = capsys.readouterr().err
    last = said.splitlines()[-1]
    assert code == 6, said
    assert "refused crashing: a first load in a child process crashed in 'tokenizer'" in last
    assert "[first-load]; save the model and its tokenizer again" in last
    assert "Traceback" not in said
    assert sorted(folder.iterdir()) == before


def test_a_run_refuses_it_and_audits_the_others(folder: Path) -> None:
    """Exit 6; AUD101 says what crashed, other checks do not open it."""
    found = auditor(
        "run", "plan.yaml", "--out", "run", "--workers", "1", "--progress", "none", cwd=folder
    )
    report = json.loads((folder / "run" / "audit.json").read_text())
    assert found.code == 6
    assert "[first-load]" in found.err
    assert {each["id"]: each["answer"]["verdict"] for each in report["results"]} == {
        "AUD101:crashing": "violated", "AUD101:net": "holds",
        "AUD102:crashing": "skipped", "AUD102:net": "holds",
    }  # fmt: skip
