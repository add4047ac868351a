"""`auditor model export` from outside: a graph that completes like its source, or one line."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.functional.command import Ended, auditor
from tests.models.language_models import Family, random_model, save_folder, word_tokenizer

PROMPTS = ("the red cat", "a small fish finds the old house", "who")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a language model `lm` and nothing else."""
    save_folder(tmp_path / "lm", random_model("gpt2"), word_tokenizer())
    return tmp_path


def export(place: Path, *more: str) -> Ended:
    """Export `lm` to `new`."""
    return auditor("model", "export", "lm", "--to", "onnx", "--out", "new", *more, cwd=place)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "qwen3_moe"])
def test_an_exported_folder_is_used_like_its_source(tmp_path: Path, family: Family) -> None:
    """It says what was compared; digest, scan and completions are asked of the new folder."""
    save_folder(tmp_path / "lm", random_model(family), word_tokenizer())
    lines = "".join(json.dumps({"prompt": each}) + "\n" for each in PROMPTS)
    (tmp_path / "prompts.jsonl").write_text(lines)
    ended = export(tmp_path, "--json")
    assert ended.code == 0, ended.err
    record = json.loads(ended.out)
    largest = [each["largest"] for each in record["differences"]]
    assert 0 < max(largest) == record["largest_difference"]
    assert 0 < record["largest_share"] <= 1e-4
    files = list((tmp_path / "new").iterdir())
    assert record["size"] == sum(each.stat().st_size for each in files)
    for name, key in (("new", "folder"), ("lm", "source")):
        digest = auditor("model", "digest", name, "--json", cwd=tmp_path)
        assert json.loads(digest.out)["folder"] == record[key]
    assert auditor("model", "scan", "new", cwd=tmp_path).code == 0
    facts = json.loads(auditor("model", "inspect", "new", "--json", cwd=tmp_path).out)
    assert (facts["digest"], facts["model type"]) == (record["folder"], family)
    texts = []
    for name in ("lm", "new"):
        said = auditor("language", "complete", name, "--prompts", "prompts.jsonl",
                       "--new-tokens", "8", "--json", cwd=tmp_path)  # fmt: skip
        assert said.code == 0, said.err
        texts.append([json.loads(line)["text"] for line in said.out.splitlines()])
    assert texts[0] == texts[1]
    assert any(texts[0])


@pytest.mark.slow
def test_the_table_names_digest_and_differences(place: Path) -> None:
    """Digest first on the last line, as `model digest` prints it."""
    ended = export(place)
    assert ended.code == 0, ended.err
    header, *rows, last = ended.out.splitlines()
    assert header.startswith("compared with torch ")
    assert header.endswith(" share of logits")
    assert len(rows) == 4
    digest = auditor("model", "digest", "new", cwd=place).out.split()[0]
    assert last.split()[:3] == [digest, "folder", "new"]


def _name_code(place: Path) -> None:
    path = place / "lm" / "config.json"
    config = json.loads(path.read_text()) | {"auto_map": {"AutoModelForCausalLM": "modeling.Model"}}
    path.write_text(json.dumps(config))


def _pickle_weights(place: Path) -> None:
    (place / "lm" / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": 1.0}))


def _keep_a_state(place: Path) -> None:
    for file in (place / "lm").iterdir():
        file.unlink()
    save_folder(place / "lm", random_model("mamba"), word_tokenizer())


@pytest.mark.parametrize(
    ("spoil", "code", "message"),
    [
        (lambda place: (place / "new").mkdir(), 2, "it exists"),
        (lambda place: (place / "lm" / "config.json").unlink(), 2, "config.json"),
        (_name_code, 6, "[custom-code]"),
        (_pickle_weights, 6, "[pickle-content]"),
        (_keep_a_state, 3, "keeps a state"),
    ],
)
def test_what_cannot_be_exported_is_one_line(
    place: Path, spoil: Callable[[Path], None], code: int, message: str
) -> None:
    """The exit code of its kind, and nothing is written."""
    spoil(place)
    before = sorted(place.rglob("*"))
    ended = export(place, "--quiet")
    assert ended.code == code
    assert message in ended.err
    assert len(ended.err.splitlines()) == 1
    assert sorted(place.rglob("*")) == before
