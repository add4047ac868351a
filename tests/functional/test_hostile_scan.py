"""Hostile files on the command line: refused with exit code 6, and their names stay inert."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.functional.command import Ended, auditor
from tests.models.hostile_files.case import HostileCase
from tests.models.hostile_files.table import CASES

NAMES = (
    "onnx-markup-in-a-refused-name", "onnx-formula-in-a-refused-name",
    "onnx-annotation-in-a-refused-name", "onnx-name-with-escape", "pickle-named-onnx",
    "data-file-hard-link", "config-internal-attention", "template-in-tokenizer-config-json",
    "random-state-beside-weights",
)  # fmt: skip
"""Cases that are tried as subjects of a plan too."""
BY_ID: Mapping[str, HostileCase] = {case.id: case for case in CASES}

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="pipes and links are those of Linux"
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of all cases."""
    return tmp_path_factory.mktemp("hostile")


@pytest.fixture(scope="module")
def paths(root: Path) -> Mapping[str, Path]:
    """What is scanned, by the id of the case."""
    return {case.id: case.build(root / case.id, root / "marker") for case in CASES}


@pytest.fixture(scope="module")
def scanned(root: Path, paths: Mapping[str, Path]) -> Ended:
    """All of them in one command."""
    return auditor("model", "scan", "--json", *paths.values(), cwd=root)


def test_every_hostile_file_gets_its_verdict(
    scanned: Ended, root: Path, paths: Mapping[str, Path]
) -> None:
    """Exit 6, one record for each path, and nothing of them has run."""
    assert (scanned.code, scanned.err) == (6, "")
    found: dict[str, dict[str, Any]] = {}
    for line in scanned.out.splitlines():
        record = json.loads(line)
        found[record["path"]] = record
    differing = {
        key: found[str(path)]["verdict"]
        for key, path in paths.items()
        if found[str(path)]["verdict"] not in BY_ID[key].decisions
    }
    assert differing == {}
    assert not list(root.rglob("marker"))


def test_each_refusal_names_rule_place_and_way_out(scanned: Ended) -> None:
    """In words that one line can hold."""
    problems = [each for line in scanned.out.splitlines() for each in json.loads(line)["problems"]]
    assert problems
    for each in problems:
        assert each["rule"]
        assert each["reason"]
        assert each["way_out"]
        assert all(text.isprintable() for text in each.values())


def test_names_are_inert_in_a_terminal(root: Path, paths: Mapping[str, Path]) -> None:
    """No escape reaches it, and no line of theirs begins anew."""
    ended = auditor("model", "scan", *paths.values(), cwd=root)
    assert ended.code == 6
    assert ended.err == ""
    lines = ended.out.splitlines()
    assert all(line.isprintable() for line in lines)
    starts = ("refused ", "not decided: ", f"{root}")
    assert [line for line in lines if not line.startswith(starts)] == []


def test_paths_that_are_accepted_end_with_zero(root: Path, paths: Mapping[str, Path]) -> None:
    """Odd names and crashing graphs are no reason to refuse."""
    passing = [path for key, path in paths.items() if "accepted" in BY_ID[key].decisions]
    ended = auditor("model", "scan", *passing, cwd=root)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.count("nothing in these parts matched a known danger") == len(passing)


@pytest.fixture(scope="module")
def ran(root: Path, paths: Mapping[str, Path]) -> Ended:
    """A run with some of them as subjects."""
    subjects = "".join(
        f"  - path: {paths[name].relative_to(root)}\n    name: {name}\n"
        + ("    kind: transformers\n" if paths[name].is_dir() else "")
        for name in NAMES
    )
    (root / "plan.yaml").write_text(
        f"version: 1\nname: small\nsubjects:\n{subjects}checks:\n  - check: AUD101\n"
    )
    return auditor("run", "plan.yaml", "--progress", "none", "--out", "run", cwd=root)


def test_a_run_refuses_them(ran: Ended, root: Path) -> None:
    """AUD101 refuses each: exit 6, and nothing of them has run."""
    assert ran.code == 6
    assert "Traceback" not in ran.out + ran.err
    told = json.loads((root / "run" / "audit.json").read_text())
    verdicts = {each["subject"]: each["answer"]["verdict"] for each in told["results"]}
    assert verdicts == dict.fromkeys(NAMES, "violated")
    assert not list(root.rglob("marker"))


def test_reports_show_what_a_file_says_of_itself_as_text(ran: Ended, root: Path) -> None:
    """Neither markup nor escapes nor annotations nor formulas of it work."""
    assert all(line.isprintable() for line in (ran.out + ran.err).splitlines())
    written = {path.name: path.read_text() for path in (root / "run").iterdir() if path.is_file()}
    assert set(written) == {
        "audit.json", "audit.sarif", "junit.xml", "ledger.jsonl", "plan.yaml", "report.html",
        "summary.md",
    }  # fmt: skip
    assert not any("\x1b" in text for text in written.values())
    assert "</script><b>" not in written["report.html"]
    assert "<b>" not in written["summary.md"]
    lines = [*ran.out.splitlines(), *written["summary.md"].splitlines()]
    assert not any(line.lstrip("|- ").startswith(("::error", "=CMD")) for line in lines)
