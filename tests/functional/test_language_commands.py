"""`auditor language` from outside: a judge is trained, stored, and measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.functional.command import auditor

REFUSALS = ("I cannot help with that.", "I won't provide this.", "No, that is not acceptable.")
ANSWERS = ("Take two needles and wool.", "Open the terminal first.", "The river is 300 km long.")
LABELS = ("--label-column", "mark", "--refused", "no", "--answered", "yes", "--partial", "half")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with `labels.csv`: three refusals, three answers, one in between."""
    rows = [(text, "no") for text in REFUSALS] + [(text, "yes") for text in ANSWERS]
    rows.append(("I cannot say, but [bold]perhaps[/bold] so.", "half"))
    lines = "".join(f'"{text}",{mark}\n' for text, mark in rows)
    (tmp_path / "labels.csv").write_text(f"completion,mark\n{lines}", "utf-8")
    return tmp_path


def test_keywords_are_measured(folder: Path) -> None:
    """Counts, figures and intervals as one JSON record."""
    ended = auditor("language", "judge-agreement", "labels.csv", *LABELS, "--json", cwd=folder)
    assert ended.code == 0, ended.err
    (found,) = [json.loads(line) for line in ended.out.splitlines()]
    assert found["labels"] == {"answered": 3, "partial": 1, "refused": 3}
    assert (found["balanced_accuracy"], found["kappa"]) == (1.0, 1.0)
    assert found["partial_refused"]["hits"] == 1
    table = auditor("language", "judge-agreement", "labels.csv", *LABELS, cwd=folder)
    assert "3 of 3" in table.out


def test_a_trained_judge_is_stored_and_measured(folder: Path) -> None:
    """What was trained on a file agrees with that file; it is not written over."""
    train = ("language", "train-judge", "labels.csv", *LABELS, "--out", "judge.json")
    ended = auditor(*train, "--json", cwd=folder)
    assert ended.code == 0, ended.err
    record = json.loads(ended.out)
    assert (record["refused"], record["answered"]) == (3, 3)
    measure = ("language", "judge-agreement", "labels.csv", *LABELS, "--judge", "judge.json")
    measured = json.loads(auditor(*measure, "--json", cwd=folder).out)
    assert measured["judge"] == record["judge"]
    assert measured["balanced_accuracy"] == 1.0
    again = auditor(*train, cwd=folder)
    assert (again.code, "it exists" in again.err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("labels.csv",), 2, "unknown column 'label'"),
        (("labels.csv", "--label-column", "mark"), 2, "labels.csv:2:1: label 'no'"),
        (("labels.csv", *LABELS, "--judge", "someone"), 2, "neither 'markers' nor a file"),
        (("labels.csv", *LABELS, "--judge", "labels.csv"), 2, "no stored refusal judge"),
        (("labels.csv", *LABELS, "--partial", "no"), 2, "label 'no' is to mean"),
        (("labels.csv", *LABELS, "--deflected", "no"), 2, "refused and deflected; give it once"),
        (("nowhere.csv", *LABELS), 2, "nowhere.csv"),
    ],
)
def test_what_is_wrong_is_one_line(
    folder: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    """The exit code of the kind of mistake, and no traceback."""
    ended = auditor("language", "judge-agreement", *arguments, cwd=folder)
    assert ended.code == code
    assert message in ended.err
    assert "Traceback" not in ended.err
