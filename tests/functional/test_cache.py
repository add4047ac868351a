"""`auditor run --cache` and `auditor cache stats|prune|clear`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.functional.ci_scratch import write_audit
from tests.functional.command import auditor


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An audit with a violated property, run once with a cache."""
    write_audit(tmp_path, "fail")
    ended = auditor("run", "auditor-plan.yaml", "--out", "one", "--cache", "kept", cwd=tmp_path)
    assert ended.code == 1, ended.err
    return tmp_path


def result_of(folder: Path, run: str) -> dict[str, Any]:
    """The one result of a run."""
    (result,) = json.loads((folder / run / "audit.json").read_text())["results"]
    assert isinstance(result, dict)
    return result


def test_another_folder_gets_the_answer_and_says_so(folder: Path) -> None:
    """The verdict, the finding and its witness are the same; what is new is where from."""
    env = {"AUDITOR_CACHE": "kept"}
    ended = auditor("run", "auditor-plan.yaml", "--out", "two", cwd=folder, env=env)
    assert ended.code == 1
    one, two = (result_of(folder, run) for run in ("one", "two"))
    origin = two["answer"]["facts"].pop("reused from")
    assert "'small' in one" in origin
    assert two["timing"]["seconds"] == 0
    assert {**two, "timing": one["timing"]} == one
    page = auditor("report", "two", "--format", "html", cwd=folder)
    assert page.code == 0
    assert "reused from" in (folder / "two" / "report.html").read_text()


def test_what_changed_is_asked_anew(folder: Path) -> None:
    """A seed, a model, or the wish for no cache."""
    for number, more in enumerate((["--seed", "1", "--cache", "kept"], ["--no-cache"])):
        env = {"AUDITOR_CACHE": "kept"} if "--no-cache" in more else {}
        run = f"new{number}"
        auditor("run", "auditor-plan.yaml", "--out", run, *more, cwd=folder, env=env)
        assert "reused from" not in result_of(folder, run)["answer"]["facts"]
        assert result_of(folder, run)["timing"]["seconds"] > 0


def test_answers_are_counted_pruned_and_cleared(folder: Path) -> None:
    """Removing asks, and changes no run."""
    named = ("--cache", "kept")
    counted = json.loads(auditor("cache", "stats", *named, "--json", cwd=folder).out)
    assert (counted["answers"], counted["checks"], counted["damaged"]) == (1, {"AUD201": 1}, 0)
    assert counted["bytes"] > 0
    assert json.loads(
        auditor("cache", "prune", *named, "--older-than", "1", "--json", cwd=folder).out
    ) == {"removed": 0}
    asked = auditor("cache", "clear", *named, cwd=folder)
    assert (asked.code, "add --yes" in asked.err) == (2, True)
    assert auditor("cache", "clear", *named, "--yes", cwd=folder).code == 0
    counted = json.loads(auditor("cache", "stats", *named, "--json", cwd=folder).out)
    assert counted["answers"] == 0
    assert auditor("gate", "one", cwd=folder).code == 1


def test_a_cache_that_cannot_be_one_is_one_line_before_any_work(folder: Path) -> None:
    """Another folder is not written to; no name is not guessed."""
    ended = auditor("run", "auditor-plan.yaml", "--out", "three", "--cache", "one", cwd=folder)
    assert (ended.code, ended.out) == (2, "")
    assert "one holds something and is no cache of auditor" in ended.err
    assert not (folder / "three").exists()
    nameless = auditor("cache", "stats", cwd=folder)
    assert (nameless.code, "give --cache FOLDER or set AUDITOR_CACHE" in nameless.err) == (2, True)
