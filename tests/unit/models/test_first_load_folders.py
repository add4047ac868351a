"""A model folder is read by a child process once, before a library reads it here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest

from auditor.errors import FileMissing, RefusedModel
from auditor.guarded.outcome import GuardOutcome, GuardStatus
from auditor.guarded.process import run_guarded
from auditor.models import first_load, folder_trial, trial
from auditor.models.first_load import RULE, crash_of, memory_folder, try_folders
from auditor.models.onnx_folder import GRAPH
from tests.models.model_folders import CONFIG, TOKENIZER, WEIGHTS, write_folder
from tests.models.rewriting_tokenizers import spoil_tokenizer
from tests.models.tiny import absolute_value

READ, LOAD = (
    "auditor.models.folder_trial_child:read_folder", "auditor.models.trial_child:load_model",
)  # fmt: skip
TOO_MUCH = "{{ ('a' * 100000000000) | length }}"


pytestmark = pytest.mark.usefixtures("own_memory")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sound folder."""
    return write_folder(tmp_path / "model")


class Children(list[tuple[str, GuardStatus]]):
    """What was called in guarded children, and how that ended."""


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> Children:
    """Notes the children, which really run."""
    noted = Children()

    def run(name: str, *arguments: Any, **options: Any) -> GuardOutcome:
        outcome = run_guarded(name, *arguments, **options)
        noted.append((name, outcome.status))
        return outcome

    for module in (folder_trial, trial):
        monkeypatch.setattr(module, "run_guarded", run)
    return noted


def remembered() -> int:
    """How many passes are."""
    return len(list(memory_folder().iterdir())) if memory_folder().exists() else 0


def test_a_folder_that_passed_is_not_tried_again(
    folder: Path, children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not in this process, nor in another one that has the same memory."""
    try_folders(folder, folder)
    monkeypatch.setattr(first_load, "_passed", set())
    try_folders(folder)
    assert children == [(READ, GuardStatus.DONE)]
    assert remembered() == 1


def test_a_changed_folder_is_tried_again(folder: Path, children: Children) -> None:
    """A tokenizer with one more word, and a file that was not there."""
    try_folders(folder)
    model = {**TOKENIZER["model"], "vocab": {"a": 0, "b": 1}}
    (folder / "tokenizer.json").write_text(json.dumps({**TOKENIZER, "model": model}))
    try_folders(folder)
    (folder / "generation_config.json").write_text("{}")
    try_folders(folder)
    assert children == [(READ, GuardStatus.DONE)] * 3


def test_other_weights_alone_are_no_reason_to_try_again(folder: Path, children: Children) -> None:
    """They are not given to the child."""
    try_folders(folder)
    path = folder / "model.safetensors"
    content = path.read_bytes()
    size = sum(array.nbytes for array in WEIGHTS.values())
    path.write_bytes(content[:-size] + bytes(size))
    assert path.read_bytes() != content
    try_folders(folder)
    assert children == [(READ, GuardStatus.DONE)]


def test_a_crash_refuses_the_folder_and_is_not_remembered(folder: Path, children: Children) -> None:
    """The message names the folder, the step and a way out; each time it is tried again."""
    spoil_tokenizer(folder)
    with pytest.raises(RefusedModel) as caught:
        try_folders(folder)
    refusal = caught.value
    assert (refusal.rule, refusal.path, remembered()) == (RULE, folder, 0)
    assert "crashed in 'tokenizer'" in str(refusal)
    assert "save the model and its tokenizer again" in str(refusal)
    found = crash_of(folder, "transformers")
    assert found is not None
    assert str(found) == str(refusal)
    assert children == [(READ, GuardStatus.CRASHED)] * 2


def test_an_orderly_rejection_is_left_to_whoever_opens_it(folder: Path, children: Children) -> None:
    """It crashes nothing, and is not a pass either."""
    (folder / "config.json").write_text(json.dumps({**CONFIG, "n_layer": "twelve"}))
    try_folders(folder)
    assert crash_of(folder, "transformers") is None
    assert children == [(READ, GuardStatus.REJECTED)] * 2
    assert remembered() == 0


def test_limits_that_are_not_enough_refuse_nothing(folder: Path, children: Children) -> None:
    """Another machine may have more memory."""
    (folder / "chat_template.jinja").write_text(TOO_MUCH)
    try_folders(folder)
    assert (children, remembered()) == ([(READ, GuardStatus.OUT_OF_MEMORY)], 0)


def test_a_library_that_crashes_by_itself_is_not_the_folders_fault(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken installation must not make models look unsafe; whoever opens them fails by it."""

    def run(name: str, arguments: object, **options: Any) -> GuardOutcome:
        return run_guarded("tests.unit.guarded.guarded_acts:crash_importing", {}, **options)

    monkeypatch.setattr(folder_trial, "run_guarded", run)
    try_folders(folder)
    assert remembered() == 0


def test_a_graph_in_a_folder_is_loaded_too(folder: Path, children: Children) -> None:
    """The folder and its graph are remembered each."""
    (folder / "model.safetensors").unlink()
    onnx.save_model(absolute_value(), str(folder / GRAPH))
    try_folders(folder)
    try_folders(folder)
    assert children == [(READ, GuardStatus.DONE), (LOAD, GuardStatus.DONE)]
    assert remembered() == 2


def test_what_must_not_be_opened_is_refused_before_any_child(
    folder: Path, children: Children
) -> None:
    """The bytes decide first; it is no crash."""
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04N.")
    with pytest.raises(RefusedModel, match="pickle-content"):
        try_folders(folder)
    assert crash_of(folder, "transformers") is None
    assert children == []


def test_what_is_no_model_folder_is_left_or_said(tmp_path: Path, children: Children) -> None:
    """A file, a name that is not there, and a folder without a configuration."""
    (tmp_path / "model.onnx").write_bytes(b"")
    try_folders(tmp_path / "model.onnx", tmp_path / "nowhere")
    with pytest.raises(FileMissing, match=r"config\.json"):
        try_folders(tmp_path)
    assert children == []
