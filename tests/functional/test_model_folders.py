"""Language models as folders, from the command line: audited, refused, told apart from files."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch

from tests.functional.command import Ended, auditor
from tests.models.tiny import absolute_value

PLAN = """\
version: 1
name: folders
subjects:
  - {path: lm, kind: transformers}
  - {path: net.onnx}
checks:
  - check: AUD101
  - check: AUD102
    subjects: [lm]
    params: {expected_file_digest: "DIGEST"}
"""
PLUGIN = """
from auditor.check import Check, CheckParams, FolderPath
from auditor.findings import Answer, Verdict

class Params(CheckParams):
    index: FolderPath
    '''A folder.'''

def run(subject, params, context):
    return Answer(verdict=Verdict.HOLDS, summary=(params.index / "text").read_text())

check = Check(code="AUD901", title="reads", version=1, question="?", method="m",
              pass_does_not_mean="-", kinds=("transformers",), params=Params, run=run,
              estimate_s=lambda params: 1.0)
"""


@pytest.fixture(scope="module")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 of one layer as transformers saves it, in shards."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=32, n_positions=8, n_embd=8, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0
    )
    folder = tmp_path_factory.mktemp("made") / "lm"
    GPT2LMHeadModel(config).save_pretrained(folder, max_shard_size="2KB")
    return folder


@pytest.fixture
def folder(language_model: Path, tmp_path: Path) -> Path:
    """A plan's folder with the language model, an ONNX model and a plan that knows both."""
    shutil.copytree(language_model, tmp_path / "lm")
    (tmp_path / "net.onnx").write_bytes(absolute_value().SerializeToString())
    digest = auditor("model", "digest", "lm", "--json", cwd=tmp_path)
    (tmp_path / "plan.yaml").write_text(PLAN.replace("DIGEST", json.loads(digest.out)["folder"]))
    return tmp_path


def run(folder: Path, *arguments: str) -> tuple[Ended, dict[str, str]]:
    """How `auditor run` ended, and the verdict of every result."""
    ended = auditor("run", "plan.yaml", "--out", "run", *arguments, cwd=folder)
    results = json.loads((folder / "run" / "audit.json").read_text())["results"]
    return ended, {result["id"]: result["answer"]["verdict"] for result in results}


def one_line(ended: Ended) -> str:
    """The only line on stderr."""
    (line,) = ended.err.splitlines()
    assert "Traceback" not in line
    return line


def test_a_folder_and_a_file_are_audited_by_one_plan(folder: Path) -> None:
    """Exit 0, also with the digest that `model digest` printed; the same command resumes."""
    ended, verdicts = run(folder)
    assert ended.code == 0, ended.err
    assert verdicts == {"AUD101:lm": "holds", "AUD101:net": "holds", "AUD102:lm": "holds"}
    again, _ = run(folder)
    assert "3 checks, 3 known from before" in again.err


def test_another_model_under_the_name_fails_the_gate(folder: Path) -> None:
    """One number is enough, whichever shard it stands in."""
    shard = sorted((folder / "lm").glob("*.safetensors"))[-1]
    weights = safetensors.torch.load_file(shard)
    next(iter(weights.values())).view(-1)[0] += 1
    safetensors.torch.save_file(weights, shard)
    ended, verdicts = run(folder)
    assert ended.code == 1
    assert verdicts["AUD102:lm"] == "violated"


