"""A model is loaded by a child process once, before this process loads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from auditor.errors import RefusedModel
from auditor.guarded.outcome import GuardOutcome
from auditor.guarded.process import run_guarded
from auditor.models import first_load, trial
from auditor.models.first_load import crash_of, memory_folder, open_tried
from tests.models.onnx_networks import dense_network, write_model

pytestmark = pytest.mark.usefixtures("own_memory")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A sound model."""
    return write_model(tmp_path, dense_network([3, 2]))


def _children(monkeypatch: pytest.MonkeyPatch, function: str | None = None) -> list[str]:
    """The functions that were called in a child; `function` in place of the real one."""
    called: list[str] = []

    def run(name: str, *arguments: Any, **options: Any) -> GuardOutcome:
        called.append(function or name)
        return run_guarded(function or name, *arguments, **options)

    monkeypatch.setattr(trial, "run_guarded", run)
    return called


def test_a_model_that_passed_is_not_tried_again(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not in this process, nor in another one that has the same memory."""
    called = _children(monkeypatch)
    open_tried(model)
    open_tried(model)
    monkeypatch.setattr(first_load, "_passed", set())
    open_tried(model)
    assert len(called) == 1
    assert (memory_folder().stat().st_mode & 0o077, len(list(memory_folder().iterdir()))) == (0, 1)


def test_another_model_is_tried(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The digest decides, not the name."""
    called = _children(monkeypatch)
    open_tried(model)
    write_model(tmp_path, dense_network([4, 2]))
    open_tried(model)
    assert len(called) == 2


def test_a_memory_that_others_can_write_to_is_not_believed(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody could have said there that the model passed."""
    called = _children(monkeypatch)
    open_tried(model)
    memory_folder().chmod(0o777)
    monkeypatch.setattr(first_load, "_passed", set())
    open_tried(model)
    assert len(called) == 2


def test_a_crash_refuses_the_model_and_is_not_remembered(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child really dies of a bad address; this process goes on."""
    _children(monkeypatch, "tests.unit.guarded.guarded_acts:crash")
    with pytest.raises(RefusedModel, match="SIGSEGV") as caught:
        open_tried(model)
    assert (caught.value.rule, memory_folder().exists()) == ("first-load", False)
    found = crash_of(model, "onnx")
    assert found is not None
    assert found.rule == "first-load"


def test_a_graph_that_the_checker_rejects_is_left_to_the_checks(tmp_path: Path) -> None:
    """It crashes nothing, and AUD101 says what is wrong with it."""
    proto = dense_network([3, 2])
    proto.graph.node[0].input[0] = "nowhere"
    assert crash_of(write_model(tmp_path, proto), "onnx") is None
