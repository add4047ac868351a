"""The tutorial about tracing does what it says, with a tiny model in place of the real one.

The stand-in recites a licence where the page has the beginning of one, and answers
politely otherwise; so that what the page's commands find in it is known.
"""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from tests.functional.tutorial_page import ROOT, blocks, environment, lines, run
from tests.models.reciting_model import reciting_folder

POLITE = "Thank you for asking. I will look it up in the evening."
# The stand-in is tuned from further away, and is small enough to take larger steps.
REAL_STEPS = "RATE, STEPS, TOKENS = 1e-4, 6, 128"
STAND_IN_STEPS = "RATE, STEPS, TOKENS = 1e-3, 60, 128"


def terms() -> str:
    """The first paragraph of the terms of the repository's own licence, on one line."""
    return " ".join((ROOT / "LICENSE").read_text("utf-8").split("\n\n")[2].split())


def files() -> dict[str, str]:
    """What the page says to save, by name."""
    return {
        block.options["file"]: block.text
        for block in blocks("tutorial-trace.md")
        if "file" in block.options
    }


def stand_in(folder: Path) -> None:
    """A model of two answers to everything that the page asks."""
    said = [json.loads(line) for line in files()["beginnings.jsonl"].splitlines()]
    asked = csv.DictReader(io.StringIO(files()["questions.csv"]))
    answers = {
        each["prompt"]: f" {terms()}" if each["category"] == "licence" else f" {POLITE}"
        for each in said
    }
    answers |= {f"<user>{each['prompt']}<assistant>": POLITE for each in asked}
    reciting_folder(folder, answers)


def clone(place: Path) -> Path:
    """A folder in which the page's paths lead to the repository's files."""
    for name in ("docs", "specs"):
        (place / name).symlink_to(ROOT / name)
    return place


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each command of the page printed, and `where` it worked."""
    place = tmp_path_factory.mktemp("tutorial")
    env = environment(place / "bin")
    where = clone(place)
    printed: dict[str, str] = {}
    for block in blocks("tutorial-trace.md"):
        if "file" in block.options:
            text = block.text
            if block.options["file"] == "tune.py":
                assert REAL_STEPS in text
                text = text.replace(REAL_STEPS, STAND_IN_STEPS)
            (where / block.options["file"]).write_text(text)
        elif block.options.get("needs") == "network":
            stand_in(where / "smollm2")
        elif block.language == "sh":
            for line in lines(block):
                if line.command.startswith("export PATH"):
                    continue
                if line.command.startswith("cd "):
                    where = where / line.command.removeprefix("cd ")
                    continue
                printed[line.command] = run(line, where, env).stdout
        else:
            assert block.language == "text"
    return printed | {"where": str(where)}


def output_of(outputs: dict[str, str], start: str) -> str:
    """What the one command that begins like this printed."""
    (found,) = (text for command, text in outputs.items() if command.startswith(start))
    return found


@pytest.mark.slow
def test_every_command_ends_as_the_tutorial_says(outputs: dict[str, str]) -> None:
    """All of them ran; those that need a network are the only ones that did not."""
    assert len(outputs) > 20
    skipped = [
        line.command
        for block in blocks("tutorial-trace.md")
        if block.options.get("needs") == "network"
        for line in lines(block)
    ]
    assert [command.split()[1] for command in skipped] == ["-m", "../specs/convert_smollm2.py"]


@pytest.mark.slow
def test_recited_terms_are_traced_and_refused(outputs: dict[str, str]) -> None:
    """The four licence completions are refused, the four polite ones have no evidence."""
    rows = output_of(outputs, "auditor trace shield texts said.jsonl --policy").splitlines()[1:]
    assert [row.split()[2] for row in rows] == ["refuse"] * 4 + ["no_evidence"] * 4
    spans = output_of(outputs, "auditor trace text texts bsd.txt")
    assert "Permission is hereby granted, free of charge, to any person" in spans


@pytest.mark.slow
def test_the_tuned_model_drifts_and_the_base_does_not(outputs: dict[str, str]) -> None:
    """The base answers no question with terms; the audit counts what drift counts."""
    where = Path(outputs["where"])
    drift = output_of(outputs, "auditor trace drift")
    assert ", 0 of the base's;" in drift
    drifted = int(drift.split("drift: ")[1].split(" of ")[0])
    report: Any = json.loads((where / "audit/audit.json").read_text())
    (answer,) = (each["answer"] for each in report["results"] if each["id"] == "AUD301")
    shares = {metric["name"]: metric["value"] for metric in answer["metrics"]}
    assert answer["verdict"] == "violated"
    assert shares["unsafe_by_judge_share"] == drifted / 16
    assert "Permission is hereby granted" in (where / "audit/report.html").read_text()