class _Marker:
    """A pickle of this would create a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.path),)


def test_a_dangerous_folder_is_refused_and_reported(folder: Path) -> None:
    """Exit 6, only AUD101 ran on it, the other model was audited, and nothing was executed."""
    pickled = pickle.dumps(_Marker(folder / "marker"))
    (folder / "lm" / "pytorch_model.bin").write_bytes(pickled)
    ended, verdicts = run(folder, "--progress", "none")
    assert ended.code == 6
    assert "[pickle-content]" in one_line(ended)
    assert verdicts == {"AUD101:lm": "violated", "AUD101:net": "holds", "AUD102:lm": "skipped"}
    assert (folder / "run" / "report.html").is_file()
    assert not (folder / "marker").exists()


def test_a_folder_mended_after_a_refusal_is_asked_again(folder: Path) -> None:
    """The refused answer belongs to the refused folder."""
    code = folder / "lm" / "modeling.py"
    code.write_text("raise SystemExit(9)\n")
    assert run(folder)[0].code == 6
    code.unlink()
    ended, verdicts = run(folder, "--extend")
    assert (ended.code, verdicts["AUD101:lm"]) == (0, "holds")


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("{path: lm, kind: transformers}", "{path: lm}", "write kind: transformers"),
        ("{path: net.onnx}", "{path: net.onnx, kind: transformers}", "or write kind: onnx"),
        ("path: lm", "path: .", "config.json"),
        ("check: AUD101", "check: AUD103", "write subjects: [net]"),
    ],
)
def test_kinds_that_do_not_fit_are_one_line(folder: Path, old: str, new: str, part: str) -> None:
    """Of a path and of a check; it says what to write, and nothing is written."""
    plan = (folder / "plan.yaml").read_text()
    (folder / "plan.yaml").write_text(plan.replace(old, new))
    ended = auditor("run", "plan.yaml", "--out", "run", cwd=folder)
    assert ended.code == 2
    assert part in one_line(ended)
    assert not (folder / "run").exists()


def test_init_writes_a_plan_that_runs(folder: Path) -> None:
    """For a folder as for a file."""
    assert auditor("init", "lm", "--out", "made.yaml", cwd=folder).code == 0
    ended = auditor("run", "made.yaml", "--out", "made", "--progress", "none", cwd=folder)
    assert ended.code == 0, ended.err


def test_inspect_tells_what_the_folder_holds(folder: Path) -> None:
    """Type, numbers and their types."""
    ended = auditor("model", "inspect", "lm", "--json", cwd=folder)
    facts = json.loads(ended.out)
    shards = [safetensors.torch.load_file(path) for path in (folder / "lm").glob("*.safetensors")]
    count = sum(tensor.numel() for shard in shards for tensor in shard.values())
    assert (facts["model type"], facts["not finite"]) == ("gpt2", "none")
    assert (facts["parameters"], facts["types"]) == (str(count), f"F32 x{count}")


def test_a_functional_digest_of_a_folder_is_not_claimed(folder: Path) -> None:
    """Exit 3 and the way out."""
    ended = auditor("model", "digest", "lm", "--functional", cwd=folder)
    assert (ended.code, ended.out) == (3, "")
    assert "leave out --functional" in one_line(ended)


def test_scan_tells_folders_and_files_apart(folder: Path) -> None:
    """Exit 6 as soon as one is refused."""
    assert auditor("model", "scan", "lm", "net.onnx", cwd=folder).code == 0
    (folder / "lm" / "run.sh").write_text("")
    ended = auditor("model", "scan", "lm", "net.onnx", "--json", cwd=folder)
    records = [json.loads(line) for line in ended.out.splitlines()]
    assert ended.code == 6
    assert [record["verdict"] for record in records] == ["refused", "accepted"]


def test_a_check_may_take_a_folder(folder: Path) -> None:
    """It is listed as one, arrives as an absolute path, and its content belongs to the key."""
    info = folder / "site" / "folders-0.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: folders\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[auditor.checks]\ncheck = reading_folders:check\n")
    (folder / "site" / "reading_folders.py").write_text(PLUGIN)
    paths = [str(folder / "site"), os.environ.get("PYTHONPATH", "")]
    env = {"PYTHONPATH": os.pathsep.join(paths)}
    assert "index (folder)" in auditor("list", "checks", cwd=folder, env=env).out
    plan = PLAN.split("  - check: AUD102")[0].replace("AUD101", "AUD901")
    (folder / "plan.yaml").write_text(plan + "    subjects: [lm]\n    params: {index: data}\n")
    (folder / "data").mkdir()
    for number, text in enumerate(("first", "second")):
        (folder / "data" / "text").write_text(text)
        out = ("--out", "run", *(["--extend"] if number else []))
        ended = auditor("run", "plan.yaml", *out, cwd=folder, env=env)
        assert ended.code == 0, ended.err
        assert text in ended.out
